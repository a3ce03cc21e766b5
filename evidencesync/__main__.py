"""`python -m evidencesync`: the same as the command `evidencesync`."""

from __future__ import annotations

import sys

from evidencesync.cli.start import main

if __name__ == "__main__":
    sys.exit(main())
