"""A server that forges ssh's log is accused of that, and not taken for another program, though nothing of ours has come yet."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from evidencesync.acquire.remote_source import Frames, RemoteSource
from evidencesync.connection.inbox import Inbox, listen
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.errors import EvidenceSyncError, NoRemoteError, ProtocolError
from evidencesync.limits import MAX_PREAMBLE
from evidencesync.protocol.messages import Message
from tests.support.patience import PATIENCE_SECONDS


def _listen_to_vault(link: LocalLink, inbox: Inbox[Frames, Message]) -> None:
    listen(link, inbox)


def _listen_to_source(link: LocalLink, inbox: Inbox[Frames, Message]) -> None:
    RemoteSource(link, Progress(), 1.0).listen(inbox)


ENDS = pytest.mark.parametrize(("begin", "local"), [(_listen_to_vault, False), (_listen_to_source, True)])
Begin = Callable[[LocalLink, Inbox[Frames, Message]], None]


def _error(begin: Begin, link: LocalLink, *, local: bool) -> EvidenceSyncError:
    inbox: Inbox[Frames, Message] = Inbox(PATIENCE_SECONDS)
    begin(link, inbox)
    with pytest.raises(EvidenceSyncError) as raised:
        inbox.take(local=local, timeout_seconds=PATIENCE_SECONDS)
    return raised.value


@ENDS
def test_a_link_that_finds_a_forged_log_is_quoted(begin: Begin, *, local: bool) -> None:
    link, _other = local_pair()

    def read() -> bytes:  # as SshLink does at the first bytes
        raise ProtocolError("vault.lab:22 makes ssh report its host key in two ways: the server forges ssh's log")

    link.read = read  # type: ignore[method-assign]
    error = _error(begin, link, local=local)
    assert (type(error), "forges" in error.message) == (ProtocolError, True)


@ENDS
def test_endless_output_of_another_program_is_no_attack(begin: Begin, *, local: bool) -> None:
    link, other = local_pair()
    other.write(b"menu\n" * MAX_PREAMBLE)
    error = _error(begin, link, local=local)
    assert (type(error), "menu" in error.message) == (NoRemoteError, True)
