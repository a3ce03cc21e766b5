"""A far vault that sends anything but the evidence that was asked for: nothing of it is in a copy, and nothing is left."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from evidencesync.acquire import evidence
from evidencesync.connection.link import Link, LocalLink
from evidencesync.errors import DigestMismatchError, EvidenceSyncError, LinkLostError, ProtocolError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.limits import MIB
from evidencesync.protocol.data_frames import DataDecoder
from evidencesync.protocol.evidence_messages import EvidenceParts, Patch
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, encode_frame, frame_of
from evidencesync.protocol.messages import PREAMBLE, Message, Status
from evidencesync.vault.create import create_vault
from tests.support.bench_of_evidence import Bench, copy_of, make_bench
from tests.support.far_restore import restore_far
from tests.support.hostile_client import data_frame
from tests.support.link_in_between import LinkInBetween

Alter = Callable[[Message | bytes], Iterator[bytes]]


class AlteredLink(LinkInBetween):
    """The reader's end of a link to the real vault. What comes after the first answer with evidence passes through `alter`."""

    def __init__(self, link: LocalLink, alter: Alter) -> None:
        super().__init__(link)
        self._alter = alter
        self._frames = FrameDecoder()
        self._decoder = DataDecoder()
        self._greeted = self._begun = False

    def read(self) -> bytes:
        while block := super().read():
            said = b"" if self._greeted else PREAMBLE
            self._greeted = True
            for number, body in self._frames.update(block):
                if number == DATA_FRAME:
                    came: Message | bytes = bytes(self._decoder.decode(body))
                else:
                    came = decode_message(number, body)
                    self._begun = self._begun or isinstance(came, EvidenceParts | Patch)
                said += b"".join(self._alter(came)) if self._begun else encode_frame(number, bytes(body))
            if said:
                return said
        return b""


def as_it_is(came: Message | bytes) -> bytes:
    return data_frame(came) if isinstance(came, bytes) else frame_of(came)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("template")
    made = make_bench(folder)
    (made.source / "large").write_bytes(os.urandom(2 * MIB))
    (made.source / "one").write_bytes(b"1" * 1000)
    (made.source / "other").write_bytes(b"2" * 1000)
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def nothing_left(folder: Path) -> bool:
    return not (folder / "copy").exists() and not [one for one in folder.iterdir() if one.name.startswith(".evidencesync")]


def restore_altered(bench: Bench, folder: Path, alter: Alter, **changes: object) -> None:
    restore_far(bench, folder / "copy", connect=lambda: AlteredLink(bench.serve()[0], alter), **changes)  # type: ignore[arg-type]


def other_bytes(came: Message | bytes) -> Iterator[bytes]:
    yield as_it_is(bytes([came[0] ^ 1]) + came[1:] if isinstance(came, bytes) else came)


def of_another_file(came: Message | bytes) -> Iterator[bytes]:
    """Two files of the same length change places."""
    if isinstance(came, bytes) and (at := came.find(b"1" * 1000)) >= 0:
        came = came[:at] + came[at + 1000 : at + 2000] + came[at : at + 1000] + came[at + 2000 :]
    yield as_it_is(came)


@pytest.mark.parametrize("alter", [other_bytes, of_another_file])
def test_other_bytes_are_no_evidence(bench: Bench, tmp_path: Path, alter: Alter) -> None:
    with pytest.raises(DigestMismatchError, match="is not what was acquired"):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize("path", [b"large", b"one"])
def test_other_bytes_are_left_out_where_that_is_wanted(bench: Bench, tmp_path: Path, path: bytes) -> None:
    done: list[bytes] = []

    def alter(came: Message | bytes) -> Iterator[bytes]:
        if isinstance(came, bytes) and not done:
            done.append(came)
            came = bytes([came[0] ^ 1]) + came[1:]
        yield as_it_is(came)

    restore_altered(bench, tmp_path, alter, paths=(path, b"other"), on_damage="skip")
    assert sorted(os.listdir(tmp_path / "copy")) == ["other"]


def test_more_bytes_end_it(bench: Bench, tmp_path: Path) -> None:
    def alter(came: Message | bytes) -> Iterator[bytes]:
        yield as_it_is(came)
        if isinstance(came, bytes):
            yield data_frame(b"more")

    with pytest.raises(ProtocolError):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


def test_fewer_bytes_end_it(bench: Bench, tmp_path: Path) -> None:
    def alter(came: Message | bytes) -> Iterator[bytes]:
        yield as_it_is(came[:-1] if isinstance(came, bytes) else came)

    with pytest.raises(ProtocolError):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


@pytest.mark.parametrize(
    "false",
    [
        EvidenceParts(512, []),
        EvidenceParts(1, [(1, "gone", "")]),
        EvidenceParts(2, [(0, "gone", ""), (0, "gone", "")]),
        Status("receiving", 0, 0),
    ],
)
def test_an_answer_that_was_not_asked_for_ends_it(bench: Bench, tmp_path: Path, false: Message) -> None:
    def alter(came: Message | bytes) -> Iterator[bytes]:
        yield as_it_is(false) if isinstance(came, EvidenceParts) else as_it_is(came)

    with pytest.raises((ProtocolError, LinkLostError)):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


# --- A basis, and patches that are none --------------------------------------------------------------------------------------


