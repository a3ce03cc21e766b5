"""A reader asks what a push would meet: it is told what a push is told, and a vault's lies are bounded and stay its word."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire.documents import DocumentsRequest
from evidencesync.acquire.reading_session import ReadingSession
from evidencesync.acquire.room import ask_for_room
from evidencesync.connection.link import Link
from evidencesync.connection.process import SteadyClock
from evidencesync.errors import (
    EvidenceSyncError,
    NameClashError,
    NoSpaceError,
    ProtocolError,
    SealedError,
    UntrustedSignerError,
)
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.room import PlannedPush, show_room
from evidencesync.limits import SPACE_RESERVE
from evidencesync.protocol.document_messages import RoomAsk, RoomShown
from evidencesync.protocol.failures import error_of
from evidencesync.protocol.messages import READING_VERSION, Alike, Message, Welcome
from evidencesync.vault import space
from evidencesync.vault.layout import MAX_ACQUISITION
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import state
from tests.support.hostile_client import HostileClient
from tests.support.hostile_client import HostileReader as Reader
from tests.support.hostile_vault import Tamper, TamperedLink
from tests.support.reading import fetched


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("template")
    made = make_bench(folder)
    (made.source / "a").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def asked(bench: Bench, name: ItemName | None = None, tamper: Tamper = lambda message: message) -> RoomShown | None:
    """What an honest reader is shown, behind something that may change what the vault says."""
    link: Link = TamperedLink(bench.serve()[0], tamper)
    request = DocumentsRequest(b"", bench.signer, "0" * 32)
    session = ReadingSession(link, request, SteadyClock(), lambda _: None)
    try:
        return ask_for_room(session, name or bench.name)
    finally:
        session.close()


def refusal(bench: Bench, name: ItemName | None = None) -> EvidenceSyncError:
    """With what a push is refused, which must be what a reader is told beforehand."""
    shown = show_room(bench.vault, name or bench.name, PlannedPush("ana@lab"))
    assert shown.refusal is not None
    told = error_of(shown.refusal)
    with pytest.raises(type(told)) as met:
        bench.push(**({} if name is None else {"name": name}))
    assert (told.slug, told.message, shown.acquisition) == (met.value.slug, met.value.message, None)
    return told


def test_a_reader_is_told_what_the_next_push_gets(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "free_bytes", lambda _: SPACE_RESERVE + 1000)
    monkeypatch.setattr("evidencesync.ingest.room.free_bytes", lambda _: SPACE_RESERVE + 1000)
    shown = asked(bench)
    assert shown == RoomShown("ana@lab", 2, 1000, True, None, Alike([], []), None)  # noqa: FBT003
    new = asked(bench, ItemName(Title("another"), Title("E1")))
    assert new == RoomShown("ana@lab", 1, 1000, False, None, Alike([], []), None)  # noqa: FBT003


def test_a_look_leaves_nothing_in_the_vault(bench: Bench) -> None:
    def everything() -> dict[Path, int]:
        return {path: path.lstat().st_mtime_ns for path in bench.vault.layout.root.rglob("*")}

    before = everything()
    for name in (bench.name, ItemName(Title("another"), Title("E1")), ItemName(bench.name.case, Title("E9"))):
        assert asked(bench, name) is not None
    assert everything() == before


def test_numbers_that_are_nearly_the_same_are_named(bench: Bench) -> None:
    shown = asked(bench, ItemName(bench.name.case, Title("e01")))
    assert shown is not None
    assert shown.alike == Alike([bench.name.item.text], [])


def test_a_sealed_item_is_told_as_a_push_is_refused(bench: Bench) -> None:
    state(bench, "sealed")
    assert isinstance(refusal(bench), SealedError)


def test_a_number_whose_folder_is_another_items_is_told_as_a_push_is_refused(bench: Bench) -> None:
    name = ItemName(Title("odd/1"), Title("E/1"))
    bench.push(name=name)
    assert isinstance(refusal(bench, ItemName(name.case, Title(name.item.folder))), NameClashError)


def test_a_disk_at_its_reserve_is_told_as_a_push_is_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("vault.space", "ingest.room"):
        monkeypatch.setattr(f"evidencesync.{module}.free_bytes", lambda _: SPACE_RESERVE - 1)
    for name in (bench.name, ItemName(Title("another"), Title("E1"))):
        assert isinstance(refusal(bench, name), NoSpaceError)
        shown = asked(bench, name)
        assert shown is not None
        assert shown.free == 0


def test_a_chain_that_was_cut_is_told_as_a_push_is_refused(bench: Bench) -> None:
    state(bench, "noted", {"text": "a"})
    for path in bench.vault.layout.item(bench.name).custody.glob("0003-*"):
        path.unlink()
    assert "chain" in refusal(bench).slug


def test_a_publish_that_the_push_would_complete_is_no_refusal(bench: Bench) -> None:
    for path in bench.vault.layout.item(bench.name).custody.glob("0002-*"):
        path.unlink()
    shown = show_room(bench.vault, bench.name, PlannedPush("ana@lab"))
    assert (shown.acquisition, shown.refusal) == (None, None)


def test_who_pushes_just_now_is_told(bench: Bench) -> None:
    client = HostileClient(bench, may_reconnect=True)
    client.shake_hands()
    shown = asked(bench)
    assert shown is not None
    assert shown.holder is not None
    assert shown.holder.startswith("ana@lab, receiving since ")
    client.link.close()
    client.joined()


def test_a_vault_of_an_earlier_version_is_not_asked(bench: Bench) -> None:
    def older(message: Message) -> Message:
        return msgspec.structs.replace(message, version=READING_VERSION) if isinstance(message, Welcome) else message

    assert asked(bench, tamper=older) is None


def test_the_rows_of_chunks_stay_where_they_are_for_who_does_not_want_them(bench: Bench, tmp_path: Path) -> None:
    wanted: dict[str, Any] = {"case": bench.name.case.text, "item": bench.name.item.text, "whole": (0,)}
    with_rows, _ = fetched(bench, tmp_path / "with", **wanted)
    without, _ = fetched(bench, tmp_path / "without", **wanted, rows=False)

    def names(root: Path) -> set[str]:
        return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}

    gone = names(with_rows.layout.root) - names(without.layout.root)
    assert {path.rpartition("/")[2] for path in gone} == {"chunks.bin"}
    manifest = without.layout.item(bench.name).acquisition(1) / "manifest.jsonl"
    assert manifest.read_bytes() == (bench.acquisition(1) / "manifest.jsonl").read_bytes()


# --- Readers that ask for what cannot be, and vaults that lie ---------------------------------------------------------------


@pytest.mark.parametrize("ask", [RoomAsk("../..", "I1"), RoomAsk("C1", "a\x1bb"), RoomAsk("C1", "..")])
def test_the_room_of_an_impossible_item_ends_the_session(bench: Bench, ask: RoomAsk) -> None:
    client = Reader(bench)
    client.enter(client.claim_to_read())
    client.send(ask)
    assert isinstance(client.ended(), ProtocolError)


@pytest.mark.parametrize(
    "lie",
    [
        {"principal": "ana\x1b[2J"},
        {"principal": ""},
        {"principal": "p" * 250},
        {"acquisition": 0},
        {"acquisition": MAX_ACQUISITION + 1},
        {"alike": Alike(["\x1b]0;"], [])},
        {"alike": Alike([], ["a\nb"])},
    ],
)
def test_what_no_vault_says_is_refused(bench: Bench, lie: dict[str, object]) -> None:
    def tamper(message: Message) -> Message:
        return msgspec.structs.replace(message, **lie) if isinstance(message, RoomShown) else message

    with pytest.raises(ProtocolError):
        asked(bench, tamper=tamper)


def test_only_who_has_a_trusted_key_may_ask(bench: Bench) -> None:
    with pytest.raises(UntrustedSignerError):
        asked(replace(bench, signer=new_signer()))
