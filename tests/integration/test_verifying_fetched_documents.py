"""`verify --fetch`: the documents of a vault behind a forced command are checked here, and its evidence is read there."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.test_custody import _far
from tests.integration.test_verifying_from_afar import damaged, lacking, rolled_back, unlisted, whole
from tests.support.patience import wait_until

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    made.write("image.dd", bytes(range(256)) * 2000)
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files lie; nothing of ours may stay there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("spoil", [whole, damaged, lacking, unlisted, rolled_back])
def test_a_vault_is_as_good_as_it_is_for_who_is_there(
    lab: Lab, sshd: Sshd, temporary: Path, spoil: Callable[[Lab], None]
) -> None:
    spoil(lab)
    far, options = _far(lab, sshd, forced=True)
    here = lab.run("verify", "vault", "--json")
    afar = lab.run("verify", far, "--fetch", "--json", "--sign-key", "ana", *options)
    assert afar.code == here.code, afar
    assert schema_errors(afar.document, "verify-output") == []
    errors = [{one["slug"] for one in done.document["findings"] if one["severity"] == "error"} for done in (here, afar)]
    assert errors[0] == errors[1]
    by = afar.document["by_vault"]
    assert by["documents"] == ("fail" if spoil in (unlisted, rolled_back) else "pass")
    assert by["verdict"] == ("pass" if spoil in (whole, rolled_back) else "fail")


def test_people_are_told_what_was_checked_where(lab: Lab, sshd: Sshd, temporary: Path) -> None:
    far, options = _far(lab, sshd, forced=True)
    damaged(lab)
    done = lab.run("verify", far, "--fetch", "--log", "log.jsonl", *ITEM, "--sign-key", "ana", *options)
    told = [json.loads(line) for line in (lab.folder / "log.jsonl").read_text().splitlines()]
    assert [one["event"] for one in told] == ["begun", "read", "verdict", "ended"]
    assert told[1]["what"] == "documents"
    assert told[1]["files"] > 0
    assert told[1]["bytes"] > 0
    first, second, *lines = done.out.splitlines()
    assert first == "documents: fetched, and checked here: PASS"
    assert second == f"evidence:  read by the vault at {far}: FAIL"
    at = next(number for number, line in enumerate(lines) if line.startswith("checked 1 acquisition, "))
    word, rest = " ".join(" ".join(lines[:at]).split()), lines[at + 1 :]
    assert word.startswith("signed with its own key SHA256:")
    assert word.endswith("what it says of its bytes is its word")
    assert any(line.startswith("error: [7 file-damaged] the vault says: ") for line in rest)
    assert (done.code, rest[-1]) == (30, "verdict: FAIL")


def test_signers_heads_and_timestamps_of_one_s_own_are_held_against_the_documents(lab: Lab, sshd: Sshd, temporary: Path) -> None:
    far, options = _far(lab, sshd, forced=True)
    reading = ("--fetch", "--json", "--sign-key", "ana", *options)
    lab.make_key("eve")
    own, foreign = lab.folder / "own", lab.folder / "foreign"
    own.write_text("".join((lab.folder / "vault" / name).read_text() for name in ("trusted_signers",)))
    foreign.write_text(f"eve@lab {(lab.folder / 'eve.pub').read_text()}")
    passed = lab.run("verify", far, "--trusted", "own", *reading)
    assert (passed.code, passed.document["trust"]) == (0, "outside")
    head = next(one["sha256"] for one in passed.document["heads"] if one["case"] is not None)
    assert lab.run("verify", far, "--expect-head", head, *reading).code == 0
    assert lab.run("verify", far, "--expect-head", "0" * 64, *reading).code == 34
    assert lab.run("verify", far, "--trusted", "foreign", *reading).code == 32
    assert lab.run("verify", "vault", "--fetch").code == 2


def test_one_acquisition_is_recorded_and_the_vault_s_verdict_is_kept(lab: Lab, sshd: Sshd, temporary: Path) -> None:
    lab.write("notes.txt", b"again")
    assert lab.push().code == 0
    far, options = _far(lab, sshd, forced=True)
    part = (*ITEM, "--acquisition", "2")
    done = lab.run("verify", far, "--fetch", *part, "--record", "-o", "said.json", "--json", "--sign-key", "ana", *options)
    assert done.code == 0, done
    assert schema_errors(done.document, "verify-record-output") == []
    assert json.loads((lab.folder / "said.json").read_text())["verdict"]["verdict"] == "pass"
    record = json.loads(next((lab.folder / "vault").glob("cases/*/*/custody/0005-verified.json")).read_text())
    assert record["details"]["checked_by"].startswith("documents: the person who signs this; evidence: the vault itself, ")
    assert done.document["checked"]["acquisitions"] == 1
    assert lab.run("verify", "vault").code == 0


def test_an_interrupt_leaves_no_documents_behind(lab: Lab, sshd: Sshd, temporary: Path) -> None:
    with (lab.folder / "evidence" / "large").open("wb") as large:
        large.truncate(1 << 30)
    assert lab.push().code == 0
    far, options = _far(lab, sshd, forced=True)
    process = lab.start("verify", far, "--fetch", "--all-digests", "--sign-key", "ana", *options)
    wait_until(lambda: any(temporary.glob("evidencesync-documents-*/cases/*/*/acquisitions/0002/receipt.json")))
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert process.returncode == 130
