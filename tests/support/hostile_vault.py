"""A vault's end that breaks every rule: either the real one with its words changed on the way, or one made by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from evidencesync.acquire.push import push
from evidencesync.acquire.request import PushOutcome
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.delta.refine import DELTA_PARAMETERS
from evidencesync.errors import EvidenceSyncError, LinkLostError
from evidencesync.protocol.framing import DATA_FRAME, FrameDecoder, decode_message, frame_of
from evidencesync.protocol.messages import PREAMBLE, PROTOCOL_VERSION, Message, Ready, Welcome
from tests.support.bench_of_evidence import Bench
from tests.support.link_in_between import LinkInBetween

SECONDS = 30.0
Tamper = Callable[[Message], Message | bytes | Iterable[Message]]


class TamperedLink(LinkInBetween):
    """The client's end of a link to the real vault, whose messages pass through `tamper` before the client sees them."""

    def __init__(self, link: LocalLink, tamper: Tamper) -> None:
        super().__init__(link)
        self._tamper = tamper
        self._frames = FrameDecoder()
        self._greeted = False

    def read(self) -> bytes:
        while block := self._link.read():
            said = b"" if self._greeted else PREAMBLE
            self._greeted = True
            for number, body in self._frames.update(block):
                changed = self._tamper(decode_message(number, body))
                if isinstance(changed, bytes):
                    said += changed
                else:
                    said += b"".join(map(frame_of, [changed] if isinstance(changed, Message) else changed))
            if said:
                return said
        return b""


def push_tampered(bench: Bench, tamper: Tamper, **changes: Any) -> PushOutcome:
    """A push to the real vault, behind something that changes what it says."""
    link, thread = bench.serve()
    try:
        return push(TamperedLink(link, tamper), bench.request(**changes), Progress())
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


class MadeUpVault:
    """What a script of a hostile vault's end may do. Nothing of it is a vault."""

    def __init__(self, bench: Bench, link: LocalLink) -> None:
        self.bench = bench
        self.link = link
        self._frames = FrameDecoder()
        self._heard: list[Message] = []

    def say(self, *messages: Message) -> None:
        self.link.write(b"".join(map(frame_of, messages)))

    def hear(self, kind: type[Message]) -> Message:
        """The client's next message of a kind; others, and data, are passed over."""
        while True:
            while self._heard:
                message = self._heard.pop(0)
                if isinstance(message, kind):
                    return message
            block = self.link.read()
            if not block:
                raise LinkLostError("the client has gone")
            self._heard += [decode_message(number, body) for number, body in self._frames.update(block) if number != DATA_FRAME]

    def welcome(self, **changes: Any) -> None:
        """The first answer, honest but for `changes`."""
        settings, key = self.bench.vault.settings, self.bench.vault.signer.public_key
        said = Welcome(PROTOCOL_VERSION, "hostile", settings.id, key.blob, bytes(32), DELTA_PARAMETERS, 0)
        self.link.write(PREAMBLE)
        self.say(msgspec.structs.replace(said, **changes))

    def ready(self, **changes: Any) -> None:
        """The end of the handshake: an empty item, honest but for `changes`."""
        self.welcome()
        self.say(msgspec.structs.replace(Ready("ana@lab", 1, 0, None, None, 0, "case", 0), **changes))


@contextmanager
def made_up_vault(bench: Bench, script: Callable[[MadeUpVault], object]) -> Iterator[LocalLink]:
    """Our end of a link to a vault's end that follows a script, and then listens until we hang up."""
    ours, theirs = local_pair()

    def run() -> None:
        try:
            script(MadeUpVault(bench, theirs))
            while theirs.read():
                pass
        except EvidenceSyncError:
            return
        finally:
            theirs.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield ours
    finally:
        thread.join(SECONDS)
        assert not thread.is_alive()


def push_to(bench: Bench, script: Callable[[MadeUpVault], object], **changes: Any) -> PushOutcome:
    """A push to a vault's end that follows a script."""
    with made_up_vault(bench, script) as link:
        return push(link, bench.request(**changes), Progress())
