"""What a dry run prints of a vault's word: bounded, escaped, and never more certain than it is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.dry_run import plan_acquisition
from evidencesync.cli import dry_run_output
from evidencesync.cli.console import Console
from evidencesync.cli.dry_run import refusal_of
from evidencesync.cli.dry_run_output import DryRunOutput, Itemized, Outlook, dry_run_lines
from evidencesync.compare.planned import PlannedChange, PlannedChanges
from evidencesync.errors import PeerError, SealedError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_FILE_SIZE
from evidencesync.protocol.document_messages import RoomShown
from evidencesync.protocol.messages import Alike, Failure
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source

NAME = ItemName(Title("C"), Title("I"))
ROOM = RoomShown("ana@lab", 3, 1000, True, None, Alike([], []), None)  # noqa: FBT003


def told(tmp_path: Path, room: RoomShown | None, itemized: Itemized | None = None, **counts: Any) -> tuple[DryRunOutput, str]:
    """The document and the lines for people."""
    changes = PlannedChanges(**counts)
    refused = None if room is None else refusal_of(room)
    outlook = Outlook("0" * 32, 2, changes, changes.most_bytes, changes.most_bytes, room, refused)
    rules, seen = FilterRules.none(), plan_acquisition(resolve_source(os.fsencode(tmp_path)), FilterRules.none())
    console = Console()
    output = dry_run_output.dry_run_output(NAME, rules, seen, outlook, itemized or Itemized(console, wanted=False), ([], []))
    return output, "\n".join(dry_run_lines(NAME, rules, output, seen))


@pytest.mark.parametrize(
    ("free", "needed", "fits", "said"),
    [
        (1000, 1000, True, "for evidence: enough"),
        (1000, 1001, None, "WARNING      it may not fit"),
        (MAX_FILE_SIZE, MAX_FILE_SIZE, True, "9.0 PB for evidence: enough"),
        (0, 0, True, "0 B for evidence: enough"),
    ],
)
def test_what_may_fit_is_no_promise_and_what_may_not_is_a_warning(
    tmp_path: Path, free: int, needed: int, fits: bool | None, said: str
) -> None:
    output, lines = told(tmp_path, msgspec.structs.replace(ROOM, free=free), added=1, added_bytes=needed)
    assert output.vault is not None
    assert (output.vault.fits, said in lines) == (fits, True), lines


def test_a_file_system_that_does_not_say_promises_nothing(tmp_path: Path) -> None:
    output, lines = told(tmp_path, msgspec.structs.replace(ROOM, free=None))
    assert output.vault is not None
    assert (output.vault.fits, "  room " in lines) == (None, False)


def test_a_vault_that_is_too_old_to_say_is_said_not_to_be_checked(tmp_path: Path) -> None:
    output, lines = told(tmp_path, None, same=1)
    assert output.vault is not None
    assert (output.vault.principal, output.vault.needed_bytes, "knows you as" in lines) == (None, None, False)
    assert "NOT checked  the room, and whether the vault takes another acquisition" in lines
    assert "your key" not in "".join(output.checked)


def test_a_publish_that_is_not_completed_is_said_not_to_be_checked(tmp_path: Path) -> None:
    _, lines = told(tmp_path, msgspec.structs.replace(ROOM, acquisition=None))
    assert "NOT checked  whether the vault takes another acquisition: a publish was interrupted" in lines


def test_words_of_a_vault_are_escaped(tmp_path: Path) -> None:
    hostile = msgspec.structs.replace(ROOM, holder="eve\x1b[2J\n", refusal=Failure("sealed", "no\x1b[2J\nWARNING", None))
    output, lines = told(tmp_path, hostile)
    assert output.vault is not None
    assert "\x1b" not in lines + str(output)
    assert all(line.startswith("  ") for line in lines.splitlines()[1:])


@pytest.mark.parametrize(
    ("slug", "error", "code"),
    [
        ("sealed", SealedError, ExitCode.LOCKED),
        ("source-unreadable", PeerError, ExitCode.PEER),
        ("host-key-changed", PeerError, ExitCode.PEER),
        ("rolled-back", PeerError, ExitCode.PEER),
        ("made-up", PeerError, ExitCode.PEER),
    ],
)
def test_a_refusal_of_a_vault_sounds_neither_like_success_nor_like_what_only_we_know(
    slug: str, error: type[Any], code: ExitCode
) -> None:
    found = refusal_of(msgspec.structs.replace(ROOM, refusal=Failure(slug, "m", None)))
    assert isinstance(found, error)
    assert found.exit_code is code


def test_a_document_names_no_more_entries_than_memory_should_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dry_run_output, "_MOST_ENTRIES", 2)
    itemized = Itemized(Console(as_json=True), wanted=True)
    for number in range(4):
        itemized.add(PlannedChange("added", b"%d" % number, "file", 1))
    itemized.finish(PlannedChanges(moves=[(b"a", b"b", 1)] * 4))
    output, _ = told(tmp_path, ROOM, itemized, added=4)
    assert output.changes is not None
    assert (len(output.changes.entries or ()), len(output.changes.moves or ()), output.changes.added) == (2, 2, 4)


def test_rows_for_people_are_printed_while_the_walk_goes_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dry_run_output, "_ROWS", 2)
    itemized = Itemized(Console(), wanted=True)
    for number in range(3):
        itemized.add(PlannedChange("changed", b"%d\x1b[2J" % number, "file", 12_345, ("size", "time")))
    first = capsys.readouterr().out.splitlines()
    assert first == [rf"changed  file        12.3 kB  size,time  {number}\x1b[2J" for number in range(2)]
    itemized.finish(PlannedChanges())
    assert len(capsys.readouterr().out.splitlines()) == 1
