"""The options for details of a case and its item: given one by one, or in a case file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, NoReturn

import typer

from evidencesync.cli.help_text import RECORDED
from evidencesync.errors import ConfigurationError, UsageError
from evidencesync.evidence.display import safe_text
from evidencesync.home import expand, read_named
from evidencesync.limits import MAX_CASE_FILE

if TYPE_CHECKING:
    from evidencesync.evidence.identity import ItemName

_FORM: Final = "A case file has the tables [case], [item] and [details], with texts in quotes."
_NUMBER: Final = "number"


@dataclasses.dataclass(frozen=True, slots=True)
class DetailsChoice:
    """What is known of the case and the item."""

    GROUP: ClassVar = RECORDED

    detail: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A detail of case or item: make, model, serial_number, capacity, seal_number, location, legal_authority ..., "
            "or a name of your own; may be repeated.",
        ),
    ] = None
    case_file: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="A TOML file with such details. --detail takes precedence."),
    ] = None

    def details(self, name: ItemName, *, may_withdraw: bool = False) -> dict[str, str]:
        """The details for a record. With `may_withdraw`, an empty VALUE withdraws a detail. Raises UsageError."""
        from evidencesync.custody.details import make_details

        typed = make_details([_split(text) for text in self.detail or ()], may_withdraw=may_withdraw)
        filed = {} if self.case_file is None else read_case_file(Path(self.case_file), name)
        return make_details([*{**filed, **typed}.items()], may_withdraw=may_withdraw)


def read_case_file(file: Path, name: ItemName) -> dict[str, str]:
    """The details in a case file. If it names a case and an item, they must be these. Raises ConfigurationError."""
    import tomllib

    from evidencesync.custody.details import CASE_DETAILS, ITEM_DETAILS, make_details

    shown = f"the case file {safe_text(str(file), 200)}"
    try:
        data = read_named(expand(file), MAX_CASE_FILE)
        if len(data) > MAX_CASE_FILE:
            _refuse(f"{shown} is larger than {MAX_CASE_FILE} bytes")
        tables = tomllib.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{shown} cannot be read: {error.strerror}", hint="Check the path.") from error
    except (ValueError, RecursionError) as error:  # of TOML, and of UTF-8
        raise ConfigurationError(f"{shown} is not TOML: {safe_text(str(error), 200)}", hint=_FORM) from error
    given: list[tuple[str, str]] = []
    known = {"case": frozenset(CASE_DETAILS), "item": frozenset(ITEM_DETAILS), "details": None}
    for table, values in tables.items():
        if table not in known or not isinstance(values, dict):
            _refuse(f"{shown} has an unknown key: {safe_text(table, 80)}")
        given += _table(shown, table, values, known[table], name)
    try:
        return make_details(given)
    except UsageError as error:
        raise ConfigurationError(f"{shown}: {error.message}", hint=error.hint) from error


def _table(
    shown: str, table: str, values: dict[str, object], known: frozenset[str] | None, name: ItemName
) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, value in values.items():
        if not isinstance(value, str):
            _refuse(f"{shown}: {table}.{safe_text(key, 80)} is not a text")
        if known is not None and key == _NUMBER:
            expected = name.case.text if table == "case" else name.item.text
            if value != expected:
                what = f"{table} {safe_text(value, 80)}, not about {safe_text(expected, 80)}"
                raise ConfigurationError(f"{shown} is about {what}", hint="Name the case file of this case and item.")
            continue
        full = "case_description" if (table, key) == ("case", "description") else key
        if known is not None and full not in known:
            _refuse(f"{shown} has an unknown key: {table}.{safe_text(key, 80)}")
        found.append((full, value))
    return found


def _refuse(message: str) -> NoReturn:
    raise ConfigurationError(message, hint=_FORM)


def _split(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise UsageError(f"not NAME=VALUE: {safe_text(text, 80)}", hint="Write, for instance: --detail 'make=Dell'")
    return name, value
