"""Makes commands in hints ready to be pasted: with the vault, the case and the item that were typed in place of their names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.errors import CommandKind, EvidenceSyncError, NotThereError, UntrustedSignerError, UsageError
from evidencesync.evidence.display import shell_text

if TYPE_CHECKING:
    from evidencesync.cli.settings import LoadedSettings

_VAULT: Final = re.compile(r"(?<=evidencesync )((?:[a-z-]+ )+)VAULT\b")
_ITEM: Final = re.compile(r"--case (?:C|CASE) --item (?:I|ITEM)\b")
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
        raise


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
