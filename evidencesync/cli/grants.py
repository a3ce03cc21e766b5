"""The options that say what a key may do, and how that is shown."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import typer

from evidencesync.cli.help_text import GRANTED
from evidencesync.errors import MalformedDocumentError, UsageError

if TYPE_CHECKING:
    from evidencesync.cli.outputs import SignerOutput
    from evidencesync.custody.roles import Grant

_MAY: Final = "acquire, custody, read, verify, admin; with commas between."
_NEVER: Final = "never"
_May = Annotated[str | None, typer.Option(metavar="ROLES", help=f"{_MAY}  [default: acquire,custody,read,verify]")]
_Cases = Annotated[
    list[str] | None,
    typer.Option(
        "--case", metavar="PATTERN", help="Only in cases with such a number: * any characters but /, ? one; may be repeated."
    ),
]
_Until = Annotated[str | None, typer.Option(metavar="DATE", help="YYYY-MM-DD: the last day, by UTC, all of it.")]


@dataclasses.dataclass(frozen=True, slots=True)
class GrantChoice:
    """What a new key may do, in which cases and until when. Without an option: the usual, in every case, without an end."""

    GROUP: ClassVar = GRANTED

    may: _May = None
    cases: _Cases = None
    until: _Until = None

    def grant(self) -> Grant:
        """The grant. Raises UsageError for a role, a pattern or a day that is none."""
        from evidencesync.custody.roles import USUAL

        return _grant(USUAL.may if self.may is None else _roles(self.may), self.cases, self.until)


@dataclasses.dataclass(frozen=True, slots=True)
class GrantChange:
    """What changes of what a key may do. What is not named stays."""

    GROUP: ClassVar = GRANTED

    may: Annotated[str | None, typer.Option(metavar="ROLES", help=_MAY)] = None
    cases: _Cases = None
    all_cases: Annotated[bool, typer.Option("--all-cases", help="In every case, whatever was said before.")] = False
    until: Annotated[
        str | None, typer.Option(metavar="DATE", help="YYYY-MM-DD: the last day, by UTC, all of it; or `never`.")
    ] = None

    def check(self) -> None:
        """Raises UsageError where nothing is to change, or what is named cannot be."""
        from evidencesync.custody.roles import USUAL

        self.grant(USUAL)

    def grant(self, before: Grant) -> Grant:
        """The grant after the change. Raises UsageError, also where nothing is to change."""
        if self == GrantChange():
            raise UsageError("nothing is to change", hint="Say what: --may ROLES, --case PATTERN, --all-cases or --until DATE.")
        if self.all_cases and self.cases:
            raise UsageError("--all-cases and --case contradict each other", hint="Give one of them.")
        cases = None if self.all_cases else self.cases or before.cases
        until = None if self.until == _NEVER else self.until or before.until
        return _grant(before.may if self.may is None else _roles(self.may), cases, until)


def may_text(signer: SignerOutput) -> str | None:
    """What a key may do, for people; None for the vault's own, and for one that is not trusted any more."""
    from evidencesync.custody.principals import VAULT_PRINCIPAL
    from evidencesync.custody.roles import EVERYTHING

    if signer.principals == [VAULT_PRINCIPAL] or signer.revoked or signer.valid_before is not None:
        return None
    if signer.may is None:
        return f"may {EVERYTHING.shown_may()}, in every case: nobody has said otherwise, and the vault is older than roles"
    grant = _grant(signer.may, signer.cases, signer.until)
    until = f", until {grant.until} (UTC, that day included)" if grant.until is not None else ""
    return f"may {grant.shown_may()}, in {grant.shown_cases()}{until}"


def _roles(text: str) -> list[str]:
    return [part.strip() for part in text.split(",")]


def _grant(may: list[str] | tuple[str, ...], cases: list[str] | tuple[str, ...] | None, until: str | None) -> Grant:
    import unicodedata

    from evidencesync.custody.roles import make_grant

    try:
        return make_grant(may, None if cases is None else [unicodedata.normalize("NFC", one) for one in cases], until)
    except MalformedDocumentError as error:
        hint = f"Roles are {_MAY} A pattern has plain characters, * and ?; a day is written 2026-12-31."
        raise UsageError(error.message, hint=hint) from error
