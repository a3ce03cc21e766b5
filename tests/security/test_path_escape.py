"""Attack: a manifest that names a place outside of its own folder, or a place that cannot be one."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from evidencesync.evidence.entry import Entry
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Published
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of

CONTENT = b"owned"


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


LEAVING: list[dict[str, Any]] = [
    {"path": "/etc/cron.d/owned"},
    {"path": "//owned"},
    {"path": ".."},
    {"path": "."},
    {"path": "../owned"},
    {"path": "../../../../owned"},
    {"path": "a/../owned"},
    {"path": "a/./owned"},
    {"path": "a//owned"},
    {"path": "a/"},
    {"path": None, "path_b64": b64(b"../owned\xff")},
    {"path": None, "path_b64": b64(b"/owned\xff")},
    {"path": None, "path_b64": b64(b"owned\0.txt")},
    {"path": None, "path_b64": b64(b"a/\0")},
    {"path": None, "path_b64": b64(b"owned")},  # the wrong one of the two forms: a second name for the same file
    {"path": None, "path_b64": b64(b"owned\xff") + "\n"},
    {"path": None, "path_b64": "not base64!"},
    {"path": None, "path_b64": None},
    {"path": "owned", "path_b64": b64(b"owned")},
    {"path": "n" * 256},
    {"path": "/".join(["d" * 200] * 400)},
    {"path": "/".join("d" * 5000)},
]


@pytest.mark.parametrize("fields", LEAVING, ids=lambda fields: repr(fields)[:60])
def test_a_path_that_leads_elsewhere_ends_the_session(victim: Bench, fields: dict[str, Any]) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    known: dict[str, Any] = {"path": "owned"} | fields
    client.send_manifest([ROOT, entry_of(b"owned", content=CONTENT, **known)], [CONTENT])
    assert client.ended().exit_code is ExitCode.PEER


UNDER_WHAT_IS_NO_FOLDER = {
    "a link": [entry_of(b"a", "symlink", target="/tmp"), entry_of(b"a/owned", content=CONTENT)],
    "a link that stands for a folder of the vault": [
        entry_of(b"a", "symlink", target="../../../../custody"),
        entry_of(b"a/owned", content=CONTENT),
    ],
    "a file": [entry_of(b"a", content=CONTENT), entry_of(b"a/owned", content=CONTENT)],
    "a device": [entry_of(b"a", "character-device"), entry_of(b"a/owned", content=CONTENT)],
    "nothing": [entry_of(b"a/owned", content=CONTENT)],
    "a folder that was left": [
        entry_of(b"a", "directory"),
        entry_of(b"b", "directory"),
        entry_of(b"a/owned", content=CONTENT),
    ],
    "a folder with a name that only begins alike": [entry_of(b"ab", "directory"), entry_of(b"a/owned", content=CONTENT)],
    "a folder that becomes a link": [
        entry_of(b"a", "directory"),
        entry_of(b"a", "symlink", target="/tmp"),
        entry_of(b"a/owned", content=CONTENT),
    ],
    "a folder that becomes a file": [entry_of(b"a", "directory"), entry_of(b"a", content=CONTENT)],
    "the root as a link": [entry_of(b"", "symlink", target="/tmp"), entry_of(b"owned", content=CONTENT)],
}


@pytest.mark.parametrize("case", UNDER_WHAT_IS_NO_FOLDER)
def test_nothing_is_put_below_what_is_not_a_folder_of_this_manifest(victim: Bench, case: str) -> None:
    entries: list[Entry] = UNDER_WHAT_IS_NO_FOLDER[case]
    client = HostileClient(victim)
    client.shake_hands()
    files = [CONTENT] * sum(entry.has_content for entry in entries)
    client.send_manifest(entries if case.startswith("the root") else [ROOT, *entries], files)
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}


@pytest.mark.parametrize(
    "names", [[b"a", b"a"], [b"b", b"a"], [b"", b"a"], [b"a", b"b", b"a"]], ids=["twice", "backwards", "root twice", "again"]
)
def test_no_name_is_made_twice(victim: Bench, names: list[bytes]) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    entries = [entry_of(name, content=CONTENT) if name else ROOT for name in names]
    client.send_manifest([ROOT, *entries], [CONTENT] * sum(entry.has_content for entry in entries))
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}


def test_names_that_differ_in_case_stay_two_files(tmp_path: Path) -> None:
    """Where a file system cannot tell them apart the second one is refused: no file is ever opened that exists."""
    bench = make_bench(tmp_path)
    client = HostileClient(bench)
    client.shake_hands()
    upper, lower = b"upper", b"lower"
    entries = [ROOT, entry_of(b"NAME", content=upper), entry_of(b"name", content=lower)]
    client.send(client.finish(client.send_manifest(entries, [upper, lower])))
    client.hear(Published)
    data = bench.acquisition(1) / "data"
    assert ((data / "NAME").read_bytes(), (data / "name").read_bytes()) == (upper, lower)


@pytest.mark.parametrize("session", ["../../../owned", "x" * 32, "A" * 32, "0" * 31, "0" * 32 + "\n", ""])
def test_a_session_id_names_no_other_folder(victim: Bench, session: str) -> None:
    client = HostileClient(victim)
    client.send(client.begin(client.claim(client.hello(), session=session)))
    assert client.ended().exit_code is ExitCode.PEER


@pytest.mark.parametrize("title", ["../../owned", "/owned", "..", "a/../../b", "owned\0", "owned\n", " "])
@pytest.mark.parametrize("which", ["case", "item"])
def test_a_case_or_item_number_names_no_other_folder(victim: Bench, title: str, which: str) -> None:
    client = HostileClient(victim)
    client.send(client.begin(client.claim(client.hello(), **{which: title})))
    assert client.ended().exit_code in {ExitCode.USAGE, ExitCode.PEER}
