"""`list`, `show` and `diff` of a vault on another machine say what they say where the vault lies, with no more than one key."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.acquire.known_heads import KnownHeads
from evidencesync.connection.link import Link
from evidencesync.evidence.display import shell_text
from evidencesync.exit_codes import ExitCode
from tests.integration.cli_program import ITEM, Lab
from tests.integration.test_cli_remote import _remote_command, _ssh_options
from tests.security.test_rolled_back_vaults import Rememberer
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import CutLink
from tests.support.reading import fetched

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A vault with two acquisitions, of which the second differs."""
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("image.dd", bytes(range(256)) * 2000)
    assert made.push().code == 0
    made.write("notes.txt", b"hello again")
    made.write("image.dd", bytes(range(256)) * 1000 + b"!" * 1000 + bytes(range(256)) * 900)
    assert made.push().code == 0
    return made


def test_what_is_read_from_afar_is_what_is_read_there(lab: Lab, sshd: Sshd) -> None:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    with_key = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", _remote_command())
    for command in (
        ("list",),
        ("list", "--json"),
        ("list", "--case", ITEM[1]),
        ("list", "--case", "no such"),
        ("show", *ITEM),
        ("show", *ITEM, "--acquisition", "1", "--json"),
        ("show", *ITEM, "--acquisition", "7"),
        ("show", *ITEM, "--files"),
        ("show", *ITEM, "--files", "--acquisition", "1", "--json"),
        ("show", "--case", ITEM[1], "--item", "no such"),
        ("diff", "1", "2", *ITEM),
        ("diff", "1", "2", *ITEM, "--json"),
    ):
        here = lab.run(command[0], f"{lab.folder}/vault", *command[1:])
        afar = lab.run(command[0], far, *command[1:], *with_key)
        assert (afar.code, afar.out) == (here.code, here.out), (command, afar.err)
        assert afar.err.partition(f"evidencesync list {shell_text(far)}")[0] == here.err.partition("evidencesync list ")[0]


def test_a_hint_from_afar_names_what_is_near_and_can_be_pasted(lab: Lab, sshd: Sshd) -> None:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    with_key = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", _remote_command())
    acquisitions = "It has acquisitions 1 to 2. See what there is: "
    for typed, begins in (
        (("list", far, "--case", "2024-17"), "Did you mean --case 2024-017? See what there is: "),
        (("show", far, "--case", "2024-017", "--item", "laptop"), "Did you mean --item LAPTOP-1? See what there is: "),
        (("show", far, *ITEM, "--acquisition", "9"), acquisitions),
        (
            ("custody", "show", far, "--case", "2024-017", "--item", "LAPTPO-1"),
            "Did you mean --item LAPTOP-1? See what there is: ",
        ),
        (("custody", "note", far, *ITEM, "--acquisition", "3", "--text", "x"), acquisitions),
        (("custody", "correct", far, *ITEM, "--record", "9", "--text", "x"), "It has records 1 to 4. See what there is: "),
        (("custody", "accept", far, *ITEM), "See what there is: "),
        (("custody", "hand-over", far, *ITEM, "--to", "ana"), "Did you mean --to ana@lab? Who is trusted is listed by: "),
    ):
        refused = lab.run(*typed, *with_key)
        hint = refused.err.splitlines()[-1]
        assert (refused.code != 0, hint.startswith(f"hint: {begins}evidencesync ")) == (True, True), refused
        pasted = shlex.split(hint.partition("evidencesync ")[2].partition(" (on the vault's machine)")[0])
        assert lab.run(*pasted).code == 0, pasted


def test_an_older_copy_is_noticed_from_afar(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "vault", tmp_path / "older", symlinks=True)
    assert lab.push().code == 0
    shutil.rmtree(tmp_path / "vault")
    (tmp_path / "older").rename(tmp_path / "vault")
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    done = lab.run("list", far, "--sign-key", "ana", *_ssh_options(sshd), "--remote-command", _remote_command())
    assert done.code == lab.run("list", "vault").code == ExitCode.CHAIN
    assert "NOT AS IT WAS" in done.out


def test_a_key_that_the_vault_does_not_know_sees_nothing(lab: Lab, sshd: Sshd) -> None:
    lab.make_key("eve")
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    done = lab.run("list", far, "--sign-key", "eve", *_ssh_options(sshd), "--remote-command", _remote_command())
    assert (done.code, done.out) == (ExitCode.SIGNATURE, "")
    assert "is not among the trusted keys" in done.err


def test_no_documents_stay_on_this_machine(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    options = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", _remote_command())
    for command in (("list", far), ("show", far, *ITEM, "--acquisition", "9")):
        lab.run(*command, *options, env={"TMPDIR": str(temporary)})
        assert [*temporary.iterdir()] == []


# --- In one process ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    made = make_bench(tmp_path)
    (made.source / "a").write_bytes(b"evidence")
    return made


def test_a_push_that_ends_meanwhile_accuses_nobody(bench: Bench, tmp_path: Path) -> None:
    """What this machine remembers is read before the vault is asked: what a push of the same user adds later is not missed."""
    ana = Rememberer(bench, tmp_path / "state")
    memory = ana.memory
    ana.push()
    vault, recalled = fetched(bench, tmp_path / "here", memory)
    (bench.source / "a").write_bytes(b"changed")
    ana.push()
    assert KnownHeads(recalled, vault).problems == []
    assert KnownHeads(memory, vault).problems != []


def test_a_link_that_is_lost_is_made_again_and_everything_is_read_anew(bench: Bench, tmp_path: Path) -> None:
    bench.push()
    links: list[Link] = []

    def connect() -> Link:
        link = bench.serve()[0]
        links.append(link if links else CutLink(link, received=2000))
        return links[-1]

    vault, _ = fetched(bench, tmp_path / "here", connect=connect, retries=2)
    assert len(links) == 2
    assert vault.layout.root.name == "documents1"
    assert (vault.layout.custody / "0001-made.json").read_bytes() == (bench.vault.layout.custody / "0001-made.json").read_bytes()
