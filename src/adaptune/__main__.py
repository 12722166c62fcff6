"""Run the command line as ``python -m adaptune``."""

import sys

from adaptune.commands import main

sys.exit(main())
