"""Attack: a manifest that says of a capture what cannot be, or hides that it did not come whole. The vault refuses it.

Where one lies in a vault all the same, `verify` and `restore` refuse it, too: by the same rule.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
from msgspec.structs import replace

from evidencesync.custody import entries as custody_entries
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.capture import Capture
from evidencesync.evidence.entry import Entry
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Published
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.every_command import run_in_process
from tests.support.hostile_client import ROOT, HostileClient, entry_of

STARTED, ENDED = "2026-11-28T12:00:00.000000Z", "2026-11-28T12:00:01.000000Z"
HONEST: Final = Capture("standard-output", STARTED, ENDED, "end-of-data", shell_command="avml /dev/stdout", exit_status=0)


def captured(content: bytes = b"memory", flags: list[str] | None = None, **said: Any) -> Entry:
    """An entry with a capture that says this. No value is checked."""
    return entry_of(b"memory", content=content, flags=flags, capture=replace(HONEST, **said))


AGAINST_THE_RULES: Final[dict[str, Entry]] = {
    "ended before it began": captured(started=ENDED, ended=STARTED),
    "at no time that exists": captured(ended="2026-02-30T12:00:00.000000Z"),
    "was cut, and has no flag": captured(end="link-lost"),
    "was cut, and has another flag": captured(end="link-lost", flags=["changed-while-read"]),
    "failed, and has no flag": captured(exit_status=1),
    "has more than was expected, and no flag": captured(expected_bytes=2),
    "dropped something, and has no flag": captured(dropped_bytes=1),
    "of a command that is not told": captured(shell_command=None),
    "of a command that is told twice": captured(arguments=["avml"]),
    "of a command that rewrites the screen": captured(shell_command="avml\x1b[2J"),
    "of standard input, by a command": captured(source="standard-input", exit_status=None),
    "of standard input, with an exit status": captured(source="standard-input", shell_command=None),
}
OUT_OF_RANGE: Final[dict[str, Entry]] = {
    "an exit status below zero": captured(exit_status=-1),
    "an exit status of 33 bits": captured(exit_status=1 << 32),
    "no signal": captured(signal=0),
    "a signal that no system has": captured(signal=256),
    "fewer bytes than none expected": captured(expected_bytes=-1),
    "more bytes dropped than a file has": captured(dropped_bytes=1 << 63),
    "an end that nobody knows": captured(end="whole"),
    "a source that nobody knows": captured(source="network"),
    "a time that is no text": captured(started=0),
    "words without any": captured(shell_command=None, arguments=[]),
}


def send(bench: Bench, *entries: Entry) -> HostileClient:
    client = HostileClient(bench)
    client.shake_hands()
    client.send(client.finish(client.send_manifest([ROOT, *entries], [b"memory"])))
    return client


@pytest.mark.parametrize("entry", (AGAINST_THE_RULES | OUT_OF_RANGE).values(), ids=AGAINST_THE_RULES | OUT_OF_RANGE)
def test_the_vault_refuses_a_capture_that_lies(victim: Bench, entry: Entry) -> None:
    error = send(victim, entry).ended()
    assert (type(error), error.exit_code) == (MalformedDocumentError, ExitCode.SIGNATURE)


def test_the_vault_takes_an_honest_one(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    flagged = captured(end="link-lost", exit_status=None, flags=["unreadable"])
    assert send(bench, flagged).hear(Published).acquisition == 1
    assert run_in_process(["verify", str(bench.vault.layout.root)]) == 0


@pytest.mark.parametrize("name", ["ended before it began", "was cut, and has no flag", "of a command that is told twice"])
def test_who_reads_a_vault_refuses_what_another_make_of_it_has_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    bench = make_bench(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(custody_entries, "check_capture", lambda entry, capture: None)
        assert send(bench, AGAINST_THE_RULES[name]).hear(Published).acquisition == 1
    vault = str(bench.vault.layout.root)
    assert run_in_process(["verify", vault]) == 32
    assert run_in_process(["restore", vault, f"{tmp_path}/copy", "--case", "2026/11", "--item", "E1"]) == 32
    assert not (tmp_path / "copy").exists()
