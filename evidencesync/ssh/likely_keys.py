"""Says which key file may have been meant by one that does not exist: for the hint of an error, and for nothing else."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import Final

from evidencesync.errors import NoHomeError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.meant import did_you_mean, nearest
from evidencesync.home import home_folder

_MOST_NAMED: Final = 3
_BRING: Final = "Bring another person's key here: the file that ends in .pub, and never the private one"
_MAKE: Final = "Make a key with: ssh-keygen -t ed25519"


def likely_keys(missing: Path, *, public: bool) -> str:
    """The hint: a key with nearly this name, else those in ~/.ssh, else how one is made. `public`: public keys are meant."""
    private = missing.with_suffix("") if missing.suffix == ".pub" else None
    if public and private is not None and private.is_file():
        return f"Make it of the private key: {shell_text('ssh-keygen', '-y', '-f', str(private))} > {shell_text(str(missing))}"
    near = nearest(missing.name.removesuffix(".pub"), _keys_in(missing.parent))
    if near:
        ending = ".pub" if public else ""
        return did_you_mean(str(missing.parent / f"{name}{ending}") for name in near).strip()
    own = _own_keys(public=public)
    yours = f"Your keys: {', '.join(own)}" if own else _MAKE
    return f"{_BRING}. {yours}" if public else yours


def _own_keys(*, public: bool) -> list[str]:
    with contextlib.suppress(NoHomeError):
        names = _keys_in(home_folder() / ".ssh")[:_MOST_NAMED]
        return [safe_text(f"~/.ssh/{name}{'.pub' if public else ''}", 200) for name in names]
    return []


def _keys_in(folder: Path) -> list[str]:
    """The names of the key pairs in a folder, without `.pub`; none if it cannot be listed."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    there = set(names)
    return [name for name in names if f"{name}.pub" in there]
