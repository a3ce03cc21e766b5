"""Files compared by threads and by helper processes: the same is found, and a helper that dies is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evidencesync.errors import InternalError
from evidencesync.evidence.digest import blake3_of, sha256_of
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.vault import file_checks
from evidencesync.vault.file_checks import CompareOptions, FileChecks, FileProblem, Helper, StoredFile, compare_files
from evidencesync.vault.tree import TreeReader
from tests.support.patience import PATIENCE_SECONDS

pytestmark = pytest.mark.usefixtures("measured_processes")  # what is started here is seen nowhere else

ALL = CompareOptions(sha256=True, from_disk=True, unsafe_bits=0o022)
Told = list[tuple[bytes, tuple[str, ...]]]


def stored(path: bytes, content: bytes) -> StoredFile:
    return StoredFile(path, len(content), blake3_of(content).hex(), sha256_of(content).hex())


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[tuple[int, list[StoredFile]]]:
    """Files of which some are not as they are listed, each in another way. Names that no text holds are among them."""
    files = []
    for number in range(40):
        folder = tmp_path / f"d{number // 10}"
        folder.mkdir(exist_ok=True)
        name, content = b"f%02d\xff\n" % number, b"%d" % number * number
        path = os.fsencode(folder) + b"/" + name
        Path(os.fsdecode(path)).write_bytes(content)
        os.chmod(path, 0o644)
        files.append(stored(b"d%d/%s" % (number // 10, name), content))
    files[3] = stored(files[3].path, b"4" * files[3].size)
    files[5] = files[5]._replace(sha256="0" * 64)
    files[7] = files[7]._replace(size=files[7].size + 1)
    files[11] = files[11]._replace(path=b"d1/none")
    files[13] = files[13]._replace(path=b"d1")
    os.chmod(os.fsencode(tmp_path) + b"/" + files[17].path, 0o666)
    files[19] = files[19]._replace(path=b"../" + files[19].path)
    fd = os.open(tmp_path, FOLDER_FLAGS)
    yield fd, files
    os.close(fd)


def kinds_told(fd: int, files: list[StoredFile]) -> Told:
    """Every file in the order in which it was told, with what is wrong with it."""
    told: Told = []

    def done(batch: list[StoredFile], problems: list[FileProblem]) -> None:
        for number, file in enumerate(batch):
            told.append((file.path, tuple(problem.kind for problem in problems if problem.number == number)))

    checks = FileChecks(fd, done, ALL)
    try:
        for file in files:
            checks.add(file)
        checks.finish()
    finally:
        checks.close()
    return told


def test_each_kind_of_problem_is_told_of_its_file(tree: tuple[int, list[StoredFile]]) -> None:
    fd, files = tree
    told = kinds_told(fd, files)
    assert [path for path, _ in told] == [file.path for file in files]
    assert {number: kinds for number, (_, kinds) in enumerate(told) if kinds} == {
        3: ("BLAKE3",),
        5: ("SHA-256",),
        7: ("size",),
        11: ("gone",),
        13: ("gone",),
        17: ("mode",),
        19: ("unreadable",),
    }


def test_a_helper_process_finds_what_this_process_finds(tree: tuple[int, list[StoredFile]]) -> None:
    fd, files = tree
    reader, helper = TreeReader(os.dup(fd)), Helper(fd, ALL)
    try:
        assert helper.compare(files) == compare_files(reader, files, ALL) != []
        assert helper.compare(files[20:]) == []
    finally:
        helper.close()
        reader.close()


def test_helpers_take_over_where_there_are_many_files_and_the_order_stays(
    tree: tuple[int, list[StoredFile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd, files = tree
    here = kinds_told(fd, files)
    monkeypatch.setattr(file_checks, "_BATCH_FILES", 3)
    monkeypatch.setattr(file_checks, "_HELPERS_FROM", 8)
    assert kinds_told(fd, files) == here


def test_where_no_process_can_be_started_threads_go_on(
    tree: tuple[int, list[StoredFile]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fd, files = tree
    here = kinds_told(fd, files)
    monkeypatch.setattr(file_checks, "_HELPERS_FROM", 1)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert kinds_told(fd, files) == here


def test_a_helper_that_is_killed_is_an_error_and_never_a_file_passed_over(tree: tuple[int, list[StoredFile]]) -> None:
    fd, files = tree
    helper = Helper(fd, ALL)
    try:
        helper.compare(files)
        os.kill(helper.pid, signal.SIGKILL)
        with pytest.raises(InternalError, match="helper"):
            helper.compare(files)
    finally:
        helper.close()


def test_a_killed_helper_ends_the_checks(tree: tuple[int, list[StoredFile]], monkeypatch: pytest.MonkeyPatch) -> None:
    fd, files = tree
    monkeypatch.setattr(file_checks, "_HELPERS_FROM", 1)
    monkeypatch.setattr(file_checks, "_BATCH_FILES", 1)

    class Dying(Helper):
        def compare(self, files: list[StoredFile]) -> list[FileProblem]:  # type: ignore[override]
            os.kill(self.pid, signal.SIGKILL)
            return super().compare(files)

    monkeypatch.setattr(file_checks, "Helper", Dying)
    with pytest.raises(InternalError, match="helper"):
        kinds_told(fd, files)


def test_a_helper_holds_no_descriptor_but_its_own(tree: tuple[int, list[StoredFile]]) -> None:
    """Above all not the link to the other end, which would stay open when this process dies."""
    fd, files = tree
    spare = os.dup(fd)
    os.set_inheritable(spare, True)  # noqa: FBT003
    helper = Helper(fd, ALL)
    try:
        helper.compare(files)
        assert {0, 1, 2, fd} <= {int(name) for name in os.listdir(f"/proc/{helper.pid}/fd")}
        assert spare not in {int(name) for name in os.listdir(f"/proc/{helper.pid}/fd")}
    finally:
        helper.close()
        os.close(spare)


def test_a_helper_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    script = f"""
import os, signal
from evidencesync.vault.file_checks import Helper
from evidencesync.vault.file_checks import CompareOptions
helper = Helper(os.open({str(tmp_path)!r}, os.O_RDONLY), CompareOptions(sha256=False, from_disk=False))
helper.compare([])
print(helper.pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL
    until = time.monotonic() + PATIENCE_SECONDS
    while is_running(int(done.stdout)):
        assert time.monotonic() < until, "the helper lives on"
        time.sleep(0.01)


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
