"""What is read of a source, and the dry run that says so beforehand."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from tests.corpus.lister import differences, list_folder, read_manifest
from tests.integration.cli_program import ITEM, Lab, schema_errors


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("large", bytes(5000))
    made.write("logs/one.log", b"one")
    made.write("logs/two.log", b"two")
    return made


def entries(lab: Lab, number: int = 1) -> dict[bytes, list[str] | None]:
    return {path: entry.get("flags") for path, entry in read_manifest(lab.acquisition(number) / "manifest.jsonl")[1].items()}


def test_only_what_is_listed_is_acquired_and_the_header_names_the_list(lab: Lab) -> None:
    listed = b"notes.txt\n./logs/one.log\n"
    (lab.folder / "list").write_bytes(listed)
    done = lab.push("--files-from", "list")
    assert done.code == 0, done
    assert entries(lab) == {b"": None, b"logs": None, b"logs/one.log": None, b"notes.txt": None}
    digest = hashlib.sha256(listed).hexdigest()
    assert lab.header()["method"]["filters"] == [f"files-from 2 names, sha256 {digest}"]
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize("more", [(), ("--dry-run",), ("--quiet",)])
def test_an_include_without_an_exclude_is_said_to_do_nothing(more: tuple[str, ...], lab: Lab) -> None:
    said = lab.push("--include", "notes.txt", *more)
    assert said.code == 0, said
    assert "warning: without --exclude an --include does nothing" in said.err
    assert "does nothing" not in lab.push("--include", "notes.txt", "--exclude", "*", *more).err


def test_a_list_of_files_may_lie_in_the_home_folder(lab: Lab) -> None:
    (lab.folder / "home" / "list").write_bytes(b"notes.txt\n")
    assert lab.push("--files-from", "~/list", "--dry-run").code == 0


def test_a_listed_name_that_is_not_there_is_a_gap_that_is_named(lab: Lab) -> None:
    done = lab.push("--files-from", "-", "--json", answer="notes.txt\nno/such\n")
    assert done.code == 3, done
    assert schema_errors(done.document, "push-output") == []
    assert (done.document["verdict"], done.document["flags"]) == ("gaps", {"vanished": 2})
    assert entries(lab) == {b"": None, b"no": ["vanished"], b"no/such": ["vanished"], b"notes.txt": None}
    assert lab.run("verify", "vault").code == 0
    beside = lab.push("-0", "-", answer="notes.txt\0notes.txt/below\0logs/one.log\0")
    assert beside.code == 3, beside
    assert "listed names that lie behind something that is no folder: 1" in beside.out
    assert "listed but not there: notes.txt/below" in beside.out
    assert "vanished" not in beside.out
    assert read_manifest(lab.acquisition(2) / "manifest.jsonl")[2]["remarks"] == {"listed-not-reached": 1}
    assert lab.run("verify", "vault").code == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--files-from", "nowhere"), "cannot read the list of files nowhere"),
        (("--files-from", "empty"), "names nothing"),
        (("--files-from", "absolute"), "absolute path"),
        (("--files-from", "empty", "-0", "empty"), "exclude one another"),
        (("--files-from", "list", "--note", "a single file"), "needs a folder"),
        (("--max-size", "many"), "not a size"),
        (("--max-size", "-1"), "not a size"),
        (("--exclude", "[[:digit:]]"), "named character classes"),
    ],
)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_a_rule_that_cannot_be_meant_is_refused_and_nothing_is_made(
    lab: Lab, options: tuple[str, ...], said: str, dry: tuple[str, ...]
) -> None:
    (lab.folder / "empty").write_bytes(b"\n")
    (lab.folder / "absolute").write_bytes(b"/etc/passwd\n")
    (lab.folder / "list").write_bytes(b"large\n")
    done = lab.push(*options, *dry, "--json", source="evidence/large" if "a single file" in options else "evidence")
    assert (done.code, done.error["slug"]) == (2, "usage"), done
    assert said in done.error["message"]
    assert not (lab.folder / "vault/cases/2024-017").exists()


def test_what_is_too_large_is_listed_as_left_out(lab: Lab) -> None:
    done = lab.push("--max-size", "4K", "--one-file-system")
    assert done.code == 0, done
    assert entries(lab)[b"large"] == ["skipped"]
    assert not (lab.acquisition() / "data/large").exists()
    assert lab.header()["method"]["filters"] == ["max-size 4096", "one-file-system"]
    assert lab.run("verify", "vault").code == 0


def test_a_dry_run_says_what_a_push_would_take_and_changes_nothing(lab: Lab) -> None:
    os.mkfifo(lab.folder / "evidence/fifo")
    before, source = list_folder(lab.folder), list_folder(lab.folder / "evidence")
    options = ("--exclude", "*.log", "--max-size", "4K", "--dry-run")
    done = lab.push(*options, "--json")
    assert done.code == 0, done
    assert schema_errors(done.document, "push-dry-run-output") == []
    said = done.document
    assert (said["files"], said["bytes"], said["flags"]) == (1, 5, {"skipped": 3})
    assert said["entries"] == {"file": 4, "directory": 2, "fifo": 1}
    assert said["filters"] == ["exclude *.log", "max-size 4096"]
    assert sum(said["left_out"].values()) == said["flags"]["skipped"]
    shown = lab.push(*options)
    for part in ("DRY RUN, nothing was sent", "1 file, 5 B", "3 entries left out by a filter", "NOT checked"):
        assert part in shown.out
    assert differences(source, list_folder(lab.folder / "evidence")) == []
    assert differences(before, list_folder(lab.folder), but={"atime"}) == []  # the vault's folders are listed
    assert lab.push(*options[:-1], "--json").document["files"] == said["files"]


def test_a_dry_run_says_what_each_rule_leaves_out_and_names_it_to_whom_asks_for_more(lab: Lab) -> None:
    options = ("--exclude", "*.log", "--exclude", "*.lgo", "--exclude", "logs/", "--max-size", "4K", "--dry-run")
    shown = lab.push(*options).out.splitlines()
    assert "  filter       exclude *.lgo: leaves out nothing" in shown
    assert "  filter       exclude logs/: leaves out 1 entry" in shown
    assert "  filter       max-size 4096: leaves out 1 entry" in shown
    assert not any(line.startswith("    left out: ") for line in shown)
    named = {line for line in lab.push(*options, "-v").out.splitlines() if line.startswith("    left out: ")}
    assert {"    left out: logs", "    left out: large"} <= named


def test_many_that_are_left_out_hide_none_that_cannot_be_read(lab: Lab) -> None:
    for number in range(1001):
        lab.write(f"{number:04}.tmp", b"")
    lab.write("unread", b"secret").chmod(0)
    done = lab.push("--exclude", "*.tmp", "--dry-run", unprivileged=True)
    assert (done.code, "    unreadable: unread" in done.out) == (3, True), done
    more = lab.push("--exclude", "*.tmp", "--dry-run", "-v", unprivileged=True).out
    assert "    and 1 more left out: --json names the first 1,000 of each kind" in more


def test_a_dry_run_tells_what_may_not_be_read(lab: Lab) -> None:
    lab.write("bad\x1b[31m", b"secret").chmod(0)
    (lab.folder / "evidence/logs").chmod(0)
    done = lab.push("--dry-run", unprivileged=True)
    assert done.code == 3, done
    assert r"unreadable: bad\x1b[31m" in done.out
    assert "unreadable: logs" in done.out
    (lab.folder / "evidence/logs").chmod(0o755)


def test_a_dry_run_of_one_file_and_of_nothing(lab: Lab) -> None:
    done = lab.push("--dry-run", "--json", source="evidence/large")
    assert (done.code, done.document["files"], done.document["entries"]) == (0, 1, {"file": 1})
    assert lab.push("--dry-run", source="nowhere").code == lab.push(source="nowhere").code != 0


def test_a_dry_run_offline_needs_neither_a_server_nor_a_key(lab: Lab) -> None:
    done = lab.run("push", "evidence", "nobody@host.invalid:/srv/vault", *ITEM, "--dry-run", "--offline")
    assert done.code == 0, done
    assert "NOT checked  the vault: it was not asked" in done.out


def test_a_file_whose_first_name_is_left_out_is_acquired_under_its_second(lab: Lab) -> None:
    os.link(lab.folder / "evidence/logs/one.log", lab.folder / "evidence/zz second")
    assert lab.push("--exclude", "/logs").code == 0
    entries = read_manifest(lab.acquisition() / "manifest.jsonl")[1]
    assert (entries[b"logs"]["flags"], entries[b"zz second"]["links"]) == (["skipped"], 2)
    assert "hardlink_to" not in entries[b"zz second"]
    assert (lab.acquisition() / "data/zz second").read_bytes() == b"one"
    assert not (lab.acquisition() / "data/logs/one.log").exists()
    assert lab.run("verify", "vault").code == 0
