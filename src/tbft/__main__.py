"""``python -m tbft`` is ``tbft``."""

import os
import sys

# Python looks for every module in the working directory first; the command `tbft` does not, nor does this.
# Uses only modules that are already imported, as signals are handled only from the next import on.
try:
    here, own = os.path.realpath(""), os.path.realpath(f"{__file__}/../..")
    if os.path.realpath(sys.path[0]) == here != own:
        del sys.path[0]
except OSError:  # the working directory was removed
    pass

from tbft.cli import main

sys.exit(main())
