"""The commands, and the groups of commands, as they are typed first. Each is made by the module that adds it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

PROGRAM: Final = "evidencesync"
COMPLETE: Final = "_EVIDENCESYNC_COMPLETE"
"""The variable by which a shell that completes a line says so."""

GROUPS: Final[Mapping[str, Mapping[str, str]]] = {
    "Set up": {
        "init": "vault_commands",
        "trust": "trust_commands",
        "host": "host_commands",
        "settings": "settings_commands",
        "completion": "completion_commands",
    },
    "Acquire": {"push": "push_command", "pull": "pull_command", "watch": "watch_command", "serve": "serve_command"},
    "Check": {
        "verify": "verify_command",
        "compare": "compare_command",
        "receipts": "receipts_commands",
        "timestamp": "timestamp_commands",
    },
    "Look": {"list": "catalog_commands", "show": "catalog_commands", "diff": "diff_command"},
    "Hand over": {
        "report": "report_command",
        "custody": "custody_commands",
        "export": "export_command",
        "restore": "restore_command",
    },
    "Keep": {"reindex": "upkeep_commands", "clean": "upkeep_commands", "vault": "vault_commands"},
}
"""The commands as the help groups them, each with the module that adds it."""
MODULES: Final = {name: module for commands in GROUPS.values() for name, module in commands.items()}
"""The module of each command."""
