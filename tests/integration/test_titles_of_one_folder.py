"""Two numbers of cases or items can make the same folder. Whoever asks for one is never told of the other as if it were it."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from evidencesync.evidence.identity import Title
from tests.integration.cli_program import Lab

CASE, EXHIBIT = "A/17 b", "\u00dc 1"
THERE: Final = ("--case", CASE, "--item", EXHIBIT)
OTHERS: Final = (
    ("--case", Title(CASE).folder, "--item", EXHIBIT),
    ("--case", CASE, "--item", Title(EXHIBIT).folder),
    ("--case", Title(CASE).folder, "--item", Title(EXHIBIT).folder),
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("titles"))
    made.write("notes.txt", b"hello")
    assert made.run("push", "evidence", "vault", *THERE, "--sign-key", "ana").code == 0
    return made


@pytest.mark.parametrize("other", OTHERS)
def test_a_number_that_the_vault_does_not_have_is_not_there_for_every_command_that_reads(
    lab: Lab, other: tuple[str, ...]
) -> None:
    """And what this machine has seen of the item whose folder it is says nothing against anybody."""
    verdict = lab.run("verify", "vault", *other, "--json")
    assert (verdict.code, verdict.document["verdict"]) == (10, "incomplete")
    assert {one["slug"] for one in verdict.document["findings"]} == {"not-there"}
    for command in (
        ("restore", "vault", "copy"),
        ("export", "vault", "list", "--format", "hashdeep"),
        ("report", "vault", "-o", "report.json"),
        ("list", "vault"),
        ("show", "vault"),
        ("custody", "show", "vault"),
        ("timestamp", "show", "vault"),
    ):
        done = lab.run(*command, *other, "--json")
        assert (done.code, done.error["slug"]) == (10, "not-there"), (command, done)
    assert not any((lab.folder / name).exists() for name in ("copy", "list", "report.json"))


def test_a_case_that_the_vault_does_not_have_is_not_there(lab: Lab) -> None:
    verdict = lab.run("verify", "vault", "--case", Title(CASE).folder, "--json")
    assert (verdict.code, {one["slug"] for one in verdict.document["findings"]}) == (10, {"not-there"})
    assert lab.run("verify", "vault", "--case", CASE).code == 0


@pytest.mark.parametrize("other", OTHERS)
def test_nothing_is_recorded_about_an_item_that_was_not_asked_for(lab: Lab, other: tuple[str, ...]) -> None:
    before = sorted((lab.folder / "vault").rglob("custody/*"))
    assert lab.run("verify", "vault", *other, "--record", "--sign-key", "ana").code == 10
    for command in (("custody", "note", "vault", "--text", "x"), ("push", "evidence", "vault")):
        done = lab.run(*command, *other, "--sign-key", "ana", "--json")
        assert (done.code, done.error["slug"]) == (2, "name-clash"), done
    assert sorted((lab.folder / "vault").rglob("custody/*")) == before


@pytest.mark.parametrize("other", OTHERS)
def test_what_was_seen_of_an_item_is_not_forgotten_under_the_number_of_another(lab: Lab, other: tuple[str, ...]) -> None:
    vault_id = lab.run("list", "vault", "--json").document["vault_id"]
    heads = {file: file.read_bytes() for file in Path(lab.folder).rglob("heads/*/*.json")}
    assert len(heads) == 2
    assert lab.run("receipts", "forget-head", vault_id, *other, "--yes").code == 10
    assert {file: file.read_bytes() for file in Path(lab.folder).rglob("heads/*/*.json")} == heads
