"""The portable bundle runs where nothing is but a kernel and a shell, writes nothing there, and notices when it was changed."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import ITEM, REPOSITORY, TIMEOUT_SECONDS, Done, Lab, started_program
from tests.integration.conftest import Sshd

PARTS: Final = REPOSITORY / "packaging/bundle"
INPUTS: Final = Path(os.environ.get("BUNDLE_INPUTS", REPOSITORY / "build/bundle/inputs"))
_WANTED: Final = [line.split("  ", 1)[1] for line in (PARTS / "inputs.sha256").read_text().splitlines()]
_DEVICES: Final = ("null", "urandom")
_STRANGER: Final = 54321

HARMLESS: Final = re.compile(r"/dev/(null|tty|ptmx|pts/\d+)$|/proc/\d+/fd/\d+$")
"""What is written to and keeps nothing: devices, and our own pipes by their names."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all((INPUTS / name).is_file() for name in _WANTED), reason="the bundle's packages are not here (make bundle-inputs)"
    ),
]
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only where the system has a root of ours: it makes a chroot")


def build(results: Path, *arguments: str | Path) -> Path:
    """Builds the bundle as `make bundle` does, packed less hard."""
    words = [sys.executable, PARTS / "build.py", INPUTS, results, "--level", "1", *arguments]
    subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "SOURCE_DATE_EPOCH": "1700000000"})
    (archive,) = results.glob("*.tar.zst")
    return archive


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The one bundle of this run, signed by a key beside it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base if worker_id == "master" else base.parent) / "bundle"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "builder", "-f", folder / "key"], check=True)
            build(folder, "--key", folder / "key")
            (folder / "done").touch()
    (made,) = folder.glob("*.tar.zst")
    return made


