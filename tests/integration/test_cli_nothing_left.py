"""An acquisition of nothing: refused, and possible on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus.lister import read_manifest
from tests.integration.cli_program import Lab, schema_errors


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("logs/one.log", b"one")
    return made


def entries(lab: Lab, number: int = 1) -> dict[bytes, list[str] | None]:
    return {path: entry.get("flags") for path, entry in read_manifest(lab.acquisition(number) / "manifest.jsonl")[1].items()}


def test_filters_that_leave_nothing_are_an_error_and_nothing_is_made(lab: Lab) -> None:
    for dry in ((), ("--dry-run",)):
        done = lab.push("--exclude", "*", "--include", "no such", *dry, "--json")
        assert (done.code, done.error["slug"]) == (2, "nothing-left"), done
        assert "--allow-empty" in done.error["hint"]
        assert not (lab.folder / "vault/cases/2024-017").exists()


def test_nothing_can_be_acquired_on_purpose(lab: Lab) -> None:
    assert lab.push("--exclude", "*", "--allow-empty", "--dry-run").code == 0
    done = lab.push("--exclude", "*", "--allow-empty", "--json")
    assert (done.code, done.document["files"], done.document["flags"]) == (0, 0, {"skipped": 2}), done
    assert entries(lab) == {b"": None, b"logs": ["skipped"], b"notes.txt": ["skipped"]}
    assert lab.run("verify", "vault").code == 0


def test_an_empty_source_is_refused_as_a_disk_that_is_not_mounted_would_be_one(lab: Lab) -> None:
    (lab.folder / "hollow/only a folder").mkdir(parents=True)
    for options in ((), ("--exclude", "*.tmp"), ("--dry-run",), ("--skip-unchanged",)):
        done = lab.push(*options, "--json", source="hollow")
        assert (done.code, done.error["slug"]) == (2, "nothing-left"), done
        assert done.error["message"] == "the source is empty: there is no file in it"
        assert "mounted" in done.error["hint"]
        assert "--allow-empty" in done.error["hint"]
        assert not (lab.folder / "vault/cases/2024-017").exists()


def test_an_empty_source_can_be_acquired_on_purpose_and_is_said(lab: Lab) -> None:
    (lab.folder / "hollow").mkdir()
    done = lab.push("--allow-empty", source="hollow")
    assert done.code == 0, done
    assert "NOTHING      the source is empty" in done.out
    assert "NOTHING" not in lab.push().out
    assert "the source is empty" in lab.push("--dry-run", "--allow-empty", source="hollow").out


def test_a_list_of_which_nothing_is_there_is_an_error(lab: Lab) -> None:
    option, answer = "--files-from", "evidence/notes.txt\nevidence/logs/one.log\n"
    done = lab.push(option, "-", "--json", answer=answer)
    assert (done.code, done.error["slug"]) == (2, "nothing-left"), done
    assert "relative to the source" in done.error["hint"]
    assert not (lab.folder / "vault/cases/2024-017").exists()
    assert lab.push(option, "-", "--dry-run", answer=answer).code == 2
    done = lab.push(option, "-", "--allow-empty", answer=answer)
    assert done.code == 3, done
    assert "listed but not there: evidence/notes.txt" in done.out
    assert "vanished" not in done.out
    assert lab.run("verify", "vault").code == 0


def test_some_names_that_are_not_there_are_a_gap_that_is_counted(lab: Lab) -> None:
    answer = "notes.txt\nno/such\n"
    done = lab.push("--files-from", "-", answer=answer)
    assert done.code == 3, done
    for part in ("2 entries listed but not there", "listed but not there: no/such", "relative to the source"):
        assert part in done.out
    assert "vanished" not in done.out
    looked = lab.push("--files-from", "-", "--dry-run", answer=answer)
    assert looked.code == 3, looked
    assert "listed but not there: no/such" in looked.out
    for document in (
        lab.push("--files-from", "-", "--json", answer=answer).document,
        lab.push("--files-from", "-", "--json", "--dry-run", answer=answer).document,
    ):
        assert (document["listed_not_there"], document["flags"]) == (2, {"vanished": 2})
    assert schema_errors(document, "push-dry-run-output") == []


def test_this_runs_own_state_in_the_source_is_left_out_and_said(lab: Lab) -> None:
    home = lab.folder / "home"
    (home / "notes.txt").write_bytes(b"mine")
    own = {b".local/share/evidencesync/receipts", b".local/state/evidencesync/heads"}
    for number in (1, 2):
        done = lab.push(source="home")
        assert done.code == 0, done
        assert "own state    left out, for it is no evidence" in done.out
        found = entries(lab, number)
        assert {path for path, flags in found.items() if flags == ["skipped"]} == own
        assert not any(path.startswith(b".local/share/evidencesync/receipts/") for path in found)
        assert found[b"notes.txt"] is found[b".local/state/evidencesync"] is None
        assert sum("own-folder" in line for line in lab.header(number)["method"]["filters"]) == 2
    looked = lab.push("--dry-run", "--json", source="home").document
    assert (looked["flags"], looked["verdict"]) == ({"skipped": 2}, "complete")
    assert lab.run("verify", "vault").code == 0


def test_a_folder_for_receipts_that_holds_something_else_stays_evidence(lab: Lab) -> None:
    """The user's own one. Whoever names a folder for receipts may not name one in the source."""
    papers = "papers/evidencesync/receipts"
    lab.write(f"{papers}/letter.txt", b"Dear Sir")
    assert lab.push("--receipts", f"evidence/{papers}").code == 2
    done = lab.push(env={"XDG_DATA_HOME": str(lab.folder / "evidence" / "papers")})
    assert done.code == 0, done
    found = entries(lab)
    assert found[f"{papers}/letter.txt".encode()] is None
    assert [path for path, flags in found.items() if flags == ["skipped"]] == [
        path for path in found if path.startswith(f"{papers}/.new-".encode())
    ]
    assert lab.run("verify", "vault").code == 0
