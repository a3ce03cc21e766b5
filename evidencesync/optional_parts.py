"""Says how an optional part of the tool is added to the installation that runs: that of a clone, of pipx, or any other."""

from __future__ import annotations

import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from evidencesync.errors import EvidenceSyncError, MissingPartError
from evidencesync.evidence.display import shell_text
from evidencesync.files.shortages import is_shortage, unexpected

_PROGRAM: Final = "evidencesync"
_ELSEWHERE: Final = "Run the same command on a machine where evidencesync is installed with its optional parts."


def missing_part(error: ImportError, what: str, extra: str) -> EvidenceSyncError:
    """The error for `what`, which needs a package that cannot be imported. `extra` is its name in `pip install '.[extra]'`."""
    if is_shortage(error):  # it is there, and there is no memory for it
        return unexpected(error)
    package = error.name or extra
    if not sys.executable:  # the bundle
        return MissingPartError(f"{what} needs the package {package}, which is not part of the bundle", hint=_ELSEWHERE)
    return MissingPartError(f"{what} needs the package {package}, which is not installed", hint=f"Install it: {_command(extra)}")


def _command(extra: str) -> str:
    """The command that installs the extra where this Python looks for it."""
    try:
        installed = distribution(_PROGRAM)
    except PackageNotFoundError:  # a clone that is run without being installed
        return shell_text("pip", "install", f".[{extra}]")
    if Path(sys.prefix, "pipx_metadata.json").exists():
        return shell_text("pipx", "inject", _PROGRAM, *_packages(installed, extra))
    pip = [sys.executable, "-m", "pip", "install"]
    if find_spec("pip") is None:
        pip = ["uv", "pip", "install", "--python", sys.executable]
    return shell_text(*pip, *_target(installed, extra))


def _target(installed: Distribution, extra: str) -> list[str]:
    """What pip is told to install: the folder that the tool came from, with the extra, if it is there; else the packages."""
    import json  # only for an error

    try:
        origin = json.loads(installed.read_text("direct_url.json") or "{}")  # PEP 610
        folder = unquote(urlsplit(origin["url"]).path)
        is_editable = bool(origin["dir_info"].get("editable"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return _packages(installed, extra)
    if not Path(folder, "pyproject.toml").is_file():
        return _packages(installed, extra)
    return [*(["-e"] if is_editable else []), f"{folder}[{extra}]"]


def _packages(installed: Distribution, extra: str) -> list[str]:
    """The packages that the extra stands for, with their versions."""
    found = [name.strip() for name, _, when in (one.partition(";") for one in installed.requires or ()) if _asks(when, extra)]
    return found or [f"{_PROGRAM}[{extra}]"]


def _asks(condition: str, extra: str) -> bool:
    return condition.replace('"', "'").strip() == f"extra == '{extra}'"
