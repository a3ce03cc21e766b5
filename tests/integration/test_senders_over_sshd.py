"""A push over a real SSH server that is interrupted, or killed: what becomes of the vault's end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.files.disk import locked_folder
from evidencesync.ingest.transfers import find_transfers
from evidencesync.vault.layout import VaultLayout
from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab, started_program

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.05)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("image", os.urandom(12_000_000))
    return made


def start_push(lab: Lab, sshd: Sshd) -> subprocess.Popen[bytes]:
    """A push that has stored something, and has more to send."""
    command = started_program()
    options = ("-i", str(sshd.identity), "-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))
    vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    process = lab.start(
        "push", "evidence", vault, *ITEM, *options, "--sign-key", "ana", "--remote-command", command, "--limit-rate", "1M"
    )
    incoming = item_of(lab) / "incoming"
    wait_for(lambda: process.poll() is not None or any(file.stat().st_size for file in incoming.glob("*/contents/*")))
    assert process.poll() is None, process.communicate()
    return process


def item_of(lab: Lab) -> Path:
    return lab.folder / "vault" / "cases" / ITEM[1] / ITEM[3]


def is_free(lab: Lab) -> bool:
    try:
        with locked_folder(item_of(lab), "the item"):
            return True
    except Exception:  # noqa: BLE001 - it is locked
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_push_that_is_interrupted_leaves_no_process_at_the_vault(lab: Lab, sshd: Sshd, number: int) -> None:
    process = start_push(lab, sshd)
    process.send_signal(number)
    process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130
    wait_for(lambda: is_free(lab))  # and not after the quarter of an hour for which a lost sender is waited for
    assert find_transfers(VaultLayout(lab.folder / "vault")) == []


def test_a_push_that_is_killed_is_waited_for_and_shown_until_clean_ends_it(lab: Lab, sshd: Sshd) -> None:
    process = start_push(lab, sshd)
    process.kill()
    process.communicate(timeout=TIMEOUT_SECONDS)
    layout = VaultLayout(lab.folder / "vault")
    wait_for(lambda: [one for one in find_transfers(layout) if one.waits])
    listed = lab.run("list", "vault", "--json").document["transfers"]
    assert [(one["state"], one["principal"]) for one in listed] == [("waiting", "ana@lab")]
    cleaned = lab.run("clean", "vault", "--yes", "--json")
    assert cleaned.code == 0, cleaned
    assert len(cleaned.document["ended"]) == len(cleaned.document["removed"]) == 1
    assert not item_of(lab).exists()  # nothing was ever published in it
