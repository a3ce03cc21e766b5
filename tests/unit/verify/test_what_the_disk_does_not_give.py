"""Whatever one file or folder of a vault cannot be read: the verdict is incomplete, names it, and accuses nobody."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from evidencesync.kept.heads import HeadMemory
from evidencesync.vault import staging
from evidencesync.vault.reindex import rebuild
from evidencesync.vault.timestamps import Answer, Who, attach
from tests.support.authority import make_authority
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


@pytest.mark.parametrize("how", ["open", "read", "stat"])
def test_what_cannot_be_read_is_never_called_gone_nor_is_what_depends_on_it_judged(busy: Busy, tmp_path: Path, how: str) -> None:
    places = [busy.path, *sorted(busy.path.rglob("*"))]
    places = [one for one in places if one.parent.parent.name != "acquisitions" or "second" in str(one)]  # once is enough
    assert len(places) > 60
    untouched = []
    for place in places:
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
    not_read = {"vault_key"} | {str(one.relative_to(busy.path)) for one in (busy.path / "index").iterdir()}
    assert how == "stat" or set(untouched) <= not_read, untouched
