"""`push --dry-run` asks the vault, here and over a real sshd, and says what the push then finds, sends and is refused with."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MIB, SPACE_RESERVE
from tests.corpus.lister import differences, list_folder
from tests.integration.cli_program import ITEM, Lab, far_program, schema_errors
from tests.integration.test_cli_remote import _ssh_options
from tests.support.file_systems import mounted

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """One acquisition."""
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    for name in ("a", "b", "logs/one", "logs/two"):
        made.write(name, name.encode())
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    """A source that differs since from what was acquired."""
    made = template.copy(tmp_path)
    made.write("a", b"longer")
    (tmp_path / "evidence/b").unlink()
    (tmp_path / "evidence/logs/two").rename(tmp_path / "evidence/two")
    made.write("new\x1b[2J", b"12345")
    return made


ROWS = [
    "changed  file            6 B  size,time  a",
    "removed  file            1 B  -          b",
    "removed  file            8 B  -          logs/two",
    r"added    file            5 B  -          new\x1b[2J",
    "added    file            8 B  -          two",
    "moved?   file            8 B  -          logs/two -> two",
]
TOTALS = "; since acquisition 1: 2 added, 2 removed, 1 changed"


def test_what_a_dry_run_says_is_what_the_push_then_finds(lab: Lab) -> None:
    before = list_folder(lab.folder)
    shown = lab.push("--dry-run", "--itemize")
    assert shown.code == 0, shown
    lines = shown.out.splitlines()
    assert lines[:6] == ROWS
    assert f"  would read   4 files, 27 B{TOTALS}" in lines
    assert "  would send   at most 19 B: what is added or changed, less what the vault has of it" in lines
    assert "  vault        knows you as ana@lab; this would be acquisition 2" in lines
    assert differences(before, list_folder(lab.folder), but={"atime"}) == []
    told = lab.push("--dry-run", "--json").document
    found = lab.push("--json").document
    assert (told["vault"]["acquisition"], told["changes"]["since"]) == (found["acquisition"], found["changes"]["since"]) == (2, 1)
    same = ("added", "removed", "changed")
    moved = found["changes"]["moved"]
    assert {name: told["changes"][name] for name in same} == {
        "added": found["changes"]["added"] + moved,
        "removed": found["changes"]["removed"] + moved,
        "changed": found["changes"]["changed"],
    }
    assert found["literal_bytes"] <= told["changes"]["most_bytes"]


def test_the_document_has_the_same_facts(lab: Lab) -> None:
    done = lab.push("--dry-run", "--itemize", "--json")
    assert (done.code, schema_errors(done.document, "push-dry-run-output")) == (0, [])
    changes: dict[str, Any] = done.document["changes"]
    assert [(one["change"], one["path"] or one["path_b64"]) for one in changes["entries"]] == [
        ("changed", "a"),
        ("removed", "b"),
        ("removed", "logs/two"),
        ("added", "bmV3G1sySg=="),
        ("added", "two"),
    ]
    assert [(one["before"], one["after"]) for one in changes["moves"]] == [("logs/two", "two")]
    assert (changes["maybe_moved"], done.document["vault"]["fits"]) == (1, True)
    plain = lab.push("--dry-run", "--json").document
    assert (plain["changes"]["entries"], plain["changes"]["moves"]) == (None, None)


def test_over_an_sshd_whose_key_may_do_nothing_else_it_says_the_same(lab: Lab, sshd: Sshd) -> None:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    before = sshd.authorized_keys.read_text()
    lab.make_key("eve")
    try:
        sshd.authorized_keys.write_text(f'restrict,command="{far_program()} serve --vault {lab.folder}/vault" {before}')
        for options in (("--itemize",), ("--itemize", "--json"), ("--item", "ANOTHER")):
            here, afar = lab.push("--dry-run", *options), lab.push("--dry-run", *options, *_ssh_options(sshd), vault=far)
            assert (afar.code, here.code) == (0, 0), afar
            assert without_free_bytes(afar.out) == without_free_bytes(here.out)
        untrusted = lab.run("push", "evidence", far, *ITEM, "--sign-key", "eve", "--dry-run", *_ssh_options(sshd))
        assert (untrusted.code, untrusted.out) == (ExitCode.SIGNATURE, "")
    finally:
        sshd.authorized_keys.write_text(before)


def without_free_bytes(said: str) -> str:
    """Other programs use the same disk."""
    less, count = re.subn(r'("free_bytes":\d+|\S+ \S+ for evidence)', "", said)
    assert count == 1
    return less


def test_a_first_dry_run_says_that_there_is_nothing_yet(lab: Lab) -> None:
    done = lab.push("--dry-run", "--item", "FIRST")
    assert done.code == 0, done
    assert "the vault has no acquisition of this item" in done.out
    assert "this would be acquisition 1" in done.out
    assert not (lab.folder / "vault/cases/2024-017/FIRST").exists()


def test_a_sealed_item_is_said_with_the_code_of_the_push(lab: Lab) -> None:
    assert lab.run("custody", "seal", "vault", *ITEM, "--sign-key", "ana", "--yes").code == 0
    done = lab.push("--dry-run")
    assert (done.code, lab.push().code) == (ExitCode.LOCKED, ExitCode.LOCKED)
    assert "REFUSED      it would end before anything is sent: item 2024-017 / LAPTOP-1 is sealed" in done.out
    assert TOTALS in done.out
    assert "hint: A sealed item takes no more acquisitions" in done.err
    assert lab.push("--dry-run", "--json").document["vault"]["refused"]["slug"] == "sealed"


@pytest.mark.parametrize(
    ("key", "vault", "code"),
    [("eve", "vault", ExitCode.SIGNATURE), ("none", "vault", ExitCode.KEY), ("ana", "nowhere", ExitCode.NOT_THERE)],
)
def test_a_key_or_a_vault_that_a_push_refuses_is_refused(lab: Lab, key: str, vault: str, code: ExitCode) -> None:
    lab.make_key("eve")
    line = ("push", "evidence", vault, *ITEM, "--sign-key", key)
    looked, pushed = lab.run(*line, "--dry-run"), lab.run(*line)
    assert (looked.code, pushed.code) == (code, code)
    assert looked.err.splitlines()[0] == pushed.err.splitlines()[0]
    assert lab.run(*line, "--dry-run", "--offline").code == 0


def test_a_server_that_does_not_answer_is_an_error_that_names_offline(lab: Lab) -> None:
    done = lab.push("--dry-run", vault="ssh://ana@127.0.0.1:1/srv/vault")
    assert (done.code, done.out) == (ExitCode.CONNECT, "")
    assert "--offline looks at the source alone." in done.err


def test_an_older_copy_of_a_vault_is_noticed_before_the_push(lab: Lab) -> None:
    assert lab.push().code == 0
    vault = lab.folder / "vault"
    for path in sorted(vault.glob("custody/*-heads.json*"))[-2:]:
        path.unlink()
    for item in ("LAPTOP-1", "ANOTHER"):
        assert lab.push("--dry-run", "--item", item).code == ExitCode.CHAIN


@pytest.mark.parametrize("option", ["--itemize", "--offline"])
def test_options_of_a_dry_run_are_for_a_dry_run(lab: Lab, option: str) -> None:
    done = lab.push(option)
    assert (done.code, "is for --dry-run" in done.err) == (ExitCode.USAGE, True)


def test_what_cannot_be_read_is_not_said_to_be_removed(lab: Lab) -> None:
    (lab.folder / "evidence/logs").chmod(0)
    done = lab.push("--dry-run", "--itemize", unprivileged=True)
    (lab.folder / "evidence/logs").chmod(0o755)
    assert done.code == ExitCode.GAPS, done
    assert "unread   directory         -  -          logs" in done.out
    assert "unread   file            8 B  -          logs/one" in done.out
    assert "2 removed" not in done.out


def test_a_vault_that_this_account_may_not_write_to_is_said_before_the_push(lab: Lab) -> None:
    incoming = lab.folder / "vault/cases/2024-017/LAPTOP-1/incoming"
    incoming.chmod(0o555)
    looked, pushed = lab.push("--dry-run", unprivileged=True), lab.push(unprivileged=True)
    incoming.chmod(0o755)
    assert (looked.code, pushed.code) == (ExitCode.INTERNAL, ExitCode.INTERNAL)
    assert "REFUSED      it would end before anything is sent" in looked.out
    (lab.folder / "vault/vault_key").rename(lab.folder / "vault_key")
    assert lab.push("--dry-run").code == lab.push().code == ExitCode.KEY


def test_a_reader_of_the_rows_may_leave(lab: Lab) -> None:
    line = [*lab.command("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--dry-run", "--itemize")]
    piped = lab.start(command=["bash", "-c", 'set -o pipefail; "$@" | head -n 0', "bash", *line])
    out, err = piped.communicate()
    assert (piped.returncode, out, err) == (0, b"", b"")


def big_file(folder: Path, size: int) -> None:
    with open(folder / "image.dd", "wb") as file:
        file.writelines(os.urandom(MIB) for _ in range(size // MIB))


def test_what_certainly_does_not_fit_is_refused_before_it_begins_and_said_before_that(
    lab: Lab, sshd: Sshd, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    """A large file into a new case, on a disk with too little room: over SSH, as from a local push."""
    big_file(tmp_path, 70 * MIB)
    with mounted("tmpfs", tmp_path, SPACE_RESERVE + 40 * MIB, require_program) as disk:
        assert lab.run("init", str(disk / "vault"), "--trust", "ana.pub", "--principal", "ana@lab").code == 0
        options = (*_ssh_options(sshd), "--remote-command", far_program(), "--sign-key", "ana")
        for vault in (f"{disk}/vault", f"{sshd.user}@127.0.0.1:{disk}/vault"):
            looked = lab.run("push", "image.dd", vault, *ITEM, *options, "--dry-run", "--json")
            assert (looked.code, looked.document["vault"]["fits"]) == (ExitCode.NO_SPACE, False)
            assert looked.document["vault"]["refused"]["slug"] == "no-space"
            assert list((disk / "vault/cases").iterdir()) == []
            pushed = lab.run("push", "image.dd", vault, *ITEM, *options, "--json")
            assert (pushed.code, pushed.error["message"]) == (
                looked.code,
                looked.document["vault"]["refused"]["message"],
            )
            assert list((disk / "vault/cases").iterdir()) == []
        (tmp_path / "folder").mkdir()
        (tmp_path / "image.dd").rename(tmp_path / "folder/image.dd")
        folder = lab.run("push", "folder", f"{disk}/vault", *ITEM, *options, "--dry-run")
        assert (folder.code, "WARNING      it may not fit" in folder.out) == (0, True)