def with_older(bench: Bench, folder: Path) -> Path:
    """A folder with the files as they were, each with a few bytes changed."""
    older = folder / "older"
    older.mkdir()
    for name in ("large", "one", "other"):
        data = bytearray((bench.source / name).read_bytes())
        data[len(data) // 2] ^= 1
        (older / name).write_bytes(data)
    return older


def altered_patches(change: Callable[[Patch], Message]) -> Alter:
    return lambda came: iter([as_it_is(change(came) if isinstance(came, Patch) else came)])


def other_piece(patch: Patch) -> Message:
    """Another of our pieces than belongs there, of the same length or not: the patch says so, and nothing shows it."""
    return msgspec.structs.replace(patch, runs=[(fresh, first and first - 1, count) for fresh, first, count in patch.runs])


def test_a_wrong_piece_of_the_basis_is_in_no_copy(bench: Bench, tmp_path: Path) -> None:
    """It is another chunk than was asked for, and that one is asked for whole; or a part of another length, which ends it."""
    older = with_older(bench, tmp_path)
    with contextlib.suppress(ProtocolError):
        restore_altered(bench, tmp_path, altered_patches(other_piece), basis=older)
        assert (tmp_path / "copy" / "large").read_bytes() == (bench.source / "large").read_bytes()
        return
    assert nothing_left(tmp_path)


def test_a_patch_that_makes_another_chunk_is_asked_for_whole(bench: Bench, tmp_path: Path) -> None:
    """The bytes that follow are others: what is put together has not the chunk's digest, and travels once more, as it is."""
    lied: list[bytes] = []

    def alter(came: Message | bytes) -> Iterator[bytes]:
        if isinstance(came, bytes) and not lied:
            lied.append(came)
            came = bytes([came[0] ^ 1]) + came[1:]
        yield as_it_is(came)

    restore_altered(bench, tmp_path, alter, basis=with_older(bench, tmp_path), paths=(b"large",))
    assert (lied, (tmp_path / "copy" / "large").read_bytes()) == (lied[:1], (bench.source / "large").read_bytes())


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: msgspec.structs.replace(patch, runs=[*patch.runs, (0, 0, 1)]),
        lambda patch: msgspec.structs.replace(patch, runs=patch.runs[:-1]),
        lambda patch: msgspec.structs.replace(patch, runs=[(0, 2048, 2048)] * 9),
        lambda patch: msgspec.structs.replace(patch, lack=("gone", "and here it is")),
        lambda patch: EvidenceParts(1, [(0, "gone", "")]),
        lambda patch: Status("receiving", 0, 0),
    ],
)
def test_what_is_no_patch_ends_it(bench: Bench, tmp_path: Path, change: Callable[[Patch], Message]) -> None:
    with pytest.raises((ProtocolError, LinkLostError)):
        restore_altered(bench, tmp_path, altered_patches(change), basis=with_older(bench, tmp_path))
    assert nothing_left(tmp_path)


def test_a_patch_that_nobody_asked_for_ends_it(bench: Bench, tmp_path: Path) -> None:
    def alter(came: Message | bytes) -> Iterator[bytes]:
        yield as_it_is(Patch([], 0, None) if isinstance(came, EvidenceParts) else came)

    with pytest.raises(ProtocolError):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


def test_data_without_end_is_given_up(bench: Bench, tmp_path: Path) -> None:
    """After the last part there is data, and more of it for as long as anybody reads."""
    served = threading.Event()

    class Endless(AlteredLink):
        def read(self) -> bytes:
            if served.is_set():
                return data_frame(bytes(100_000))
            block = super().read()
            if self._begun:
                served.set()
            return block

    with pytest.raises(EvidenceSyncError):
        restore_far(bench, tmp_path / "copy", connect=lambda: Endless(bench.serve()[0], lambda came: iter([as_it_is(came)])))
    assert nothing_left(tmp_path)


def test_a_vault_that_only_says_that_it_works_is_given_up(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.connection.vault_answers.MAX_CUSTODY_WORK_SECONDS", 0.0)

    def alter(_: Message | bytes) -> Iterator[bytes]:
        yield frame_of(Status("receiving", 0, 0)) * 3

    with pytest.raises(LinkLostError):
        restore_altered(bench, tmp_path, alter)
    assert nothing_left(tmp_path)


def test_another_vault_at_a_reconnection_is_refused(bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It trusts the same examiner."""
    monkeypatch.setattr(evidence, "pause_seconds", lambda _: 0.0)
    trusted = [(bench.signer.public_key, "ana@lab")]
    another = replace(bench, vault=create_vault(tmp_path / "another", "another", trusted))
    links: list[Link] = []

    class Lost(LinkInBetween):
        left = 1_000_000

        def read(self) -> bytes:
            block = super().read()
            self.left -= len(block)
            if self.left < 0:
                self.close()
                raise LinkLostError("cut")
            return block

    def connect() -> Link:
        links.append(Lost(bench.serve()[0]) if not links else another.serve()[0])
        return links[-1]

    with pytest.raises(ProtocolError, match="another vault"):
        restore_far(bench, tmp_path / "copy", connect=connect, retries=3)
    assert len(links) == 2
    assert nothing_left(tmp_path)


def test_a_manifest_of_another_item_is_refused(bench: Bench, tmp_path: Path) -> None:
    """A vault that gives what another item has, under this one's name, has no signature for it."""
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "file").write_bytes(b"of another item")
    other = replace(bench, source=tmp_path / "else", name=ItemName(Title("2026/11"), Title("E2")))
    other.push()
    for name in ("manifest.jsonl", "manifest.jsonl.sig"):
        place = bench.acquisition(1) / name
        place.chmod(0o644)
        place.write_bytes((other.acquisition(1) / name).read_bytes())
    with pytest.raises(EvidenceSyncError) as refused:
        restore_far(bench, tmp_path / "copy")
    assert refused.value.exit_code >= 30
    assert nothing_left(tmp_path)
