"""A link that the user's ssh carries: what passes through it, and how either end learns that the other has gone."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.connection.ssh_link import SshLink
from evidencesync.errors import ConnectError, HostKeyError, LinkLostError
from evidencesync.exit_codes import ExitCode
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from tests.integration.cli_program import ITEM, REPOSITORY, TIMEOUT_SECONDS, Lab, far_program

if TYPE_CHECKING:
    from tests.integration.conftest import Agent, Relay, Sshd

pytestmark = pytest.mark.usefixtures("measured_processes")  # what is started here is seen nowhere else

MIB = 1024 * 1024
PYTHON = shlex.quote(sys.executable)
ECHO = "cat; :"


@contextmanager
def carried(address: Address, options: SshOptions) -> Iterator[SshLink]:
    link = SshLink(address, options, ("serve", "--vault", address.path))
    try:
        link.finish_open()
        yield link
    finally:
        link.close()


def read_exactly(link: SshLink, size: int) -> bytes:
    found = bytearray()
    while len(found) < size:
        block = link.read()
        assert block
        found += block
    return bytes(found)


def is_running(process_id: int) -> bool:
    try:
        state = Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def through(relay: Relay, sshd: Sshd, **changes: object) -> tuple[Address, SshOptions]:
    address = Address.parse(f"ssh://{sshd.user}@127.0.0.1:{relay.port}/v")
    return address, sshd.options(known_hosts=relay.known_hosts(sshd), **changes)


# What passes.


def test_megabytes_come_back_as_they_went_and_the_counts_are_those_of_the_pipes(sshd: Sshd) -> None:
    data = os.urandom(20 * MIB)
    with carried(sshd.address("/v"), sshd.options(remote_command=ECHO)) as link:
        writer = threading.Thread(target=link.write, args=(data,))
        writer.start()
        assert read_exactly(link, len(data)) == data
        writer.join()
        assert (link.wire_sent, link.wire_received) == (len(data), len(data))
    assert not is_running(link.process_id)


def test_the_server_is_named_as_ssh_has_authenticated_it(sshd: Sshd) -> None:
    with carried(sshd.address("/v"), sshd.options(remote_command=ECHO)) as link:
        assert link.peer is not None
        assert (link.peer.user, link.peer.port, link.peer.host_key) == (sshd.user, sshd.port, sshd.host_fingerprint)


def test_the_end_of_the_remote_command_is_the_end_of_the_stream(sshd: Sshd) -> None:
    with carried(sshd.address("/v"), sshd.options(remote_command="echo in; :")) as link:
        assert read_exactly(link, 3) == b"in\n"
        assert link.read() == b""
        assert link.read() == b""


def test_what_was_written_before_a_close_is_sent(sshd: Sshd, relay: Relay) -> None:
    with carried(*through(relay, sshd, remote_command="cat > /dev/null; :")) as link:
        link.write(bytes(3 * MIB))
    wait_until(lambda: relay.from_client > 3 * MIB)


def test_a_path_in_another_script_reaches_the_remote_command(sshd: Sshd) -> None:
    with carried(sshd.address("/Ömer 証拠"), sshd.options(remote_command="printf '<%s>'")) as link:
        said = b""
        while block := link.read():
            said += block
    assert "</Ömer 証拠>".encode() in said


def test_one_connection_after_the_other_can_be_made(sshd: Sshd) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with carried(sshd.address("/v"), sshd.options(remote_command=ECHO)) as link:
            link.write(b"x")
            assert link.read() == b"x"
        link.close()
    assert len(os.listdir("/proc/self/fd")) == before


# What goes wrong on the way.


def test_an_unknown_host_key_is_exit_21_with_its_fingerprint_and_the_way_out(sshd: Sshd, tmp_path: Path) -> None:
    with pytest.raises(HostKeyError) as caught, carried(sshd.address("/v"), sshd.options(known_hosts=tmp_path / "none")):
        pass
    assert caught.value.exit_code == ExitCode.HOST_KEY
    assert sshd.host_fingerprint in caught.value.message
    assert "evidencesync host trust" in str(caught.value.hint)


def test_a_wrong_remote_command_is_a_hint_and_hostile_bytes_on_its_stderr_are_shown_safely(sshd: Sshd) -> None:
    command = r"printf '\033]0;owned\007\342\200\256' >&2; exit 127; :"
    with carried(sshd.address("/v"), sshd.options(remote_command=command)) as link, pytest.raises(ConnectError) as caught:
        link.read()
    assert "exit status 127" in caught.value.message
    assert "--remote-command" in str(caught.value.hint)
    assert caught.value.message.isprintable()
    assert r"\x1b]0;owned\x07\u202e" in caught.value.message


def test_a_key_in_the_agent_opens_the_door(sshd: Sshd, tmp_path: Path, agent: Agent) -> None:
    public = tmp_path / "identity.pub"
    shutil.copy(sshd.identity.with_name("identity.pub"), public)
    agent.add(sshd.identity)
    with carried(sshd.address("/v"), sshd.options(identity=public, remote_command=ECHO)) as link:
        link.write(b"in")
        assert link.read() == b"in"


def test_a_jump_host_is_gone_through(sshd: Sshd, tmp_path: Path) -> None:
    config, hosts = tmp_path / "config", tmp_path / "hosts"
    jump = f"Host jump\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User {sshd.user}\n  IdentityFile {sshd.identity}\n"
    config.write_text(jump + f"Host target\n  HostName localhost\n  Port {sshd.port}\n  User {sshd.user}\n  ProxyJump jump\n")
    hosts.write_text("".join(f"[{name}]:{sshd.port} ssh-ed25519 {sshd.host_key}\n" for name in ("127.0.0.1", "localhost")))
    options = sshd.options(config=config, known_hosts=hosts, remote_command=ECHO)
    with carried(Address.parse("target:/vault"), options) as link:
        link.write(b"in")
        assert link.read() == b"in"


# Who goes first.


def test_a_link_on_which_nothing_moves_is_lost_after_the_timeout(sshd: Sshd, relay: Relay) -> None:
    with carried(*through(relay, sshd, remote_command=ECHO, timeout_seconds=5.0)) as link:
        link.write(b"x")
        assert link.read() == b"x"
        relay.freeze()
        with pytest.raises(LinkLostError, match="nothing has moved"):
            link.read()
        wait_until(lambda: not is_running(link.process_id))
        with pytest.raises(LinkLostError, match="nothing has moved"):
            link.write(b"x")


def test_a_writer_that_waits_learns_that_the_link_is_lost(sshd: Sshd, relay: Relay) -> None:
    with carried(*through(relay, sshd, remote_command="sleep 60; :", timeout_seconds=5.0)) as link:
        relay.freeze()
        with pytest.raises(LinkLostError):
            link.write(bytes(64 * MIB))


def test_a_link_that_is_killed_is_a_lost_link_for_reader_and_writer(sshd: Sshd) -> None:
    with carried(sshd.address("/v"), sshd.options(remote_command=ECHO)) as link:
        os.kill(link.process_id, signal.SIGKILL)
        with pytest.raises(LinkLostError, match="process that carried"):
            link.read()
        with pytest.raises(LinkLostError):
            link.write(bytes(8 * MIB))


def test_a_reader_that_waits_is_woken_by_a_close(sshd: Sshd) -> None:
    ends: list[BaseException] = []

    def read() -> None:
        try:
            link.read()
        except LinkLostError as error:
            ends.append(error)

    with carried(sshd.address("/v"), sshd.options(remote_command="sleep 60; :")) as link:
        reader = threading.Thread(target=read)
        reader.start()
    reader.join(TIMEOUT_SECONDS)
    assert len(ends) == 1


_WRITES_FOR_EVER = """
import sys
import termios
from pathlib import Path
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.connection.ssh_link import SshLink
address, identity, known_hosts, command = sys.argv[1:]
link = SshLink(Address.parse(address), SshOptions(Path(identity), None, Path("none"), Path(known_hosts), command), ["x"])
link.finish_open()
print(link.process_id, flush=True)
while True:
    link.write(bytes(1 << 20))
