"""A private OpenSSH server on loopback: keys, port and configuration of its own, everything else as it comes."""

from __future__ import annotations

import getpass
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

SERVER_PATH: Final = "/usr/sbin:/usr/local/sbin:/sbin"
START_SECONDS: Final = 10.0

_CONFIGURATION: Final = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
AuthenticationMethods publickey
PermitRootLogin prohibit-password
PrintMotd no
Subsystem sftp internal-sftp
LogLevel ERROR
"""


@dataclass(frozen=True)
class Server:
    """Where it listens, and what a client needs to get in."""

    process: int
    port: int
    user: str
    key: Path
    known_hosts: Path

    def behind(self, port: int) -> Server:
        """The same server, reached through another port of this machine."""
        key = self.known_hosts.read_text(encoding="ascii").splitlines()[0].partition(" ")[2]
        with self.known_hosts.open("a", encoding="ascii") as known:
            known.write(f"[127.0.0.1]:{port} {key}\n")
        return replace(self, port=port)

    @property
    def login(self) -> str:
        """`user@host`."""
        return f"{self.user}@127.0.0.1"

    def ssh_command(self, *options: str) -> list[str]:
        """An OpenSSH client for this server that reads nothing of the user's, with its own choice of ciphers."""
        settings = {
            "BatchMode": "yes",
            "IdentitiesOnly": "yes",
            "IdentityAgent": "none",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "none",
        }
        given = [f"-o{name}={value}" for name, value in settings.items()]
        return ["ssh", "-F", "none", "-p", str(self.port), "-i", str(self.key), *given, *options]

    def cpu_seconds(self) -> float | None:
        """What all finished connections have used so far, the programs they ran included; None where there is no /proc.

        A connection is a child of the server, and counts once the server has taken note of its end.
        """
        proc = Path("/proc", str(self.process))
        try:
            for _ in range(200):
                if not (proc / "task" / str(self.process) / "children").read_text().split():
                    break
                time.sleep(0.01)
            fields = (proc / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")  # cutime and cstime, proc(5)


@contextmanager
def running_server(folder: Path) -> Iterator[Server]:
    """Starts it with keys and files in `folder`, which must exist, and ends it."""
    sshd = shutil.which("sshd") or shutil.which("sshd", path=SERVER_PATH)
    if sshd is None:
        raise SystemExit("bench: sshd is not installed; the comparison is about SSH")
    for name in ("host_key", "client_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bench", "-f", folder / name], check=True)
    shutil.copyfile(folder / "client_key.pub", folder / "authorized_keys")
    port = _free_port()
    host_key = (folder / "host_key.pub").read_text(encoding="ascii")
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}", encoding="ascii")
    (folder / "sshd_config").write_text(_CONFIGURATION.format(port=port, folder=folder), encoding="ascii")
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd refuses to start without it
    log = folder / "sshd.log"
    process = subprocess.Popen([sshd, "-D", "-f", folder / "sshd_config", "-E", log])
    try:
        _wait_for(port, process, log)
        yield Server(process.pid, port, getpass.getuser(), folder / "client_key", folder / "known_hosts")
    finally:
        process.terminate()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _wait_for(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"bench: sshd did not start:\n{log.read_text(errors='replace') if log.exists() else ''}")
