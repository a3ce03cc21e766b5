"""Every path that a command writes to: never in a vault, never in the source, and nothing is ever replaced."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

import pytest

from evidencesync.errors import ConfigurationError, UsageError
from evidencesync.ssh.known_hosts import remember_host_key
from tests.conftest import find_program
from tests.integration.cli_program import ITEM, Lab
from tests.support.every_command import run_in_process
from tests.support.file_systems import bound, mounted

_SIGN: Final = ("--examiner", "Ana")


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("outside"))
    made.write("a", b"x")
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    subprocess.run(["cp", "-a", template.folder, tmp_path / "lab"], check=True)
    monkeypatch.setenv("HOME", str(tmp_path / "lab" / "home"))
    return Lab(tmp_path / "lab")


def _tree(folder: Path) -> dict[str, tuple[int, int]]:
    """Everything in a folder that a command could have changed; a vault's index is a cache."""
    found = {str(path.relative_to(folder)): path.lstat() for path in folder.rglob("*") if "index" not in path.parts}
    return {name: (status.st_ino, status.st_size) for name, status in found.items()}


def _writers(lab: Lab, inside: Path) -> dict[str, list[str]]:
    """Command lines that would write below `inside`."""
    vault, evidence, key = str(lab.folder / "vault"), str(lab.folder / "evidence"), str(lab.folder / "ana")
    push = [evidence, vault, *ITEM, "--sign-key", key, *_SIGN]
    return {
        "report": ["report", vault, "--case", ITEM[1], "-o", str(inside / "r.html")],
        "report signed": ["report", vault, "--case", ITEM[1], "-o", str(inside / "r.json"), "--sign", "--sign-key", key],
        "export a folder": ["export", vault, str(inside / "bag"), *ITEM, "--format", "bagit"],
        "export a file": ["export", vault, str(inside / "known"), *ITEM, "--format", "hashdeep"],
        "restore": ["restore", vault, str(inside / "copy"), *ITEM],
        "timestamp request": ["timestamp", "request", vault, *ITEM, "-o", str(inside / "r.tsq")],
        "init": ["init", str(inside / "inner")],
        "push": ["push", *push, "--receipts", str(inside / "receipts")],
        "push, deeper": ["push", *push, "--receipts", str(inside / "deep" / "er" / "receipts")],
        "watch": ["watch", *push, "--receipts", str(inside / "receipts")],
        "pull": ["pull", "ssh://ana@127.0.0.1:1/evidence", *push[1:], "-i", key, "--receipts", str(inside / "receipts")],
    }