"""


def test_a_process_that_is_killed_sends_nothing_any_more(sshd: Sshd, relay: Relay) -> None:
    address, options = through(relay, sshd, remote_command="cat > /dev/null; :")
    known = str(options.known_hosts)
    arguments = [f"ssh://{sshd.user}@127.0.0.1:{address.port}/v", str(sshd.identity), known, options.remote_command]
    with subprocess.Popen(
        [sys.executable, "-c", _WRITES_FOR_EVER, *arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    ) as process:
        assert process.stdout is not None
        carrier = int(process.stdout.readline())
        wait_until(lambda: relay.from_client > 8 * MIB)
        process.kill()
    wait_until(lambda: not is_running(carrier))
    wait_until(lambda: not relay.is_open())


def children_of(process_id: int) -> list[int]:
    try:
        text = Path(f"/proc/{process_id}/task/{process_id}/children").read_text()
    except OSError:
        return []
    return [int(number) for number in text.split()]


@pytest.mark.parametrize("moment", ["at once", "while sending"])
def test_ctrl_c_at_the_terminal_ends_both_and_publishes_nothing(moment: str, tmp_path: Path, sshd: Sshd) -> None:
    lab = Lab.make(tmp_path)
    lab.write("image", os.urandom(4 * MIB))
    remote = far_program()
    vault = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}{lab.folder}/vault"
    login = ("-i", str(sshd.identity), "-F", "none", "--known-hosts", str(sshd.known_hosts), "--remote-command", remote)
    process = lab.start("push", "evidence", vault, *ITEM, "--sign-key", "ana", "--limit-rate", "100K", *login)
    wait_until(lambda: bool(children_of(process.pid)))
    children = children_of(process.pid)
    if moment == "while sending":
        staging = lab.acquisition().parents[1] / "incoming"
        wait_until(lambda: staging.is_dir() and any(staging.iterdir()))
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 130, err
    assert out == b""
    assert err.startswith(b"error: interrupted\n")
    assert b"Traceback" not in err
    wait_until(lambda: not any(map(is_running, children)))  # one that had just been started ends by itself
    assert not lab.acquisition().exists()


# A person at the terminal.


class Terminal:
    """A terminal of its own for a command, and what a person sees there."""

    def __init__(self, lab: Lab, *arguments: str) -> None:
        self.master, slave = os.openpty()
        command = ["setsid", "--ctty", "--wait", *map(os.fsdecode, lab.command(*arguments))]
        environment = {**lab.environment, "TERM": "xterm"}
        environment.pop("NO_COLOR", None)
        self.process = lab.start(command=command, stdin=slave, stderr=slave, env=environment, start_new_session=False)
        os.close(slave)
        self.seen = b""

    def read_until(self, word: bytes) -> bytes:
        """What was shown until a word was; all of it at the end."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while word not in self.seen:
            assert time.monotonic() < deadline, self.seen
            if select.select([self.master], [], [], 1)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:  # the other end is closed
                    break
        return self.seen

    def is_idle(self) -> bool:
        """Whether the process has used no processor time for a moment."""
        before = self._processor_time()
        time.sleep(0.2)
        return self._processor_time() == before

    def _processor_time(self) -> list[str]:
        """Ticks in user and kernel mode. Source: proc_pid_stat(5)."""
        return Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self.master)


