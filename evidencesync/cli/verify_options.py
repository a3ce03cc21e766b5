"""Options of `verify`: what of a vault is meant, and whether the verdict is recorded."""

from __future__ import annotations

import dataclasses
from typing import Annotated, ClassVar

import typer

from evidencesync.cli.options import SignChoice
from evidencesync.errors import UsageError


@dataclasses.dataclass(frozen=True, slots=True)
class SignerChoice(SignChoice):
    """Who signs, where there is no SSH connection whose key could be meant."""

    GROUP: ClassVar = "Who signs"

    identity: Annotated[
        str | None,
        typer.Option("-i", "--identity", metavar="FILE", envvar="EVIDENCESYNC_IDENTITY", help="Private key to sign with."),
    ] = None


@dataclasses.dataclass(frozen=True, slots=True)
class RecordChoice(SignerChoice):
    """Whether the verdict is recorded, and who signs that."""

    record: Annotated[
        bool, typer.Option("--record", help="Append a signed record of the verdict to the chain of every item verified.")
    ] = False


@dataclasses.dataclass(frozen=True, slots=True)
class PartChoice:
    """What of a vault is meant; all of it where nothing is said."""

    GROUP: ClassVar = "Case and item"

    case: Annotated[str | None, typer.Option(metavar="CASE", help="Only this case.")] = None
    item: Annotated[str | None, typer.Option(metavar="ITEM", help="Only this item; needs --case.")] = None
    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Only this acquisition; needs --item.")
    ] = None

    def check(self) -> None:
        """Raises UsageError for a part without what it is a part of."""
        if (self.item is not None and self.case is None) or (self.acquisition is not None and self.item is None):
            raise UsageError("--item needs --case, and --acquisition needs --item")

    @property
    def scope(self) -> str:
        """In words: the vault, a case, an item, or an acquisition."""
        if self.acquisition is not None:
            return f"acquisition {self.acquisition}"
        return "item" if self.item is not None else "case" if self.case is not None else "vault"
