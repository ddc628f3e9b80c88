"""`python -m bfjax`, the program where no script is installed."""

import sys

from bfjax.cli import main

sys.exit(main())
