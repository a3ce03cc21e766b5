"""Parses and writes vault.toml: the vault's identity, its policy, and the abilities of its file system."""

from __future__ import annotations

import json
import re
import tomllib
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.custody.documents import Document, Fingerprint, TitleText, VaultId
from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.errors import LaterFormatError, MalformedDocumentError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import UtcTime

VAULT_FORMAT: Final = "evidencesync-vault/1"
_A_FORMAT: Final = re.compile("evidencesync-vault/[0-9]{1,6}")
_HINT: Final = "On the vault's machine: undo what was last edited in vault.toml, or put it back from a backup."
LookupScope = Literal["item", "case"]
"""How far a receiver looks for contents that it has: in the item, or in the case."""
Sync = Literal["syncfs", "fsync"]


class Policy(Document, frozen=True):
    """The owner's decisions. May be edited by hand."""

    lookup: Literal["item", "case", "vault"] = "case"
    """The value in the file. `vault` was a wider policy once, and is treated as `case`: see `lookup_scope`."""

    @property
    def lookup_scope(self) -> LookupScope:
        """How far lookups go."""
        return "item" if self.lookup == "item" else "case"


class FileSystem(Document, frozen=True):
    """The abilities of the vault's file system, found when the vault was made."""

    case_sensitive: bool
    any_bytes_in_names: bool
    name_bytes: Annotated[int, msgspec.Meta(ge=8, le=65_536)]
    time_granularity_ns: Annotated[int, msgspec.Meta(ge=1, le=10_000_000_000)]
    hard_links: bool
    reflinks: bool
    sync: Sync


class Writer(Document, frozen=True):
    """The only machine that writes, for a vault on a file system whose locks do not hold between machines."""

    machine: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{32}$", max_length=32)]
    name: TitleText
    since: UtcTime


class VaultSettings(Document, frozen=True):
    """All of vault.toml. Without `writer`, any machine that has the lock may write to the vault."""

    format: str
    id: VaultId
    name: TitleText
    key: Fingerprint
    created: UtcTime
    policy: Policy
    file_system: FileSystem
    writer: Writer | None = None
    two_person: tuple[NeedsTwo, ...] | None = None
    """What needs two people, for whoever reads this file: what the vault's own chain says counts."""

    def naming(self, writer: Writer) -> VaultSettings:
        """Returns the same settings with another writing machine."""
        return msgspec.structs.replace(self, writer=writer)


# msgspec learns the form of a type when it is used first, and the interpreter crashes where two threads do that at once (seen
# with msgspec 0.22). So it learns each form while a module is imported, which one thread does.
msgspec.json.Decoder(VaultSettings)


def parse_settings(data: bytes) -> VaultSettings:
    """Parses the bytes of a vault.toml.

    Raises MalformedDocumentError for invalid settings, as `verify` reports them, and LaterFormatError for those of another
    version: they may be valid, and a version that knows the format can tell.
    """
    try:
        fields = tomllib.loads(data.decode("utf-8-sig"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise MalformedDocumentError(f"vault.toml cannot be read: {safe_text(str(error), 200)}", hint=_HINT) from error
    found = fields.get("format")
    if isinstance(found, str) and found != VAULT_FORMAT and _A_FORMAT.fullmatch(found):
        raise LaterFormatError(f"the vault has the format {safe_text(found, 80)}; this version knows {VAULT_FORMAT}")
    if found != VAULT_FORMAT:
        raise MalformedDocumentError(f"vault.toml does not say that its format is {VAULT_FORMAT}", hint=_HINT)
    try:
        return msgspec.convert(fields, VaultSettings)
    except msgspec.ValidationError as error:
        raise MalformedDocumentError(f"vault.toml: {safe_text(str(error), 300)}", hint=_HINT) from error


def encode_settings(settings: VaultSettings) -> bytes:
    """Formats a vault.toml for people and for `parse_settings`."""
    lines = ["# An evidencesync vault. [policy] may be edited; nothing else should be."]
    tables = []
    for name in settings.__struct_fields__:
        value = getattr(settings, name)
        if isinstance(value, msgspec.Struct):
            tables.append("\n" + encode_table(name, value))
        elif value is not None:
            lines.append(f"{name} = {_toml(value)}")
    return ("\n".join(lines + tables) + "\n").encode("utf-8")


def line_of_two(rule: tuple[NeedsTwo, ...]) -> str:
    """Formats the line of a vault.toml that says what needs two people, without a newline."""
    return f"two_person = {_toml(rule)}"


def encode_table(name: str, value: msgspec.Struct) -> str:
    """Formats one table of a vault.toml, without a newline at its end."""
    return "\n".join([f"[{name}]", *(f"{field} = {_toml(getattr(value, field))}" for field in value.__struct_fields__)])


def _toml(value: str | int | bool | tuple[str, ...]) -> str:
    """Formats a TOML value. A JSON string without control characters (names have none) is a TOML string."""
    return json.dumps(value, ensure_ascii=False)
