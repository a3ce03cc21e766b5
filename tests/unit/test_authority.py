"""The one way out without SSH: a digest goes to the authority that was named, and nothing but a bounded answer comes back."""

from __future__ import annotations

import contextlib
import socket
import threading

import pytest

from evidencesync.authority import ask_authority
from evidencesync.errors import ConnectError, LinkLostError, TimestampError, UsageError
from evidencesync.limits import MAX_TIMESTAMP
from tests.support.patience import PATIENCE_SECONDS
from tests.support.time_server import Exchange, time_server


def test_what_is_sent_is_the_request_and_a_plain_name() -> None:
    exchange = Exchange(lambda asked: b"answer to " + asked)
    with time_server(exchange) as url:
        assert ask_authority(url, b"request", 20) == b"answer to request"
    assert exchange.asked == [b"request"]
    headers = exchange.headers[0]
    assert headers.keys() == {"accept", "accept-encoding", "connection", "content-length", "content-type", "host", "user-agent"}
    assert (headers["content-type"], headers["user-agent"]) == ("application/timestamp-query", "evidencesync")


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 500])
def test_no_redirection_is_followed_and_a_refusal_is_said(status: int) -> None:
    elsewhere = Exchange(lambda _: b"elsewhere")
    with (
        time_server(elsewhere) as other,
        time_server(Exchange(lambda _: b"", status=status, location=other)) as url,
        pytest.raises(ConnectError, match=f"HTTP status {status}") as refused,
    ):
        ask_authority(url, b"request", 20)
    assert elsewhere.asked == []
    assert bool(refused.value.hint) == (status < 400)


@pytest.mark.parametrize("kind", ["text/html", "application/timestamp-query", "application/octet-stream"])
def test_an_answer_of_another_kind_is_refused(kind: str) -> None:
    with time_server(Exchange(lambda _: b"x", kind=kind)) as url, pytest.raises(TimestampError, match=kind):
        ask_authority(url, b"request", 20)


def test_an_endless_answer_is_cut_off() -> None:
    with time_server(Exchange(lambda _: bytes(MAX_TIMESTAMP + 1))) as url, pytest.raises(TimestampError, match="more than"):
        ask_authority(url, b"request", 20)
    with time_server(Exchange(lambda _: bytes(MAX_TIMESTAMP))) as url:
        assert len(ask_authority(url, b"request", 20)) == MAX_TIMESTAMP


def test_a_silent_authority_is_given_up() -> None:
    with time_server(Exchange(lambda _: b"", silent=threading.Event())) as url, pytest.raises(LinkLostError):
        ask_authority(url, b"request", 0.2)


def test_an_authority_that_says_its_headers_a_byte_at_a_time_is_given_up() -> None:
    over = threading.Event()

    def drip(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client, contextlib.suppress(OSError):
            client.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            for _ in range(500):
                client.sendall(b"x")
                if over.wait(0.02):  # the rate of the attack
                    return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener,), daemon=True)
        thread.start()
        with pytest.raises(LinkLostError):
            ask_authority(f"http://127.0.0.1:{listener.getsockname()[1]}/tsa", b"request", 0.3)
        over.set()
        thread.join(PATIENCE_SECONDS)


def test_one_that_is_not_there_or_speaks_otherwise_cannot_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

        def answer() -> None:
            with listener.accept()[0] as connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")

        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        with pytest.raises(ConnectError):
            ask_authority(url, b"request", 20)
        thread.join(PATIENCE_SECONDS)
    with pytest.raises(ConnectError):
        ask_authority(url, b"request", 20)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "tsa.example",
        "ftp://tsa.example/x",
        "file:///etc/passwd",
        "data:,x",
        "http://",
        "https:///path",
        "http://ana:secret@tsa.example/",
        "http://tsa.example:99999/",
        "http://[::1/",
        "http://tsa.example/\x1b[31m",
        "http://tsa.example/a b",
        "http://tsa.example/\nHost: evil",
        "http://tsa.example/" + "x" * 2000,
    ],
)
def test_what_is_no_address_of_an_authority_is_refused(url: str) -> None:
    with pytest.raises(UsageError):
        ask_authority(url, b"request", 1)
