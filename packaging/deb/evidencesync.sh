#!/usr/bin/python3 -I
# Isolated (-I): neither the environment nor the account's own packages can put other code in place of this.
import sys

sys.path.insert(0, "/usr/lib/evidencesync")

from evidencesync.cli.start import main

sys.exit(main())
