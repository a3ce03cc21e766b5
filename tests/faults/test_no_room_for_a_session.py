"""A vault's end that cannot even begin, for want of memory, threads or open files: the other end hears so, and does not wait."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from evidencesync.acquire.connect import connect_to_vault
from evidencesync.acquire.push import push
from evidencesync.connection import read_ahead as ahead_module
from evidencesync.connection.link import local_pair
from evidencesync.connection.progress import Progress
from evidencesync.errors import EvidenceSyncError, LinkLostError, ResourcesError
from evidencesync.ingest import receive as receive_module
from evidencesync.serve.serving import _serve_link
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from tests.support.bench_of_evidence import Bench, make_bench

SECONDS = 20.0


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "small").write_bytes(b"one")
    return made


def no_room(*_: object, **__: object) -> None:
    raise MemoryError


def no_thread(*_: object, **__: object) -> None:
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("where", ["receive", "thread"])
def test_a_push_to_a_local_vault_ends_at_once(bench: Bench, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Under `ulimit -v` the vault's half may not fit, or its thread, where the other half did."""
    if where == "receive":
        monkeypatch.setattr(receive_module, "receive", no_room)
    else:
        monkeypatch.setattr(ahead_module.ReadAhead, "__init__", no_thread)
    link = connect_to_vault(Address.parse(str(bench.vault.layout.root)), SshOptions())
    with pytest.raises(ResourcesError, match="not enough memory"):
        push(link, bench.request(timeout_seconds=SECONDS), Progress())
    monkeypatch.undo()
    assert bench.push().acquisition == 1


def test_a_sender_from_afar_is_told(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead_module.ReadAhead, "__init__", no_thread)
    ours, theirs = local_pair()
    ended: list[BaseException] = []

    def serve() -> None:
        try:
            _serve_link(theirs, str(bench.vault.layout.root), "a test", None)
        except EvidenceSyncError as error:
            ended.append(error)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with pytest.raises(EvidenceSyncError, match="not enough memory") as told:
        push(ours, bench.request(timeout_seconds=SECONDS), Progress())
    thread.join(SECONDS)
    assert not isinstance(told.value, LinkLostError)
    assert [type(error) for error in ended] == [ResourcesError]
