"""A link, a FIFO, a folder or a huge file under a name that only writers give keeps nobody out, and `verify` tells of it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from evidencesync.acquire.custody import RecordDraft, append_record
from evidencesync.vault.layout import VaultLayout
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import custody_request


def _link(path: Path) -> None:
    path.symlink_to("/etc/hostname")


def _dangling(path: Path) -> None:
    path.symlink_to("nowhere")


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _folder(path: Path) -> None:
    path.mkdir()
    (path / "x").touch()


def _huge(path: Path) -> None:
    path.touch()
    os.truncate(path, 1 << 43)


KINDS: Final[dict[str, Callable[[Path], None]]] = {
    "link": _link,
    "dangling link": _dangling,
    "FIFO": _fifo,
    "folder": _folder,
    "huge": _huge,
}
PLACES: Final = {
    "reservation of the item": "{item}/custody/.new-0003-1",
    "old reservation of the item": "{item}/custody/.new-0001-1",
    "draft in the item's chain": "{item}/custody/.new-0123456789abcdef",
    "signature of no record": "{item}/custody/0003-acquired.json.sig",
    "reservation of the vault": "custody/.new-0003-1",
    "draft of a list": ".new-trusted_signers-0123456789abcdef",
    "draft of another list": ".new-revoked_keys-0123456789abcdef",
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "a").write_bytes(b"one")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def place_of(bench: Bench, place: str) -> Path:
    layout: VaultLayout = bench.vault.layout
    return layout.root / place.format(item=layout.item(bench.name).root.relative_to(layout.root))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("kind", KINDS)
def test_what_no_writer_makes_keeps_no_writer_out(bench: Bench, kind: str, place: str) -> None:
    planted = place_of(bench, PLACES[place])
    KINDS[kind](planted)
    if (kind, place) == ("folder", "signature of no record"):  # a record's own file is never taken away
        return
    bench.vault.trust.add(new_signer().public_key, "bo@lab")
    assert bench.push().acquisition == 2
    append_record(lambda: bench.serve()[0], custody_request(bench), lambda _: RecordDraft("noted", {"text": "seen"}))
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    left = os.path.lexists(planted)
    told = [finding for finding in verdict.findings if planted.name in (finding.path or finding.message)]
    if place == "signature of no record":
        assert verdict.verdict == "pass"
    else:
        assert bool(told) == left, verdict.findings
