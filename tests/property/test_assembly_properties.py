"""However a content is put together from published files, zeros and new bytes, and on whatever file system: the same bytes."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from evidencesync.evidence.digest import blake3_of
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.ingest import assembly as module
from evidencesync.ingest.assembly import Assembly
from evidencesync.ingest.basis import Basis
from evidencesync.limits import KIB, MIB
from evidencesync.vault.layout import Location
from evidencesync.vault.staged_files import StagedContent
from evidencesync.vault.tree import TreeReader
from tests.support.file_systems import SHARING, mounted
from tests.support.rows_in_memory import RowsInMemory
from tests.support.soak import often

BASIS_SIZE = 700 * KIB + 123  # ends in the middle of a block


@dataclass(frozen=True)
class Part:
    """`kept`: bytes of a published file, found there; `changed`: nearly the same bytes, which arrived; `new`; `zeros`."""

    kind: str
    file: int
    offset: int | None  # None: where the last part ended, in the same file
    length: int


offsets = st.one_of(
    st.none(), st.none(), st.just(0), st.integers(0, 150).map(lambda block: block * 4096), st.integers(0, BASIS_SIZE)
)

lengths = st.one_of(st.integers(1, 10_000), st.integers(15_000, 270_000), st.integers(1, 60).map(lambda block: block * 4096))
parts = st.builds(Part, st.sampled_from(["kept", "kept", "changed", "new", "zeros"]), st.integers(0, 1), offsets, lengths)


@dataclass(frozen=True)
class Ground:
    """A folder with two published files, and what is in them."""

    kind: str
    folder: Path
    contents: list[bytes]
    locations: list[Location]

    @contextmanager
    def basis(self) -> Iterator[Basis]:
        basis = Basis(lambda _: TreeReader(os.open(self.folder, FOLDER_FLAGS)), from_disk=False)
        try:
            yield basis
        finally:
            basis.close()

    @contextmanager
    def assembly(self, basis: Basis) -> Iterator[tuple[Assembly, Path]]:
        path = self.folder / "staged"
        path.unlink(missing_ok=True)
        fd = os.open(self.folder, FOLDER_FLAGS)
        staged = StagedContent(fd, path.name, path)
        assembly = Assembly(BASIS_SIZE, lambda: staged, lambda _: None, basis, RowsInMemory(), from_disk=True)
        try:
            yield assembly, path
        finally:
            assembly.close()
            os.close(fd)


@pytest.fixture(scope="module", params=[*SHARING, "ext4", "tmpfs"])
def ground(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ground]:
    find_program = request.getfixturevalue("require_program")
    with mounted(request.param, tmp_path_factory.mktemp("disk"), 320 * MIB, find_program) as folder:
        whole = random.Random(1).randbytes(BASIS_SIZE)
        holed = bytearray(whole)
        holed[200 * KIB : 300 * KIB] = bytes(100 * KIB)
        contents = [whole, bytes(holed)]
        for number, content in enumerate(contents):
            with open(folder / str(number), "wb") as file:
                file.write(content[: 200 * KIB])
                if number:
                    file.seek(300 * KIB)
                    os.posix_fallocate(file.fileno(), 600 * KIB, 50 * KIB)  # written over, and not written, both
                file.write(content[300 * KIB if number else 200 * KIB :])
        locations = [
            Location("c", "i", 1, str(number).encode(), BASIS_SIZE, blake3_of(content)) for number, content in enumerate(contents)
        ]
        yield Ground(request.param, folder, contents, locations)


def put(assembly: Assembly, ground: Ground, plan: list[Part]) -> bytes:
    """Adds every part; gives what it should come to."""
    expected = bytearray()
    at = [0, 0]
    for number, part in enumerate(plan):
        offset = at[part.file] if part.offset is None else part.offset
        old = ground.contents[part.file][offset : offset + part.length]
        if part.kind == "zeros":
            assembly.add_zeros(part.length)
            expected += bytes(part.length)
            continue
        if part.kind == "new" or not old:
            data = random.Random(number).randbytes(part.length)
            assembly.add(memoryview(data))
        elif part.kind == "kept":
            data = old
            assembly.add(data, (ground.locations[part.file], offset))
        else:
            changed = bytearray(old)
            changed[random.Random(len(old)).randrange(len(old))] ^= 1
            data = bytes(changed)
            assembly.add(data)
        at[part.file] = offset + len(data)
        expected += data
    return bytes(expected)


@pytest.mark.parametrize("held", [64 * KIB, 8 * MIB])
@settings(max_examples=often(25, 1200), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(plan=st.lists(parts, min_size=1, max_size=12))
def test_any_sequence_of_parts_comes_to_the_same_bytes(
    ground: Ground, held: int, plan: list[Part], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_HELD", held)
    with ground.basis() as basis, ground.assembly(basis) as (assembly, path):
        expected = put(assembly, ground, plan)
        staged = assembly.in_staging()
        staged.finish()
        assert path.read_bytes() == expected
        assert (assembly.size, assembly.blake3.digest()) == (len(expected), blake3_of(expected))
        assert assembly.shared <= len(expected)
        if ground.kind not in SHARING:
            assert assembly.shared == 0
        assert [file.read_bytes() for file in (ground.folder / "0", ground.folder / "1")] == ground.contents


def kept(file: int, offset: int, length: int) -> Part:
    return Part("kept", file, offset, length)


@pytest.mark.parametrize(
    ("plan", "shared"),
    [
        # In place from the start: all whole blocks, also where the next part goes on in the middle of one.
        ([kept(0, 0, 100_000), Part("changed", 0, None, 50_000), kept(0, 150_000, 46_608)], 48 * 4096 - 4096),
        # Moved by whole blocks, and by a byte.
        ([Part("new", 0, None, 4096), kept(0, 0, 65_536)], 65_536),
        ([Part("new", 0, None, 4095), kept(0, 0, 65_536)], 0),
        # Where they begin and end in the middle of blocks: what is between.
        ([Part("new", 0, None, 4096 + 100), kept(0, 100, 65_536)], 65_536 - 4096),
        # Too little to be worth a call.
        ([Part("new", 0, None, 4096), kept(0, 0, 8192), Part("new", 0, None, 4096)], 0),
        # Found by turns in two files that are the same there: one of them is followed.
        ([kept(0, 0, 50_000), kept(1, 50_000, 50_000), kept(0, 100_000, 63_840)], 163_840),
        # A hole that is shared stays one.
        ([Part("new", 0, None, 4096), kept(1, 0, 400 * KIB)], 400 * KIB),
    ],
)
def test_blocks_are_shared_wherever_they_fall_together(ground: Ground, plan: list[Part], shared: int) -> None:
    with ground.basis() as basis, ground.assembly(basis) as (assembly, path):
        expected = put(assembly, ground, plan)
        assembly.in_staging().finish()
        assert path.read_bytes() == expected
        assert assembly.shared == (shared if ground.kind in SHARING else 0)


@pytest.mark.parametrize("position", [0, 1, 3995, 3996, 4095, 4096, 8091, 8092, 40_000, 65_535])
def test_one_changed_byte_is_seen_wherever_it_is(ground: Ground, position: int) -> None:
    """The bytes arrive, and all but one are those of the file whose blocks were shared before them."""
    old = ground.contents[0]
    changed = bytearray(old[65_636:131_172])
    changed[position] ^= 1
    expected = old[:65_636] + changed + old[131_172:200_000]
    with ground.basis() as basis, ground.assembly(basis) as (assembly, path):
        assembly.add(old[:65_636], (ground.locations[0], 0))
        assembly.add(memoryview(changed))
        assembly.add(old[131_172:200_000])
        assembly.in_staging().finish()
        assert path.read_bytes() == expected
        if ground.kind in SHARING:
            assert 200_000 - assembly.shared < 4 * 4096 + 4096  # two short runs at the most, and the end
