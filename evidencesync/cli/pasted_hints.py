"""Makes commands in hints ready to be pasted: with the vault, the case and the item that were typed in place of their names."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.cli.defaults import is_vault_here
from evidencesync.errors import (
    CommandKind,
    ConnectError,
    EvidenceSyncError,
    NotThereError,
    UntrustedSignerError,
    UsageError,
    VaultNotFoundError,
)
from evidencesync.evidence.display import safe_text, shell_text

if TYPE_CHECKING:
    from evidencesync.cli.settings import LoadedSettings

_VAULT: Final = re.compile(r"(?<=evidencesync )((?:[a-z-]+ )+)VAULT\b")
_ITEM: Final = re.compile(r"--case (?:C|CASE) --item (?:I|ITEM)\b")
_HOST: Final = re.compile(r"(?:[\w.-]+@)?[a-zA-Z0-9][\w-]*(?:\.[\w-]+)*")
_PORT_AND_PATH: Final = re.compile(r"([0-9]{2,5})/(.*)")
_THERE: Final = "On the vault's machine: "


@contextlib.contextmanager
def filling_in_hints(values: Mapping[str, object], kind: CommandKind, settings: LoadedSettings) -> Iterator[None]:
    """Fills what a person has typed (`values`, by the parameters' names) into the hints of errors that pass through."""
    key = _signing_key(values, settings)
    names = () if kind is CommandKind.SERVES else ("vault", "case", "item")  # what `serve` says goes to another machine, too
    typed = {name: value for name in names if isinstance(value := values.get(name), str) and value}
    try:
        yield
    except EvidenceSyncError as error:
        hint = error.hint_for(kind)
        if hint is not None and (filled := _filled_in(hint, typed)) != hint:
            with contextlib.suppress(EvidenceSyncError, OSError):
                if type(error) is NotThereError:
                    filled = _near(typed) + filled
                if isinstance(error, UntrustedSignerError) and _is_here(typed.get("vault", "")):
                    filled = _with_key(filled, key)
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


def _signing_key(values: Mapping[str, object], settings: LoadedSettings) -> str | None:
    """The key that signs, by the rule of `load_signer`: what was typed, or the settings name."""
    named = values.get("sign_key") or settings.values.sign_key
    if isinstance(named, str):
        return named if named == values.get("sign_key") or named == "agent" else str(settings.path(named))
    identity = values.get("identity") or settings.path(settings.values.identity)
    return str(identity) if identity else None


def _filled_in(hint: str, typed: Mapping[str, str]) -> str:
    vault = _vault_for(hint, typed.get("vault"))
    if vault is not None:
        hint = _VAULT.sub(lambda found: found[1] + vault, hint)
    if "case" in typed and "item" in typed:
        named = shell_text("--case", typed["case"], "--item", typed["item"])
        hint = _ITEM.sub(lambda _: named, hint)
    return hint


def _is_here(vault: str) -> bool:
    from evidencesync.ssh.address import Address

    return Address.parse(vault).local


def _near(typed: Mapping[str, str]) -> str:
    """The case or item of a vault on this machine that may have been meant by one that it does not have; empty if none may."""
    from evidencesync.cli.options import local_vault
    from evidencesync.evidence.identity import Title
    from evidencesync.vault.alike import nearest
    from evidencesync.vault.catalog import case_folders, item_folders
    from evidencesync.vault.layout import VaultLayout

    if "case" not in typed or not _is_here(typed.get("vault", "")):
        return ""
    vault, case = VaultLayout(local_vault(typed.get("vault", ""))), Title(typed["case"]).folder
    words = [shell_text("--case", near) for near in nearest(case, case_folders(vault))]
    if not words and "item" in typed:
        words = [shell_text("--item", near) for near in nearest(Title(typed["item"]).folder, item_folders(vault, case))]
    return f"Did you mean {' or '.join(words)}? " if words else ""


def _with_key(hint: str, key: str | None) -> str:
    """The hint with the public part of the key that signs, and its owner's name, where both can be read."""
    from evidencesync.cli.trust_files import named_key
    from evidencesync.home import expand

    if key in (None, "agent"):
        return hint
    file = expand(f"{str(key).removesuffix('.pub')}.pub")
    _, name = named_key(file, None)
    return hint.replace("KEY.pub --principal NAME", shell_text(str(file), "--principal", name))


def _vault_for(hint: str, typed: str | None) -> str | None:
    """The vault as it is typed where the hint's command runs: on another machine only if the hint says that it runs there."""
    from evidencesync.ssh.address import Address

    if typed is None:
        return None
    with contextlib.suppress(UsageError):
        address = Address.parse(typed)
        if address.local:
            return shell_text(typed)
        if hint.startswith(_THERE) and address.path:
            return shell_text(address.path_there)
    return None
