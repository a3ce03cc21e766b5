"""What the process of the tests works out again and again, and always with the same result, is worked out once."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import typer.main

from evidencesync.cli import commands
from evidencesync.cli.command_table import MODULES
from evidencesync.custody.publickey import PublicKey


def make_once(put: Callable[[object, str, Any], None]) -> None:
    """Has `put(target, name, value)`, as `setattr` is, keep the parser of each command, and each signature that is good.

    A command line that runs in this process made its parser anew, which took longer than most commands. A signature is kept by
    key, signature and signed bytes, which are all that decides; one that does not verify is checked every time.
    """
    make_app = lru_cache(maxsize=None)(commands.make_app)
    put(commands, "make_app", lambda names=MODULES: make_app(tuple(names)))
    put(typer.main, "get_command", lru_cache(maxsize=None)(typer.main.get_command))
    put(PublicKey, "verify", lru_cache(maxsize=4096)(PublicKey.verify))
