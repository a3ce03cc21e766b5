"""The pieces of one segment's gaps at the sending end: named, named once more by content, and chosen by what is lacked."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import accumulate, islice

from evidencesync.delta.chunker import Segment
from evidencesync.delta.refine import Gap, cut_pieces, piece_digests
from evidencesync.errors import ProtocolError
from evidencesync.protocol.bitmap import unpack_bits
from evidencesync.protocol.gaps import pack_pieces
from evidencesync.protocol.messages import NeedPieces, Pieces


@dataclass(slots=True)
class _CutGap:
    """A gap as it was cut, and which of its pieces are lacked: None until the vault has said so."""

    gap: Gap
    lengths: list[int]
    lacked: list[bool] | None = None


class OutgoingPieces:
    """What a vault asked of a segment when it asked for pieces first, until it has said which of them it lacks."""

    def __init__(self, key: bytes, number: int, segment: Segment) -> None:
        self._key = key
        self._number = number
        self._segment = segment
        self._gaps: list[_CutGap] = []

    def name(self, gaps: list[Gap]) -> Pieces:
        """Cuts the gaps, and names their pieces."""
        self._gaps, pieces = self._cut(gaps)
        return pieces

    def on_need(self, need: NeedPieces) -> Pieces | None:
        """Takes the answer to what was named last; names the pieces of gaps that are to be cut again, None where there are none.

        Raises ProtocolError for an answer to something else.
        """
        named = [cut for cut in self._gaps if cut.lacked is None]
        if need.count != sum(len(cut.lengths) for cut in named):
            raise ProtocolError("a request for pieces does not fit its segment")
        bits = iter(unpack_bits(need.missing, need.count))
        cut_again: list[_CutGap] = []
        for cut, again in zip(named, unpack_bits(need.again, len(named)), strict=True):
            cut.lacked = list(islice(bits, len(cut.lengths)))
            if again:
                if cut.gap.phase is None or any(cut.lacked):
                    raise ProtocolError("the pieces of a gap were asked for in a way that is not allowed")
                cut_again.append(cut)
        if not cut_again:
            return None
        cuts, pieces = self._cut([replace(cut.gap, phase=None) for cut in cut_again])
        for cut, made in zip(cut_again, cuts, strict=True):
            cut.gap, cut.lengths, cut.lacked = made.gap, made.lengths, None
        return pieces

    def lacked(self) -> list[memoryview]:
        """The bytes of the pieces that the vault lacks, in order."""
        return [piece for cut in self._gaps for piece in _lacked_pieces(self._segment, cut)]

    def _cut(self, gaps: list[Gap]) -> tuple[list[_CutGap], Pieces]:
        cut: list[_CutGap] = []
        digests: list[bytes] = []
        for gap in gaps:
            data = _bytes_of(self._segment, gap)
            cut.append(_CutGap(gap, cut_pieces(data, gap.phase)))
            digests.append(piece_digests(self._key, data, cut[-1].lengths))
        return cut, pack_pieces(self._number, gaps, [made.lengths for made in cut], digests)


def _bytes_of(segment: Segment, gap: Gap) -> bytes:
    return b"".join([part for part in segment.parts[gap.first : gap.first + gap.count] if part is not None])


def _lacked_pieces(segment: Segment, cut: _CutGap) -> list[memoryview]:
    if not cut.lacked or not any(cut.lacked):
        return []
    view = memoryview(_bytes_of(segment, cut.gap))
    starts = accumulate(cut.lengths, initial=0)
    return [
        view[start : start + length] for start, length, wanted in zip(starts, cut.lengths, cut.lacked, strict=False) if wanted
    ]
