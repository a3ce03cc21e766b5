"""A link of a local push with something in between, to be changed where a test wants it otherwise."""

from __future__ import annotations

from evidencesync.connection.link import LocalLink
from evidencesync.custody.documents import SshPeer


class LinkInBetween:
    """Passes everything on as it is."""

    peer: SshPeer | None = None

    def __init__(self, link: LocalLink) -> None:
        self._link = link

    @property
    def wire_sent(self) -> int:
        return self._link.wire_sent

    @property
    def wire_received(self) -> int:
        return self._link.wire_received

    def read(self) -> bytes:
        return self._link.read()

    def write(self, data: bytes) -> None:
        self._link.write(data)

    def close(self) -> None:
        self._link.close()
