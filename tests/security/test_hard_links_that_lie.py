"""Attack: a manifest whose hard links lead to nothing, or to something else. The vault refuses it.

Where one lies in a vault all the same, every command that relies on a manifest refuses it as `verify` does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from msgspec.structs import replace

from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.entry import Entry
from evidencesync.exit_codes import ExitCode
from evidencesync.ingest import session as ingest_session
from evidencesync.protocol.messages import Published
from evidencesync.source.metadata import EntryMaker
from tests.integration.cli_program import ITEM, Lab
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.every_command import run_in_process
from tests.support.hostile_client import ROOT, HostileClient, entry_of

LIES: Final[dict[str, tuple[list[Entry], list[bytes]]]] = {
    "to a path that is not listed": ([entry_of(b"b", content=b"x", hardlink_to="a")], [b"x"]),
    "to another content": ([entry_of(b"a", content=b"x"), entry_of(b"b", content=b"y", hardlink_to="a")], [b"x", b"y"]),
    "to another kind": ([entry_of(b"a", "fifo"), entry_of(b"b", content=b"x", hardlink_to="a")], [b"x"]),
    "to a folder": ([entry_of(b"a", "directory"), entry_of(b"b", content=b"x", hardlink_to="a")], [b"x"]),
    "of a link to another target": (
        [entry_of(b"a", "symlink", target="here"), entry_of(b"b", "symlink", target="there", hardlink_to="a")],
        [],
    ),
    "of a device to another one": (
        [entry_of(b"a", "character-device", device_number="1:3"), entry_of(b"b", "character-device", hardlink_to="a")],
        [],
    ),
    "to something that was left out without a word": (
        [entry_of(b"a", content=b"x"), entry_of(b"b", "fifo", hardlink_to="a")],
        [b"x"],
    ),
}
HONEST: Final[dict[str, tuple[list[Entry], list[bytes]]]] = {
    "to the same content": ([entry_of(b"a", content=b"x"), entry_of(b"b", content=b"x", hardlink_to="a")], [b"x", b"x"]),
    "to a content that changed meanwhile": (
        [entry_of(b"a", content=b"x"), entry_of(b"b", content=b"y", hardlink_to="a", flags=["changed-while-read"])],
        [b"x", b"y"],
    ),
}


def send(bench: Bench, entries: list[Entry], contents: list[bytes]) -> HostileClient:
    client = HostileClient(bench)
    client.shake_hands()
    client.send(client.finish(client.send_manifest([ROOT, *entries], contents)))
    return client


@pytest.mark.parametrize(("entries", "contents"), LIES.values(), ids=LIES)
def test_the_vault_refuses_a_hard_link_that_does_not_hold(victim: Bench, entries: list[Entry], contents: list[bytes]) -> None:
    error = send(victim, entries, contents).ended()
    assert (type(error), error.exit_code) == (MalformedDocumentError, ExitCode.SIGNATURE)
    assert "hard link" in error.message


@pytest.mark.parametrize(("entries", "contents"), HONEST.values(), ids=HONEST)
def test_the_vault_takes_one_that_holds(tmp_path: Path, entries: list[Entry], contents: list[bytes]) -> None:
    bench = make_bench(tmp_path)
    client = send(bench, entries, contents)
    assert client.hear(Published).acquisition == 1
    assert run_in_process(["verify", str(bench.vault.layout.root)]) == 0


Change = Callable[[Path], list[str]]
COMMANDS: Final[dict[str, Change]] = {
    "verify": lambda here: ["verify", f"{here}/vault"],
    "restore": lambda here: ["restore", f"{here}/vault", f"{here}/copy", "--case", "2026/11", "--item", "E1"],
    "export": lambda here: ["export", f"{here}/vault", f"{here}/bag", "--case", "2026/11", "--item", "E1", "--format", "bagit"],
    "report": lambda here: ["report", f"{here}/vault", "--case", "2026/11", "-o", f"{here}/report.json"],
    "compare": lambda here: [
        "compare",
        str(next(here.glob("vault/cases/*/*/*/0001/manifest.jsonl"))),
        f"{here}/source",
    ],
}


@pytest.mark.parametrize("lie", ["to a path that is not listed", "to another content", "of a link to another target"])
def test_every_command_refuses_what_verify_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], lie: str
) -> None:
    """A vault's end of another make published it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(ingest_session, "check_hard_links", lambda links, staging: None)
    bench = make_bench(tmp_path)
    assert send(bench, *LIES[lie]).hear(Published).acquisition == 1
    codes = {name: run_in_process(line(tmp_path)) for name, line in COMMANDS.items()}
    assert codes == dict.fromkeys(COMMANDS, 32), capfd.readouterr().err
    assert not (tmp_path / "copy").exists()
    assert not (tmp_path / "bag").exists()


def test_a_kept_receipt_whose_manifest_lies_is_refused_as_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    lab = Lab.make(tmp_path)
    lab.write("b", b"x")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setattr(ingest_session, "check_hard_links", lambda links, staging: None)
    plain = EntryMaker.make_entry

    def make_entry(self: EntryMaker, found: object, *args: object, **more: object) -> Entry:
        entry = plain(self, found, *args, **more)  # type: ignore[arg-type]
        return replace(entry, hardlink_to="a") if entry.path == "b" else entry

    monkeypatch.setattr(EntryMaker, "make_entry", make_entry)
    where = ["--receipts", f"{tmp_path}/kept"]
    push = ["push", f"{tmp_path}/evidence", f"{tmp_path}/vault", *ITEM, "--sign-key", f"{tmp_path}/ana", "--examiner", "Ana"]
    assert run_in_process([*push, *where]) == 0
    assert run_in_process(["receipts", "check", *where]) == 32
    assert "which the manifest does not list" in capfd.readouterr().out


def test_a_file_that_changes_between_its_two_names_is_flagged_and_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A log that is written to has two names: its second reading gives more than the first."""
    bench = make_bench(tmp_path)
    (bench.source / "a.log").write_bytes(b"one line\n")
    os.link(bench.source / "a.log", bench.source / "b.log")
    plain = EntryMaker.make_entry

    def make_entry(self: EntryMaker, found: object, *args: object, **more: object) -> Entry:
        entry = plain(self, found, *args, **more)  # type: ignore[arg-type]
        if entry.path == "a.log":
            with (bench.source / "a.log").open("ab") as log:
                log.write(b"another line\n")
        return entry

    monkeypatch.setattr(EntryMaker, "make_entry", make_entry)
    bench.push()
    entries = bench.entries(1)
    assert (entries[b"a.log"].size, entries[b"b.log"].size) == (9, 22)
    assert (entries[b"b.log"].hardlink_to, entries[b"b.log"].flags) == ("a.log", ["changed-while-read"])
    assert run_in_process(["verify", str(bench.vault.layout.root)]) == 0
