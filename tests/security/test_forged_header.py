"""Attack: a manifest that says it belongs to another vault, item, session, acquisition or examiner."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from evidencesync.custody.documents import Person
from evidencesync.exit_codes import ExitCode
from tests.support.bench_of_evidence import Bench, new_signer
from tests.support.hostile_client import ROOT, HostileClient, entry_of

OTHERS: list[dict[str, Any]] = [
    {"session": "0" * 32},
    {"case": "2026/12"},
    {"item": "E2"},
    {"vault_id": "0" * 32},
    {"vault_key": new_signer().public_key.fingerprint},
    {"acquisition": 1, "previous_manifest_sha256": None},
    {"acquisition": 3},
    {"acquisition": 9999},
    {"previous_manifest_sha256": "0" * 64},
    {"examiner": Person(name="Ana", principal="ana@lab", key=new_signer().public_key.fingerprint)},
    {"examiner": Person(name="Ana", principal="vault", key="SHA256:" + "A" * 43)},
]


@pytest.mark.parametrize("changes", OTHERS, ids=",".join)
def test_a_header_of_something_else_ends_the_session_before_a_file_is_made(victim: Bench, changes: dict[str, Any]) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    client.send_manifest([ROOT, entry_of(b"planted", content=b"x")], [b"x"], **changes)
    assert client.ended().exit_code is ExitCode.PEER
    assert not list(victim.vault.layout.root.rglob("planted"))


@pytest.mark.parametrize(
    "changes",
    [{"acquisition": 0}, {"previous_manifest_sha256": None}, {"format": "evidencesync-manifest/2"}, {"notes": ["\x1b[2J"]}],
    ids=",".join,
)
def test_a_header_that_no_signer_writes_is_malformed(victim: Bench, changes: dict[str, Any]) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    client.send_manifest([ROOT], **changes)
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}


@pytest.mark.parametrize("nesting", [b"[", b'{"format":', b'{"format":"evidencesync-manifest/1","source":{"device":'])
def test_a_header_that_is_nested_without_end_is_malformed(victim: Bench, nesting: bytes) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    client.send_page(0, nesting * (300_000 // len(nesting)) + b"\n")
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}


def test_a_second_header_is_malformed(victim: Bench) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    header = msgspec.json.encode(client.header()) + b"\n"
    client.send_page(0, header)
    client.send_page(1, header)
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}


def test_a_manifest_without_a_header_is_malformed(victim: Bench) -> None:
    client = HostileClient(victim)
    client.shake_hands()
    client.send_page(0, msgspec.json.encode(ROOT) + b"\n")
    assert client.ended().exit_code in {ExitCode.SIGNATURE, ExitCode.PEER}
