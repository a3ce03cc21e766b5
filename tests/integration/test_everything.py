"""One of everything, pushed: the manifest says of it what the system says, the vault holds it, the source is untouched."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.corpus.builder import build, busy, demolish
from tests.corpus.lister import Listing, differences, list_folder, read_manifest
from tests.integration.cli_program import ITEM, REPOSITORY, Done, Lab, started_program
from tests.integration.conftest import make_key, running_sshd
from tests.support.bench_of_evidence import make_bench
from tests.support.file_systems import mounted
from tests.support.ordinary_user import NOBODY, as_ordinary_user

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only where the system has root for us: devices, owners, mounts")

SFTP = "/usr/lib/openssh/sftp-server"
_LIST = """
import sys; from pathlib import Path; from tests.corpus.lister import list_folder
sys.stdout.write(repr(list_folder(Path(sys.argv[1]))))
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that any account can reach; pytest's own cannot be removed when it is full of such things."""
    folder = Path(tempfile.mkdtemp(prefix="everything-"))
    folder.chmod(0o755)
    yield folder
    demolish(folder)


@pytest.fixture
def lab(place: Path) -> Lab:
    """A vault, and one of everything to be acquired."""
    made = Lab.make(place)
    build(place / "evidence", privileged=True)
    return made


def over_ssh(sshd: Sshd, lab: Lab) -> tuple[str, ...]:
    remote = started_program()
    known_hosts = lab.folder / "known_hosts"
    shutil.copy(sshd.known_hosts, known_hosts)
    known_hosts.chmod(0o644)
    options = ("-p", str(sshd.port), "-F", "none", "--known-hosts", str(known_hosts), "--remote-command", remote)
    return (f"{sshd.user}@127.0.0.1:{lab.folder}/vault", *options)


