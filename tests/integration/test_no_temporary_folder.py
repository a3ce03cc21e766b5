"""Where /tmp is full, or nothing may be written there: that is said of /tmp, and of no other disk; what needs none works."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.errors import NoSpaceError, StorageError
from evidencesync.files.temporary import temporary_folder, writing_temporary
from tests.integration.cli_program import ITEM, TIMEOUT_SECONDS, Lab

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

WITHOUT = """
import errno, sys, tempfile
def refuse(*_):
    raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")
tempfile._get_default_tempdir = refuse
from evidencesync.cli.app import main
sys.argv = sys.argv[1:]
sys.exit(main())
"""


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python finds no temporary folder in which it may write a file."""

    def refuse() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", refuse)


def test_no_temporary_folder_is_an_error_of_storage_that_names_tmpdir(nowhere: None) -> None:
    with pytest.raises(StorageError, match="temporary file cannot be written: No usable") as refused, temporary_folder():
        pass
    assert refused.value.hint is not None
    assert "TMPDIR" in refused.value.hint


@pytest.mark.parametrize(
    ("code", "kind"), [(errno.ENOSPC, NoSpaceError), (errno.EDQUOT, NoSpaceError), (errno.EROFS, StorageError)]
)
def test_a_temporary_file_that_cannot_be_written_is_told_by_its_cause(code: int, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="temporary") as refused, writing_temporary():
        raise OSError(code, os.strerror(code))
    assert refused.value.__cause__ is not None


def test_a_host_key_cannot_be_fetched_without_one_and_that_is_no_defect(nowhere: None, sshd: Sshd, tmp_path: Path) -> None:
    from evidencesync.ssh.trust import fetch_host_key

    hosts = tmp_path / "hosts"
    hosts.write_bytes(b"")
    with pytest.raises(StorageError, match="temporary"):
        fetch_host_key(sshd.address(), sshd.options(known_hosts=hosts))


def test_a_pdf_without_one_does_not_accuse_the_disk_of_the_result(tmp_path: Path) -> None:
    pytest.importorskip("typst")
    lab = Lab.make(tmp_path)
    lab.write("notes.txt", b"hello")
    assert lab.push().code == 0
    words = ["evidencesync", "report", "vault", "--case", ITEM[1], "-o", "report.pdf", "--json"]
    program = [sys.executable, "-c", WITHOUT, *words]
    done = subprocess.run(program, cwd=lab.folder, env=lab.environment, capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    error = json.loads(done.stdout)["error"]
    assert (done.returncode, error["slug"]) == (1, "storage")
    assert "TMPDIR" in error["hint"]
    assert "report.pdf" not in error["message"]
    assert not [name for name in os.listdir(lab.folder) if "report" in name or name.endswith(".part")]
