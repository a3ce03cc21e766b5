"""The proxy of the tests does to a connection what it says, so that tests through it prove something."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.line import NetworkLine
from tests.support.patience import PATIENCE_SECONDS, wait_until
from tests.support.proxy import Address, Proxy, Trouble

ROOT = Path(__file__).parents[3]
MIB = 1 << 20


@contextmanager
def echo_server() -> Iterator[Address]:
    """Sends back whatever it gets, to one client after the other."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    try:
                        while data := connection.recv(1 << 16):
                            connection.sendall(data)
                    except ConnectionError:
                        continue

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield server.getsockname()
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(PATIENCE_SECONDS)


def through(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=PATIENCE_SECONDS)


def say(client: socket.socket, data: bytes) -> bytes:
    """Sends, says that it was all, and gives what came back."""
    with ThreadPoolExecutor(1) as other:
        sending = other.submit(_send_all, client, data)
        answer = b"".join(iter(lambda: client.recv(1 << 16), b""))
        sending.result()  # a reset is told to one of the two threads only
        return answer


def _send_all(client: socket.socket, data: bytes) -> None:
    client.sendall(data)
    client.shutdown(socket.SHUT_WR)


def test_every_byte_arrives_in_order_and_is_counted_once() -> None:
    data = os.urandom(3 * MIB + 17)
    with echo_server() as target, Proxy(target, NetworkLine(round_trip=0.02)) as proxy:
        with through(proxy) as client:
            assert say(client, data) == data
        wait_until(lambda: proxy.trips[0].ended == "end")
        assert proxy.moved == (len(data), len(data))


def test_an_answer_takes_at_least_the_round_trip() -> None:
    with echo_server() as target, Proxy(target, NetworkLine(round_trip=0.2)) as proxy, through(proxy) as client:
        client.sendall(b"first")  # opens the way
        assert client.recv(10) == b"first"
        before = time.monotonic()
        client.sendall(b"again")
        assert client.recv(10) == b"again"
        assert time.monotonic() - before >= 0.2


@pytest.mark.slow
def test_bytes_are_under_way_together() -> None:
    """A hundred blocks of which each waited for the one before it to arrive would take a minute."""
    line = NetworkLine(round_trip=0.6, rate=290_000)
    assert line.block == 1460
    with echo_server() as target, Proxy(target, line) as proxy, through(proxy) as client:
        before = time.monotonic()
        assert say(client, b"x" * 146_000) == b"x" * 146_000
        assert time.monotonic() - before < 30


def test_the_rate_is_not_exceeded() -> None:
    with (
        echo_server() as target,
        Proxy(target, NetworkLine(rate=1_000_000, queue_bytes=64 << 10)) as proxy,
        through(proxy) as client,
    ):
        before = time.monotonic()
        say(client, bytes(500_000))
        assert time.monotonic() - before >= 0.45


@pytest.mark.slow
def test_who_writes_more_than_the_line_takes_has_to_wait() -> None:
    with (
        echo_server() as target,
        Proxy(target, NetworkLine(rate=10_000, queue_bytes=64 << 10)) as proxy,
        through(proxy) as client,
    ):
        client.settimeout(1)
        with pytest.raises(TimeoutError):
            client.sendall(bytes(64 * MIB))


def test_a_reset_comes_after_exactly_so_many_bytes_and_is_seen_as_one() -> None:
    troubles = [Trouble("reset", 100_000), Trouble("reset", 0, "down")]
    with echo_server() as target, Proxy(target, troubles=troubles) as proxy:
        for _ in troubles:
            with through(proxy) as client, pytest.raises(ConnectionError):
                say(client, bytes(200_000))
        with through(proxy) as client:
            assert say(client, b"the third is left alone") == b"the third is left alone"
        assert [trip.ended for trip in proxy.trips[:2]] == ["reset", "reset"]
        assert proxy.trips[0].up == 100_000
        assert proxy.trips[1].down == 0


def test_a_reset_on_command_ends_what_is_open_and_nothing_else() -> None:
    with echo_server() as target, Proxy(target) as proxy:
        with through(proxy) as client:
            client.sendall(b"hello")
            assert client.recv(10) == b"hello"
            proxy.reset()
            with pytest.raises(ConnectionResetError):
                client.recv(10)
        with through(proxy) as client:
            assert say(client, b"again") == b"again"


def test_a_stalled_connection_stays_open_and_moves_nothing_until_it_may_go_on() -> None:
    with echo_server() as target, Proxy(target, troubles=[Trouble("stall", 3)]) as proxy, through(proxy) as client:
        client.sendall(b"hello")
        wait_until(lambda: proxy.moved == (3, 0))
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(10)
        assert proxy.moved == (3, 0)
        assert proxy.trips[0].ended == "open"
        client.settimeout(20)
        proxy.go()
        client.shutdown(socket.SHUT_WR)
        assert b"".join(iter(lambda: client.recv(10), b"")) == b"hello"


def test_a_server_that_is_down_for_a_while_comes_back_on_the_same_port() -> None:
    with echo_server() as target, Proxy(target) as proxy:
        port = proxy.port
        with through(proxy) as client:
            proxy.refuse()
            with pytest.raises(ConnectionRefusedError):
                through(proxy)
            proxy.accept()
            assert proxy.port == port
            assert say(client, b"the open one is still there") == b"the open one is still there"
        with through(proxy) as client:
            assert say(client, b"new") == b"new"


def test_a_target_that_is_not_there_is_told_as_a_reset() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        target = gone.getsockname()
    with Proxy(target) as proxy:
        with pytest.raises(ConnectionError), through(proxy) as client:
            say(client, b"hello")
        wait_until(lambda: proxy.trips[0].ended == "unreachable")


def test_the_log_says_when_how_much_went_which_way() -> None:
    with (
        echo_server() as target,
        Proxy(target, NetworkLine(round_trip=0.05), keep_log=True) as proxy,
        through(proxy) as client,
    ):
        say(client, bytes(1000))
        log = proxy.trips[0].log
        assert [sum(count for _, way, count in log if way == side) for side in ("up", "down")] == [1000, 1000]
        assert [moment for moment, _, _ in log] == sorted(moment for moment, _, _ in log)


def test_it_runs_by_itself_and_reports_as_json() -> None:
    with echo_server() as target:
        command = [sys.executable, "-m", "tests.support.proxy", "--to", f"127.0.0.1:{target[1]}", "--json"]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
            assert program.stdin is not None
            assert program.stdout is not None
            port = int(json.loads(program.stdout.readline())["listening"].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS) as client:
                assert say(client, b"hello") == b"hello"
            assert json.loads(program.stdout.readline()) == {"number": 0, "up": 5, "down": 5, "ended": "end"}
            program.stdin.close()
        assert program.returncode == 0
