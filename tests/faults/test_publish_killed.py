from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.errors import ChainError
from evidencesync.vault.item import lock_item
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.publish import STEPS, complete_unfinished
from tests.faults import publish_victim
from tests.faults.publish_victim import FILES
from tests.support.victims import run_victim
from tests.unit.vault.acquiring import Acquirer, check_published, new_vault

KEY = bytes(range(32))
SESSION = "0123456789abcdef" * 2
COMMIT = STEPS.index("renamed")


@pytest.fixture
def acquirer(tmp_path: Path) -> Acquirer:
    examiner = VaultSigner(Ed25519PrivateKey.from_private_bytes(KEY))
    return Acquirer(new_vault(tmp_path / "vault", examiner), examiner)


def kill_at(step: str, acquirer: Acquirer) -> None:
    """Runs a publish in a process of its own that dies, uncatchably, when the step is done."""
    root = acquirer.vault.layout.root
    code, _, error = run_victim(publish_victim.main, str(root), KEY.hex(), SESSION, step, folder=root.parent)
    assert code == -signal.SIGKILL, error


@pytest.mark.parametrize("earlier", [0, 1])
@pytest.mark.parametrize("step", ["staged", *STEPS])
def test_whatever_the_moment_nothing_or_all_of_it_is_published(acquirer: Acquirer, step: str, earlier: int) -> None:
    before = {b"earlier": b"evidence"}
    for _ in range(earlier):
        acquirer.acquire(before)
    kill_at(step, acquirer)

    item = acquirer.item()
    committed = step in STEPS and STEPS.index(step) >= COMMIT
    assert item.acquisitions() == list(range(1, 1 + earlier + committed))
    with lock_item(item):  # the next writer
        completed = complete_unfinished(item)
        state = item.state()
    records_missing = step in ("renamed", "parents-synced", "acquired-linked")
    assert completed == (earlier + 1 if records_missing else None)
    assert state.next_acquisition == 1 + earlier + committed
    assert state.head_sequence == 2 * (earlier + committed)
    assert item.find_session(SESSION) == (earlier + 1 if committed else None)
    if committed:
        check_published(item, earlier + 1, FILES)
        assert os.listdir(item.layout.incoming) == []
    else:
        assert os.listdir(item.layout.incoming) == [SESSION]

    acquirer.acquire(FILES, session="f" * 32)  # and the item goes on
    assert item.acquisitions() == list(range(1, 2 + earlier + committed))
    for number in range(1, 1 + earlier):
        check_published(item, number, before)


def test_completing_twice_is_completing_once(acquirer: Acquirer) -> None:
    kill_at("acquired-linked", acquirer)
    with lock_item(acquirer.item()) as item:
        assert complete_unfinished(item) == 1
        assert complete_unfinished(item) is None
    check_published(item, 1, FILES)


def test_a_completion_that_is_killed_itself_is_completed(acquirer: Acquirer) -> None:
    kill_at("renamed", acquirer)
    custody = acquirer.item().layout.custody
    (custody / "0001-acquired.json.sig").write_bytes((acquirer.item().layout.acquisition(1) / "acquired.json.sig").read_bytes())
    (custody / ".new-0001-acquired.json").write_bytes(b"{")
    with lock_item(acquirer.item()) as item:
        assert complete_unfinished(item) == 1
    check_published(item, 1, FILES)
    assert len(os.listdir(custody)) == 4


def test_a_writer_that_does_not_complete_first_is_refused(acquirer: Acquirer) -> None:
    kill_at("acquired-linked", acquirer)
    with lock_item(acquirer.item()) as item, pytest.raises(ChainError):
        item.state()


def test_the_lock_ends_with_its_process(acquirer: Acquirer) -> None:
    kill_at("documents-written", acquirer)
    with lock_item(acquirer.item()):
        pass
