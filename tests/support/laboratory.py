"""A machine as a newcomer has it: called vault.lab, with the accounts `vault` and `ana`, and a real sshd on port 22.

It is this machine, seen from namespaces of its own: accounts, names, /home, /etc/ssh and the network are changed for what runs
inside alone, and are gone when sshd ends. Only root can make it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.false_clock import same_clock_for_sshd
from tests.support.patience import PATIENCE_SECONDS, wait_until

HOST: Final = "vault.lab"
ACCOUNTS: Final = {"vault": 64_101, "ana": 64_102}
_REPOSITORY: Final = Path(__file__).parents[2]
_SPACES: Final = ("--mount", "--uts", "--net")
_PATH: Final = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class Laboratory:
    """The running machine: `process` is its sshd, in whose namespaces commands are run."""

    process: subprocess.Popen[bytes]

    def run(self, account: str, command: str, typed: str) -> subprocess.CompletedProcess[str]:
        """A line that `account` types into a shell in its home folder, and what it types then. Both outputs come together."""
        number, home = str(ACCOUNTS[account]), f"/home/{account}"
        inside = ["nsenter", "--target", str(self.process.pid), *_SPACES]
        lowered = ["setpriv", "--reuid", number, "--regid", number, "--clear-groups"]
        environment = {"HOME": home, "USER": account, "LOGNAME": account, "PATH": f"{home}/.local/bin:{_PATH}"}
        return subprocess.run(
            [*inside, *lowered, "sh", "-c", f"cd && {command}"],
            input=typed,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=PATIENCE_SECONDS,
            env={**environment, **dict(one.split("=", 1) for one in same_clock_for_sshd())},
            start_new_session=True,
        )


@contextmanager
def made_laboratory(folder: Path, require_program: Callable[[str], str]) -> Iterator[Laboratory]:
    """The machine for the length of a `with`; its own files lie in `folder`. The test is skipped where it cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("only where the system has root to make accounts")
    for program in ("sshd", "ssh", "ssh-keygen", "setpriv", "unshare", "nsenter"):
        require_program(program)
    if subprocess.run(
        ["unshare", *_SPACES, "mount", "-t", "tmpfs", "none", "/home"], check=False, capture_output=True
    ).returncode:
        pytest.skip("the kernel refuses to mount here")
    make = [sys.executable, "-m", "tests.support.laboratory", str(folder), require_program("sshd")]
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(["unshare", *_SPACES, *make], cwd=_REPOSITORY, stdout=stream, stderr=stream)
    try:
        wait_until(lambda: "Server listening" in log.read_text(errors="replace") or process.poll() is not None)
        assert process.poll() is None, log.read_text(errors="replace")
        yield Laboratory(process)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _make(folder: Path, sshd: str) -> None:
    """Furnishes the namespaces of this process, and becomes sshd."""
    _open_up([Path(sys.base_prefix).resolve(), _REPOSITORY], folder)
    for place in ("/home", "/mnt"):
        _mount("-t", "tmpfs", "-o", "mode=0755", "none", place)
    Path("/mnt/evidence").mkdir()
    Path("/mnt/evidence/notes.txt").write_text("seized 09:40\n")
    for name, text in _accounts().items():
        file = folder / name
        file.write_text(text)
        file.chmod(0o600 if name == "shadow" else 0o644)
        _mount("--bind", file, f"/etc/{name}")
    for name, number in ACCOUNTS.items():
        program = Path("/home", name, ".local", "bin", "evidencesync")
        program.parent.mkdir(parents=True)
        program.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(_REPOSITORY)!r})\n"
            "from evidencesync.cli.start import main\nsys.exit(main())\n"
        )
        program.chmod(0o755)
        for made in (Path("/home", name), *Path("/home", name).rglob("*")):
            os.chown(made, number, number)
    socket.sethostname(HOST)
    _raise_loopback()
    _mount("--bind", _ssh_folder(folder / "ssh"), "/etc/ssh")
    Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    os.execv(sshd, [sshd, "-D", "-e", "-f", "/etc/ssh/sshd_config"])


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *arguments], check=True)


def _open_up(needed: list[Path], folder: Path) -> None:
    """Keeps what everybody must read, and replaces what is closed around it by something open."""
    closed = {next((one for one in reversed(path.parents) if not one.stat().st_mode & 0o001), None) for path in needed}
    held = [(path, folder / f"held-{number}") for number, path in enumerate(needed)]
    for path, hold in held:
        hold.mkdir()
        _mount("--bind", path, hold)
    for above in filter(None, closed):
        _mount("-t", "tmpfs", "-o", "mode=0755", "none", above)
    for path, hold in held:
        if any(above in path.parents for above in filter(None, closed)):
            path.mkdir(parents=True, exist_ok=True)
            _mount("--bind", hold, path)


def _accounts() -> dict[str, str]:
    """The system's own lists, with our accounts in place of any of the same names."""

    def others(name: str) -> str:
        lines = Path("/etc", name).read_text().splitlines()
        return "".join(f"{line}\n" for line in lines if line.split(":", 1)[0] not in ACCOUNTS)

    numbers = ACCOUNTS.items()
    return {
        "passwd": others("passwd") + "".join(f"{name}:x:{number}:{number}::/home/{name}:/bin/sh\n" for name, number in numbers),
        "group": others("group") + "".join(f"{name}:x:{number}:\n" for name, number in numbers),
        "shadow": others("shadow") + "".join(f"{name}:*:20000:0:99999:7:::\n" for name in ACCOUNTS),
        "hosts": f"127.0.0.1 localhost {HOST}\n",
    }


def _raise_loopback() -> None:
    """Sets IFF_UP of `lo`: a new network namespace has it down."""
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, struct.pack("16sh14x", b"lo", 1))  # SIOCSIFFLAGS


def _ssh_folder(folder: Path) -> Path:
    """A server's /etc/ssh, with the settings that matter as its distribution has them; no modules for logins."""
    folder.mkdir(mode=0o755)
    key = folder / "ssh_host_ed25519_key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "root@vault", "-f", key], check=True)
    settings = [f"HostKey /etc/ssh/{key.name}", "UsePAM no", "PasswordAuthentication no", "KbdInteractiveAuthentication no"]
    settings += [f"SetEnv {' '.join(same_clock_for_sshd())}"] if same_clock_for_sshd() else []
    (folder / "sshd_config").write_text("\n".join([*settings, "UseDNS no", "PrintMotd no", "LogLevel VERBOSE", ""]))
    return folder


if __name__ == "__main__":
    _make(Path(sys.argv[1]), sys.argv[2])
