"""Whatever one file or folder of a vault cannot be read: the verdict is incomplete, names it, and accuses nobody."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator

import pytest

from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault import staging
from evidencesync.vault.index.index import rebuild
from evidencesync.vault.timestamps import Answer, Who, attach
from tests.support.authority import make_authority
from tests.support.soak import often
from tests.support.unreadable import Unreadable
from tests.unit.vault.acquiring import item_name, new_signer, new_vault
from tests.unit.verify.busy import BEFORE_ALL_NS, NEW_YEAR_NS, Busy
from tests.unit.verify.sample import slugs

OTHER = item_name("2026/117", "second item")
MAY_BE_SAID = {"unreadable", "not-compared"}


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Busy:
    """A vault with a bit of everything whose judgement depends on something else."""
    folder = tmp_path_factory.mktemp("unread")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _: None)
        patch.setattr(staging, "sync_file_system", lambda *_: True)
        ana = new_signer()
        new_vault(folder / "vault", ana)
        busy = Busy(folder / "vault", ana, new_signer(), HeadMemory(folder / "state"))
        busy.push(ana, item_name())
        busy.push(ana, OTHER)
        busy.vault().trust.add(busy.ben.public_key, "ben", at_ns=BEFORE_ALL_NS)
        handed = busy.note(ana, "ana", OTHER, "handed-over", {"to": "ben"})
        busy.note(busy.ben, "ben", OTHER, "accepted", {"record": str(handed)})
        item = busy.vault().item(OTHER)
        stamped = (item.layout.acquisition(1) / "manifest.jsonl.sig").read_bytes()
        answer = Answer(make_authority().forge(stamped, NEW_YEAR_NS))
        attach(busy.vault(), item, 1, answer, Who(busy.ben, "Ben"), None, at_ns=busy.tick())
        busy.note(busy.ben, "ben", OTHER)
        busy.vault().trust.retire(busy.ben.public_key, at_ns=busy.tick())
        busy.push(ana, OTHER)
        index = busy.vault().index()
        rebuild(busy.vault().layout, index)
        index.close()
    verdict = busy.audit(now_ns=busy.tick())
    assert verdict.verdict == "pass", verdict.findings
    return busy


@pytest.mark.slow
@pytest.mark.parametrize(("first", "how"), [(0, "open"), (1, "read"), (2, "stat")])
def test_what_cannot_be_read_is_never_called_gone_nor_is_what_depends_on_it_judged(busy: Busy, first: int, how: str) -> None:
    """Each place in one of three ways; in a soak in all of them."""
    places = [busy.path, *sorted(busy.path.rglob("*"))]
    places = [one for one in places if one.parent.parent.name != "acquisitions" or "second" in str(one)]  # once is enough
    assert len(places) > 60
    untouched = []
    for place in places[often(first, 0) :: often(3, 1)]:
        with pytest.MonkeyPatch.context() as patch:
            Unreadable(patch, place, how)
            verdict = busy.audit(now_ns=busy.now_ns)
        shown = place.relative_to(busy.path)
        assert slugs(verdict) <= MAY_BE_SAID, (how, str(shown), verdict.findings)
        if verdict.verdict == "pass":
            untouched.append(str(shown))
        else:
            assert (verdict.verdict, verdict.exit_code) == ("incomplete", 3), (how, str(shown), verdict.findings)
            assert "unreadable" in slugs(verdict), (how, str(shown), verdict.findings)
    not_read = {"vault_key", "index"} | {str(one.relative_to(busy.path)) for one in (busy.path / "index").iterdir()}
    assert how == "stat" or set(untouched) <= not_read, untouched


@pytest.mark.parametrize("lost", [1, 2, 4])
@pytest.mark.parametrize("of_item", [False, True])
def test_a_record_that_a_list_lacks_is_not_called_missing_where_the_folder_cannot_be_listed_again(
    busy: Busy, monkeypatch: pytest.MonkeyPatch, of_item: bool, lost: int
) -> None:
    """While others add to a large folder, a list can lack a record; who wants to look again may meet a disk that fails."""
    folder = busy.vault().item(OTHER).layout.custody if of_item else busy.path / "custody"
    record = next(one.name for one in folder.iterdir() if one.name.startswith(f"{lost:04}-") and one.suffix == ".json")
    scandir, lists = os.scandir, 0

    @contextlib.contextmanager
    def lacking(fd: int) -> Iterator[Iterator[os.DirEntry[str]]]:
        nonlocal lists
        if os.readlink(f"/proc/self/fd/{fd}") == str(folder):
            lists += 1
            if lists > failing_from:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            with scandir(fd) as found:
                yield (one for one in found if one.name != record)
            return
        with scandir(fd) as found:
            yield found

    verdicts = set()
    for failing_from in (1, 2, 9):
        lists = 0
        monkeypatch.setattr(os, "scandir", lacking)
        verdict = busy.audit(now_ns=busy.now_ns)
        monkeypatch.setattr(os, "scandir", scandir)
        assert slugs(verdict) <= MAY_BE_SAID, (failing_from, lists, [one.message for one in verdict.findings])
        verdicts.add(verdict.verdict)
    assert "fail" not in verdicts
    assert "incomplete" in verdicts
