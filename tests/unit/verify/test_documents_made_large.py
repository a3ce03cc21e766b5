"""A document that was made many TiB long at no cost is known before it is read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from evidencesync.delta.recipe import most_bytes
from evidencesync.files.holes import has_empty_run
from tests.support.made_large import grow, not_for_ever
from tests.unit.verify.sample import Made, only, slugs

FOUND: Final = {  # kind and exit code
    "manifest.jsonl": ("malformed-document", 32),
    "SHA256SUMS": ("sums-differ", 30),
    "BLAKE3SUMS": ("sums-differ", 30),
    "chunks.bin": ("document-damaged", 30),
}
SMALL: Final = ("manifest.jsonl.sig", "receipt.json", "receipt.json.sig", "acquired.json", "received.json.sig")


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    with not_for_ever():
        yield


@pytest.mark.parametrize("name", FOUND)
def test_verify_finds_it_for_what_it_is(made: Made, name: str) -> None:
    grow(made.acquisition(2) / name)
    verdict = made.audit()
    slug, code = FOUND[name]
    assert (verdict.verdict, verdict.exit_code) == ("fail", code)
    assert {one.path for one in verdict.findings if one.slug == slug} == {f"{made.acquisition(2).relative_to(made.path)}/{name}"}


def test_a_file_of_zeros_alone_is_none_of_ours(made: Made) -> None:
    for name in FOUND:
        (made.acquisition(2) / name).unlink()
        (made.acquisition(2) / name).touch(0o444)
        grow(made.acquisition(2) / name)
    assert made.audit().exit_code == 32


@pytest.mark.parametrize("where", ["acquisition", "custody", "vault"])
def test_small_documents_have_bounds_of_their_own(made: Made, where: str) -> None:
    if where == "acquisition":
        files = [made.acquisition(1) / name for name in SMALL]
    elif where == "custody":
        files = [*(made.item / "custody").iterdir(), *(made.path / "custody").iterdir()]
    else:
        files = [made.path / name for name in ("vault.toml", "vault_key.pub", "trusted_signers", "revoked_keys")]
    for file in files:
        grow(file)
    verdict = made.audit()
    assert verdict.verdict != "pass"
    assert {str(file.relative_to(made.path)) for file in files} <= {one.path for one in verdict.findings}


def test_a_stored_file_is_compared_by_its_size_first(made: Made) -> None:
    for name in ("a.txt", "image.bin"):
        grow(made.acquisition(2) / "data" / name)
    assert slugs(made.audit()) == {"file-extended"}


def test_recipes_that_are_too_many_for_the_evidence_are_not_read(made: Made) -> None:
    """No file system has to tell of holes for that."""
    file = made.acquisition(2) / "chunks.bin"
    file.chmod(0o644)
    file.write_bytes(b"x" * (most_bytes(9, 1 << 21) + 1))
    file.chmod(0o444)
    found = only(made.audit(), "document-damaged")
    assert "larger than it can be" in found.message


def test_what_somebody_wrote_has_no_empty_run(tmp_path: Path) -> None:
    for number, data in enumerate((b"", b"x", b"text\n" * 100_000, bytes(100), bytes(1 << 20))):
        file = tmp_path / str(number)
        file.write_bytes(data)
        with file.open("rb") as stream:
            assert not has_empty_run(stream.fileno())
            os.truncate(file, len(data) + (1 << 20))
            assert has_empty_run(stream.fileno())
            assert os.lseek(stream.fileno(), 0, os.SEEK_CUR) == 0
