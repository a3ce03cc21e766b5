"""A real OpenSSH server on a free loopback port, with keys of its own; nothing of the user's `~/.ssh` is read or written."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from tests.support.false_clock import same_clock_for_sshd
from tests.support.key_pairs import write_key_pair
from tests.support.patience import PATIENCE_SECONDS, wait_until


@dataclass(frozen=True)
class Sshd:
    """A running server: where it listens, its public host keys, and a key that it lets in. `known_hosts` has its Ed25519 key."""

    port: int
    folder: Path
    user: str
    identity: Path
    known_hosts: Path
    authorized_keys: Path

    @property
    def host_key(self) -> str:
        return (self.folder / "host_ed25519.pub").read_text().split(" ", 2)[1]

    @property
    def host_fingerprint(self) -> str:
        return fingerprint(self.folder / "host_ed25519.pub")

    def address(self, path: str = "/") -> Address:
        return Address.parse(f"ssh://{self.user}@127.0.0.1:{self.port}{path}")

    def options(self, **changes: object) -> SshOptions:
        settings: dict[str, object] = {
            "identity": self.identity,
            "known_hosts": self.known_hosts,
            "config": Path("none"),
            "timeout_seconds": 20.0,
        }
        return SshOptions(**{**settings, **changes})  # type: ignore[arg-type]


def make_key(path: Path, *options: str, passphrase: str = "") -> Path:
    """A key pair, where it is a special one made by ssh-keygen."""
    if options or passphrase:
        arguments = options or ("-t", "ed25519")
        subprocess.run(["ssh-keygen", "-q", "-a", "1", "-N", passphrase, "-C", "test", "-f", path, *arguments], check=True)
    else:
        write_key_pair(path, "test")
    return path


def fingerprint(public_key: Path) -> str:
    """What ssh-keygen says it is."""
    shown = subprocess.run(["ssh-keygen", "-l", "-f", public_key], check=True, capture_output=True, text=True)
    return shown.stdout.split()[1]


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.02)
        else:
            return
    pytest.fail(f"sshd did not start: {log.read_text(errors='replace')}")


def _own_name() -> str:
    """The account that runs this, whatever LOGNAME says: sshd can let nobody else in."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        pytest.skip("only where the system has an account for us: sshd looks it up")


@contextmanager
def running_sshd(folder: Path, program: str, settings: str = "") -> Iterator[Sshd]:
    """A server whose keys, settings, log and home folder lie in `folder`.

    Who logs in does not read the start-up files of the account that runs this, which may take longer than all the rest; and keys
    are agreed upon in the cheapest way that every client knows, where `settings` say nothing else.
    """
    home = folder / "home"
    home.mkdir()
    environment = " ".join([f"HOME={home}", *same_clock_for_sshd()])
    identity = make_key(folder / "identity")
    authorized = folder / "authorized_keys"
    authorized.write_bytes((folder / "identity.pub").read_bytes())
    port = free_port()
    (folder / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {folder}/host_ed25519\n{settings}SetEnv {environment}\n"
        "KexAlgorithms curve25519-sha256,curve25519-sha256@libssh.org,ecdh-sha2-nistp256\n"
        f"AuthorizedKeysFile {authorized}\nPidFile {folder}/pid\nUsePAM no\nStrictModes no\nPermitRootLogin yes\n"
        "PasswordAuthentication no\nKbdInteractiveAuthentication no\nMaxStartups 100\nUseDNS no\nPrintMotd no\n"
    )
    if os.geteuid() == 0:  # where sshd, as root, locks up its half without privileges; Debian's service makes it
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen([program, "-D", "-e", "-f", folder / "sshd_config"], stdout=stream, stderr=stream)
    try:
        wait_for_port(port, process, log)
        known_hosts = folder / "known_hosts"
        key = (folder / "host_ed25519.pub").read_text().split()
        known_hosts.write_text(f"[127.0.0.1]:{port} {key[0]} {key[1]}\n")
        yield Sshd(port, folder, _own_name(), identity, known_hosts, authorized)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Sshd]:
    """A server with an Ed25519 and an RSA host key; a small one, for it is made in each process of tests."""
    program = require_program("sshd")
    require_program("ssh-keygen")
    folder = tmp_path_factory.mktemp("sshd")
    make_key(folder / "host_ed25519")
    make_key(folder / "host_rsa", "-t", "rsa", "-b", "2048")
    with running_sshd(folder, program, f"HostKey {folder}/host_rsa\n") as server:
        yield server


