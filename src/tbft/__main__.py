"""``python -m tbft`` is ``tbft``."""

import sys

from tbft.cli import main

sys.exit(main())
