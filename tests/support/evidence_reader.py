"""A reader with a trusted key that asks a vault's end for evidence in any way it likes, and takes what comes."""

from __future__ import annotations

from evidencesync.connection.sender_connection import SINGLE_SESSION, Host
from evidencesync.errors import LinkLostError
from evidencesync.protocol.data_frames import DataDecoder
from evidencesync.protocol.evidence_messages import EvidenceAsk, EvidenceParts, Rows
from evidencesync.protocol.failures import error_from_slug
from evidencesync.protocol.framing import DATA_FRAME, decode_message
from evidencesync.protocol.messages import Failure, Message, Status
from tests.support.bench_of_evidence import Bench
from tests.support.hostile_client import HostileReader as Reader

Part = tuple[bytes, int, int]


class EvidenceReader(Reader):
    """Is inside as soon as it is made."""

    def __init__(self, bench: Bench, host: Host = SINGLE_SESSION) -> None:
        super().__init__(bench, host=host)
        self._decoder = DataDecoder()
        self._waiting: list[Message | bytes] = []
        self.enter(self.claim_to_read())

    def ask(self, *parts: Part, case: str | None = None, item: str | None = None, acquisition: int = 1) -> bool:
        """One question; by default of the bench's item."""
        name = self.bench.name
        return self.send(EvidenceAsk(case or name.case.text, item or name.item.text, acquisition, list(parts)))

    def answers(self, *parts: Part) -> list[bytes | str]:
        """What comes for these parts: bytes, or the kind of the lack. Raises what the vault says is wrong."""
        found: list[bytes | str] = []
        while len(found) < len(parts):
            message = self._next()
            assert isinstance(message, EvidenceParts)
            lacks = {place: kind for place, kind, _ in message.lacks}
            here = parts[len(found) : len(found) + message.count]
            data = self._data(sum(length for place, (_, _, length) in enumerate(here) if place not in lacks))
            for place, (_, _, length) in enumerate(here):
                if place in lacks:
                    found.append(lacks[place])
                else:
                    found.append(data[:length])
                    data = data[length:]
        return found

    def rows(self) -> bytes:
        """What comes for RowsAsk."""
        message = self._next()
        assert isinstance(message, Rows)
        return self._data(message.size)

    def _data(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self._next()
            assert isinstance(more, bytes)
            data += more
        assert len(data) == size
        return data

    def _next(self) -> Message | bytes:
        while True:
            while self._waiting:
                first = self._waiting.pop(0)
                if isinstance(first, Failure):
                    raise error_from_slug(first.slug, first.message, first.hint)
                if not isinstance(first, Status):
                    return first
            block = self.link.read()
            if not block:
                raise LinkLostError("the vault's end has gone")
            for kind, body in self._frames.update(block):
                data = kind == DATA_FRAME
                self._waiting.append(bytes(self._decoder.decode(body)) if data else decode_message(kind, body))


def parts_of(path: bytes, size: int, length: int) -> list[Part]:
    """A whole file in parts of at most so many bytes."""
    return [(path, at, min(length, size - at)) for at in range(0, size, length)]
