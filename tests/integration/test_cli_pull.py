"""Pulls over a real SSH server: the far end started by the remote command, or as a forced command."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_program import ITEM, REPOSITORY, Lab, schema_errors

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

REMOTE = f"env PYTHONPATH={shlex.quote(str(REPOSITORY))} {shlex.quote(sys.executable)} -m evidencesync"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(900_000))
    return made


def options(sshd: Sshd) -> tuple[str, ...]:
    return (
        "--sign-key",
        "ana",
        "-i",
        str(sshd.identity),
        "-p",
        str(sshd.port),
        "-F",
        "none",
        "--known-hosts",
        str(sshd.known_hosts),
    )


def source_of(lab: Lab, sshd: Sshd, path: str = "evidence") -> str:
    return f"{sshd.user}@127.0.0.1:{lab.folder}/{path}"


def test_a_pull_through_a_real_ssh_server(lab: Lab, sshd: Sshd) -> None:
    arguments = (
        "pull",
        source_of(lab, sshd),
        "vault",
        *ITEM,
        *options(sshd),
        "--remote-command",
        REMOTE,
        "--note",
        "taken at night",
    )
    first = lab.run(*arguments, "--json")
    assert first.code == 0, first
    assert schema_errors(first.document, "pull-output") == []
    assert first.document["wire_received"] > 900_000 > first.document["wire_sent"]
    header, receipt = lab.header(1), json.loads((lab.acquisition(1) / "receipt.json").read_text())
    assert (header["direction"], header["digests_taken_at"], header["notes"]) == ("pull", "source", ["taken at night"])
    assert (header["ssh"]["port"], header["ssh"]["host_key"]) == (sshd.port, sshd.host_fingerprint)
    assert header["source"]["path"] == str(lab.folder / "evidence")
    assert abs(float(header["clock"]["peer_offset_seconds"])) < 60
    assert receipt["host_keys"] == {"receiver": None, "sender": sshd.host_fingerprint}
    assert receipt["lookup"] == "item"
    lab.write("notes.txt", b"changed")
    second = lab.run(*arguments)
    assert second.code == 0, second
    assert "acquisition 2: published, complete" in second.out
    third = lab.run(*arguments, "--json")
    assert (third.code, third.document["literal_bytes"], third.document["files"]) == (0, 0, 2)
    assert lab.run("verify", "vault").code == 0
