"""A vault that was put back to an older copy: every command that reads chains finds it, and none signs upon it."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from evidencesync.cli import report_command
from evidencesync.cli.app import main
from evidencesync.evidence.digest import sha256_of
from evidencesync.report.gather import VerdictSource
from evidencesync.verify.findings import Head
from tests.support.authority import make_authority

ITEM = ("--case", "2024-017", "--item", "LAPTOP-1")
OTHER = ("--case", "2024-017", "--item", "PHONE-1")
CUSTODY = Path("cases/2024-017/LAPTOP-1/custody")


class Desk:
    """Somebody's machine: a vault, a key, and what was seen; commands run in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = folder / "vault"
        self.backup = folder / "backup"

    def run(self, *arguments: str) -> int:
        return main([argument.format(folder=self.folder) for argument in arguments])

    def push(self, *item: str) -> int:
        return self.run("push", "{folder}/evidence", "{folder}/vault", *(item or ITEM), *SIGN, "-q")

    def put_back(self) -> None:
        shutil.rmtree(self.vault)
        shutil.copytree(self.backup, self.vault, symlinks=True)

    def records(self) -> list[str]:
        """All records of the item's chain and of the vault's own."""
        folders = (self.vault / CUSTODY, self.vault / "custody")
        return sorted(str(file.relative_to(self.vault)) for folder in folders for file in folder.iterdir())


SIGN = ("--sign-key", "{folder}/ana")
Command = tuple[str, ...]

APPEND: dict[str, Command] = {
    "note": ("custody", "note", "{folder}/vault", *ITEM, *SIGN, "--text", "seen"),
    "correct": ("custody", "correct", "{folder}/vault", *ITEM, *SIGN, "--record", "1", "--text", "wrong"),
    "hand over": ("custody", "hand-over", "{folder}/vault", *ITEM, *SIGN, "--to", "ben@lab"),
    "verify": ("verify", "{folder}/vault", *ITEM, "--record", *SIGN, "-q"),
    "report": ("report", "{folder}/vault", "--case", "2024-017", "-o", "{folder}/report.json", "--sign", *SIGN, "-q"),
    "export": ("export", "{folder}/vault", "{folder}/list", *ITEM, "--format", "hashdeep", "--record", *SIGN, "-q"),
    "restore": ("restore", "{folder}/vault", "{folder}/copy", *ITEM, "--record", *SIGN, "-q"),
    "attach": ("timestamp", "attach", "{folder}/vault", "{folder}/answer.tsr", *ITEM, *SIGN),
    "seal": ("custody", "seal", "{folder}/vault", *ITEM, *SIGN, "--reason", "closed"),
    "trust add": ("trust", "add", "{folder}/vault", "{folder}/eve.pub", "--principal", "eve@lab"),
    "trust retire": ("trust", "retire", "{folder}/vault", "ben@lab"),
    "trust revoke": ("trust", "revoke", "{folder}/vault", "{folder}/ben.pub"),
    "reindex": ("reindex", "{folder}/vault"),
}
OWN_CHAIN_ALONE = {"trust add", "trust retire", "trust revoke", "reindex"}
READ: dict[str, Command] = {
    "verify all": ("verify", "{folder}/vault", "-q"),
    "verify an item": ("verify", "{folder}/vault", *ITEM, "-q"),
    "read report": ("report", "{folder}/vault", "--case", "2024-017", "-o", "{folder}/read.json", "-q"),
    "report of an earlier verdict": (
        *("report", "{folder}/vault", "--case", "2024-017", "-o", "{folder}/earlier.json", "-q"),
        *("--verdict", "{folder}/verdict.json"),
    ),
    "read export": ("export", "{folder}/vault", "{folder}/read list", *ITEM, "--format", "hashdeep", "-q"),
    "read copy": ("restore", "{folder}/vault", "{folder}/read copy", *ITEM, "-q"),
    "show": ("custody", "show", "{folder}/vault", *ITEM, "--json"),
    "list": ("list", "{folder}/vault"),
    "list as JSON": ("list", "{folder}/vault", "--json"),
    "show an acquisition": ("show", "{folder}/vault", *ITEM),
    "show files": ("show", "{folder}/vault", *ITEM, "--files"),
    "diff": ("diff", "{folder}/vault", "1", "1", *ITEM),
    "timestamps": ("timestamp", "show", "{folder}/vault", *ITEM),
    "receipts": ("receipts", "check", "--vault", "{folder}/vault"),
}


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("desk")
    for name in ("ana", "ben", "eve"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name], check=True)
    desk = Desk(folder)
    with pytest.MonkeyPatch.context() as patch:
        _be_here(folder, patch)
        _acquire_once(desk)
    return folder