@pytest.mark.parametrize("way", ["vault", "vault/cases", "vault/cases/2024-017/LAPTOP-1/acquisitions/0001/data", "link/cases"])
def test_nothing_but_evidence_is_written_into_a_vault(way: str, lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    (lab.folder / "link").symlink_to("vault")
    before = _tree(lab.folder / "vault")
    for name, line in _writers(lab, lab.folder / way).items():
        code = run_in_process(line)
        err = capfd.readouterr().err
        assert (code, "lies in" in err) == (2, True), (name, code, err)
    assert _tree(lab.folder / "vault") == before


def test_a_vault_that_is_mounted_once_more_is_a_vault_there_too(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """The whole of it, and one folder of it: of that no folder above is the vault's."""
    before = _tree(lab.folder / "vault")
    with (
        bound(lab.folder / "vault", lab.folder / "whole") as whole,
        bound(lab.folder / "vault/cases", lab.folder / "part") as part,
    ):
        for place in (whole, part):
            for name, line in _writers(lab, place).items():
                if name == "init" and place == part:
                    continue  # no vault is named, and that this is a part of one cannot be seen from there
                code = run_in_process(line)
                err = capfd.readouterr().err
                assert (code, "lies in" in err) == (2, True), (name, code, err)
    assert _tree(lab.folder / "vault") == before


@pytest.mark.parametrize("variable", ["EVIDENCESYNC_RECEIPTS", "EVIDENCESYNC_STATE"])
@pytest.mark.parametrize("place", ["vault/own", "evidence/own"])
def test_what_this_machine_keeps_lies_neither_in_the_vault_nor_in_the_source(
    variable: str, place: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(variable, str(lab.folder / place))
    before = [_tree(lab.folder / name) for name in ("vault", "evidence")]
    push = ["push", str(lab.folder / "evidence"), str(lab.folder / "vault"), *ITEM, "--sign-key", str(lab.folder / "ana"), *_SIGN]
    assert run_in_process(push) == 2
    assert "lies in the" in capfd.readouterr().err
    assert [_tree(lab.folder / name) for name in ("vault", "evidence")] == before
    if variable == "EVIDENCESYNC_STATE" and place == "vault/own":
        assert run_in_process(["verify", str(lab.folder / "vault")]) == 0
        assert "not-remembered" in capfd.readouterr().out
        assert _tree(lab.folder / "vault") == before[0]


@pytest.mark.parametrize("name", ["folder/", "x.html/", "x.html/.", "x.html/..", "-", "", "."])
def test_what_is_to_be_a_file_is_not_named_like_a_folder_or_a_stream(
    name: str, lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = lab.folder / "out"
    place.mkdir()
    monkeypatch.chdir(place)
    vault = str(lab.folder / "vault")
    for line in (
        ["report", vault, "--case", ITEM[1], "-o", name],
        ["timestamp", "request", vault, *ITEM, "-o", name],
        ["export", vault, name, *ITEM, "--format", "hashdeep"],
        ["export", vault, name, *ITEM, "--format", "bagit", "--encrypt-to", str(lab.folder / "ana.pub")],
        ["serve", "--vault", vault, "--listen", "127.0.0.1:0", "--authorized-keys", "/dev/null", "--host-key", name],
    ):
        assert run_in_process(line) == 2, line
        assert "hint: " in capfd.readouterr().err, line
    assert os.listdir(place) == []


def test_a_path_that_is_empty_is_not_the_current_folder(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = lab.folder / "out"
    place.mkdir()
    monkeypatch.chdir(place)
    vault = str(lab.folder / "vault")
    push = ["push", str(lab.folder / "evidence"), vault, *ITEM, "--sign-key", str(lab.folder / "ana"), *_SIGN]
    for line in ([*push, "--receipts", ""], ["export", vault, "", *ITEM, "--format", "bagit"], ["restore", vault, "", *ITEM]):
        assert run_in_process(line) == 2, line
        assert "hint: " in capfd.readouterr().err, line
    assert os.listdir(place) == []


def test_a_host_key_is_not_made_in_the_evidence(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    before = _tree(lab.folder / "vault")
    place = lab.folder / "vault/cases/2024-017/host_key"
    line = ["serve", "--vault", str(lab.folder / "vault"), "--listen", "127.0.0.1:0", "--authorized-keys", "/dev/null"]
    assert run_in_process([*line, "--host-key", str(place)]) == 2
    assert "in a vault" in capfd.readouterr().err
    assert _tree(lab.folder / "vault") == before


def test_receipts_may_be_a_link_to_another_disk(lab: Lab, capfd: pytest.CaptureFixture[str]) -> None:
    """Also the default one; and what was seen is remembered, so that a vault that was put back is noticed."""
    vault, default = lab.folder / "vault", lab.folder / "home/.local/share/evidencesync/receipts"
    push = ["push", str(lab.folder / "evidence"), str(vault), *ITEM, "--sign-key", str(lab.folder / "ana"), *_SIGN]
    with mounted("tmpfs", lab.folder, 256 << 20, find_program) as disk:
        for name in ("chosen", "default"):
            (disk / name).mkdir()
        default.rename(default.with_name("before"))
        default.symlink_to(disk / "default")
        (lab.folder / "receipts").symlink_to(disk / "chosen")
        subprocess.run(["cp", "-a", vault, lab.folder / "backup"], check=True)
        assert run_in_process([*push, "--receipts", str(lab.folder / "receipts")]) == 0, capfd.readouterr().err
        assert run_in_process(push) == 0, capfd.readouterr().err
        assert os.listdir(disk / "chosen") == ["2024-017-LAPTOP-1-0002"]
        assert os.listdir(disk / "default") == ["2024-017-LAPTOP-1-0003"]
        assert run_in_process(["receipts", "check"]) == 0, capfd.readouterr().err
        assert run_in_process(["verify", str(lab.folder / "backup")]) == 34


def test_a_vault_in_the_source_and_a_source_in_the_vault_are_refused_however_they_are_reached(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    vault, key = lab.folder / "vault", str(lab.folder / "ana")

    def push(source: Path, into: Path, *more: str) -> int:
        return run_in_process(["push", str(source), str(into), *ITEM, "--sign-key", key, *_SIGN, *more])

    (tmp_path / "alias").symlink_to(lab.folder)
    file = vault / "cases/2024-017/LAPTOP-1/acquisitions/0001/manifest.jsonl"
    for source, into in (
        (lab.folder, vault),
        (tmp_path / "alias", vault),
        (vault / "cases", vault),
        (file, vault),
        (vault, vault),
    ):
        assert push(source, into) == 2, source
        assert "one inside the other" in capfd.readouterr().err
    assert push(lab.folder, vault, "--one-file-system") == 2  # it is on the same one
    with bound(lab.folder, tmp_path / "once more") as again, bound(vault / "cases", tmp_path / "cases") as cases:
        for source in (again, cases):
            assert push(source, vault) == 2, source
            assert "one inside the other" in capfd.readouterr().err


def test_a_vault_on_a_disk_of_its_own_can_take_the_machine_that_it_is_mounted_on(
    lab: Lab, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    machine = tmp_path / "machine"
    (machine / "etc").mkdir(parents=True)
    (machine / "etc" / "passwd").write_bytes(b"root")
    sign = ("--sign-key", str(lab.folder / "ana"), *_SIGN)
    with mounted("tmpfs", machine, 256 << 20, find_program) as disk:
        vault = disk / "vault"
        assert run_in_process(["init", str(vault), "--trust", str(lab.folder / "ana.pub"), "--principal", "ana@lab"]) == 0
        assert run_in_process(["push", str(machine), str(vault), *ITEM, *sign]) == 2
        assert "--one-file-system" in capfd.readouterr().err
        assert run_in_process(["push", str(machine), str(vault), *ITEM, *sign, "-x"]) == 0, capfd.readouterr().err
        assert run_in_process(["verify", str(vault)]) == 0
        data = vault / "cases/2024-017/LAPTOP-1/acquisitions/0001/data"
        assert sorted(str(path.relative_to(data)) for path in data.rglob("*") if path.is_file()) == ["etc/passwd"]


def test_known_hosts_are_added_to_a_file_that_is_one_and_lies_in_no_vault(lab: Lab, tmp_path: Path) -> None:
    key = ("vault.lab", "ssh-ed25519 AAAA")
    (tmp_path / "hosts").write_bytes(b"other ssh-ed25519 BBBB\n")
    (tmp_path / "link").symlink_to("hosts")
    remember_host_key(tmp_path / "link", *key)
    assert (tmp_path / "hosts").read_bytes() == b"other ssh-ed25519 BBBB\nvault.lab ssh-ed25519 AAAA\n"
    before = _tree(lab.folder / "vault")
    for inside in ("vault/known_hosts", "vault/cases/new/known_hosts"):
        with pytest.raises(UsageError, match="in a vault"):
            remember_host_key(lab.folder / inside, *key)
    assert _tree(lab.folder / "vault") == before
    (tmp_path / "nowhere").symlink_to("not-there")
    os.mkfifo(tmp_path / "fifo")
    for bad in (tmp_path / "nowhere", tmp_path / "fifo", tmp_path):
        with pytest.raises(ConfigurationError):
            remember_host_key(bad, *key)
    assert not (tmp_path / "not-there").exists()
