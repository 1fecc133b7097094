"""`python -m agent` is `mailcanary`."""

import sys

from agent.cli import main

sys.exit(main())
