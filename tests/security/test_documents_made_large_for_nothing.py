"""A document that was made many TiB long at no cost is refused by every command, and not read to its end."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import ITEM, Lab
from tests.support.every_command import run_in_process
from tests.support.made_large import grow, not_for_ever

DOCUMENTS: Final = ("manifest.jsonl", "SHA256SUMS", "BLAKE3SUMS", "chunks.bin")


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    with not_for_ever():
        yield


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.make(tmp_path_factory.mktemp("large"))
    lab.write("notes.txt", b"hello")
    lab.write("image", os.urandom(700_000))
    assert lab.push().code == 0
    lab.write("notes.txt", b"hello again")
    assert lab.push().code == 0
    (lab.folder / "verdict.json").write_text(lab.run("verify", "vault", "--json").out)
    return lab


def commands(here: Path) -> dict[str, list[str]]:
    vault, number = f"{here}/vault", ["--acquisition", "2"]
    report = ["report", vault, "--case", "2024-017"]
    manifest = f"{vault}/cases/2024-017/LAPTOP-1/acquisitions/0002/manifest.jsonl"
    return {
        "verify": ["verify", vault],
        "restore": ["restore", vault, f"{here}/copy", *ITEM, *number],
        "export": ["export", vault, f"{here}/bag", *ITEM, *number, "--format", "bagit"],
        "report": [*report, "-o", f"{here}/report.html"],
        "report of an earlier verdict": [*report, "-o", f"{here}/report.json", "--verdict", f"{here}/verdict.json"],
        "diff": ["diff", vault, "1", "2", *ITEM],
        "show": ["show", vault, *ITEM, *number],
        "list": ["list", vault],
        "compare": ["compare", manifest, f"{here}/evidence"],
        "receipts": ["receipts", "check", "--vault", vault],
        "reindex": ["reindex", vault],
        "push": ["push", f"{here}/evidence", vault, *ITEM, "--sign-key", f"{here}/ana", "--examiner", "Ana"],
    }


REFUSED: Final = {"verify", "restore", "export", "report"}
SUMS: Final = ("SHA256SUMS", "BLAKE3SUMS")
NOT_OF_THE_SUMS: Final = {"restore"}
"""A working copy is compared with the manifest, and not with what lists the same for other programs."""
OF_THE_MANIFEST: Final = {"compare", "diff"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_command_reads_it_to_its_end(
    template: Lab, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(template.folder, tmp_path, dirs_exist_ok=True, symlinks=True)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    lab = Lab(tmp_path)
    grow(lab.acquisition(2) / name)
    codes = {}
    for command, line in commands(tmp_path).items():
        codes[command] = run_in_process(line)
        assert "defect" not in capfd.readouterr().err, command
    refused = (REFUSED - NOT_OF_THE_SUMS if name in SUMS else REFUSED) | (OF_THE_MANIFEST if name == "manifest.jsonl" else set())
    assert {command for command in refused if not codes[command]} == set(), codes
