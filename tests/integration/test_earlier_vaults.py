"""Vaults and receipts that earlier versions made are read, verified and continued: see `tests/earlier/make.sh`."""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import Lab, schema_errors

ARCHIVES: Final = sorted((Path(__file__).parents[1] / "earlier").glob("*.tar.xz"))
E1: Final = ("--case", "2026/11", "--item", "E1")
E3: Final = ("--case", "2026/11", "--item", "E3")
KEY: Final = ("--sign-key", "ana")


@pytest.fixture(params=ARCHIVES, ids=lambda path: path.name.split(".")[0])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Lab:
    """What an earlier version left on one machine: vault, key, receipts and remembered heads where they are looked for."""
    with tarfile.open(request.param) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    shared = tmp_path / "home" / ".local"
    shared.mkdir(parents=True)
    for kept, place in (("data", "share"), ("state", "state")):
        if (tmp_path / kept).exists():
            (tmp_path / kept).rename(shared / place)
    said = [(name, "manifest@evidencesync,custody@evidencesync", f"{name.split('@')[0]}.pub") for name in ("ana@lab", "ben@lab")]
    said += [("vault", "receipt@evidencesync,custody@evidencesync", "vault/vault_key.pub")]
    lines = [f'{name} namespaces="{spaces}" {(tmp_path / file).read_text().strip()}\n' for name, spaces, file in said]
    (tmp_path / "trusted").write_text("".join(lines))
    return Lab(tmp_path)


def test_there_is_an_archive_of_each_kind() -> None:
    assert len(ARCHIVES) >= 5


def test_it_is_verified_and_its_evidence_comes_back(lab: Lab) -> None:
    done = lab.run("verify", "vault", "--all-digests", "--json")
    assert (done.code, done.document["verdict"]) == (0, "pass"), done
    assert schema_errors(done.document, "verify-output") == []
    done = lab.run("receipts", "check", "--vault", "vault", "--trusted", "trusted", "--json")
    with_manifest = next(lab.folder.glob("home/.local/share/*/receipts/*/manifest.jsonl"), None) is not None
    assert done.code == (0 if with_manifest else 3), done  # the first versions kept none, so it cannot be compared
    assert {one["slug"] for receipt in done.document["receipts"] for one in receipt["problems"]} <= {"source-unreadable"}
    done = lab.run("diff", "vault", "1", "2", *E1, "--json")
    assert done.code == 0, done
    assert lab.run("restore", "vault", "copy", *E1, "--acquisition", "1").code == 0
    listed = [line.split(b"  ", 1)[0].lstrip(b"\\") for line in (lab.folder / "first.sha256").read_bytes().splitlines()]
    assert sorted(_digests(lab.folder / "copy")) == sorted(listed)


def test_it_is_continued(lab: Lab) -> None:
    assert lab.run("restore", "vault", "copy", *E1, "--acquisition", "1").code == 0
    done = lab.run("push", "copy", "vault", *E1, *KEY, "--json")
    assert (done.code, done.document["acquisition"]) == (0, 3), done
    assert done.document["literal_bytes"] < 1000  # all that is large is in the vault already
    assert lab.run("custody", "note", "vault", *E1, *KEY, "--text", "continued").code == 0
    # A transfer that was cut short lies there.
    assert len(list(lab.folder.glob("vault/cases/*/E3/incoming/*"))) == 1
    assert lab.run("push", "copy", "vault", *E3, *KEY).code == 0
    assert lab.run("clean", "vault", "--yes").code == 0
    done = lab.run("verify", "vault", "--json")
    assert (done.code, [one for one in done.document["findings"] if one["severity"] != "info"]) == (0, []), done
    assert lab.run("report", "vault", "--case", "2026/11", "-o", "report.json").code == 0


def _digests(folder: Path) -> Iterator[bytes]:
    for place, _, names in os.walk(os.fsencode(folder)):
        for name in (os.path.join(place, one) for one in names):
            if stat.S_ISREG(os.lstat(name).st_mode):
                with open(name, "rb") as file:
                    yield hashlib.file_digest(file, "sha256").hexdigest().encode()
