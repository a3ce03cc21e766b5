"""Promise: what was pushed can be had again, as it was, and never otherwise than it was without being told so."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.corpus.builder import build, demolish
from tests.corpus.lister import differences, list_folder
from tests.integration.cli_program import ITEM, Done, Lab, schema_errors
from tests.support.file_systems import mounted
from tests.support.ordinary_user import as_ordinary_user
from tests.support.patience import PATIENCE_SECONDS

NOT_SETTABLE = ("ctime", "btime", "inode", "device")
AS_ROOT = ("--devices", "--set-id")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only where the system has root")


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab.make(tmp_path)
    yield made
    for folder in ("evidence", "copy"):
        if (tmp_path / folder).exists():
            demolish(tmp_path / folder)


@pytest.fixture
def open_lab() -> Iterator[Lab]:
    """A lab that every user can reach. Every pytest that starts on this machine closes the folders that pytest makes."""
    folder = Path(tempfile.mkdtemp(prefix="restore-", dir="/tmp"))
    folder.chmod(0o755)
    (folder / "lab").mkdir(mode=0o755)
    (folder / "lab").chmod(0o755)
    made = Lab.make(folder / "lab")
    yield made
    for left in (made.folder / "evidence", folder / "public/copy"):
        if left.exists():
            demolish(left)
    shutil.rmtree(folder)


def restore(lab: Lab, *arguments: str | bytes, destination: str = "copy") -> Done:
    return lab.run("restore", "vault", destination, *ITEM, *arguments)


def left_over(lab: Lab) -> list[str]:
    return [name for name in os.listdir(lab.folder) if name.startswith(".evidencesync")]


@needs_root
def test_one_of_everything_comes_back_as_it_was(lab: Lab) -> None:
    build(lab.folder / "evidence", privileged=True)
    assert lab.push().code in (0, 3)
    before = list_folder(lab.folder / "evidence")
    vault = list_folder(lab.folder / "vault")
    done = restore(lab, *AS_ROOT, "--json")
    assert schema_errors(done.document, "restore-output") == []
    assert (done.code, done.document["verdict"], done.document["lacks"]) == (0, "complete", {})
    assert differences(before, list_folder(lab.folder / "copy"), NOT_SETTABLE) == []
    assert differences(vault, list_folder(lab.folder / "vault"), ("atime",)) == []
    assert left_over(lab) == []


@needs_root
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_every_file_system_gets_all_that_it_can_hold(lab: Lab, kind: str, require_program: Callable[[str], str]) -> None:
    with mounted(kind, lab.folder, 400 << 20, require_program) as place:
        (place / "evidence").mkdir()
        build(place / "evidence", privileged=True)
        assert lab.push(source=str(place / "evidence")).code in (0, 3)
        done = restore(lab, *AS_ROOT, "--json", destination=str(place / "copy"))
        listed = list_folder(place / "copy")
        found = differences(list_folder(place / "evidence"), listed, NOT_SETTABLE)
        demolish(place / "copy")
        demolish(place / "evidence")
    assert (done.code, found, done.document["lacks"]) == (0, [], {})


@needs_root
def test_it_is_what_rsync_would_have_made(lab: Lab, require_program: Callable[[str], str]) -> None:
    build(lab.folder / "evidence", privileged=True)
    for deep in (lab.folder / "evidence").glob("deep-*"):  # rsync works with paths, and no path reaches it
        demolish(deep)
    assert lab.push().code in (0, 3)
    assert restore(lab, *AS_ROOT).code == 0
    command = [require_program("rsync"), "-aHAXSU", "--numeric-ids", "--modify-window=-1", "evidence/", "theirs/"]
    theirs = subprocess.run(command, cwd=lab.folder, capture_output=True, text=True, check=False)
    ours = list_folder(lab.folder / "copy")
    found = differences(list_folder(lab.folder / "theirs"), ours, (*NOT_SETTABLE, "inode_flags", "atime"))
    demolish(lab.folder / "theirs")
    assert (theirs.returncode, found) == (0, []), theirs.stderr


@needs_root
def test_an_ordinary_user_is_told_what_he_could_not_set(open_lab: Lab) -> None:
    lab = open_lab
    build(lab.folder / "evidence", privileged=True)
    assert lab.push().code in (0, 3)
    public = lab.folder.parent / "public"
    public.mkdir()
    public.chmod(0o777)
    subprocess.run(["chown", "-R", "65534", lab.folder / "vault"], check=True)
    command = as_ordinary_user(list(map(os.fsdecode, lab.command("restore", "vault", str(public / "copy"), *ITEM, "--json"))))
    environment = {**lab.environment, "HOME": "/proc/nowhere"}
    raw = subprocess.run(command, cwd=lab.folder, env=environment, capture_output=True, check=False)
    said = json.loads(raw.stdout)
    assert (raw.returncode, said["verdict"]) == (0, "complete"), raw.stderr
    assert {"owner", "device", "set-id"} <= said["lacks"].keys()
    before, after = list_folder(lab.folder / "evidence"), list_folder(public / "copy")
    assert before.keys() - after.keys() == {path for path, one in before.items() if one["type"].endswith("device")}
    for path, one in after.items():
        assert one["type"] == before[path]["type"]
        assert one.get("sha256") == before[path].get("sha256")
        assert one["mtime"] == before[path]["mtime"], path
        assert not (one["type"] == "file" and one["mode"] & 0o6000)
    demolish(public / "copy")


def test_a_part_can_be_chosen_by_the_bytes_of_its_names(lab: Lab) -> None:
    evil = b"odd \xff\n\x1b[31m"
    for name in (b"a/b/wanted", b"a/b/other", b"a/c/x", b"a.txt", b"z/" + evil + b"/deep"):
        path = os.fsencode(lab.folder / "evidence") + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        Path(os.fsdecode(path)).write_bytes(name)
    assert lab.push().code == 0
    assert restore(lab, "./a/b/wanted", b"z/" + evil).code == 0
    made = list_folder(lab.folder / "copy")
    assert made.keys() == {b"", b"a", b"a/b", b"a/b/wanted", b"z", b"z/" + evil, b"z/" + evil + b"/deep"}
    before = list_folder(lab.folder / "evidence")
    assert all(made[path]["mtime"] == before[path]["mtime"] for path in made)
    refused = restore(lab, "a/b", "a/nothing", destination="other")
    assert (refused.code, (lab.folder / "other").exists(), left_over(lab)) == (10, False, [])
    assert "a/nothing" in refused.err
    for wrong in ("../a", "/etc/passwd", "a//b"):
        assert restore(lab, wrong, destination="other").code == 2


def test_links_between_files_are_links_in_the_copy_and_never_into_the_vault(lab: Lab) -> None:
    first = lab.write("a/first", b"same" * 100_000)
    (lab.folder / "evidence" / "b").mkdir()
    os.link(first, lab.folder / "evidence" / "b" / "second")
    os.link(first, lab.folder / "evidence" / "b" / "third")
    assert lab.push().code == 0
    assert restore(lab).code == 0
    assert restore(lab, "b", destination="part").code == 0
    inodes = {(lab.folder / "copy" / name).stat().st_ino for name in ("a/first", "b/second", "b/third")}
    assert len(inodes) == 1
    assert (lab.folder / "part/b/second").stat().st_nlink == 2
    stored = {file.stat().st_ino for file in (lab.folder / "vault").rglob("*")}
    assert not inodes & stored
    (lab.folder / "copy" / "a" / "first").write_bytes(b"work")
    assert lab.run("verify", "vault").code == 0


def test_holes_stay_holes(lab: Lab) -> None:
    with lab.write("image", b"begin").open("r+b") as file:
        file.truncate(200 << 20)
        file.seek(100 << 20)
        file.write(b"middle")
    assert lab.push().code == 0
    assert restore(lab).code == 0
    copy = lab.folder / "copy" / "image"
    assert copy.stat().st_blocks * 512 < 4 << 20
    assert copy.stat().st_size == 200 << 20


def test_set_id_bits_are_only_set_where_somebody_asks_for_them(lab: Lab) -> None:
    lab.write("tool", b"#!").chmod(0o4755)
    assert lab.push().code == 0
    plain = restore(lab, "--json")
    assert (plain.code, plain.document["lacks"]) == (0, {"set-id": 1})
    assert (lab.folder / "copy" / "tool").stat().st_mode & 0o7777 == 0o755
    assert restore(lab, "--set-id", destination="other").code == 0
    assert (lab.folder / "other" / "tool").stat().st_mode & 0o7777 == 0o4755


def flip(file: Path, offset: int) -> None:
    mode = file.stat().st_mode
    file.chmod(0o600)
    data = bytearray(file.read_bytes())
    data[offset] ^= 1
    file.write_bytes(data)
    file.chmod(mode)


@pytest.mark.parametrize("size", [10, 700_000])
def test_damaged_evidence_is_never_given_out(lab: Lab, size: int) -> None:
    lab.write("bad", os.urandom(size))
    lab.write("good", b"good")
    assert lab.push().code == 0
    flip(lab.acquisition() / "data" / "bad", size // 2)
    refused = restore(lab, "--json")
    assert (refused.code, refused.error["slug"]) == (30, "digest-mismatch")
    assert not (lab.folder / "copy").exists()
    assert left_over(lab) == []
    rest = restore(lab, "--on-damage", "skip", "--json")
    assert (rest.code, rest.document["verdict"], rest.document["lacks"]) == (30, "damaged", {"damaged": 1})
    assert os.listdir(lab.folder / "copy") == ["good"]
    assert restore(lab, "good", destination="other").code == 0


def test_evidence_that_is_gone_is_said(lab: Lab) -> None:
    lab.write("gone", b"x")
    assert lab.push().code == 0
    (lab.acquisition() / "data" / "gone").unlink()
    assert (restore(lab).code, (lab.folder / "copy").exists()) == (31, False)


def test_a_manifest_that_nobody_vouches_for_is_not_followed(lab: Lab) -> None:
    lab.write("file", b"x")
    assert lab.push().code == 0
    manifest = lab.acquisition() / "manifest.jsonl"
    good = manifest.read_bytes()
    flip(manifest, good.index(b'"mode":"') + 9)
    assert (restore(lab).code, (lab.folder / "copy").exists()) == (32, False)
    flip(manifest, good.index(b'"mode":"') + 9)
    assert restore(lab).code == 0
    lab.make_key("eve")
    key = " ".join((lab.folder / "eve.pub").read_text().split()[:2])
    (lab.folder / "mine").write_text(f'eve@lab namespaces="manifest@evidencesync,custody@evidencesync" {key}\n')
    assert restore(lab, "--trusted", "mine", destination="other").code == 32


def test_evidence_that_could_not_be_read_is_a_gap_of_the_copy(lab: Lab) -> None:
    lab.write("closed", b"x").chmod(0)
    lab.write("open", b"y")
    assert lab.push("--exclude", "nothing", unprivileged=True).code == 3
    done = restore(lab, "--json")
    assert (done.code, done.document["verdict"], done.document["lacks"]) == (3, "gaps", {"not-acquired": 1})
    assert done.document["lacking"][0]["path"] == "closed"


def test_where_a_copy_may_not_be(lab: Lab) -> None:
    lab.write("file", b"x")
    assert lab.push().code == 0
    (lab.folder / "full").mkdir()
    (lab.folder / "full" / "mine").write_bytes(b"mine")
    (lab.folder / "plain").write_bytes(b"plain")
    (lab.folder / "door").symlink_to("vault/cases")
    for place in ("full", "plain", "vault", "vault/copy", "vault/cases/copy", "door/copy", "nowhere/copy", "/"):
        assert restore(lab, destination=place).code == 2, place
    assert (lab.folder / "full" / "mine").read_bytes() == b"mine"
    assert lab.run("verify", "vault").code == 0
    (lab.folder / "empty").mkdir()
    assert restore(lab, destination="empty").code == 0
    assert (lab.folder / "empty" / "file").read_bytes() == b"x"
    assert restore(lab, destination="empty").code == 2
    assert left_over(lab) == []


def test_a_link_that_leads_nowhere_is_no_place_for_a_copy(lab: Lab) -> None:
    lab.write("file", b"x")
    assert lab.push().code == 0
    (lab.folder / "link").symlink_to(lab.folder / "nowhere")
    assert restore(lab, destination="link").code == 2
    assert not (lab.folder / "nowhere").exists()
    (lab.folder / "nowhere").mkdir()
    assert restore(lab, destination="link").code == 0


def test_a_single_file_is_restored_into_a_folder(lab: Lab) -> None:
    file = lab.write("one", b"only")
    os.utime(file, ns=(1, 2_000_000_003))
    assert lab.push(source="evidence/one").code == 0
    assert restore(lab).code == 0
    assert (lab.folder / "copy" / "one").read_bytes() == b"only"
    assert (lab.folder / "copy" / "one").stat().st_mtime_ns == 2_000_000_003


def test_what_a_default_acl_would_give_is_not_inherited(lab: Lab) -> None:
    lab.write("folder/file", b"x")
    assert lab.push().code == 0
    entry = (2).to_bytes(4, "little")
    for tag, permission, who in ((1, 7, -1), (2, 7, 1234), (4, 5, -1), (16, 7, -1), (32, 5, -1)):
        entry += tag.to_bytes(2, "little") + permission.to_bytes(2, "little") + (who & 0xFFFFFFFF).to_bytes(4, "little")
    (lab.folder / "generous").mkdir()
    try:
        os.setxattr(lab.folder / "generous", "system.posix_acl_default", entry)
    except OSError:
        pytest.skip("only where the system has ACLs")
    assert restore(lab, destination="generous/copy").code == 0
    copy = lab.folder / "generous" / "copy"
    assert [os.listxattr(path) for path in (copy, copy / "folder", copy / "folder" / "file")] == [[], [], []]


@needs_root
def test_a_full_disk_leaves_nothing(lab: Lab, require_program: Callable[[str], str]) -> None:
    lab.write("large", os.urandom(30 << 20))
    assert lab.push().code == 0
    with mounted("tmpfs", lab.folder, 8 << 20, require_program) as place:
        done = restore(lab, "--json", destination=str(place / "copy"))
        assert (done.code, os.listdir(place)) == (13, [])


@needs_root
def test_a_file_system_that_cannot_hold_it_all_is_told_apart_from_damage(lab: Lab, require_program: Callable[[str], str]) -> None:
    for name in ("plain", "colon:name", "trailing.", "folder?/inside"):
        lab.write(name, name.encode())
    (lab.folder / "evidence" / "link").symlink_to("plain")
    assert lab.push().code == 0
    lab.write("PLAIN", b"in other letters")
    assert lab.push().code == 0
    with mounted("vfat", lab.folder, 64 << 20, require_program) as place:
        done = restore(lab, "--acquisition", "1", "--json", destination=str(place / "copy"))
        assert (done.code, done.document["verdict"]) == (3, "gaps")
        lacking = {one["path"] for one in done.document["lacking"] if one["lack"] == "not-possible"}
        assert lacking == {"colon:name", "folder?", "folder?/inside", "link", "trailing."}
        assert (place / "copy" / "plain").read_bytes() == b"plain"
        clash = restore(lab, "--json", destination=str(place / "clash"))
        assert (clash.code, clash.error["slug"]) == (2, "name-clash")
        assert os.listdir(place) == ["copy"]


@needs_root
def test_names_that_differ_in_case_clash_where_case_is_folded(lab: Lab, require_program: Callable[[str], str]) -> None:
    lab.write("Name", b"1")
    lab.write("name", b"2")
    assert lab.push().code == 0
    image, place = lab.folder / "folded.img", lab.folder / "folded"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run([require_program("mkfs.ext4"), "-q", "-O", "casefold", image], check=True, capture_output=True)
    place.mkdir()
    if subprocess.run(["mount", "-o", "loop", image, place], check=False, capture_output=True).returncode:
        pytest.skip("the kernel refuses to mount here")
    try:
        (place / "folding").mkdir()
        if subprocess.run(["chattr", "+F", place / "folding"], check=False, capture_output=True).returncode:
            pytest.skip("only where the system has case folding")
        done = restore(lab, "--json", destination=str(place / "folding" / "copy"))
        assert (done.code, done.error["slug"], os.listdir(place / "folding")) == (2, "name-clash", [])
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_nothing_that_looks_complete(lab: Lab, how: signal.Signals) -> None:
    for number in range(1500):
        lab.write(f"{number % 10}/{number}", b"%d" % number)
    assert lab.push("--no-read-back").code == 0
    process = lab.start("restore", "vault", "copy", *ITEM)
    while process.poll() is None and not any(os.listdir(lab.folder / name) for name in left_over(lab)):
        time.sleep(0.001)
    process.send_signal(how)
    process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode in (130, -how)
    assert not (lab.folder / "copy").exists()
    assert (left_over(lab) == []) == (how is not signal.SIGKILL)
    for name in left_over(lab):
        shutil.rmtree(lab.folder / name)
    assert restore(lab).code == 0


def test_memory_does_not_grow_with_a_file(lab: Lab) -> None:
    with lab.write("image", b"").open("r+b") as file:
        for _ in range(20):  # the program takes some 60 MiB: with all of the file in memory it would take 220
            file.write(os.urandom(8 << 20))
    assert lab.push("--no-read-back").code == 0
    restoring = lab.start("restore", "vault", "copy", *ITEM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0  # kB, as the kernel counts it for the program: wait4 would count what its parent had when it was forked
    while restoring.poll() is None:
        status = Path(f"/proc/{restoring.pid}/status").read_text()
        if Path(f"/proc/{restoring.pid}/cmdline").read_bytes().find(b"restore") >= 0:
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        time.sleep(0.005)
    assert restoring.returncode == 0
    assert 0 < peak < 200_000


def test_what_was_restored_is_named_without_a_doubt(lab: Lab) -> None:
    """A file that is called `all` is not all, and two paths are not one with a space."""
    for name in ("all", "a", "b", "a b"):
        lab.write(name, name.encode())
    assert lab.push().code == 0
    scopes = {(): "all", ("all",): "'all'", ("a b", "all"): "'a b' 'all'", ("a", "b"): "a b"}
    for number, (paths, scope) in enumerate(scopes.items()):
        assert restore(lab, *paths, "--json", destination=f"copy {number}").document["scope"] == scope


def test_a_copy_can_be_recorded_in_the_custody_chain(lab: Lab) -> None:
    lab.write("a/file", b"x")
    lab.write("b", b"y")
    assert lab.push().code == 0
    done = restore(lab, "a", "--record", "--sign-key", "ana", "--examiner", "Ana", "--json")
    assert (done.code, done.document["record"], done.document["scope"]) == (0, 3, "a")
    assert schema_errors(done.document, "restore-output") == []
    shown = lab.run("custody", "show", "vault", *ITEM, "--json").document
    record = json.dumps(shown)
    assert '"restored"' in record
    assert str(lab.folder / "copy") in record
    checked = lab.run("verify", "vault")
    assert checked.code == 0, checked.out
    lab.make_key("eve")
    refused = restore(lab, "--record", "--sign-key", "eve", "--examiner", "Eve", "--json", destination="other")
    assert refused.code == 32
    assert refused.document["record"] is None
    assert refused.document["record_problem"]["slug"]
    assert (lab.folder / "other" / "b").read_bytes() == b"y"
    assert restore(lab, "--record", "--sign-key", "nothing", destination="third").code == 12
    assert not (lab.folder / "third").exists()
