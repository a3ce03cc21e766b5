from __future__ import annotations

import os
import subprocess
import sys

import pytest

from evidencesync.errors import LockedError
from evidencesync.files import kept_names
from evidencesync.vault.item import lock_item
from evidencesync.vault.resume.left_sessions import find_abandoned, remove_abandoned
from evidencesync.vault.staging import Staging
from tests.unit.vault.acquiring import Acquirer, check_published

SESSION = "5" * 32
_HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_at_once_until_the_first_ends(acquirer: Acquirer) -> None:
    item = acquirer.item()
    with subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(item.layout.root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(LockedError), lock_item(item):
            pass
        holder.kill()
        holder.wait()
        with lock_item(item):
            pass


def test_a_second_writer_in_the_same_process_is_refused_too(acquirer: Acquirer) -> None:
    with lock_item(acquirer.item()), pytest.raises(LockedError), lock_item(acquirer.item()):
        pass


def test_abandoned_staging_is_found_measured_and_removed_and_nothing_else(acquirer: Acquirer) -> None:
    files = {b"kept": b"evidence"}
    acquirer.acquire(files)
    item = acquirer.item()
    with lock_item(item), Staging.create(item, SESSION) as staging:
        staging.tree.make_directory(b"a", None)
        staging.tree.create_file(b"a/x", b"1" * 100_000, None)
        staging.new_content(1).close()
        assert find_abandoned(acquirer.vault.layout) == []
    (item.layout.incoming / "not-a-session").mkdir()
    (found,) = find_abandoned(acquirer.vault.layout)
    assert (found.case, found.item, found.session) == (item.name.case.folder, item.name.item.folder, SESSION)
    assert found.files == 7
    assert found.bytes >= 100_000
    assert found.changed_ns > 0
    with lock_item(item):
        assert remove_abandoned(acquirer.vault.layout, [found]) == []
    assert remove_abandoned(acquirer.vault.layout, [found]) == [found]
    assert find_abandoned(acquirer.vault.layout) == []
    assert (item.layout.incoming / "not-a-session").is_dir()
    check_published(item, 1, files)


def test_what_a_killed_trial_of_names_left_is_removed_but_not_counted(
    acquirer: Acquirer, monkeypatch: pytest.MonkeyPatch
) -> None:
    item = acquirer.item()
    left = {}
    with monkeypatch.context() as killed:
        killed.setattr(kept_names, "remove_tree", lambda _fd, name: left.update({name: item.layout.incoming / SESSION / name}))
        killed.setattr(os, "unlink", lambda *_args, **_named: None)
        with lock_item(item), Staging.create(item, SESSION):
            pass
    (trial,) = left.values()
    assert os.listdir(trial)
    (found,) = find_abandoned(acquirer.vault.layout)
    (trial / "a file").write_bytes(b"1" * 100_000)
    (again,) = find_abandoned(acquirer.vault.layout)
    assert (again.files, again.bytes) == (found.files, found.bytes)
    for file in trial.iterdir():
        file.unlink()
    (without,) = find_abandoned(acquirer.vault.layout)
    assert without.files == found.files
    assert remove_abandoned(acquirer.vault.layout, [found]) == [found]
    assert not (item.layout.incoming / SESSION).exists()


@pytest.mark.parametrize("session", ["../acquisitions", "..", "0001", "../acquisitions/0001"])
def test_only_staging_can_be_removed(acquirer: Acquirer, session: str) -> None:
    files = {b"kept": b"evidence"}
    acquirer.acquire(files)
    item = acquirer.item()
    with lock_item(item), Staging.create(item, SESSION):
        pass
    (found,) = find_abandoned(acquirer.vault.layout)
    changed = type(found)(found.case, found.item, session, 0, 0, 0)
    assert remove_abandoned(acquirer.vault.layout, [changed]) == []
    check_published(item, 1, files)
