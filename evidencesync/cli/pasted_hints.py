"""Makes commands in hints ready to be pasted: with the vault, the case and the item that were typed in place of their names."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping
from typing import Final

from evidencesync.errors import CommandKind, EvidenceSyncError, UsageError
from evidencesync.evidence.display import shell_text

_VAULT: Final = re.compile(r"(?<=evidencesync )((?:[a-z-]+ )+)VAULT\b")
_ITEM: Final = re.compile(r"--case (?:C|CASE) --item (?:I|ITEM)\b")
_THERE: Final = "On the vault's machine: "


@contextlib.contextmanager
def filling_in_hints(values: Mapping[str, object], kind: CommandKind) -> Iterator[None]:
    """Fills what a person has typed (`values`, by the parameters' names) into the hints of errors that pass through."""
    names = () if kind is CommandKind.SERVES else ("vault", "case", "item")  # what `serve` says goes to another machine, too
    typed = {name: value for name in names if isinstance(value := values.get(name), str) and value}
    try:
        yield
    except EvidenceSyncError as error:
        hint = error.hint_for(kind)
        if hint is not None and (filled := _filled_in(hint, typed)) != hint:
            error.hint = filled
        raise


def _filled_in(hint: str, typed: Mapping[str, str]) -> str:
    vault = _vault_for(hint, typed.get("vault"))
    if vault is not None:
        hint = _VAULT.sub(lambda found: found[1] + vault, hint)
    if "case" in typed and "item" in typed:
        named = shell_text("--case", typed["case"], "--item", typed["item"])
        hint = _ITEM.sub(lambda _: named, hint)
    return hint


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
