"""`export` as a program: verified first, in each format, encrypted, and recorded in the chain."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import pytest

import evidencesync.export.destination as destination_module
from evidencesync.cli.verify_record import Verifier
from evidencesync.errors import ChainGrewError
from evidencesync.files.placing import place_file, place_folder
from tests.integration.cli_program import ITEM, Done, Lab, schema_errors
from tests.support.every_command import run_in_process

ALL = (("bagit", "bag"), ("hashdeep", "known"), ("case-uco", "case.jsonld"))


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("export"))
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(300_000))
    (made.folder / "evidence" / "link").symlink_to("notes.txt")
    assert made.push().code == 0
    made.write("notes.txt", b"hello again")
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(pushed: Lab, tmp_path: Path) -> Lab:
    """A copy of all of it, to change things in."""
    shutil.copytree(pushed.folder, tmp_path / "lab", symlinks=True)
    return Lab(tmp_path / "lab")


def export(lab: Lab, form: str, destination: str, *options: str) -> Done:
    return lab.run("export", "vault", destination, *ITEM, "--format", form, *options)


def records(lab: Lab) -> list[str]:
    return sorted(name for name in os.listdir(lab.acquisition().parents[1] / "custody") if name.endswith(".json"))


@pytest.mark.parametrize(("form", "name"), ALL)
def test_each_format_is_written_and_said_as_json_by_its_schema(form: str, name: str, lab: Lab) -> None:
    done = export(lab, form, name, "--acquisition", "1", "--json")
    assert (done.code, done.err) == (0, "")
    said = done.document
    assert schema_errors(said, "export-output") == []
    assert (said["acquisition"], said["files"], said["verdict"], said["record"]) == (1, 2, "complete", None)
    file = lab.folder / name
    digest_of = file / "tagmanifest-sha256.txt" if file.is_dir() else file
    assert said["sha256"] == hashlib.sha256(digest_of.read_bytes()).hexdigest()


def test_the_last_acquisition_is_meant_where_none_is_named(lab: Lab) -> None:
    done = export(lab, "bagit", "bag")
    assert done.code == 0
    assert (lab.folder / "bag" / "data" / "notes.txt").read_bytes() == b"hello again"
    assert "2024-017 / LAPTOP-1, acquisition 2: exported as bagit" in done.out
    assert len(records(lab)) == 4


@pytest.mark.parametrize(("form", "name"), ALL)
def test_a_damaged_acquisition_is_not_exported(form: str, name: str, lab: Lab) -> None:
    stored = lab.acquisition() / "data" / "folder" / "image"
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.write(b"?")
    stored.chmod(0o444)
    before = sorted(os.listdir(lab.folder))
    done = export(lab, form, name, "--acquisition", "1", "--record", "-i", "ana")
    assert done.code == 30
    assert "file-damaged" in done.out
    assert "NOTHING WAS EXPORTED" in done.out
    as_json = export(lab, form, name, "--acquisition", "1", "--json")
    assert (as_json.code, as_json.document["verdict"]) == (30, "fail")
    assert schema_errors(as_json.document, "export-output") == []
    assert sorted(os.listdir(lab.folder)) == before
    assert len(records(lab)) == 4


def test_a_missing_signature_is_as_bad_as_a_damaged_file(lab: Lab) -> None:
    (lab.acquisition(2) / "receipt.json.sig").unlink()
    assert export(lab, "hashdeep", "known").code not in (0, 3)
    assert not (lab.folder / "known").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("vault", "out", *ITEM, "--format", "zip"), 2, "--format is bagit, hashdeep or case-uco, not zip"),
        (("vault", "evidence", *ITEM, "--format", "bagit"), 2, "is there already"),
        (("vault", "vault/out", *ITEM, "--format", "bagit"), 2, "lies in the vault"),
        (("vault", "out", *ITEM, "--format", "bagit", "--encrypt-to", "ana"), 2, "holds a private key"),
        (("vault", "out", *ITEM, "--format", "bagit", "--acquisition", "3"), 10, "no acquisition 3"),
        (("vault", "out", "--case", "2024-017", "--item", "X", "--format", "bagit"), 10, "no item"),
        (("nowhere", "out", *ITEM, "--format", "bagit"), 10, "no vault"),
        (("vault", "out", *ITEM, "--format", "bagit", "--no-verify"), 2, "no such option"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_code(arguments: tuple[str, ...], code: int, said: str, lab: Lab) -> None:
    done = lab.run("export", *arguments)
    assert done.code == code
    assert said in done.err
    assert not (lab.folder / "out").exists()


def test_names_are_told_safely(lab: Lab) -> None:
    lab.write("bad\x1b[31m\n[bold]name", b"x")
    assert lab.push().code == 0
    done = export(lab, "hashdeep", "known\x1b[31m")
    assert done.code == 3
    assert "bad\\x1b[31m\\x0a[bold]name" in done.err
    assert "\x1b" not in done.out + done.err
    with open(os.fsencode(lab.folder / "evidence") + b"/latin-\xe9", "wb"):
        pass
    assert lab.push().code == 0
    refused = export(lab, "bagit", "bag", "--json")
    assert (refused.code, refused.error["slug"]) == (2, "unrepresentable-name")
    assert "latin-\\xe9" in refused.error["message"]


def test_an_encrypted_export_is_recorded_with_its_digest_and_recipients(lab: Lab) -> None:
    lab.make_key("expert")
    options = ("--encrypt-to", "expert.pub", "--record", "-i", "ana", "--examiner", "Ana", "--json")
    done = export(lab, "bagit", "out", *options)
    assert (done.code, done.err) == (0, "")
    said = done.document
    assert schema_errors(said, "export-output") == []
    assert said["record"]["record"] == 5
    data = (lab.folder / "out.tar.age").read_bytes()
    document = (lab.acquisition().parents[1] / "custody" / "0005-exported.json").read_bytes()
    record = json.loads(document)
    assert said["record"]["sha256"] == hashlib.sha256(document).hexdigest()
    fingerprint = subprocess.run(
        ["ssh-keygen", "-lf", lab.folder / "expert.pub"], capture_output=True, check=True
    ).stdout.split()[1]
    assert (record["type"], record["acquisition"], record["actor"]["name"]) == ("exported", 2, "Ana")
    details = record["details"]
    assert (details["format"], details["destination"], details["digest_of"]) == ("bagit", "out.tar.age", "out.tar.age")
    assert details["sha256"] == hashlib.sha256(data).hexdigest() == said["sha256"]
    assert details["recipients"].encode() == fingerprint
    assert lab.run("verify", "vault").code == 0
    assert b"hello again" not in data


def test_an_export_that_cannot_be_recorded_is_not_made(lab: Lab) -> None:
    lab.make_key("stranger")
    done = export(lab, "bagit", "bag", "--record", "-i", "stranger")
    assert done.code not in (0, 3)
    assert sorted(os.listdir(lab.folder)) == sorted({"ana", "ana.pub", "evidence", "home", "stranger", "stranger.pub", "vault"})
    assert len(records(lab)) == 4


@pytest.mark.parametrize(("form", "name"), ALL)
def test_an_export_that_was_recorded_is_there(form: str, name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not the other way round: where somebody takes its name meanwhile, no record says that it was exported."""
    line = ["export", str(lab.folder / "vault"), str(lab.folder / name), *ITEM, "--format", form, "--record"]
    monkeypatch.setenv("HOME", str(lab.folder / "home"))

    def refuse(*_: object) -> NoReturn:
        assert (lab.folder / name).exists()
        raise ChainGrewError("the chain has grown")

    with monkeypatch.context() as patch:
        patch.setattr(Verifier, "append", refuse)
        assert run_in_process([*line, "-i", str(lab.folder / "ana"), "--examiner", "Ana"]) == 11
    assert sorted(os.listdir(lab.folder)) == ["ana", "ana.pub", "evidence", "home", "vault"]
    for function in (place_file, place_folder):
        monkeypatch.setattr(destination_module, function.__name__, partial(_taking_first, lab.folder / name, function))
    assert run_in_process([*line, "-i", str(lab.folder / "ana"), "--examiner", "Ana"]) == 2
    assert len(records(lab)) == 4
    assert (lab.folder / name).read_bytes() == b"somebody else's"


def _taking_first(name: Path, place: Callable[..., None], *arguments: object, **options: object) -> None:
    name.write_bytes(b"somebody else's")
    place(*arguments, **options)


def test_signers_from_outside_decide_where_they_are_named(lab: Lab) -> None:
    lab.make_key("stranger")
    (lab.folder / "mine").write_text(f'eve namespaces="*" {(lab.folder / "stranger.pub").read_text()}')
    assert export(lab, "hashdeep", "known", "--trusted", "mine").code == 32
    assert not (lab.folder / "known").exists()