@pytest.fixture
def sshd_with_certificate(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[tuple[Sshd, Path, Path]]:
    """A server whose host key is certified; the public keys of the authority that did it, and of another one."""
    program = require_program("sshd")
    folder = tmp_path / "certified"
    folder.mkdir()
    make_key(folder / "host_ed25519")
    authority, stranger = make_key(folder / "authority"), make_key(folder / "stranger")
    certify: list[str | Path] = [
        "ssh-keygen",
        "-q",
        "-s",
        authority,
        "-h",
        "-I",
        "server",
        "-n",
        "127.0.0.1",
        folder / "host_ed25519.pub",
    ]
    subprocess.run(certify, check=True)
    settings = f"HostCertificate {folder}/host_ed25519-cert.pub\nKexAlgorithms +curve25519-sha256\n"  # all that it has
    with running_sshd(folder, program, settings) as server:
        yield server, authority.with_name("authority.pub"), stranger.with_name("stranger.pub")


@pytest.fixture
def keygen() -> Callable[..., Path]:
    """Makes key pairs."""
    return make_key


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    return free_port()


@dataclass(frozen=True)
class Agent:
    """A running ssh-agent; SSH_AUTH_SOCK names it while the test runs."""

    socket: Path

    def add(self, key: Path) -> None:
        subprocess.run(["ssh-add", "-q", key], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(self.socket)})


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, require_program: Callable[[str], str]) -> Iterator[Agent]:
    program = require_program("ssh-agent")
    with tempfile.TemporaryDirectory() as folder:  # a socket's path must be short
        path = Path(folder, "agent")
        process = subprocess.Popen([program, "-D", "-a", path], stdout=subprocess.DEVNULL)
        try:
            wait_until(path.exists)
            monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
            yield Agent(path)
        finally:
            process.terminate()
            process.wait(PATIENCE_SECONDS)


@dataclass
class Relay:
    """Stands between client and server, counts what passes, and can cut or freeze the connection."""

    port: int
    folder: Path
    pairs: list[tuple[socket.socket, socket.socket]]
    frozen: threading.Event
    client_gone: threading.Event = field(default_factory=threading.Event)
    from_client: int = 0
    from_server: int = 0

    def known_hosts(self, sshd: Sshd) -> Path:
        path = self.folder / "relay_hosts"
        path.write_text(f"[127.0.0.1]:{self.port} ssh-ed25519 {sshd.host_key}\n")
        return path

    def reset(self) -> None:
        for pair in self.pairs:
            for sock in pair:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                sock.shutdown(socket.SHUT_RDWR)
                sock.close()

    def freeze(self) -> None:
        self.frozen.set()

    def is_open(self) -> bool:
        """Whether the client's end still has its connection."""
        return not self.client_gone.is_set()


@pytest.fixture
def relay(sshd: Sshd, tmp_path: Path) -> Iterator[Relay]:
    listener = socket.create_server(("127.0.0.1", 0))
    state = Relay(listener.getsockname()[1], tmp_path, [], threading.Event())

    def pump(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if source is state.pairs[0][0]:
                    state.from_client += len(data)
                else:
                    state.from_server += len(data)
                if not state.frozen.is_set():
                    sink.sendall(data)
        except OSError:
            return
        finally:
            if source is state.pairs[0][0]:
                state.client_gone.set()

    def accept() -> None:
        try:
            near, _ = listener.accept()
        except OSError:  # the test is over, and nobody came
            return
        far = socket.create_connection(("127.0.0.1", sshd.port))
        state.pairs.append((near, far))
        for one, other in ((near, far), (far, near)):
            threading.Thread(target=pump, args=(one, other), daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    yield state
    with contextlib.suppress(OSError):
        listener.shutdown(socket.SHUT_RDWR)  # wakes who waits for somebody to come
    thread.join(PATIENCE_SECONDS)
    listener.close()
    for pair in state.pairs:
        for sock in pair:
            sock.close()
