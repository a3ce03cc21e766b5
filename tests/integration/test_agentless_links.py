"""Pulls without an agent over links that are lost, and of files whose size is not true: from OpenSSH's server."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from evidencesync.acquire.agentless import pull_agentless
from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.request import PushOutcome
from evidencesync.acquire.sftp_connection import SftpConnection
from evidencesync.connection.progress import Progress
from evidencesync.errors import LinkLostError
from evidencesync.source.filters import FilterRules
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import parse_program
from evidencesync.ssh.sftp import SftpSource
from tests.integration.cli_program import ITEM, Lab
from tests.integration.conftest import Sshd, make_key, running_sshd
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.patience import PATIENCE_SECONDS, wait_until
from tests.support.proxy import Proxy, Trouble
from tests.support.pulling import far_end, pull_from
from tests.support.sftp_server import pull_over_sftp

CUT = 1_500_000
"""Bytes after which each connection is cut."""
_MOVES = b"cpu MHz"


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sftp")
    make_key(folder / "host_ed25519")
    with running_sshd(folder, require_program("sshd"), "Subsystem sftp internal-sftp\n") as running:
        yield running


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr("evidencesync.acquire.connect.FIRST_PAUSE", 0.01)
    return make_bench(tmp_path)


def connecting(sshd: Sshd, port: int, timeout_seconds: float = 20.0) -> Callable[[], SftpSource]:
    """What connects to the server by way of another port."""
    known_hosts = sshd.folder / f"known_hosts_{port}"
    known_hosts.write_text(sshd.known_hosts.read_text().replace(str(sshd.port), str(port)))
    options = sshd.options(known_hosts=known_hosts, timeout_seconds=timeout_seconds)
    return lambda: SftpSource(Address(sshd.user, "127.0.0.1", port, "/", local=False), options).finish_open()


def pull(sshd: Sshd, bench: Bench, path: Path, **changes: object) -> PushOutcome:
    return pull_over_sftp(connecting(sshd, sshd.port), bench, os.fsencode(path), **changes)


def fill(source: Path) -> dict[bytes, bytes]:
    """A large file, some small ones and one between, with an old time; and what is in them."""
    made = random.Random(12)
    contents = {b"image": made.randbytes(8_000_000), b"z/middle": made.randbytes(400_000)}
    contents |= {b"many/%03d" % number: made.randbytes(20_000) for number in range(60)}
    for name, content in contents.items():
        path = Path(os.fsdecode(os.fsencode(source) + b"/" + name))
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (1_700_000_000, 1_600_000_000))
    return contents


def test_a_link_that_is_cut_again_and_again_finishes_and_nothing_is_read_twice(sshd: Sshd, bench: Bench) -> None:
    contents = fill(bench.source)
    total = sum(map(len, contents.values()))
    cuts = [Trouble("reset", CUT, "down")] * 50
    with Proxy(("127.0.0.1", sshd.port), troubles=cuts) as proxy:
        connect = connecting(sshd, proxy.port)
        outcome = pull_over_sftp(connect, bench, os.fsencode(bench.source), retries=20)
        connections = len(proxy.trips)
    assert outcome.interruptions == connections - 1 >= total // CUT
    assert outcome.tally.manifest.flags == {}
    # What came over all connections: besides the contents a handshake each, and a block or a file of which not all had come.
    assert total < outcome.wire_received < total + connections * 400_000
    assert {path for path, entry in bench.entries(1).items() if entry.type == "file"} == contents.keys()
    for name, content in contents.items():
        assert (bench.acquisition(1) / "data" / os.fsdecode(name)).read_bytes() == content


def test_what_has_come_is_shown_and_counted_once(sshd: Sshd, bench: Bench) -> None:
    """Also of what the vault has already: all of it travels."""
    contents, progress = fill(bench.source), Progress()
    pull(sshd, bench, bench.source)
    request = bench.request(source=os.fsencode(bench.source), vault=b"")
    pull_agentless(connecting(sshd, sshd.port)(), partial(connect_for_pull, str(bench.vault.layout.root)), request, progress)
    assert progress.arrived_bytes == progress.read_bytes == sum(map(len, contents.values()))
    assert progress.link_bytes is not None
    assert progress.link_bytes > progress.arrived_bytes


def test_a_link_that_stays_silent_is_lost_as_well(sshd: Sshd, bench: Bench) -> None:
    content = fill(bench.source)[b"image"]
    with Proxy(("127.0.0.1", sshd.port), troubles=[Trouble("stall", CUT, "down")]) as proxy:
        outcome = pull_over_sftp(connecting(sshd, proxy.port, 4.0), bench, os.fsencode(bench.source), retries=5)
    assert outcome.interruptions >= 1
    assert (bench.acquisition(1) / "data" / "image").read_bytes() == content


@pytest.mark.parametrize("path", ["/proc/cpuinfo", "/proc/kallsyms", "/sys/class/net/lo/mtu", "/sys/class/net/lo"])
def test_a_file_whose_size_is_not_true_is_read_to_its_end_and_has_not_changed(sshd: Sshd, bench: Bench, path: str) -> None:
    """Under /proc all say that they are empty, under /sys that they have a page. Pushed or pulled, they are what `cat` shows."""
    source = Path(path)
    files = [source] if source.is_file() else [found for found in source.iterdir() if found.is_file() and found.name == "mtu"]
    rules = FilterRules.none() if source.is_file() else FilterRules.from_patterns(["*"], ["mtu"])
    outcomes = [
        pull(sshd, bench, source, rules=rules),
        bench.push(source=os.fsencode(path), rules=rules),
        pull_from(bench, far_end(source), source=os.fsencode(path), rules=rules),
    ]
    for outcome in outcomes:
        assert outcome.tally.manifest.flags.keys() <= {"skipped"}
        for file in files:
            stored = (bench.acquisition(outcome.acquisition) / "data" / file.name).read_bytes()
            assert stored.split(_MOVES)[0] == file.read_bytes().split(_MOVES)[0] != b""


def test_times_that_sftp_cannot_say_are_absent_and_counted(sshd: Sshd, bench: Bench) -> None:
    times = {"1901": -(2**31) + 5, "1969": -5, "1970": 0, "2038": 2**31, "2106": 2**32 + 5, "2136": 2**32 + 946_684_800}
    for name, seconds in times.items():
        (bench.source / name).write_bytes(b"x")
        os.utime(bench.source / name, (seconds, seconds))
        if (bench.source / name).stat().st_mtime_ns != seconds * 10**9:
            pytest.skip("only where the file system holds such times")
    os.utime(bench.source, (2**32 + 5, 2**32 + 5))
    whole = pull(sshd, bench, bench.source)
    stated = {path.decode(): entry.mtime for path, entry in bench.entries(1).items() if entry.mtime is not None}
    assert stated == {"1970": "0.000000000", "2038": f"{2**31}.000000000"}
    assert whole.tally.manifest.remarks == {"metadata-unread": 2 * 5 + 1}  # and an access time of 2038, which may be of 1901
    manifest = (bench.acquisition(1) / "manifest.jsonl").read_bytes()
    assert b'"times":"whole seconds, modulo 2^32"' in manifest
    assert manifest.endswith(b'"remarks":{"metadata-unread":11}}\n')
    alone = pull(sshd, bench, bench.source / "2136")
    assert (bench.entries(alone.acquisition)[b"2136"].mtime, alone.tally.manifest.remarks) == (None, {"metadata-unread": 2})


def test_a_server_that_does_not_come_back_ends_it_and_the_next_run_uses_what_came(sshd: Sshd, bench: Bench) -> None:
    fill(bench.source)
    with Proxy(("127.0.0.1", sshd.port), troubles=[Trouble("reset", CUT, "down")]) as proxy:
        connect = connecting(sshd, proxy.port)
        tries = 0

        def once() -> SftpSource:
            nonlocal tries
            tries += 1
            if tries > 1:
                proxy.refuse()
            return connect()

        with pytest.raises(LinkLostError) as raised:
            pull_over_sftp(once, bench, os.fsencode(bench.source), retries=3)
    assert (raised.value.exit_code, tries) == (23, 4)
    assert "3 attempts" in raised.value.message
    assert bench.acquisitions() == []
    again = pull(sshd, bench, bench.source)
    assert (again.acquisition, again.leftovers) == (1, 1)


def test_it_goes_through_the_users_jump_hosts_and_the_program_that_he_names(sshd: Sshd, bench: Bench, tmp_path: Path) -> None:
    (bench.source / "file").write_bytes(b"content")
    login = f"  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n"
    (tmp_path / "config").write_text(f"Host jump\n{login}Host target\n{login}  ProxyJump jump\n")
    called = tmp_path / "called"
    (tmp_path / "ssh").write_text(f'#!/bin/sh\necho called >> {called}\nexec ssh "$@"\n')
    (tmp_path / "ssh").chmod(0o755)
    program = parse_program(str(tmp_path / "ssh"))
    options = sshd.options(config=tmp_path / "config", identity=None, program=program)

    def connect() -> SftpSource:
        return SftpSource(Address(None, "target", None, "/", local=False), options).finish_open()

    pull_over_sftp(connect, bench, os.fsencode(bench.source))
    assert (bench.acquisition(1) / "data" / "file").read_bytes() == b"content"
    header = json.loads((bench.acquisition(1) / "manifest.jsonl").read_bytes().splitlines()[0])
    assert (header["ssh"]["host"], header["ssh"]["port"]) == ("127.0.0.1", sshd.port)
    assert header["ssh"]["host_key"] == sshd.host_fingerprint
    assert header["ssh"]["algorithms"]["server_version"].startswith("SSH-2.0-OpenSSH")
    assert called.exists()


def test_a_reading_that_is_ended_while_the_link_comes_back_leaves_no_ssh_behind(sshd: Sshd, bench: Bench) -> None:
    """ssh waits for a server that does not say who it is; whoever closes the line does not wait for it."""
    with Proxy(("127.0.0.1", sshd.port), troubles=[Trouble("stall", 0, "down")] * 2) as proxy:
        server = connecting(sshd, sshd.port)()
        options = sshd.options(timeout_seconds=PATIENCE_SECONDS)
        line = SftpConnection(
            server, lambda: SftpSource(Address(sshd.user, "127.0.0.1", proxy.port, "/", local=False), options), 5, Progress()
        )
        raised: list[LinkLostError] = []

        def reconnect() -> None:
            try:
                line.reconnect(server, LinkLostError("gone"))
            except LinkLostError as error:
                raised.append(error)

        thread = threading.Thread(target=reconnect)
        thread.start()
        wait_until(lambda: proxy.trips)
        line.close()
        thread.join(PATIENCE_SECONDS)
    assert [error.message for error in raised] == ["gone"]
    assert ssh_children(os.getpid()) == []


def test_ctrl_c_ends_it_and_leaves_no_ssh_behind(sshd: Sshd, tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    fill(lab.folder / "evidence")
    with Proxy(("127.0.0.1", sshd.port), troubles=[Trouble("stall", CUT, "down")]) as proxy:
        known_hosts = lab.folder / "known_hosts"
        known_hosts.write_text(sshd.known_hosts.read_text().replace(str(sshd.port), str(proxy.port)))
        far = ("-i", str(sshd.identity), "-p", str(proxy.port), "-F", "none", "--known-hosts", str(known_hosts))
        source = f"{sshd.user}@127.0.0.1:{lab.folder}/evidence"
        running = lab.start("pull", source, "vault", *ITEM, "--agentless", "--sign-key", "ana", *far, "--json")
        wait_until(lambda: proxy.moved[1] >= CUT)
        assert ssh_children(running.pid) != []
        (child,) = ssh_children(running.pid)
        os.killpg(running.pid, signal.SIGINT)
        out, _ = running.communicate(timeout=PATIENCE_SECONDS)
    assert (running.returncode, json.loads(out)["error"]["code"]) == (130, 130)
    assert not Path(f"/proc/{child}/cmdline").exists() or Path(f"/proc/{child}/cmdline").read_bytes() == b""


def ssh_children(process_id: int) -> list[int]:
    """The ssh that a process has started, and that has not ended."""
    found = subprocess.run(["pgrep", "-P", str(process_id), "-x", "ssh"], capture_output=True, text=True, check=False)
    return [int(line) for line in found.stdout.split()]
