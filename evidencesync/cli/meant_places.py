"""Says of an error about a place which place may have been meant, or why the place refuses."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from evidencesync.cli.defaults import is_vault_here
from evidencesync.cli.habits import HELP_WORDS
from evidencesync.errors import CommandKind, ConnectError, EvidenceSyncError, SigningKeyError, StorageError, VaultNotFoundError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.evidence.meant import did_you_mean, nearest
from evidencesync.home import account_name

_HOST: Final = re.compile(r"(?:[\w.-]+@)?[a-zA-Z0-9][\w-]*(?:\.[\w-]+)*")
_PORT_AND_PATH: Final = re.compile(r"([0-9]{2,5})/(.*)")
_MOST_LOOKED_AT: Final = 1000  # of the entries of a folder
_READ_ONLY: Final = os.strerror(errno.EROFS)
_DENIED: Final = (os.strerror(errno.EACCES), os.strerror(errno.EPERM))


def add_what_was_meant(error: EvidenceSyncError, kind: CommandKind, values: Mapping[str, object]) -> None:
    """Gives an error of a place the hint that fits how the place was typed, where that tells."""
    places = [value for name in ("vault", "source") if isinstance(value := values.get(name), str)]
    if isinstance(error, VaultNotFoundError) and places:
        others = [value for name, value in values.items() if name != "vault" and isinstance(value, str)]
        server = _meant_server(places[0]) if kind is CommandKind.ACQUIRES else None
        if is_here(places[0]):
            error.hint = meant_vault(places[0], others) or f"{near_vault(places[0])}{server or error.hint_for(kind) or ''}"
    elif type(error) is ConnectError:
        with_ports = (one for place in places if (one := _with_port(place)) is not None)
        error.hint = " ".join([error.hint_for(kind) or "", *with_ports]).strip()
    elif isinstance(error, StorageError):
        if isinstance(vault := values.get("vault"), str) and is_here(vault) and (why := _why_refused(error, vault)) is not None:
            own = "" if error.hint in (None, error.default_hint) else f" {error.hint}"
            error.hint = f"{why}{own}"
    elif not isinstance(error, SigningKeyError) and _is_of_missing_file(error) and (near := _near_path(error, _texts(values))):
        said = error.hint_for(kind) or ""
        error.hint = said if said.startswith(near.strip()) else f"{near}{said}".strip()


def is_here(vault: str) -> bool:
    """Whether a vault is named by a path on this machine. Raises UsageError."""
    from evidencesync.ssh.address import Address

    return Address.parse(vault).local


def meant_vault(typed: str, others: Iterable[str] = ()) -> str | None:
    """The hint for a place that is no vault: the vault that it lies in, or that stands elsewhere in the line."""
    if (first := next((other for other in others if is_vault_here(other)), None)) is not None:
        right = in_other_order(first, typed)
        return f"{safe_text(first, 200)} is a vault, and VAULT comes first: {right or 'change the order.'}"
    if typed in HELP_WORDS and not os.path.lexists(typed):
        return "The help of a command is shown by its option --help."
    above = os.path.dirname(os.path.abspath(typed))
    while os.path.dirname(above) != above:
        if is_vault_here(above):
            parts = os.path.relpath(os.path.abspath(typed), above).split("/")
            named = shell_text(*(word for pair in zip(("--case", "--item"), parts[1:3], strict=False) for word in pair))
            part = f", with {named}" if named and parts[0] == "cases" else ""
            return f"It lies in a vault: name that, {shell_text(above)}{part}."
        above = os.path.dirname(above)
    return None


def in_other_order(first: str, second: str, command: str | None = None) -> str | None:
    """The command line of this process with two of its words in each other's place, and perhaps with another command's name.

    None if it has not both of them.
    """
    words = sys.argv[1:]
    if first not in words or second not in words:
        return None
    other = {first: second, second: first}
    name, *rest = (other.get(word, word) for word in words)
    return shell_text("evidencesync", command or name, *rest)


def near_vault(typed: str) -> str:
    """The beginning of the hint for a place that is no vault: one in it, or beside it with nearly its name; empty if none is."""
    above, name = os.path.split(typed.rstrip("/"))
    folder, near = (typed, _vaults_in(typed)[:2]) if os.path.isdir(typed) else (above, nearest(name, _vaults_in(above or ".")))
    return did_you_mean(os.path.join(folder, one) for one in near)


def _vaults_in(folder: str) -> list[str]:
    """The names of the vaults in a folder; none if it cannot be listed."""
    try:
        return sorted(one for one in os.listdir(folder)[:_MOST_LOOKED_AT] if is_vault_here(os.path.join(folder, one)))
    except OSError:
        return []


def _why_refused(error: StorageError, vault: str) -> str | None:
    """Why a vault on this machine refuses, where that is no matter of its disk; None if it is one."""
    place = os.path.abspath(vault)
    if _READ_ONLY in error.message and os.statvfs(place).f_flag & os.ST_RDONLY:
        return f"The vault is mounted read-only here (see: findmnt -T {shell_text(place)}), and nothing can be added to it."
    if any(said in error.message for said in _DENIED) and (owner := os.stat(place).st_uid) != os.geteuid():
        name = safe_text(account_name(owner) or f"#{owner}")
        return f"The vault belongs to {name}, and what was asked for only that account can do (sudo -u {name})."
    return None


def _is_of_missing_file(error: BaseException | None) -> bool:
    """Whether an error was raised because there is no file or folder with some name."""
    while error is not None and not isinstance(error, FileNotFoundError):
        error = error.__cause__
    return error is not None


def _texts(values: Mapping[str, object]) -> Iterator[str]:
    for value in values.values():
        yield from (os.fspath(one) for one in (value if isinstance(value, list) else [value]) if isinstance(one, str | Path))


def _near_path(error: EvidenceSyncError, typed: Iterable[str]) -> str:
    """The beginning of a hint: what may have been meant by the typed path that the error is about; empty if nobody knows."""
    for text in typed:
        folder, name = os.path.split(text.rstrip("/"))
        if name and safe_text(name) in error.message and not os.path.lexists(os.path.expanduser(text)):
            try:
                there = os.listdir(os.path.expanduser(folder) or ".")
            except OSError:
                continue
            there = [one for one in there if one.startswith(".") == name.startswith(".")]  # what is hidden is not meant
            return did_you_mean(os.path.join(folder, one) for one in nearest(name, there))
    return ""


def _meant_server(typed: str) -> str | None:
    """The hint for a place that does not exist, and that may be a server without a colon."""
    host, _, rest = typed.partition("/")
    if os.path.lexists(typed) or not _HOST.fullmatch(host) or not is_here(typed):
        return None
    there, made = f"{host}:/{rest or 'path'}", shell_text("evidencesync", "init", typed)
    return f"If {host} is a server: {shell_text(there)}. A vault on this machine is made with: {made}"


def _with_port(typed: str) -> str | None:
    """How a port is written, for an address that may have one before its path."""
    from evidencesync.ssh.address import Address

    address = Address.parse(typed)
    found = None if address.local or address.port is not None else _PORT_AND_PATH.fullmatch(address.path)
    if found is None:
        return None
    right = shell_text(f"ssh://{address.host_text}:{found[1]}/{found[2]}")
    return f"If {found[1]} is the port: {right}"