def _be_here(folder: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("EVIDENCESYNC_STATE", str(folder / "state"))
    patch.setenv("EVIDENCESYNC_RECEIPTS", str(folder / "receipts"))


def _acquire_once(desk: Desk) -> None:
    folder = desk.folder
    assert desk.run("init", "{folder}/vault", "--trust", "{folder}/ana.pub", "--principal", "ana@lab", "-q") == 0
    assert desk.run("trust", "add", "{folder}/vault", "{folder}/ben.pub", "--principal", "ben@lab", "-q") == 0
    (folder / "evidence").mkdir()
    (folder / "evidence" / "file").write_bytes(b"evidence")
    assert desk.push() == 0
    stamped = (desk.vault / "cases/2024-017/LAPTOP-1/acquisitions/0001/manifest.jsonl.sig").read_bytes()
    (folder / "answer.tsr").write_bytes(make_authority().forge(stamped, time.time_ns()))
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as said:
        assert desk.run("verify", "{folder}/vault", "--json") == 0
        said.seek(0)
        (folder / "verdict.json").write_text(said.read())
    shutil.copytree(desk.vault, desk.backup, symlinks=True)


@pytest.fixture
def desk(template: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A vault with one acquisition, a copy of it as it is then, and all that this machine has seen of it."""
    folder = tmp_path / "desk"
    shutil.copytree(template, folder, symlinks=True)
    _be_here(folder, monkeypatch)
    return Desk(folder)


def test_every_command_that_reads_chains_finds_an_older_copy_and_every_one_that_adds_to_them_refuses_it(desk: Desk) -> None:
    for command in READ.values():
        assert desk.run(*command) == 0, command
    for name in ("read.json", "earlier.json", "read list", "read copy"):
        shutil.rmtree(desk.folder / name) if (desk.folder / name).is_dir() else (desk.folder / name).unlink()
    assert desk.push() == 0
    desk.put_back()
    before = desk.records()
    for command in [*READ.values(), *APPEND.values()]:
        assert desk.run(*command) == 34, command
        assert desk.records() == before, command
    assert desk.push() == 34


def test_an_item_that_did_not_go_on_since_is_not_added_to_either_in_a_vault_that_was_put_back(desk: Desk) -> None:
    """Else the vault's own chain would have two records with one number."""
    assert desk.push(*OTHER) == 0
    desk.put_back()
    before = desk.records()
    for command in APPEND.values():
        assert desk.run(*command) == 34, command
        assert desk.records() == before, command


@pytest.mark.parametrize("name", APPEND)
def test_whoever_added_a_record_remembers_it(desk: Desk, name: str) -> None:
    assert desk.run(*APPEND[name]) == 0
    assert desk.run("verify", "{folder}/vault", "-q") == 0 or name in {"trust revoke", "attach"}
    desk.put_back()
    assert desk.run("custody", "note", "{folder}/vault", *ITEM, "--sign-key", "{folder}/ana", "--text", "upon an old copy") == 34


ACQUISITIONS: Final = Path("cases/2024-017/LAPTOP-1/acquisitions")


def _an_older_item(desk: Desk) -> None:
    shutil.rmtree(desk.vault / "cases/2024-017/LAPTOP-1")
    shutil.copytree(desk.backup / "cases/2024-017/LAPTOP-1", desk.vault / "cases/2024-017/LAPTOP-1", symlinks=True)


GONE: Final[dict[str, tuple[Callable[[Desk], object], int, str]]] = {
    "a case": (lambda desk: shutil.rmtree(desk.vault / "cases/2024-017"), 34, "chain-broken"),
    "an item": (lambda desk: shutil.rmtree(desk.vault / "cases/2024-017/LAPTOP-1"), 34, "chain-broken"),
    "an item's folders": (lambda desk: _empty(desk.vault / "cases/2024-017/LAPTOP-1"), 34, "chain-broken"),
    "an item's chain": (lambda desk: shutil.rmtree(desk.vault / CUSTODY), 34, "chain-broken"),
    "the end of an item": (_an_older_item, 34, "chain-broken"),
    "the last acquisition": (lambda desk: shutil.rmtree(desk.vault / ACQUISITIONS / "0002"), 31, "missing-or-extra"),
    "the first acquisition": (lambda desk: shutil.rmtree(desk.vault / ACQUISITIONS / "0001"), 31, "missing-or-extra"),
}


def _empty(folder: Path) -> None:
    for one in folder.iterdir():
        shutil.rmtree(one)
        one.mkdir()


@pytest.mark.parametrize("name", GONE)
def test_a_list_on_any_machine_shows_what_signed_documents_state_and_is_gone(
    desk: Desk, name: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.push() == 0
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / "a machine that has seen nothing"))
    assert desk.run("list", "{folder}/vault") == 0
    remove, code, slug = GONE[name]
    remove(desk)
    assert desk.run("verify", "{folder}/vault", "-q") == code
    capfd.readouterr()
    assert desk.run("list", "{folder}/vault", "--json") == code
    said = json.loads(capfd.readouterr().out)
    (item,) = said["items"]
    assert item["folder"] == "2024-017/LAPTOP-1"
    gone = [one["problem"]["slug"] for one in (item, *item["acquisitions"]) if one["problem"] is not None]
    assert gone == [slug]
    assert desk.run("list", "{folder}/vault") == code
    assert ("MISSING" if code == 31 else "NOT AS IT WAS") in capfd.readouterr().out


@pytest.mark.parametrize("place", ["cases", "cases/2024-017", "cases/2024-017/LAPTOP-1"])
def test_a_folder_that_was_moved_to_another_disk_and_linked_is_refused_and_not_called_gone(
    desk: Desk, place: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert desk.push() == 0
    assert desk.run("verify", "{folder}/vault", "-q") == 0
    folder, away = desk.vault / place, desk.folder / "another disk"
    folder.rename(away)
    folder.symlink_to(away)
    item = ("--case", "2024-017", "--item", "LAPTOP-1")
    for command in (("verify",), ("list",), ("show", *item), ("custody", "show", *item), ("timestamp", "show", *item), ("push",)):
        capfd.readouterr()
        words = 2 if command[0] in ("custody", "timestamp") else 1
        ran = desk.push() if command == ("push",) else desk.run(*command[:words], "{folder}/vault", *command[words:])
        said = " ".join("".join(capfd.readouterr()).split())
        assert (ran, "a symbolic link" in said, "gone" in said) == (31, True, False), (command, said)


@pytest.mark.parametrize("name", ["a case", "an item", "the end of an item", "the last acquisition"])
@pytest.mark.parametrize("command", ["show an acquisition", "show files", "timestamps"])
def test_the_acquisition_before_a_removed_one_is_not_shown_as_the_last(
    desk: Desk, name: str, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.push() == 0
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / "a machine that has seen nothing"))
    assert desk.run(*READ[command]) == 0
    remove, code, _ = GONE[name]
    remove(desk)
    assert desk.run(*READ[command]) == code


@pytest.mark.parametrize("name", ["a case", "an item"])
def test_a_record_is_not_added_to_what_is_gone_and_nobody_is_called_hostile_for_it(desk: Desk, name: str) -> None:
    GONE[name][0](desk)
    assert desk.run(*APPEND["note"]) == 34


def test_a_custody_chain_is_held_to_what_the_vault_states_of_it_on_a_machine_that_has_seen_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert desk.push() == 0
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / "a machine that has seen nothing"))
    _an_older_item(desk)
    assert desk.run(*READ["show"]) == 34


