"""`list`, `show`, `diff` and `restore` of a vault on another machine do what they do where it lies, with no more than one key."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.acquire.known_heads import KnownHeads
from evidencesync.connection.link import Link
from evidencesync.evidence.display import shell_text
from evidencesync.exit_codes import ExitCode
from tests.corpus.lister import differences, list_folder
from tests.integration.cli_program import ITEM, Done, Lab, far_program, schema_errors
from tests.integration.test_cli_remote import _ssh_options
from tests.security.test_rolled_back_vaults import Rememberer
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import CutLink
from tests.support.patience import PATIENCE_SECONDS, wait_until
from tests.support.proxy import Proxy, Trouble
from tests.support.reading import fetched

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

NOT_SETTABLE = ("ctime", "btime", "inode", "device", "atime")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A vault with two acquisitions, of which the second differs."""
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    made.write("image.dd", bytes(range(256)) * 2000)
    assert made.push().code == 0
    made.write("notes.txt", b"hello again")
    made.write("image.dd", bytes(range(256)) * 1000 + b"!" * 1000 + bytes(range(256)) * 900)
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


def test_what_is_read_from_afar_is_what_is_read_there(lab: Lab, sshd: Sshd) -> None:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    with_key = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
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
    with_key = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
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
        pasted = shlex.split(hint.partition("evidencesync ")[2].partition(". A new one: ")[0])
        assert lab.run(*pasted).code == 0, pasted