def check_sums(acquisition: Path, b3sum: str | None = None) -> None:
    done = subprocess.run(["sha256sum", "--quiet", "-c", "SHA256SUMS"], cwd=acquisition, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    if b3sum is not None:
        done = subprocess.run([b3sum, "--quiet", "--check", "BLAKE3SUMS"], cwd=acquisition, capture_output=True, check=False)
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def check_stored(expected: Listing, data: Path) -> None:
    """Every file and folder lies in the vault at its path, and nothing else does."""
    stored = {path: (seen["type"], seen.get("sha256")) for path, seen in list_folder(data).items()}
    wanted = {
        path: (seen["type"], seen.get("sha256")) for path, seen in expected.items() if seen["type"] in ("file", "directory")
    }
    assert stored == wanted


def test_everything_travels_over_ssh_and_the_manifest_says_of_it_what_the_system_says(
    lab: Lab, sshd: Sshd, require_program: Callable[[str], str]
) -> None:
    before = list_folder(lab.folder / "evidence")
    vault, *options = over_ssh(sshd, lab)
    with busy(lab.folder / "evidence"):
        done = lab.push("-i", str(sshd.identity), *options, vault=vault)
    assert done.code == 0, done
    assert not any(code in done.out + done.err for code in ("\x1b", "\x9b", "\u202e"))
    _, entries, footer = read_manifest(lab.acquisition() / "manifest.jsonl")
    assert differences(before, entries) == []
    assert footer["flags"] == {}
    assert "access-time-changed" not in footer.get("remarks", {})  # the lister has read the links before
    assert differences(before, list_folder(lab.folder / "evidence")) == []
    hard = {path: entry["hardlink_to"] for path, entry in entries.items() if "hardlink_to" in entry}
    assert hard == {
        b"links/hard two": b"links/hard one",
        b"other links/dangling": b"links/dangling",
        b"other links/hard three": b"links/hard one",
        b"other links/large two": b"links/large one",
        b"special/fifo again": b"special/fifo",
    }
    check_stored(before, lab.acquisition() / "data")
    check_sums(lab.acquisition(), require_program("b3sum"))
    verified = lab.run("verify", "vault", "--all-digests", "--json")
    assert (verified.code, verified.document["verdict"], verified.document["findings"]) == (0, "pass", [])
    shown = lab.run("show", "vault", *ITEM)
    assert shown.code == 0, shown
    assert not any(code in shown.out for code in ("\x1b", "\x9b", "\u202e"))


def test_everything_is_pulled_as_it_is_pushed_and_compares_equal(lab: Lab, sshd: Sshd) -> None:
    evidence = lab.folder / "evidence"
    before = list_folder(evidence)
    vault, *options = over_ssh(sshd, lab)
    source = vault.removesuffix("vault") + "evidence"
    done = lab.run("pull", source, "vault", *ITEM, "--sign-key", "ana", "-i", str(sshd.identity), *options)
    assert done.code == 0, done
    assert not any(code in done.out + done.err for code in ("\x1b", "\x9b", "\u202e"))
    _, entries, footer = read_manifest(lab.acquisition() / "manifest.jsonl")
    assert differences(before, entries) == []
    assert footer["flags"] == {}
    check_stored(before, lab.acquisition() / "data")
    check_sums(lab.acquisition())
    assert lab.run("verify", "vault", "--all-digests").code == 0
    compared = lab.run("compare", str(lab.acquisition() / "manifest.jsonl"), "evidence", "--metadata", "--all-digests", "--json")
    assert (compared.code, compared.document["verdict"]) == (0, "same"), compared
    assert differences(before, list_folder(evidence)) == []


_NOT_TOLD_BY_SFTP = frozenset(
    {"user", "group", "atime", "ctime", "btime", "inode", "device", "links", "rdev", "xattrs", "inode_flags"}
)


def in_seconds(listing: Listing) -> Listing:
    """With modification times as SFTP has them: whole seconds, from 1970 to 2106. No others."""

    def time_of(seen: dict[str, Any]) -> int | None:
        seconds = seen["mtime"] // 10**9
        return seconds * 10**9 if 0 <= seconds < 2**32 else None

    return {path: {**seen, "mtime": time_of(seen)} for path, seen in listing.items()}


@pytest.mark.parametrize("user", ["root", "nobody"])
def test_over_sftp_alone_everything_comes_that_sftp_can_tell(
    lab: Lab, place: Path, user: str, require_program: Callable[[str], str]
) -> None:
    evidence = lab.folder / "evidence"
    before = list_folder(evidence)
    folder = place / "sftp"
    folder.mkdir()
    make_key(folder / "host_ed25519")
    as_nobody = f"{require_program('setpriv')} --reuid=65534 --regid=65534 --clear-groups {SFTP}"
    server = "internal-sftp" if user == "root" else as_nobody
    closed = {path for path, seen in list_as_nobody(evidence).items() if "error" in seen} if user == "nobody" else set()
    with running_sshd(folder, require_program("sshd"), f"Subsystem sftp {server}\n") as sshd:
        options = ("-i", str(sshd.identity), "-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))
        source = f"{sshd.user}@127.0.0.1:{evidence}"
        done = lab.run("pull", source, "vault", *ITEM, "--agentless", "--sign-key", "ana", *options)
    assert done.code == 3, done  # the folders that are too deep, and what nobody may not read, are named: nothing is passed over
    _, entries, footer = read_manifest(lab.acquisition() / "manifest.jsonl")
    unread = {path for path, entry in entries.items() if entry.get("flags") == ["unreadable"]}
    assert footer["flags"] == {"unreadable": len(unread)}
    missing = before.keys() - entries.keys()
    assert all(os.path.dirname(path) in unread | missing for path in missing)
    assert {path for path in unread if not path.startswith(b"deep-")} == closed
    assert (b"closed/listed" in unread) == (user == "nobody")
    expected = {path: before[path] for path in entries if path not in unread}
    found = {path: entry for path, entry in entries.items() if path not in unread}
    assert differences(in_seconds(expected), found, but=_NOT_TOLD_BY_SFTP) == []
    assert lab.run("verify", "vault", "--all-digests").code == 0


def test_pushing_again_links_everything_and_touches_nothing(lab: Lab) -> None:
    before = list_folder(lab.folder / "evidence")
    done = lab.push("--json")
    for options in ((), ("--dry-run",), ()):
        done = lab.push("--json", *options)
        assert done.code == 0, done
        assert differences(before, list_folder(lab.folder / "evidence")) == []
    assert done.document["stored"]["written"]["bytes"] == 0
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize("name", ["flags/immutable", "attributes/note", "contents/5m"])
def test_a_single_file_is_described_as_well_as_one_in_a_folder(lab: Lab, name: str) -> None:
    before = list_folder(lab.folder / "evidence" / name)
    assert lab.push(source=f"evidence/{name}").code == 0
    _, entries, _ = read_manifest(lab.acquisition() / "manifest.jsonl")
    assert differences(before, entries) == []
    assert differences(before, list_folder(lab.folder / "evidence" / name)) == []


def push_as_nobody(lab: Lab, sshd: Sshd, *more: str) -> Done:
    home = lab.folder / "nobody"
    home.mkdir(exist_ok=True)
    for key in (sshd.identity, lab.folder / "ana"):
        copied = Path(shutil.copy(key, home / key.name))
        copied.chmod(0o600)
        os.chown(copied, NOBODY, NOBODY)
    os.chown(home, NOBODY, NOBODY)
    vault, *options = over_ssh(sshd, lab)
    keys = ("-i", str(home / sshd.identity.name), "--sign-key", str(home / "ana"))
    given = [sys.executable, "-m", "evidencesync", "push", "evidence", vault, *ITEM, *keys, *options, *more]
    done = subprocess.run(
        as_ordinary_user(given), cwd=lab.folder, env={**lab.environment, "HOME": str(home)}, capture_output=True, check=False
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


def list_as_nobody(folder: Path) -> Listing:
    done = subprocess.run(
        as_ordinary_user([sys.executable, "-c", _LIST, folder]),
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    listing: Listing = ast.literal_eval(done.stdout.decode())
    return listing


def test_an_ordinary_user_gets_what_he_may_read_and_the_rest_is_named(lab: Lab, sshd: Sshd) -> None:
    evidence = lab.folder / "evidence"
    list_as_nobody(evidence)  # who may not spare access times has changed them after this, and not again
    before = list_as_nobody(evidence)
    done = push_as_nobody(lab, sshd)
    assert done.code == 3, done
    _, entries, footer = read_manifest(lab.acquisition() / "manifest.jsonl")
    unlooked = b"closed/listed/inside"  # its name can be read, and nothing else
    assert entries.pop(unlooked) == {"type": "file", "flags": ["unreadable"]}
    closed = {path for path, seen in before.items() if "error" in seen}
    expected = {path: {**seen, "size": None, "inode_flags": None} if path in closed else seen for path, seen in before.items()}
    for path in [path for path, seen in before.items() if seen["mtime"] > time.time_ns()]:
        entries[path]["atime"] = expected[path]["atime"]  # with relatime these move at every read, the lister's too
    assert differences(expected, entries) == []
    flagged = {path for path, entry in entries.items() if entry.get("flags") == ["unreadable"]}
    assert flagged | {b"closed/listed"} == closed
    assert footer["flags"] == {"unreadable": len(flagged) + 1}
    assert b"closed/file" in flagged
    for path in (*flagged, unlooked):
        assert f"unreadable: {path.decode()}" in done.out
    check_sums(lab.acquisition())
    verified = lab.run("verify", "vault", "--json")
    assert (verified.code, verified.document["verdict"]) == (0, "pass")


def test_access_times_that_an_ordinary_user_could_not_spare_are_counted(lab: Lab, sshd: Sshd) -> None:
    evidence = lab.folder / "evidence"
    for folder, _, names in os.walk(os.fsencode(evidence)):
        for name in (b".", *names):
            with_times = folder + b"/" + name
            if len(with_times) < 4096 and b"flags" not in folder and not os.path.islink(with_times):
                os.utime(with_times, ns=(10**18, 10**18))
    before = list_folder(evidence)
    done = push_as_nobody(lab, sshd)
    assert done.code == 3, done
    after = list_folder(evidence)
    files = {path: seen for path, seen in after.items() if seen["type"] != "symlink"}  # the lister has read the links before
    touched = {seen["inode"] for path, seen in files.items() if seen["atime"] != before[path]["atime"]}
    assert differences(before, after, but=("atime",)) == []
    remarks = read_manifest(lab.acquisition() / "manifest.jsonl")[2]["remarks"]
    assert remarks["access-time-changed"] == len(touched) > 100
    assert f"access times that reading has changed: {len(touched)}" in done.out


def test_a_dry_run_of_an_ordinary_user_says_which_folders_it_could_not_spare(lab: Lab, sshd: Sshd) -> None:
    folders = [lab.folder / "evidence" / name for name in ("contents", "modes", "links")]
    for folder in folders:
        os.utime(folder, ns=(10**18, 10**18))
    before = list_folder(lab.folder / "evidence")
    done = push_as_nobody(lab, sshd, "--dry-run", "--json")
    assert done.code == 3, done
    after = list_folder(lab.folder / "evidence")
    touched = [path for path, seen in after.items() if seen["type"] != "symlink" and seen["atime"] != before[path]["atime"]]
    assert {b"contents", b"modes", b"links"} <= set(touched)
    assert done.document["remarks"] == {"access-time-changed": len(touched)}
    assert all(after[path]["type"] == "directory" for path in touched)
    assert differences(before, after, but=("atime",)) == []


@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs", "tmpfs", "vfat"])
def test_a_manifest_is_exact_on(kind: str, place: Path, require_program: Callable[[str], str]) -> None:
    bench = make_bench(place)
    with mounted(kind, place, 400 << 20, require_program) as folder:
        root = folder / "evidence"
        root.mkdir()
        build(root, privileged=True)
        before = list_folder(root)
        bench.push(source=os.fsencode(root))
        _, entries, footer = read_manifest(bench.acquisition(1) / "manifest.jsonl")
        assert differences(before, entries) == []
        assert footer["flags"] == {}
        assert differences(before, list_folder(root)) == []


def test_a_strictly_kept_access_time_is_spared_too(place: Path, require_program: Callable[[str], str]) -> None:
    bench = make_bench(place)
    with mounted("ext4", place, 64 << 20, require_program) as folder:
        subprocess.run(["mount", "-o", "remount,strictatime", folder], check=True)
        (folder / "deep").mkdir()
        (folder / "deep/file").write_bytes(b"read me")
        (folder / "deep/large").write_bytes(bytes(300_000))
        (folder / "deep/link").symlink_to("file")
        before = list_folder(folder)
        bench.push(source=os.fsencode(folder))
        after = list_folder(folder)
        assert differences(before, after) == []
        assert before[b"deep/link"]["atime"] != after[b"deep/link"]["atime"]  # no call can read a link and spare it
        assert read_manifest(bench.acquisition(1) / "manifest.jsonl")[2]["remarks"] == {"access-time-changed": 1}
