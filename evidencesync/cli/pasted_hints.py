"""Makes commands in hints ready to be pasted: with the vault, the case and the item that were typed in place of their names.

A vault on another machine is named as its command needs it: by its address, with the options by which it is reached, where the
command reads it from here; by its path there, with a word of it, where the command works only where the vault lies.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from evidencesync.cli.defaults import is_vault_here
from evidencesync.errors import (
    CommandKind,
    ConnectError,
    EvidenceSyncError,
    UntrustedSignerError,
    UsageError,
    VaultNotFoundError,
)
from evidencesync.evidence.display import safe_text, shell_text

if TYPE_CHECKING:
    from evidencesync.cli.settings import LoadedSettings

_COMMAND: Final = re.compile(r"(?<=evidencesync )((?:[a-z-]+ )+)VAULT\b((?: (?:--[a-z-]+|[A-Z]+(?:\.pub)?)(?![\w-]))*)")
"""A command about a vault: what stands before VAULT, and what stands behind it."""
_ITEM: Final = re.compile(r"--case (?:C|CASE) --item (?:I|ITEM)\b")
_HOST: Final = re.compile(r"(?:[\w.-]+@)?[a-zA-Z0-9][\w-]*(?:\.[\w-]+)*")
_PORT_AND_PATH: Final = re.compile(r"([0-9]{2,5})/(.*)")
_FROM_AFAR: Final = frozenset({"push", "watch", "list", "show", "diff", "custody"})
"""The commands, or their groups, that take the address of a vault on another machine."""
_SAID: Final = ("vault's machine", "where the vault lies", "machine that is to write")
"""How a hint says where its command runs."""
_KEY: Final = "KEY.pub --principal NAME"
_ON_ITS_MACHINE: Final = " (on the vault's machine)"
REACHING: Final = ("identity", "sign_key", "port", "ssh_config", "known_hosts", "ssh", "remote_command")
"""The options, by their parameters' names, by which a vault on another machine is reached."""


@contextlib.contextmanager
def filling_in_hints(
    values: Mapping[str, object], kind: CommandKind, settings: LoadedSettings, reached_by: Sequence[str] = ()
) -> Iterator[None]:
    """Fills what a person has typed (`values`, by the parameters' names) into the hints of errors that pass through.

    `reached_by`: the options that were typed to reach the vault, as words.
    """
    key = _signing_key(values, settings)
    names = () if kind is CommandKind.SERVES else ("vault", "case", "item")  # what `serve` says goes to another machine, too
    typed = {name: value for name in names if isinstance(value := values.get(name), str) and value}
    try:
        yield
    except EvidenceSyncError as error:
        hint = error.hint_for(kind)
        if hint is not None and (filled := _filled_in(hint, typed, reached_by)) != hint:
            with contextlib.suppress(EvidenceSyncError, OSError):
                if isinstance(error, UntrustedSignerError):
                    filled = _with_key(filled, key, is_here=_is_here(typed.get("vault", "")))
            error.hint = filled
        with contextlib.suppress(EvidenceSyncError, OSError):
            _add_what_was_meant(error, kind, values)
        raise


def _add_what_was_meant(error: EvidenceSyncError, kind: CommandKind, values: Mapping[str, object]) -> None:
    """Gives an error of a place the hint that fits how the place was typed, where that tells."""
    places = [value for name in ("vault", "source") if isinstance(value := values.get(name), str)]
    if isinstance(error, VaultNotFoundError) and places:
        others = [value for name, value in values.items() if name != "vault" and isinstance(value, str)]
        server = _meant_server(places[0]) if kind is CommandKind.ACQUIRES else None
        if _is_here(places[0]):
            error.hint = meant_vault(places[0], others) or server or error.hint_for(kind)
    elif type(error) is ConnectError:
        with_ports = (one for place in places if (one := _with_port(place)) is not None)
        error.hint = " ".join([error.hint_for(kind) or "", *with_ports]).strip()


def meant_vault(typed: str, others: Iterable[str] = ()) -> str | None:
    """The hint for a place that is no vault: the vault that it lies in, or that stands elsewhere in the line."""
    if (first := next((other for other in others if is_vault_here(other)), None)) is not None:
        return f"{safe_text(first, 200)} is a vault: VAULT comes first, so change the order."
    above = os.path.dirname(os.path.abspath(typed))
    while os.path.dirname(above) != above:
        if is_vault_here(above):
            parts = os.path.relpath(os.path.abspath(typed), above).split("/")
            named = shell_text(*(word for pair in zip(("--case", "--item"), parts[1:3], strict=False) for word in pair))
            part = f", with {named}" if named and parts[0] == "cases" else ""
            return f"It lies in a vault: name that, {shell_text(above)}{part}."
        above = os.path.dirname(above)
    return None


def _meant_server(typed: str) -> str | None:
    """The hint for a place that does not exist, and that may be a server without a colon."""
    host, _, rest = typed.partition("/")
    if os.path.lexists(typed) or not _HOST.fullmatch(host) or not _is_here(typed):
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


def _signing_key(values: Mapping[str, object], settings: LoadedSettings) -> str:
    """The key that signs, by the rule of `load_signer`: what was typed, or the settings name, or the usual one."""
    named = values.get("sign_key") or settings.values.sign_key
    if isinstance(named, str):
        return named if named == values.get("sign_key") or named == "agent" else str(settings.path(named))
    identity = values.get("identity") or settings.path(settings.values.identity)
    return str(identity or "~/.ssh/id_ed25519")


def _filled_in(hint: str, typed: Mapping[str, str], reached_by: Sequence[str]) -> str:
    with contextlib.suppress(UsageError):
        hint = _with_vault(hint, typed.get("vault"), reached_by)
    if "case" in typed and "item" in typed:
        named = shell_text("--case", typed["case"], "--item", typed["item"])
        hint = _ITEM.sub(lambda _: named, hint)
    return hint


def _is_here(vault: str) -> bool:
    from evidencesync.ssh.address import Address

    return Address.parse(vault).local


def _with_key(hint: str, key: str, *, is_here: bool) -> str:
    """The hint with the public part of the key that signs, and its owner's name if that is known. Raises SigningKeyError."""
    from evidencesync.cli.trust_files import load_public_key, named_key
    from evidencesync.home import expand

    if key == "agent" or _KEY not in hint:
        return hint
    file = expand(f"{key.removesuffix('.pub')}.pub")
    load_public_key(file)
    shown = shell_text(str(file) if is_here else file.name)
    taken = "" if is_here else f". Take {safe_text(str(file), 200)} there first"
    try:
        named, who = shell_text(named_key(file, None)[1]), ""
    except UsageError:
        named, who = "NAME", " (its owner, such as ana@lab)"
    return hint.replace(_KEY, f"{shown} --principal {named}{who}{taken}")


def _with_vault(hint: str, typed: str | None, reached_by: Sequence[str]) -> str:
    """The hint with the vault as it is typed where each of its commands runs. Raises UsageError."""
    from evidencesync.ssh.address import Address

    if typed is None:
        return hint
    address = Address.parse(typed)
    is_said = any(words in hint for words in _SAID)

    def as_typed(found: re.Match[str]) -> str:
        if address.local:
            return f"{found[1]}{shell_text(typed)}{found[2]}"
        if found[1].split()[0] in _FROM_AFAR:
            return f"{found[1]}{shell_text(typed, *reached_by)}{found[2]}"
        there = shell_text(address.path_there) if address.path else "VAULT"
        return f"{found[1]}{there}{found[2]}{'' if is_said else _ON_ITS_MACHINE}"

    return _COMMAND.sub(as_typed, hint)
