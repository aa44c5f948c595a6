"""``python -m tbft`` is ``tbft``."""

import sys
from contextlib import suppress
from pathlib import Path

# Python looks for every module in the working directory first; the command `tbft` does not, nor does this.
with suppress(OSError):
    if Path(sys.path[0]).resolve() == Path.cwd() != Path(__file__).resolve().parents[1]:
        del sys.path[0]

from tbft.cli import main

sys.exit(main())
