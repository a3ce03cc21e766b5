"""The order in which what the source gives and what the peer says are taken."""

from __future__ import annotations

import pytest

from evidencesync.connection.inbox import Inbox
from evidencesync.errors import LinkLostError, SourceReadError


def filled() -> Inbox[str, int]:
    inbox: Inbox[str, int] = Inbox()
    inbox.put_local("read", 1)
    inbox.put_peer(inbox.begin_link(), list(range(1000)), 1000)
    return inbox


def test_a_peer_that_always_says_something_does_not_keep_the_source_waiting_for_ever() -> None:
    inbox = filled()
    taken = [inbox.take(local=True, timeout_seconds=60) for _ in range(400)]
    assert ("read", None) in taken
    assert [message for item, message in taken if item is None] == list(range(399))


def test_what_the_peer_says_comes_first_and_nothing_of_the_source_where_there_is_no_room() -> None:
    inbox = filled()
    assert inbox.take(local=True, timeout_seconds=60) == (None, 0)
    assert [inbox.take(local=False, timeout_seconds=60) for _ in range(999)] == [(None, number) for number in range(1, 1000)]


def test_all_that_the_peer_said_is_taken_before_the_end_of_its_link() -> None:
    inbox = filled()
    inbox.fail_peer(1, LinkLostError("gone"))
    assert [inbox.take(local=True, timeout_seconds=60)[1] for _ in range(1000)] == list(range(1000))
    with pytest.raises(LinkLostError):
        inbox.take(local=True, timeout_seconds=60)


def test_the_error_of_a_source_is_heard_beside_a_peer_that_always_says_something() -> None:
    inbox = filled()
    inbox.fail_local(SourceReadError("unread"))
    with pytest.raises(SourceReadError):
        for _ in range(1000):
            inbox.take(local=True, timeout_seconds=60)