@pytest.mark.parametrize("restated", [False, True])
@pytest.mark.parametrize("name", ["a case", "an item", "an item's chain", "the end of an item"])
def test_a_machine_that_has_seen_nothing_adds_nothing_to_an_item_that_was_put_back(
    desk: Desk, name: str, restated: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older copy can be put right, and two records of one number never, also where lower heads were stated since."""
    assert desk.push() == 0
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / "a machine that has seen nothing"))
    shutil.copytree(desk.vault / "cases", desk.folder / "whole", symlinks=True)
    GONE[name][0](desk)
    if restated:
        assert desk.run("reindex", "{folder}/vault") == 0
    own = sorted((desk.vault / "custody").iterdir())
    assert desk.push() == 34
    for command in ("note", "correct", "hand over", "seal", "attach"):
        assert desk.run(*APPEND[command]) in (31, 34), command
    assert sorted((desk.vault / "custody").iterdir()) == own
    shutil.rmtree(desk.vault / "cases")
    (desk.folder / "whole").rename(desk.vault / "cases")
    assert desk.run("verify", "{folder}/vault", "-q") == 0
    assert desk.push() == 0


def test_a_damaged_statement_does_not_make_a_shorter_chain_look_whole(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert desk.push() == 0
    monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / "a machine that has seen nothing"))
    _an_older_item(desk)
    for heads in (desk.vault / "custody").glob("*-heads.json"):
        heads.chmod(0o600)
        heads.write_bytes(b"none")
    assert [desk.run(*READ[name]) for name in ("show", "show an acquisition", "list")] == [32, 32, 32]


@pytest.mark.parametrize(
    ("chain", "code", "text"), [("custody", 32, "the signature does not fit"), (str(CUSTODY), 34, "a damaged record is there")]
)
def test_a_bit_that_a_disk_has_changed_in_a_record_is_nobodys_other_history(
    desk: Desk, chain: str, code: int, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The machine has seen the record. It is damaged, which verify says, and no push says that somebody wrote another one.

    The vault states what the last record of an item's chain was, so that the chain is not as it was. Of its own last record
    nothing is known there but that it does not fit its signature.
    """
    assert desk.push() == 0
    last = max(file for file in (desk.vault / chain).iterdir() if file.suffix == ".json")
    last.chmod(0o600)
    last.write_bytes(last.read_bytes().replace(b'"time": "2', b'"time": "3', 1))
    capfd.readouterr()
    assert desk.push() == code
    said = capfd.readouterr().err
    assert text in said
    assert "history" not in said
    for command in ("verify", "list"):
        assert desk.run(command, "{folder}/vault", "-q") == 34


def test_a_damaged_memory_is_a_gap_of_a_list_and_hides_nothing_of_it(desk: Desk, capfd: pytest.CaptureFixture[str]) -> None:
    (remembered,) = (desk.folder / "state" / "heads").glob("*/vault.json")
    remembered.write_bytes(b"{}")
    capfd.readouterr()
    assert desk.run("list", "{folder}/vault", "--json") == 3
    said = json.loads(capfd.readouterr().out)
    assert said["problem"]["slug"] == "remembered-heads"
    assert [one["problem"] for one in said["items"]] == [None]
    assert desk.run("list", "{folder}/vault") == 3
    out = capfd.readouterr().out
    assert "NOT COMPARED WITH WHAT THIS MACHINE HAS SEEN" in out
    assert "THE VAULT'S OWN CHAIN" not in out  # it can be read
    assert desk.run(*READ["show an acquisition"]) == 3


SETTINGS: Final[dict[str, tuple[tuple[str, str], int]]] = {
    "of another vault": (('id = "', 'id = "{}'), 32),
    "with another key": (('key = "SHA256:', 'key = "SHA256:{}'), 32),
    "of a later format": (("evidencesync-vault/1", "evidencesync-vault/2"), 2),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_all_commands_say_the_same_of_settings_that_are_not_those_of_this_vault(desk: Desk, name: str) -> None:
    (old, new), code = SETTINGS[name]
    settings = desk.vault / "vault.toml"
    before, _, after = settings.read_text().partition(old)
    digit = next(one for one in "ab" if one != after[0])
    settings.write_text(before + new.format(digit) + (after[1:] if "{}" in new else after))
    records = desk.records()
    more: tuple[Command, ...] = (
        ("trust", "list", "{folder}/vault"),
        ("vault", "writer", "{folder}/vault"),
        ("clean", "{folder}/vault", "--yes"),
    )
    codes = {command: desk.run(*command) for command in (*READ.values(), *APPEND.values(), *more)}
    assert {command: one for command, one in codes.items() if one != code} == {}
    assert desk.push() == code
    assert desk.records() == records


def test_an_unknown_format_hides_nothing_that_is_wrong(desk: Desk) -> None:
    settings = desk.vault / "vault.toml"
    settings.write_text(settings.read_text().replace("evidencesync-vault/1", "evidencesync-vault/2"))
    shutil.rmtree(desk.vault / ACQUISITIONS / "0001")
    assert desk.run("verify", "{folder}/vault", "-q") == 31


def test_settings_are_not_called_foreign_where_the_first_record_cannot_be_read_or_believed(desk: Desk) -> None:
    """Whoever can write a record without the vault's key cannot make vault.toml look wrong."""
    first = desk.vault / "custody" / "0001-made.json"
    first.chmod(0o600)
    first.write_text(first.read_text().replace('"vault_id": "', '"vault_id": "0', 1))
    for command in ("list", "verify"):  # the next record names another one
        assert desk.run(command, "{folder}/vault", "-q") == 34


_PUSH_ON: Final = """
import os, sys
from evidencesync.cli.app import main
stop, codes, *push = sys.argv[1:]
while not os.path.exists(stop):
    code = main(push)
    with open(codes, "a") as file:
        print(code, file=file)
"""


def test_beside_pushes_of_two_users_no_command_finds_anything_that_is_not_so(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same user pushes into the item, another one (who remembers elsewhere) into another, as fast as they can."""
    commands = {name: command for name, command in READ.items() if "earlier" not in name}
    commands |= {name: APPEND[name] for name in ("note", "verify", "report", "export", "restore")}
    stop, pushing = desk.folder / "stop", list[subprocess.Popen[bytes]]()
    for key, item, state in (("ben", OTHER, "elsewhere"), ("ana", ITEM, "state")):
        monkeypatch.setenv("EVIDENCESYNC_STATE", str(desk.folder / state))
        push = ("push", f"{desk.folder}/evidence", str(desk.vault), *item, "--sign-key", f"{desk.folder}/{key}", "-q")
        command = [sys.executable, "-c", _PUSH_ON, str(stop), f"{desk.folder}/codes-{key}", *push]
        pushing.append(subprocess.Popen(command, stdout=subprocess.DEVNULL))
    try:
        for name, words in commands.items():
            capfd.readouterr()
            code = desk.run(*words)
            assert code in {0, 11}, (name, code, capfd.readouterr())
    finally:
        stop.touch()
        for one in pushing:
            one.wait()
    for key in ("ana", "ben"):
        codes = set((desk.folder / f"codes-{key}").read_text().split())
        assert "0" in codes <= {"0", "11"}, (key, codes)


def test_a_report_shows_no_acquisition_that_the_vault_had_not_received_when_it_was_checked(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check came between a push's two records."""
    check = report_command._verify

    def checked(*arguments: Any) -> VerdictSource:
        source = check(*arguments)
        assert desk.push(*ITEM) == 0
        chain = desk.vault / "cases" / "2024-017" / "LAPTOP-1" / "custody"
        last = max(chain.glob("*-acquired.json"))
        head = Head("2024-017", "LAPTOP-1", int(last.name[:4]), sha256_of(last.read_bytes()).hex())
        heads = [head if one.item == "LAPTOP-1" else one for one in source.verdict.heads]
        return replace(source, verdict=msgspec.structs.replace(source.verdict, heads=heads))

    monkeypatch.setattr(report_command, "_verify", checked)
    report = ("report", "{folder}/vault", "--case", "2024-017", "--item", "LAPTOP-1", "-o", "{folder}/read.json", "-q")
    assert desk.run(*report) == 0, capfd.readouterr()
    said = json.loads((desk.folder / "read.json").read_text())
    (item,) = said["items"]
    assert said["judgement"]["state"] == "pass"
    assert len(item["acquisitions"]) == len(list((desk.vault / "cases/2024-017/LAPTOP-1/acquisitions").iterdir())) - 1


@pytest.mark.parametrize(
    ("meanwhile", "code"),
    [
        (("push",), 0),
        (("note",), 0),
        (("push", "push of another", "note", "trust add"), 3),
        (("trust add",), 3),
    ],
)
def test_a_report_is_of_what_was_checked_for_it_whatever_others_add_to_the_chains_meanwhile(
    desk: Desk, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, meanwhile: tuple[str, ...], code: int
) -> None:
    """But not where it was changed who is trusted: the report shows the list as it is."""
    check = report_command._verify

    def checked(*arguments: Any) -> object:
        source = check(*arguments)
        for one in meanwhile:
            assert (desk.push(*(OTHER if "another" in one else ITEM)) if "push" in one else desk.run(*APPEND[one])) == 0
        return source

    monkeypatch.setattr(report_command, "_verify", checked)
    report = ("report", "{folder}/vault", "--case", "2024-017", "--item", "LAPTOP-1", "-o", "{folder}/read.json", "-q")
    assert desk.run(*report) == code, capfd.readouterr()
    said = json.loads((desk.folder / "read.json").read_text())
    assert said["judgement"]["state"] == ("pass" if code == 0 else "not-verified")
    (item,) = said["items"]
    assert len(item["acquisitions"]) == 1
    assert len(item["custody"]) == item["head"]["sequence"] == 2
    if code == 0:
        assert item["head"] in said["judgement"]["heads"]
        assert said["vault"]["head"] in said["judgement"]["heads"]
