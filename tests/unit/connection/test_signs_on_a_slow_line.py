"""What a sender has written may lie for minutes in buffers before a slow line: the vault's end says that it gets it."""

from __future__ import annotations

import queue
import threading

from evidencesync.connection.sender_connection import SenderConnection
from evidencesync.custody.documents import SshPeer
from evidencesync.protocol.framing import DATA_FRAME, encode_frame
from evidencesync.protocol.messages import PREAMBLE, Patience, Status
from tests.support.patience import PATIENCE_SECONDS

_ROUNDS = 5
_BODY = b"\0\0\0\0\x20" + bytes(32)


class _SlowLine:
    """Brings what the test puts on it, and hands it what is written."""

    peer: SshPeer | None = None
    wire_sent = 0

    def __init__(self) -> None:
        self.wire_received = 0
        self.coming: queue.Queue[bytes] = queue.Queue()
        self.written: queue.Queue[bytes] = queue.Queue()

    def read(self) -> bytes:
        data = self.coming.get()
        self.wire_received += len(data)
        return data

    def write(self, data: bytes) -> None:
        self.written.put(data)

    def close(self) -> None:
        self.coming.put(b"")


def test_a_vault_that_receives_slowly_says_so_before_the_frame_is_whole() -> None:
    line = _SlowLine()
    connection = SenderConnection(line)
    connection.set_patience(Patience(timeout_ms=100, reconnect_seconds=0, least_bytes=0))
    frames = connection.frames()
    taken: list[bytes] = []
    taking = threading.Thread(target=lambda: taken.append(bytes(next(frames)[1])), daemon=True)
    connection.begin_signs_of_life(lambda: Status("receiving", 0, 0))
    try:
        taking.start()
        whole = PREAMBLE + encode_frame(DATA_FRAME, _BODY)
        for byte in whole[:_ROUNDS]:
            while not line.written.empty():
                line.written.get()
            line.coming.put(bytes([byte]))
            assert line.written.get(timeout=PATIENCE_SECONDS)  # while the next frame is still being waited for
        line.coming.put(whole[_ROUNDS:])
        taking.join(PATIENCE_SECONDS)
        assert taken == [_BODY]
    finally:
        connection.end_signs_of_life()
        connection.close()
