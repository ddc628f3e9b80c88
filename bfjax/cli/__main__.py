"""`python -m bfjax.cli`."""

import sys

from bfjax.cli.commands import main

sys.exit(main())
