"""`compare` as a program: a manifest taken out of its vault, against the source, a copy, and the data folder."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.cli_program import Lab, schema_errors
from tests.support.bad_disk import loop_device

EVIL = b"bad\x1b[31m\xff[bold]\xe2\x80\xaename"


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("compare"))
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(300_000))
    (made.folder / "evidence" / "link").symlink_to("notes.txt")
    assert made.push().code == 0
    shutil.copy(made.acquisition() / "manifest.jsonl", made.folder / "alone.jsonl")
    return made


@pytest.fixture
def lab(pushed: Lab, tmp_path: Path) -> Lab:
    """A copy of all of it, to change things in."""
    shutil.copytree(pushed.folder, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")


def test_a_device_is_refused_and_not_called_different(lab: Lab, require_program: Callable[[str], str]) -> None:
    (lab.folder / "image").write_bytes(bytes(1 << 20))
    with loop_device(lab.folder / "image", require_program) as device:
        refused = lab.run("compare", "alone.jsonl", str(device), "--json")
    assert (refused.code, refused.error["slug"]) == (2, "usage")


def test_a_number_of_the_kernel_is_acquired_and_compared_whole(lab: Lab) -> None:
    """It says that it is empty, and can be read only once."""
    source = Path("/proc/sys/kernel/pid_max")
    done = lab.run("push", str(source), "vault", "--case", "2024-017", "--item", "KERNEL", "--sign-key", "ana", "--json")
    assert (done.code, done.document["bytes"]) == (0, len(source.read_bytes()))
    folder = lab.folder / "vault/cases/2024-017/KERNEL/acquisitions/0001"
    assert (folder / "data" / "pid_max").read_bytes() == source.read_bytes()
    compared = lab.run("compare", str(folder / "manifest.jsonl"), str(source))
    assert compared.code == 0, compared


def test_source_data_folder_and_copy_are_the_same_as_the_manifest(lab: Lab) -> None:
    plain = lab.run("compare", "alone.jsonl", "evidence", "--all-digests")
    assert (plain.code, plain.err) == (0, "")
    assert "2 matched, 0 modified, 0 moved, 0 duplicated, 0 missing, 0 new, 0 unreadable" in plain.out
    assert "NOT VERIFIED" in plain.out
    assert plain.out.endswith("verdict: SAME\n")
    inside = lab.run("compare", str(lab.acquisition() / "manifest.jsonl"), str(lab.acquisition() / "data"), "--json")
    assert (inside.code, inside.document["data"], inside.document["absent_by_design"]) == (0, True, 1)
    shutil.copytree(lab.acquisition() / "data", lab.folder / "taken")
    assert lab.run("compare", "alone.jsonl", "taken").code == 31
    assert lab.run("compare", "alone.jsonl", "taken", "--data").code == 0


def test_differences_are_listed_safely_and_as_json_by_its_schema(lab: Lab) -> None:
    Path(os.fsdecode(os.fsencode(lab.folder) + b"/evidence/" + EVIL)).write_bytes(b"hello")
    (lab.folder / "evidence" / "notes.txt").rename(lab.folder / "evidence" / "renamed.txt")
    lab.write("folder/image", b"other")
    shown = lab.run("compare", "alone.jsonl", "evidence")
    assert shown.code == 30
    assert "moved: bad\\x1b[31m\\xff[bold]\\u202ename (from notes.txt)" in shown.out
    assert "duplicated: renamed.txt (copy of notes.txt)" in shown.out
    assert "modified: folder/image (5 bytes, BLAKE3 " in shown.out
    document = lab.run("compare", "alone.jsonl", "evidence", "--json").document
    assert schema_errors(document, "compare-output") == []
    assert (document["verdict"], document["exit_code"], document["left_out"]) == ("different", 30, 0)
    assert document["files"] | {"metadata": 0} == {
        "matched": 0,
        "modified": 1,
        "moved": 1,
        "duplicated": 1,
        "missing": 0,
        "new": 0,
        "unreadable": 0,
        "not_compared": 0,
        "metadata": 0,
    }
    assert [one["path"] for one in document["differences"]] == ["folder/image", None, "renamed.txt"]


def test_the_signature_is_checked_where_trusted_signers_are_given(lab: Lab) -> None:
    manifest = str(lab.acquisition() / "manifest.jsonl")
    key = (lab.folder / "ana.pub").read_text()
    (lab.folder / "mine").write_text(f'ana@lab namespaces="manifest@evidencesync" {key}')
    (lab.folder / "others").write_text(f'ana@lab namespaces="custody@evidencesync" {key}')
    assert "signature  good: by ana@lab, SHA256:" in lab.run("compare", manifest, "evidence", "--trusted", "mine").out
    refused = lab.run("compare", manifest, "evidence", "--trusted", "others", "--json")
    assert (refused.code, refused.error["slug"]) == (32, "untrusted-signer")
    assert lab.run("compare", "alone.jsonl", "evidence", "--trusted", "mine").code == 32  # it has no signature beside it


def test_a_signer_who_was_retired_since_is_neither_trusted_nor_called_untrusted(lab: Lab) -> None:
    """A manifest alone does not tell whether it was signed before."""
    manifest = str(lab.acquisition() / "manifest.jsonl")
    key = (lab.folder / "ana.pub").read_text()
    ended = 'namespaces="manifest@evidencesync",valid-before="20200101Z"'
    for name, code, slug in (("ana@lab", 3, "incomplete"), ("*@lab", 3, "incomplete"), ("ben@lab", 32, "untrusted-signer")):
        (lab.folder / "signers").write_text(f"{name} {ended} {key}")
        judged = lab.run("compare", manifest, "evidence", "--trusted", "signers", "--json")
        assert (judged.code, judged.error["slug"]) == (code, slug)
        assert ("does not tell when it was signed" in judged.error["message"]) == (code == 3), judged.error


def test_what_cannot_be_read_is_exit_3_and_never_passes(lab: Lab) -> None:
    (lab.folder / "evidence" / "notes.txt").chmod(0)
    (lab.folder / "evidence" / "folder").chmod(0)
    done = lab.run("compare", "alone.jsonl", "evidence", unprivileged=True)
    (lab.folder / "evidence" / "folder").chmod(0o755)
    assert done.code == 3
    assert "unreadable: notes.txt" in done.out
    assert "unreadable: folder/image (the folder that it should be in cannot be read)" in done.out
    assert "0 missing" in done.out
    assert done.out.endswith("verdict: INCOMPLETE\n")


def test_a_manifest_or_folder_that_is_not_there_is_a_usage_error(lab: Lab) -> None:
    assert lab.run("compare", "none.jsonl", "evidence").code == 2
    missing = lab.run("compare", "alone.jsonl", "none", "--json")
    assert (missing.code, missing.error["slug"]) == (2, "source-not-found")
    assert lab.run("compare", "alone.jsonl").code == 2
