"""Which vault a server says that it serves, and what it says to who asked for another one."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import StorageError, VaultNotFoundError
from evidencesync.ingest.admission import welcome
from evidencesync.protocol.messages import PROTOCOL_VERSION, Hello
from tests.support.bench_of_evidence import make_bench


def test_a_vault_that_cannot_be_looked_at_is_not_called_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vault = make_bench(tmp_path).vault
    root, stat = vault.layout.root, os.stat

    def ask(path: Path) -> bytes:
        hello = Hello([PROTOCOL_VERSION], "x", "push", os.fsencode(path), DELTA_PARAMETERS, 0)
        return welcome(hello, vault, bytes(32), 0).vault_key

    def refuse(path: Any, *arguments: Any, **options: Any) -> os.stat_result:
        if os.fspath(path) in (str(root), os.fsencode(root)):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return stat(path, *arguments, **options)

    assert ask(root) == vault.signer.public_key.blob
    with pytest.raises(VaultNotFoundError):
        ask(tmp_path)
    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(StorageError):
        ask(root)


def test_a_port_that_was_taken_for_a_folder_is_named(tmp_path: Path) -> None:
    """Who writes HOST:2222/PATH means the port, and names a folder `2222`."""
    vault = make_bench(tmp_path).vault
    root = os.fsencode(vault.layout.root)
    for path, is_port in ((b"2222" + root, True), (b"2222/elsewhere", False), (b"22222222" + root, False)):
        with pytest.raises(VaultNotFoundError) as raised:
            welcome(Hello([PROTOCOL_VERSION], "x", "push", path, DELTA_PARAMETERS, 0), vault, bytes(32), 0)
        assert (f"ssh://USER@HOST:2222{vault.layout.root}" in (raised.value.hint or "")) == is_port