def test_an_older_copy_is_noticed_from_afar(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "vault", tmp_path / "older", symlinks=True)
    assert lab.push().code == 0
    shutil.rmtree(tmp_path / "vault")
    (tmp_path / "older").rename(tmp_path / "vault")
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    done = lab.run("list", far, "--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
    assert done.code == lab.run("list", "vault").code == ExitCode.CHAIN
    assert "NOT AS IT WAS" in done.out


def test_who_may_read_some_cases_sees_these_and_is_told_of_no_loss(lab: Lab, sshd: Sshd) -> None:
    """The vault's own chain, and what this machine remembers, have records of the others."""
    for case in ("2024/018", "2025-001"):
        assert lab.push("--case", case, "--item", "DISK").code == 0
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    with_key = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
    assert lab.run("verify", "vault").code == 0  # it remembers all of them
    assert lab.run("trust", "change", "vault", "ana@lab", "--may", "read", "--case", "2024-*").code == 0
    listed = lab.run("list", far, "--json", *with_key)
    assert (listed.code, [one["case"] for one in listed.document["items"]]) == (0, ["2024-017"])
    assert "this key may read in case 2024-*; nothing else of the vault is listed" in listed.err
    assert lab.run("list", "vault", "--json").document["items"][1:] != []
    assert lab.run("show", far, *ITEM, *with_key).code == 0
    for case, command in (("2025-001", "show"), ("2025-001", "list"), ("2024/018", "list"), ("nothing", "list")):
        number = ("--case", case, *(("--item", "DISK") if command == "show" else ()))
        refused = lab.run(command, far, *number, *with_key)
        assert (refused.code, refused.out) == (ExitCode.SIGNATURE, "")
        assert f"ana@lab may read in case 2024-*, and not in case {case}" in refused.err
        assert "trust change" in refused.err
    assert lab.run("verify", far, *with_key).code == ExitCode.SIGNATURE


def test_a_key_that_the_vault_does_not_know_sees_nothing(lab: Lab, sshd: Sshd) -> None:
    lab.make_key("eve")
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    done = lab.run("list", far, "--sign-key", "eve", *_ssh_options(sshd), "--remote-command", far_program())
    assert (done.code, done.out) == (ExitCode.SIGNATURE, "")
    assert "is not among the trusted keys" in done.err


def test_no_documents_stay_on_this_machine(lab: Lab, sshd: Sshd, tmp_path: Path) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    options = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", far_program())
    for command in (("list", far), ("show", far, *ITEM, "--acquisition", "9")):
        lab.run(*command, *options, env={**lab.environment, "TMPDIR": str(temporary)})
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


# --- Restoring ---------------------------------------------------------------------------------------------------------------


def far_restore(lab: Lab, sshd: Sshd, destination: str, *arguments: str, remote: str | None = None) -> Done:
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    options = ("--sign-key", "ana", *_ssh_options(sshd), "--remote-command", remote or far_program())
    return lab.run("restore", far, destination, *ITEM, *arguments, *options)


def test_a_copy_from_afar_is_the_copy_that_is_made_there(lab: Lab, sshd: Sshd) -> None:
    (lab.folder / "evidence" / "folder").mkdir()
    os.link(lab.folder / "evidence" / "image.dd", lab.folder / "evidence" / "folder" / "linked")
    (lab.folder / "evidence" / "folder" / "link").symlink_to("linked")
    assert lab.push().code == 0
    here = lab.run("restore", "vault", "here", *ITEM)
    afar = far_restore(lab, sshd, "afar", "--json")
    assert (here.code, afar.code) == (0, 0), (here.err, afar.err)
    assert schema_errors(afar.document, "restore-output") == []
    for source in ("evidence", "here"):
        found = differences(list_folder(lab.folder / source), list_folder(lab.folder / "afar"), NOT_SETTABLE)
        assert found == [], source
    size = (lab.folder / "evidence" / "image.dd").stat().st_size
    assert (afar.document["received_bytes"], afar.document["basis_bytes"]) == (size + len(b"hello again"), 0)
    assert afar.document["wire_received"] > 0


def test_behind_a_forced_command_with_a_basis_and_a_record(lab: Lab, sshd: Sshd) -> None:
    """The key may do nothing but what the command says. The record is appended over the same address."""
    lab.write("disk", old := os.urandom(4 << 20))
    assert lab.push().code == 0
    assert far_restore(lab, sshd, "older").code == 0
    lab.write("disk", old[: 1 << 20] + b"inserted" + old[1 << 20 :])
    assert lab.push().code == 0
    before, key = sshd.authorized_keys.read_text(), (sshd.identity.with_suffix(".pub")).read_text()
    sshd.authorized_keys.write_text(f'restrict,command="{far_program()} serve --vault {lab.folder}/vault" {key}')
    try:
        done = far_restore(
            lab, sshd, "newer", "--basis", "older", "--record", "--examiner", "Ana", "--json", remote="no-such-program"
        )
    finally:
        sshd.authorized_keys.write_text(before)
    assert done.code == 0, done.err
    assert differences(list_folder(lab.folder / "evidence"), list_folder(lab.folder / "newer"), NOT_SETTABLE) == []
    assert done.document["basis_bytes"] > 3 * done.document["received_bytes"] > 0
    assert done.document["record"] == 9
    assert "restored" in lab.run("custody", "show", "vault", *ITEM).out
    assert lab.run("verify", "vault").code == 0


def test_a_key_that_may_only_push_and_read_documents_restores_nothing(lab: Lab, sshd: Sshd) -> None:
    before, key = sshd.authorized_keys.read_text(), (sshd.identity.with_suffix(".pub")).read_text()
    command = f"{far_program()} serve --vault {lab.folder}/vault --no-evidence"
    sshd.authorized_keys.write_text(f'restrict,command="{command}" {key}')
    try:
        done = far_restore(lab, sshd, "copy")
        far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
        shown = lab.run("show", far, *ITEM, "--sign-key", "ana", *_ssh_options(sshd))
    finally:
        sshd.authorized_keys.write_text(before)
    assert (done.code, shown.code) == (ExitCode.SIGNATURE, 0)
    assert "shows no evidence" in done.err
    assert not (lab.folder / "copy").exists()


def test_a_basis_is_for_a_far_vault_and_has_to_be_there(lab: Lab, sshd: Sshd) -> None:
    (lab.folder / "older").mkdir()
    assert lab.run("restore", "vault", "copy", *ITEM, "--basis", "older").code == 2
    assert far_restore(lab, sshd, "copy", "--basis", "no such").code == 2
    assert not (lab.folder / "copy").exists()


def test_a_link_that_is_cut_in_the_middle_is_made_again(lab: Lab, sshd: Sshd) -> None:
    lab.write("large", os.urandom(6 << 20))
    assert lab.push().code == 0
    with Proxy(
        ("127.0.0.1", sshd.port), troubles=[Trouble("reset", 3 << 20, "down"), Trouble("reset", 2 << 20, "down")]
    ) as proxy:
        known = sshd.known_hosts.read_text().replace(f"]:{sshd.port}", f"]:{proxy.port}")
        (lab.folder / "known").write_text(known)
        far = f"ssh://{sshd.user}@127.0.0.1:{proxy.port}{lab.folder}/vault"
        way = ("-i", str(sshd.identity), "-F", "none", "--known-hosts", "known", "--remote-command", far_program())
        done = lab.run("restore", far, "copy", *ITEM, "--sign-key", "ana", *way)
        moved = sum(trip.down for trip in proxy.trips)
    assert done.code == 0, done.err
    assert differences(list_folder(lab.folder / "evidence"), list_folder(lab.folder / "copy"), NOT_SETTABLE) == []
    assert len(proxy.trips) == 3
    assert moved < 10 << 20


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_restore_that_is_ended_in_the_middle_leaves_nothing_at_its_destination(lab: Lab, sshd: Sshd, number: int) -> None:
    lab.write("large", os.urandom(6 << 20))
    assert lab.push().code == 0
    temporary = lab.folder / "tmp"
    temporary.mkdir()
    with Proxy(("127.0.0.1", sshd.port), troubles=[Trouble("stall", 3 << 20, "down")]) as proxy:
        (lab.folder / "known").write_text(sshd.known_hosts.read_text().replace(f"]:{sshd.port}", f"]:{proxy.port}"))
        far = f"ssh://{sshd.user}@127.0.0.1:{proxy.port}{lab.folder}/vault"
        way = ("-i", str(sshd.identity), "-F", "none", "--known-hosts", "known", "--remote-command", far_program())
        process = lab.start(
            "restore", far, "copy", *ITEM, "--sign-key", "ana", *way, env={**lab.environment, "TMPDIR": str(temporary)}
        )
        wait_until(lambda: proxy.moved[1] >= 3 << 20)
        process.send_signal(number)
        process.communicate(timeout=PATIENCE_SECONDS)
    assert not (lab.folder / "copy").exists()
    if number == signal.SIGINT:
        assert process.returncode == ExitCode.INTERRUPTED
        assert [*temporary.iterdir(), *lab.folder.glob(".evidencesync*")] == []


def test_a_verdict_that_a_far_vault_cannot_have_ends_the_restore(lab: Lab, sshd: Sshd) -> None:
    """A manifest that was changed is refused by its documents alone, before any evidence is asked for."""
    manifest = next((lab.folder / "vault").rglob("0002/manifest.jsonl"))
    manifest.chmod(0o644)
    manifest.write_bytes(manifest.read_bytes().replace(b"notes.txt", b"../otes.t"))
    done = far_restore(lab, sshd, "copy")
    assert done.code in (ExitCode.SIGNATURE, ExitCode.DIGEST), done.err
    assert sorted(path.name for path in lab.folder.iterdir() if "copy" in path.name or "restore" in path.name) == []
