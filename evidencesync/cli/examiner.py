"""Who sits at this machine, where nobody says."""

from __future__ import annotations

import os

from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_unsafe
from evidencesync.home import user_name
from evidencesync.limits import MAX_TITLE


def login_name() -> str:
    """The login's full name, else its user name. Raises UsageError where the machine knows neither."""
    for name in (_full_name(), user_name()):
        if name and len(name) <= MAX_TITLE and not any(map(is_unsafe, name)):
            return name
    raise UsageError("this machine does not tell who you are", hint="Say it with --examiner NAME.")


def check_person(name: str, what: str) -> str:
    """A name as the documents take it. Raises UsageError."""
    stripped = name.strip()
    if not stripped or len(stripped) > MAX_TITLE or any(map(is_unsafe, stripped)):
        raise UsageError(f"{what} needs 1 to {MAX_TITLE} characters, and none that cannot be seen")
    return stripped


def _full_name() -> str:
    """The first part of the GECOS field; `&` stands for the user name there (passwd(5))."""
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
    except (ImportError, KeyError):
        return ""
    return entry.pw_gecos.split(",")[0].replace("&", entry.pw_name.capitalize()).strip()
