"""`python -m phi3`: see phi3.cli."""

import sys

from .cli import main

sys.exit(main())
