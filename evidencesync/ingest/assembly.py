"""Assembles one larger content, and shares blocks (reflinks) with published files that have the same bytes.

So a new version of a large file needs disk space only for what changed. Where the file system cannot share blocks, the bytes
are written from memory: nothing is read twice.

Blocks are shared after their bytes were checked. That is sound: published files are never opened for writing; the kernel
writes a file's dirty pages before it shares its blocks; the digest of the whole content is taken of the checked bytes; and if
the disk does not give them back, the read-back finds it, because the new file has no cached pages that could hide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import msgspec

from evidencesync.delta.recipe import Recipe, RecipeBuilder, RowSpool
from evidencesync.errors import DigestMismatchError
from evidencesync.evidence.digest import Blake3Digest, Buffer, Sha256Digest, new_blake3, new_sha256, update_zeros
from evidencesync.files.copying import is_hole
from evidencesync.files.holes import HOLE_STEP
from evidencesync.ingest.basis import Basis
from evidencesync.ingest.session_contents import SessionContent
from evidencesync.limits import KIB, MIB
from evidencesync.vault.layout import Location
from evidencesync.vault.resume.leftovers import is_leftover
from evidencesync.vault.staged_files import StagedContent

_HELD: Final = 8 * MIB  # held back at most, to be shared by one call
_PREFIX_STEP: Final = 64 * MIB
_COPIED_STEP: Final = 256 * MIB
_LEAST: Final = 16 * KIB  # less is written: sharing would cost more (a call, a fragment) than it saves
_MAX_DIFFERENT: Final = 4 * MIB  # after so many different bytes a published file is no longer compared
_COMPARED: Final = 4 * KIB
_MOST_TURNS: Final = 3
"""From one published file to another one with the same beginning, which is read for that."""

Place = tuple[Location, int]
"""A published file, and an offset in it."""


class _Followed(NamedTuple):
    """The published file that the content is aligned with. `shift`: offsets there minus offsets here."""

    location: Location
    shift: int


class _Held(msgspec.Struct):
    """The next bytes of the content, which are known to be in a published file and are not in staging yet."""

    followed: _Followed
    parts: list[bytes] = msgspec.field(default_factory=list)
    size: int = 0


class ReusingWriter:
    """Appends to one staged content. Call `flush` before anything else is done with it. Raises as StagedContent does.

    `shared` counts the bytes in blocks that are shared with a published file, or in a hole that the published file has, too.
    """

    def __init__(self, staged: StagedContent, basis: Basis) -> None:
        self.staged = staged
        self.shared = 0
        self._basis = basis
        self._held: _Held | None = None
        self._followed: _Followed | None = None
        self._different = 0  # bytes since the followed file was last equal

    def begin_with(self, location: Location, length: int) -> None:
        """Begins with the first `length` bytes of a published file, which were checked and are no longer in memory."""
        staged, fd = self.staged, self._fd_of(location)
        unit = self._basis.sharing.unit(fd, staged.fd)
        while unit is not None and length - staged.size >= max(unit, _LEAST):
            if not self._share(fd, staged.size, min(_PREFIX_STEP, length - staged.size) // unit * unit):
                unit = None
        if unit is None:
            while staged.size < length:
                staged.append_from(fd, staged.size, min(_COPIED_STEP, length - staged.size))
            return
        followed = self._followed = _Followed(location, 0)
        if staged.size < length:
            rest = self._basis.read(location, staged.size, length - staged.size)
            if rest is None:
                raise _vanished()
            self._hold(followed, rest)

    def append(self, data: bytes | memoryview, place: Place | None = None) -> None:
        """Appends bytes. `place` is where they were found, and checked."""
        found = None if place is None else _Followed(place[0], place[1] - self._end)
        if found is not None and found == self._followed:
            self._hold(found, bytes(data))
            return
        followed, parts = self._followed, self._compared(data)
        if found is not None and not all(same for _, same in parts) and self._follow(found):
            self._hold(found, bytes(data))
            return
        for part, same in parts:
            if same and followed is not None:
                self._hold(followed, bytes(part))
            else:
                self.flush()
                self.staged.append(part)

    def append_zeros(self, length: int) -> None:
        """Appends a hole of `length` zero bytes."""
        self.flush()
        followed, offset = self._followed, self.staged.size
        if followed is not None and self.shared and is_hole(self._fd_of(followed.location), offset + followed.shift, length):
            self.shared += length  # the followed file has the same hole
        self.staged.append_zeros(length)

    def flush(self) -> None:
        """Shares or writes the bytes that were held back."""
        self._release(keep_end=False)

    @property
    def _end(self) -> int:
        return self.staged.size + (0 if self._held is None else self._held.size)

    def _follow(self, found: _Followed) -> bool:
        """Aligns with another published file, if its blocks could be shared from here."""
        fd = self._basis.fd_of(found.location)
        unit = None if fd is None else self._basis.sharing.unit(fd, self.staged.fd)
        if unit is None or found.shift % unit:
            return False
        self.flush()
        self._followed, self._different = found, 0
        return True

    def _compared(self, data: bytes | memoryview) -> list[tuple[bytes | memoryview, bool]]:
        """Splits bytes into parts, each with whether the followed file has the same bytes in the same place.

        In a chunk that changed, most blocks have not changed.
        """
        followed, self._followed = self._followed, None
        if followed is None or self._different > _MAX_DIFFERENT:
            return [(data, False)]
        end = self._end
        length = min(len(data), followed.location.size - end - followed.shift)
        old = self._basis.read(followed.location, end + followed.shift, length) if length > 0 else None
        if old is None:
            return [(data, False)]
        self._followed = followed
        parts: list[tuple[bytes | memoryview, bool]] = []
        for part, same in _alike(bytes(data), old, -end % _COMPARED):
            self._different = 0 if same else self._different + len(part)
            parts.append((part, same))
        return parts

    def _hold(self, followed: _Followed, data: bytes) -> None:
        if self._held is None:
            self._held = _Held(followed)
        held = self._held
        held.parts.append(data)
        held.size += len(data)
        if held.size >= _HELD:
            self._release(keep_end=True)

    def _release(self, *, keep_end: bool) -> None:
        """Shares the held whole blocks, and writes the rest. With `keep_end` the end that fills no block stays held."""
        held, self._held = self._held, None
        if held is None:
            return
        fd = self._fd_of(held.followed.location)
        unit = self._basis.sharing.unit(fd, self.staged.fd)
        first = last = 0
        if unit is not None:
            first = -self.staged.size % unit
            last = first + (held.size - first) // unit * unit
        if last - first < _LEAST:
            self._write(held.parts, 0, held.size)
            return
        self._write(held.parts, 0, first)
        if not self._share(fd, self.staged.size + held.followed.shift, last - first):
            self._followed = None
            self._write(held.parts, first, held.size)
        elif keep_end and last < held.size:
            self._held = _Held(held.followed, list(map(bytes, _between(held.parts, last, held.size))), held.size - last)
        else:
            self._write(held.parts, last, held.size)

    def _write(self, parts: list[bytes], start: int, stop: int) -> None:
        for part in _between(parts, start, stop):
            self.staged.append(part)

    def _share(self, fd: int, offset: int, length: int) -> bool:
        if not self.staged.append_shared(self._basis.sharing, fd, offset, length):
            return False
        self.shared += length
        return True

    def _fd_of(self, location: Location) -> int:
        fd = self._basis.fd_of(location)
        if fd is None:
            raise _vanished()
        return fd


def _vanished() -> DigestMismatchError:
    return DigestMismatchError("a published file has vanished while it was being used")


def _alike(data: bytes, old: bytes, first: int) -> Iterator[tuple[bytes, bool]]:
    """Yields runs of blocks, each with whether both buffers have it in common. `first`: where the first whole block begins."""
    start = stop = 0
    alike = True
    while stop < len(data):
        after = stop + ((first - stop) % _COMPARED or _COMPARED)
        same = data[stop:after] == old[stop:after]
        if same != alike:
            if stop > start:
                yield data[start:stop], alike
            start, alike = stop, same
        stop = min(after, len(data))
    yield data[start:], alike


def _between(parts: list[bytes], start: int, stop: int) -> Iterator[memoryview]:
    """Yields a range of the joined parts, without joining them."""
    offset = 0
    for part in parts:
        first, last = max(start - offset, 0), min(stop - offset, len(part))
        if first < last:
            yield memoryview(part)[first:last]
        offset += len(part)


class AssembledContent(msgspec.Struct, frozen=True):
    """A complete content. Its bytes are in `staged`, or all of them in `existing`, a published file.

    `recipe` is None for one that was not cut: a link to `existing` needs none. `shared` counts its bytes in blocks of published
    files. `sha256` is there when the published file was read from the disk for both digests. `session_content` is the entry by
    which later contents of this session find it.
    """

    blake3: Blake3Digest
    size: int
    recipe: Recipe | None
    staged: StagedContent | None
    shared: int
    existing: Location | None
    sha256: Sha256Digest | None
    session_content: SessionContent


class Assembly:
    """Assembles one content, from its first byte to its last.

    A file that an interrupted session had begun is continued. As long as all bytes are found in order in one published file,
    nothing is written: in the end that file is linked. Disks that were set up alike begin alike, and what they have in common is
    found in any of them: where a file of the announced size goes on with the content, its beginning is read, and it takes the
    place of the one before. Otherwise blocks are shared with published files where possible (see ReusingWriter), and the rest is
    written.
    """

    def __init__(
        self,
        announced: int,
        new_content: Callable[[], StagedContent],
        take_over: Callable[[Location], StagedContent | None],
        basis: Basis,
        rows: RowSpool,
        *,
        from_disk: bool,
    ) -> None:
        self.size = 0
        self.recipe = RecipeBuilder(rows)
        self.blake3 = new_blake3()
        self.sha256 = new_sha256() if from_disk else None
        self.existing: Location | None = None
        self._announced = announced
        self._turns = 0
        self._new_content = new_content
        self._take_over = take_over
        self._basis = basis
        self._taken: Location | None = None
        self._writer: ReusingWriter | None = None

    @property
    def shared(self) -> int:
        """How many bytes are in blocks that are shared with a published file."""
        return 0 if self._writer is None else self._writer.shared

    def add(self, data: bytes | memoryview, place: Place | None = None) -> None:
        """Appends bytes whose digest was checked. `place` is where they were found."""
        if self._is_here(place):
            self._keep(len(data))
        elif not self._stays(place):
            self._writable().append(data, _published(place))
        self._digest(data)

    def add_zeros(self, length: int, place: Place | None = None) -> None:
        """Appends a run of zeros: a hole, but part of the digest. `place` is where they were found."""
        if self._is_here(place):
            self._keep(length)
        elif not self._stays(place):
            self._writable().append_zeros(length)
        for start in range(0, length, HOLE_STEP):  # in steps: hashing all at once may take longer than the sender's timeout
            update_zeros(self._digest, min(HOLE_STEP, length - start))

    def in_staging(self) -> StagedContent:
        """Returns all bytes so far as a staged file of its own."""
        writer = self._writable()
        writer.flush()
        return writer.staged

    def discard(self) -> None:
        """Removes the staged file."""
        if self._writer is not None:
            self._writer.staged.discard()

    def close(self) -> None:
        """Closes the staged file, and leaves it as it is."""
        if self._writer is not None:
            self._writer.staged.close()

    def _is_here(self, place: Place | None) -> bool:
        """Returns whether the staged file has these bytes already, because an interrupted session had begun it.

        Such a file is taken over when the first bytes of the content are found at its beginning.
        """
        if place is None or not is_leftover(place[0]) or place[1] != self.size:
            return False
        if self._writer is None and self.existing is None and not self.size:
            staged = self._take_over(place[0])
            if staged is not None:
                self._writer, self._taken = ReusingWriter(staged, self._basis), place[0]
        return self._taken == place[0]

    def _keep(self, length: int) -> None:
        if self._writer is not None:
            self._writer.flush()
            self._writer.staged.keep(length)

    def _stays(self, place: Place | None) -> bool:
        """Returns whether `place` continues the one published file that has had all bytes so far."""
        if place is None or self._writer is not None or place[1] != self.size or is_leftover(place[0]):
            return False
        if self.existing is not None and self.existing != place[0] and not self._begins_alike(place[0]):
            return False
        self.existing = place[0]
        return True

    def _begins_alike(self, other: Location) -> bool:
        """Returns whether another published file, which may be the whole content, has all bytes so far, too."""
        if other.size != self._announced or self._turns == _MOST_TURNS:
            return False
        self._turns += 1
        return self._basis.begins_with(other, self.size, Blake3Digest(self.blake3.digest()))

    def _digest(self, data: Buffer) -> None:
        self.size += len(data)
        self.blake3.update(data)
        if self.sha256 is not None and self._writer is None:
            self.sha256.update(data)

    def _writable(self) -> ReusingWriter:
        if self._writer is None:
            self._writer = ReusingWriter(self._new_content(), self._basis)
            if self.existing is not None and self.size:
                self._writer.begin_with(self.existing, self.size)
            self.existing = None
        return self._writer


def _published(place: Place | None) -> Place | None:
    """Returns a place that blocks may be shared from. Leftovers are none: they are removed as soon as this is published."""
    return None if place is None or is_leftover(place[0]) else place