@pytest.fixture
def locked_push(tmp_path: Path, sshd: Sshd) -> Iterator[tuple[Lab, Terminal]]:
    """A push with a key that has a passphrase, at a terminal."""
    lab = Lab.make(tmp_path)
    lab.write("image", os.urandom(MIB))
    locked = lab.folder / "locked"
    shutil.copy(sshd.identity, locked)
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "correct horse", "-f", locked], check=True)
    remote = far_program()
    vault = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}{lab.folder}/vault"
    login = ("-i", str(locked), "-F", "none", "--known-hosts", str(sshd.known_hosts), "--remote-command", remote)
    terminal = Terminal(lab, "push", "evidence", vault, *ITEM, "--sign-key", "ana", *login)
    try:
        yield lab, terminal
    finally:
        terminal.close()


def test_ssh_asks_for_a_passphrase_on_the_terminal_and_nothing_is_drawn_meanwhile(locked_push: tuple[Lab, Terminal]) -> None:
    lab, terminal = locked_push
    asked = terminal.read_until(b"Enter passphrase for key")
    assert asked.lstrip(b"\r\n").startswith(b"Enter passphrase for key")
    terminal.type(b"wrong\n")
    terminal.seen = b""
    terminal.read_until(b"Enter passphrase for key")
    assert b"\x1b" not in terminal.seen
    terminal.type(b"correct horse\n")
    assert terminal.process.wait(TIMEOUT_SECONDS) == 0
    assert lab.acquisition().exists()


def test_ctrl_c_at_the_question_of_ssh_ends_both_and_gives_the_terminal_back(locked_push: tuple[Lab, Terminal]) -> None:
    lab, terminal = locked_push
    terminal.read_until(b"Enter passphrase for key")
    wait_until(lambda: not termios.tcgetattr(terminal.master)[3] & termios.ECHO)
    wait_until(terminal.is_idle)  # what a push loads while ssh asks: Python can lose an interrupt in the middle of an import
    terminal.type(b"\x03")
    assert terminal.process.wait(TIMEOUT_SECONDS) == 130
    assert termios.tcgetattr(terminal.master)[3] & termios.ECHO
    assert b"error:\x1b[0m interrupted" in terminal.read_until(b"interrupted")
    assert not lab.acquisition().exists()


def test_an_ssh_that_is_killed_at_its_question_leaves_the_terminal_as_it_was(locked_push: tuple[Lab, Terminal]) -> None:
    _, terminal = locked_push
    terminal.read_until(b"Enter passphrase")
    wait_until(lambda: not termios.tcgetattr(terminal.master)[3] & termios.ECHO)
    carriers = children_of(terminal.process.pid)
    for process_id in carriers:
        os.kill(process_id, signal.SIGKILL)
    seen = terminal.read_until(b"has ended")
    assert carriers, seen
    assert termios.tcgetattr(terminal.master)[3] & termios.ECHO
    terminal.read_until(b"never shown")
    assert terminal.process.wait(TIMEOUT_SECONDS) == ExitCode.LINK_LOST


def test_closed_streams_do_not_hinder_a_push(tmp_path: Path, sshd: Sshd) -> None:
    lab = Lab.make(tmp_path)
    lab.write("image", os.urandom(MIB))
    remote = far_program()
    vault = f"ssh://{sshd.user}@127.0.0.1:{sshd.port}{lab.folder}/vault"
    login = ("-i", str(sshd.identity), "-F", "none", "--known-hosts", str(sshd.known_hosts), "--remote-command", remote)
    command = lab.command("push", "evidence", vault, *ITEM, "--sign-key", "ana", *login)
    lab.start(command=["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *map(os.fsdecode, command)]).communicate(
        timeout=TIMEOUT_SECONDS
    )
    assert lab.acquisition().exists()
    assert lab.run("verify", "vault").code == 0