@pytest.fixture(scope="session")
def bundle(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle. Nobody changes it."""
    return unpack(archive, tmp_path_factory.mktemp("stick"))


def unpack(archive: Path, folder: Path) -> Path:
    subprocess.run(["tar", "-C", folder, "--zstd", "-xf", archive], check=True)
    (made,) = folder.iterdir()
    return made


def run(*words: str | Path, **environment: str) -> Done:
    """A command in an environment that holds nothing else."""
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    return Done(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class Bare:
    """A machine that has a kernel, busybox, and a few devices: no /proc and no /sys. It is read-only."""

    folder: Path
    bundle: Path
    user: int = 0

    def run(self, *words: str | Path, tmp: bool = True, **environment: str) -> Done:
        """Runs a program of the bundle there: `evidencesync`, where no path is given."""
        return run(*self.command(*words, tmp=tmp), **environment)

    def command(self, *words: str | Path, tmp: bool = True) -> list[str]:
        bound = {"stick": self.bundle, "evidence": self.folder / "evidence", "keys": self.folder / "keys"}
        root = shlex.quote(str(self.folder / "root"))
        script = [f"mount --bind {root} {root}"]
        script += [
            f"mount --bind {shlex.quote(str(source))} {root}/{name} && mount -o remount,bind,ro {root}/{name}"
            for name, source in bound.items()
        ]
        script += [f"mount --bind {self.folder}/kept {root}/kept"]
        script += [f"mount --bind /dev/{name} {root}/dev/{name}" for name in _DEVICES]
        script += [f"mount -t devpts -o newinstance,ptmxmode=0666 none {root}/dev/pts"]
        script += [f"mount -t tmpfs -o noexec,mode=1777 none {root}/tmp"] if tmp else []
        script += [f"mount -o remount,bind,ro {root}"]
        script += [f'exec chroot --userspec={self.user}:{self.user} {root} /stick/evidencesync "$@"']
        return ["unshare", "--mount", "sh", "-c", " && ".join(script), "sh", *map(str, words)]


@pytest.fixture(params=[0, _STRANGER], ids=["root", "ordinary"])
def bare(request: pytest.FixtureRequest, bundle: Path, tmp_path: Path, require_program: Callable[[str], str]) -> Bare:
    for program in ("unshare", "mount"):
        require_program(program)
    made = Bare(tmp_path / "bare", bundle, request.param)
    for name in ("bin", "dev/pts", "etc", "stick", "evidence", "keys", "kept", "tmp"):
        (made.folder / "root" / name).mkdir(parents=True)
    for name in ("evidence", "keys", "kept"):
        (made.folder / name).mkdir()
        os.chown(made.folder / name, made.user, made.user)
    (made.folder / "root/bin/busybox").write_bytes(Path(require_program("busybox")).read_bytes())
    (made.folder / "root/bin/busybox").chmod(0o755)
    (made.folder / "root/bin/sh").symlink_to("busybox")
    for name in _DEVICES:
        (made.folder / "root/dev" / name).touch()
    (made.folder / "root/dev/ptmx").symlink_to("pts/ptmx")
    (made.folder / "root/etc/passwd").write_text(f"ana:x:{made.user}:{made.user}::/nowhere:/bin/sh\n")
    return made


@as_root
def test_it_runs_where_there_is_nothing_but_a_shell(bare: Bare) -> None:
    assert bare.run("--version").out.startswith("evidencesync ")


def test_it_starts_from_any_folder_by_any_path_but_a_link_to_it(bundle: Path, tmp_path: Path) -> None:
    place = tmp_path / "a stick"
    subprocess.run(["cp", "-al", bundle, place], check=True)
    for words, folder in ((["./evidencesync"], place), (["sh", "evidencesync"], place), (["./a stick/evidencesync"], tmp_path)):
        done = subprocess.run([*words, "--version"], cwd=folder, capture_output=True, text=True, check=False)
        assert done.stdout.startswith("evidencesync "), done.stderr
    (tmp_path / "link").symlink_to(place / "evidencesync")
    assert (run(tmp_path / "link").code, "by its own path" in run(tmp_path / "link").err) == (2, True)


@as_root
def test_it_pushes_over_ssh_from_such_a_machine_and_verifies_the_vault_there(bare: Bare, sshd: Sshd, tmp_path: Path) -> None:
    """As root there is a /tmp in which nothing runs, as an ordinary user there is none to write in."""
    lab, tmp = Lab.make(tmp_path), bare.user == 0
    (bare.folder / "evidence/log").write_bytes(b"what happened\n" * 10_000)
    for source, name in ((sshd.identity, "login"), (sshd.known_hosts, "known_hosts"), (lab.folder / "ana", "ana")):
        (bare.folder / "keys" / name).write_bytes(source.read_bytes())
        (bare.folder / "keys" / name).chmod(0o600)
        os.chown(bare.folder / "keys" / name, bare.user, bare.user)
    key = ("--sign-key", "/keys/ana")
    reach = ("-i", "/keys/login", "--known-hosts", "/keys/known_hosts", "--remote-command", started_program())
    vault = str(sshd.address(f"{lab.folder}/vault").display())
    done = bare.run("push", "/evidence", vault, *ITEM, *reach, *key, tmp=tmp, EVIDENCESYNC_HOME="/kept")
    assert done.code == 0, done.err
    assert "this machine has no ssh; that of the bundle is used" in done.err
    assert (lab.acquisition() / "data/log").read_bytes() == (bare.folder / "evidence/log").read_bytes()
    done = bare.run("verify", vault, *reach, *key, tmp=tmp, EVIDENCESYNC_HOME="/kept")
    assert (done.code, done.out.splitlines()[-1]) == (0, "verdict: PASS"), done.err


@as_root
def test_it_captures_what_a_command_prints_into_a_vault_on_the_stick_of_the_examiner(bare: Bare, tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    subprocess.run(["cp", "-a", lab.folder / "vault", lab.folder / "ana", bare.folder / "kept"], check=True)
    subprocess.run(["chown", "-R", f"{bare.user}:{bare.user}", bare.folder / "kept"], check=True)
    command = (
        "push",
        "--command",
        "/bin/busybox echo what is there",
        "/kept/vault",
        *ITEM,
        "--name",
        "said",
        "--sign-key",
        "/kept/ana",
    )
    done = bare.run(*command, EVIDENCESYNC_HOME="/kept")
    assert done.code == 0, done.err
    found = bare.folder / "kept/vault/cases/2024-017/LAPTOP-1/acquisitions/0001/data/said"
    assert found.read_bytes() == b"what is there\n"


def test_it_is_brought_to_the_machine_that_is_read_and_removed_again(archive: Path, sshd: Sshd, tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    lab.write("log", b"what happened")
    source = sshd.address(f"{lab.folder}/evidence").display()
    keys = ("-i", sshd.identity, "--known-hosts", sshd.known_hosts, "-F", "none", "--sign-key", "ana")
    brought = ("--bring-agent", tmp_path / "agent", "--bundle", archive)
    done = lab.run(*map(str, ("pull", source, "vault", *ITEM, *keys, *brought)))
    assert done.code == 0, done.err
    assert lab.header()["agent"]["path"].startswith(f"{tmp_path}/agent/evidencesync-")
    assert (lab.acquisition() / "data/log").read_bytes() == b"what happened"
    assert not (tmp_path / "agent").exists()


# What changes a name or a file, by strace's names; of what opens, the flags say it.
_CHANGES: Final = frozenset(
    "creat mkdir mkdirat rmdir rename renameat renameat2 link linkat symlink symlinkat unlink unlinkat mknod "
    "chown lchown fchownat truncate utimensat utime utimes setxattr lsetxattr removexattr lremovexattr mount "
    "mknodat chmod fchmodat".split()
)
_CALL: Final = re.compile(r"^\d+ +(?P<name>\w+)\((?P<rest>.*)$")
_NAMES: Final = re.compile(r'(?:AT_FDCWD(?:<(?P<cwd>[^>]*)>)?, |\d+<(?P<folder>[^>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')


def written(trace: Path) -> set[str]:
    """The paths that a traced program has changed, or opened to be written."""
    found = set()
    for line in trace.read_text().splitlines():
        call = _CALL.match(line)
        if call is None or not (call["name"] in _CHANGES or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call["rest"])):
            continue
        found |= {os.path.join(name["folder"] or name["cwd"] or "/", name["name"]) for name in _NAMES.finditer(call["rest"])}
    return found


def test_a_push_writes_nothing_on_the_machine_but_where_it_was_told_to(
    bundle: Path, sshd: Sshd, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    lab, kept = Lab.make(tmp_path), tmp_path / "kept"
    kept.mkdir()
    lab.write("log", b"what happened")
    vault = sshd.address(f"{lab.folder}/vault").display()
    keys = ("-i", sshd.identity, "--sign-key", lab.folder / "ana")
    home = {"EVIDENCESYNC_HOME": str(kept), "PATH": os.environ["PATH"], "HOME": str(tmp_path / "home")}
    places = set()
    for words in (
        ("host", "trust", vault, "--fingerprint", sshd.host_fingerprint),  # puts what ssh has learnt into a temporary folder
        ("push", lab.folder / "evidence", vault, *ITEM, *keys, "--remote-command", started_program()),
    ):
        trace = (require_program("strace"), "-f", "-y", "-s", "4096", "-e", "trace=%file", "-o", tmp_path / "trace")
        done = run(*trace, bundle / "evidencesync", *words, **home)
        assert done.code == 0, done.err
        places |= {path for path in written(tmp_path / "trace") if not HARMLESS.match(path)}
    assert {path for path in places if not path.startswith(f"{kept}/")} == set()
    assert any("receipts" in path for path in places)  # what is told is seen


# Of the system calls that came after Linux 3.10, those that a C library, Python and a program like ours may ask for; and what
# uname(2) says there: OpenSSL looks at it.
_YOUNGER: Final = (
    "renameat2,seccomp,getrandom,memfd_create,execveat,membarrier,mlock2,copy_file_range,preadv2,pwritev2,statx,rseq,pidfd_open,"
    "pidfd_send_signal,clone3,close_range,openat2,faccessat2,epoll_pwait2,io_uring_setup"
)
_OLD_KERNEL: Final = b"".join(field.ljust(65, b"\0") for field in (b"Linux", b"old", b"3.10.0"))


@as_root
def test_it_pushes_over_ssh_where_the_kernel_knows_no_call_that_is_younger_than_3_10(
    bundle: Path, sshd: Sshd, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """In an IPC namespace of its own: OpenSSL keeps a byte of shared memory on such a kernel."""
    lab = Lab.make(tmp_path)
    lab.write("log", b"what happened")
    reach = (
        "-i",
        sshd.identity,
        "--known-hosts",
        sshd.known_hosts,
        "--ssh",
        bundle / "ssh/ssh",
        "--sign-key",
        lab.folder / "ana",
    )
    words = ("push", lab.folder / "evidence", sshd.address(f"{lab.folder}/vault").display(), *ITEM, *reach)
    inject = ("-e", f"inject={_YOUNGER}:error=ENOSYS", "-e", f"inject=uname:poke_exit=@arg1={_OLD_KERNEL.hex()}")
    refuses = (require_program("strace"), "-f", "-o", tmp_path / "trace", "-e", f"trace={_YOUNGER},uname", *inject)
    home = {"EVIDENCESYNC_HOME": str(tmp_path / "home"), "PATH": os.environ["PATH"]}
    apart = (require_program("unshare"), "--ipc")
    done = run(*apart, *refuses, bundle / "evidencesync", *words, "--remote-command", started_program(), **home)
    assert done.code == 0, done.err
    assert "(INJECTED)" in (tmp_path / "trace").read_text()
    assert (lab.acquisition() / "data/log").read_bytes() == b"what happened"


def test_without_a_folder_of_ones_own_a_push_is_refused_before_it_writes(bundle: Path, tmp_path: Path) -> None:
    lab = Lab.make(tmp_path)
    lab.write("log", b"what happened")
    key = ("--sign-key", lab.folder / "ana")
    done = run(bundle / "evidencesync", "push", lab.folder / "evidence", lab.folder / "vault", *ITEM, *key, HOME=str(tmp_path))
    assert done.code == 2
    assert "Name a folder of yours in EVIDENCESYNC_HOME" in done.err
    assert not lab.acquisition().exists()


def test_a_bundle_that_was_changed_says_so_and_runs_nothing_of_it(bundle: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-al", bundle, tmp_path / "stick"], check=True)
    stick = tmp_path / "stick"
    start = stick / "packages/evidencesync/cli/start.py"
    whole = start.read_bytes()
    start.unlink()
    start.write_bytes(whole.replace(b"import signal", b"import sys; sys.exit(0)\nimport signal"))
    done = run(stick / "evidencesync", "--version")
    assert (done.code, done.out) == (30, "")
    assert "this bundle is not whole: packages/evidencesync/cli/start.py is changed. Nothing else of it was run" in done.err
    start.write_bytes(whole)
    (stick / "packages/zlib.py").touch()
    done = run(stick / "evidencesync", "--version")
    assert (done.code, "packages/zlib.py is not part of it" in done.err) == (31, True)
    (stick / "packages/zlib.py").unlink()
    (stick / "system/libz.so.1").rename(tmp_path / "libz.so.1")
    (stick / "ssh/ssh.bin").unlink()
    (tmp_path / "libz.so.1").rename(stick / "system/libz.so.1")
    done = run(stick / "evidencesync", "--version")
    assert (done.code, "ssh/ssh.bin is gone" in done.err) == (31, True)


def test_stock_tools_check_the_list_and_the_signature_and_the_bundle_says_the_same(
    bundle: Path, archive: Path, tmp_path: Path
) -> None:
    public = archive.with_name("key.pub").read_text()
    (tmp_path / "builders").write_text(f"lab {public}")
    subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=bundle, check=True)
    listed = {line[66:] for line in (bundle / "SHA256SUMS").read_text().splitlines()}
    there = {path.relative_to(bundle).as_posix() for path in bundle.rglob("*") if path.is_file()}
    assert there - listed == {"SHA256SUMS", "SHA256SUMS.sig"}
    verify: list[str | Path] = [
        "ssh-keygen",
        "-Y",
        "verify",
        "-f",
        tmp_path / "builders",
        "-I",
        "lab",
        "-n",
        "bundle@evidencesync",
    ]
    with (bundle / "SHA256SUMS").open("rb") as sums:
        subprocess.run([*verify, "-s", bundle / "SHA256SUMS.sig"], stdin=sums, check=True, stdout=subprocess.DEVNULL)
    shown = subprocess.run(["ssh-keygen", "-l", "-f", archive.with_name("key.pub")], capture_output=True, text=True, check=True)
    done = run(bundle / "evidencesync", "--check-bundle")
    assert (done.code, f"good, by the key {shown.stdout.split()[1]}" in done.out) == (0, True)


def test_everything_inside_is_named_with_its_licence_and_has_no_path_of_the_builder(bundle: Path, archive: Path) -> None:
    parts = json.loads((bundle / "SBOM.cdx.json").read_text())["components"]
    listed = (PARTS / "inputs.sha256").read_text().splitlines()
    assert {part["hashes"][0]["content"] for part in parts} == {line[:64] for line in listed}
    assert [part["name"] for part in parts if not part.get("licenses")] == []
    assert (bundle / "licences/libc6-copyright.txt").exists()
    compiled = (bundle / "packages/evidencesync/__pycache__/limits.cpython-311.pyc").read_bytes()
    assert compiled[4] == 1  # checked against its digest by nobody: PEP 552
    assert b"packages/evidencesync/limits.py" in compiled
    assert str(archive.parent).encode() not in compiled
    assert archive.stat().st_size < 60 << 20


def test_the_loader_takes_nothing_of_the_machine(bundle: Path) -> None:
    loader = (bundle / "system/ld-linux-x86-64.so.2").read_bytes()
    for path in (b"/etc/ld.so.preload", b"/etc/ld.so.cache\0", b"/usr/lib/x86_64-linux-gnu/\0"):
        assert path not in loader
    assert b"/etc/nsswitch.conf" not in (bundle / "system/libc.so.6").read_bytes()
    done = run(bundle / "evidencesync", "--version", LD_PRELOAD="/no/such/library.so")
    assert (done.code, done.err.count("ld.so: object '/no/such/library.so'")) == (0, 1)  # by the machine's own shell, and once


if os.environ.get("BUNDLE") == "all":  # make bundle-twice

    def test_the_same_inputs_give_the_same_bytes(tmp_path: Path) -> None:
        for place in ("one", "another place"):
            build(tmp_path / place)
        one, another = sorted(tmp_path.glob("*/*.tar.zst"))
        assert one.read_bytes() == another.read_bytes()
