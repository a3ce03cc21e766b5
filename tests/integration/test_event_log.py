"""`--log` tells machines what happens: at the end that acquires, at the source's, and at the vault, also who reads there."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evidencesync.exit_codes import ExitCode
from evidencesync.limits import KIB
from tests.integration.cli_program import ITEM, Lab, far_program, schema_errors
from tests.integration.test_cli_pull import options, source_of
from tests.support.file_systems import mounted

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("a", b"first")
    made.write("logs/one", b"1")
    return made


def told(lab: Lab, name: str = "log.jsonl") -> list[dict[str, Any]]:
    """The events of a log, which are all as the schema says. The file is empty afterwards."""
    file = lab.folder / name
    events: list[dict[str, Any]] = [json.loads(line) for line in file.read_bytes().splitlines()]
    os.truncate(file, 0)
    assert [schema_errors(event, "log-event") for event in events] == [[]] * len(events)
    return events


def names(events: list[dict[str, Any]], role: str) -> list[str]:
    return [event["event"] for event in events if event["role"] == role]


def test_a_push_tells_what_became_of_each_file(lab: Lab) -> None:
    assert lab.push("--log", "log.jsonl").code == 0
    events = told(lab)
    assert names(events, "push") == ["begun", "session", "published", "ended"]
    assert names(events, "vault") == ["begun", "entry", "entry", "published", "ended"]
    assert {(one["path"], one["kind"]) for one in events if one["event"] == "entry"} == {("a", "new"), ("logs/one", "new")}
    lab.write("a", b"second")
    lab.write("new\n\x1b[2J", b"x")
    (lab.folder / "evidence/logs").chmod(0)
    done = lab.push("--log", "log.jsonl", "--exclude", "none", unprivileged=True)
    (lab.folder / "evidence/logs").chmod(0o755)
    assert done.code == ExitCode.GAPS
    events = told(lab)
    by_name = {(one["event"], one.get("kind"), one.get("path", one.get("path_b64"))) for one in events}
    assert {
        ("unreadable", None, "logs"),
        ("entry", "new", "a"),
        ("difference", "changed", "a"),
        ("difference", "added", "bmV3ChtbMko="),
    } <= by_name
    published = next(one for one in events if one["event"] == "published" and one["role"] == "push")
    assert (published["acquisition"], published["verdict"]) == (2, "gaps")
    assert events[-1]["event"], events[-1]["code"] == ("ended", 3)
    assert len({one["session"] for one in events if "session" in one}) == 1


def test_what_ends_a_run_stands_in_the_log(lab: Lab) -> None:
    done = lab.push("--log", "log.jsonl", "--sign-key", "none")
    assert done.code == ExitCode.KEY
    events = told(lab)
    assert [(one["event"], one.get("code")) for one in events] == [("begun", None), ("refused", 12), ("ended", 12)]
    assert events[1]["slug"] == "signing-key"
    lab.make_key("eve")
    assert lab.push("--log", "log.jsonl", "--sign-key", "eve").code == ExitCode.SIGNATURE
    assert [(one["role"], one["event"]) for one in told(lab) if one["event"] == "refused"] == [
        ("vault", "refused"),
        ("push", "refused"),
    ]


def test_verify_and_restore_and_the_settings(lab: Lab) -> None:
    assert lab.push("--skip-unchanged").code == 0
    (lab.folder / "settings.toml").write_text('log = "log.jsonl"\n')
    config = ("--config", "settings.toml")
    assert lab.run("verify", "vault", *config).code == 0
    assert lab.run("restore", "vault", "copy", *ITEM, *config).code == 0
    assert lab.push("--skip-unchanged", *config).code == 0
    events = told(lab)
    assert names(events, "verify") == ["begun", "verdict", "ended"]
    assert names(events, "restore") == ["begun", "restored", "ended"]
    assert names(events, "push") == ["begun", "session", "unchanged", "ended"]
    assert next(one for one in events if one["event"] == "verdict")["verdict"] == "pass"
    assert lab.run("verify", "vault", env={"EVIDENCESYNC_LOG": f"{lab.folder}/log.jsonl"}).code == 0
    assert names(told(lab), "verify") == ["begun", "verdict", "ended"]


@pytest.mark.parametrize("place", ["evidence/log", "vault/log", "vault/cases/log", "link", "hard", "folder", "pipe", "none/log"])
def test_a_log_that_may_not_lie_there_ends_the_run_before_it_begins(lab: Lab, place: str) -> None:
    (lab.folder / "there").write_bytes(b"mine\n")
    (lab.folder / "link").symlink_to("there")
    (lab.folder / "hard").write_bytes(b"")
    os.link(lab.folder / "hard", lab.folder / "hard too")
    (lab.folder / "folder").mkdir()
    os.mkfifo(lab.folder / "pipe")
    done = lab.push("--log", place)
    assert (done.code, done.out) == (ExitCode.USAGE, ""), done
    assert not lab.acquisition().exists()
    assert (lab.folder / "there").read_bytes() == b"mine\n"
    assert not (lab.folder / "evidence/log").exists()


def test_the_single_file_that_is_the_source_is_no_log(lab: Lab) -> None:
    (lab.folder / "disk.img").write_bytes(b"evidence")
    assert lab.push("--log", "disk.img", source="disk.img").code == ExitCode.USAGE
    assert (lab.folder / "disk.img").read_bytes() == b"evidence"


def test_a_new_log_is_for_its_owner_alone_and_an_old_one_goes_on(lab: Lab) -> None:
    for _ in range(2):
        assert lab.run("verify", "vault", "--log", "log.jsonl").code == ExitCode.GAPS  # of an empty vault
    assert (lab.folder / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert names(told(lab), "verify") == ["begun", "verdict", "ended"] * 2


def test_a_vault_behind_sshd_tells_who_acquires_and_who_reads(lab: Lab, sshd: Sshd) -> None:
    """Each session is a process of its own, and all of them append to one file."""
    far = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    key = sshd.identity.with_name(f"{sshd.identity.name}.pub").read_text()
    before = sshd.authorized_keys.read_text()
    served = f"{far_program()} serve --vault {lab.folder}/vault --log {lab.folder}/far.jsonl"
    lab.make_key("eve")
    try:
        sshd.authorized_keys.write_text(f'restrict,command="{served}" {key}')
        assert lab.run("push", "evidence", far, *ITEM, *options(sshd), "--log", "log.jsonl").code == 0
        near, there = told(lab), told(lab, "far.jsonl")
        assert names(near, "push") == ["begun", "session", "entry", "entry", "entry", "entry", "published", "ended"]
        assert {one["kind"] for one in near if one["event"] == "entry"} == {"read"}
        assert names(there, "vault") == ["begun", "entry", "entry", "published", "ended"]
        assert there[0]["principal"] == "ana@lab"
        assert there[0]["peer"].startswith("127.0.0.1 port ")
        assert {one["session"] for one in there} == {near[1]["session"]}
        assert lab.run("restore", far, "copy", *ITEM, *options(sshd)).code == 0
        reads = [one for one in told(lab, "far.jsonl") if one["event"] == "read"]
        assert [one["what"] for one in reads if one["what"] != "rows"] == ["documents", "documents", "evidence", "evidence"]
        assert (reads[0].get("files"), reads[1]["files"] > 5, reads[1]["bytes"] > 1000) == (None, True, True)
        whole = reads[-1]
        assert (whole["what"], whole["principal"], whole["acquisition"]) == ("evidence", "ana@lab", 1)
        assert (whole["case"], whole["item"], whole["files"], whole["bytes"]) == ("2024-017", "LAPTOP-1", 2, 6)
        assert whole["key"].startswith("SHA256:")
        assert lab.run("list", far, *options(sshd)).code == 0
        assert lab.run("verify", far, *options(sshd)).code == 0
        assert lab.push("--dry-run", *options(sshd), vault=far).code == 0
        assert {one["what"] for one in told(lab, "far.jsonl") if one["event"] == "read"} == {"documents", "verdict", "room"}
        eve = lab.run("list", far, *options(sshd), "--sign-key", "eve")
        assert eve.code == ExitCode.SIGNATURE
        assert [(one["event"], one.get("slug")) for one in told(lab, "far.jsonl")] == [
            ("refused", "untrusted-signer"),
            ("ended", None),
        ]
    finally:
        sshd.authorized_keys.write_text(before)


def test_both_ends_of_a_pull_tell_what_they_do(lab: Lab, sshd: Sshd) -> None:
    remote = f"{far_program()} serve --source {lab.folder}/evidence --log {lab.folder}/far.jsonl"
    key = sshd.identity.with_name(f"{sshd.identity.name}.pub").read_text()
    before = sshd.authorized_keys.read_text()
    try:
        sshd.authorized_keys.write_text(f'restrict,command="{remote}" {key}')
        done = lab.run("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), "--log", "log.jsonl", "--exclude", "a")
        assert done.code == 0, done
    finally:
        sshd.authorized_keys.write_text(before)
    near, there = told(lab), told(lab, "far.jsonl")
    assert names(near, "pull") == ["begun", "session", "skipped", "published", "ended"]
    assert [one["kind"] for one in near if one["event"] == "entry"] == ["new"]
    assert names(there, "source") == ["begun", "session", "entry", "skipped", "entry", "entry", "ended"]


def test_a_server_takes_no_log_from_its_environment(lab: Lab) -> None:
    """There it may be a client's word."""
    (lab.folder / "settings.toml").write_text('log = "log.jsonl"\n')
    for more in ((), ("--config", "settings.toml")):
        serving = lab.start("serve", "--source", "evidence", *more, env={**lab.environment, "EVIDENCESYNC_LOG": "log.jsonl"})
        serving.communicate()
        assert not (lab.folder / "log.jsonl").exists()


def test_a_log_on_a_full_disk_ends_no_push_and_is_said_to_have_a_gap(
    lab: Lab, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    with mounted("tmpfs", tmp_path, 64 * KIB, require_program) as disk:
        with contextlib.suppress(OSError), open(disk / "full", "wb", buffering=0) as file:
            while True:
                file.write(bytes(KIB))
        done = lab.push("--log", f"{disk}/log", "--json")
        assert done.code == 0, done
        assert "the log has a gap from here on: No space left on device" in done.err
        assert re.search(r"warning: the log has a gap: \d+ of its events could not be written", done.err)
        os.unlink(disk / "full")
        assert lab.run("verify", "vault", "--log", f"{disk}/log").code == 0
        events = [json.loads(line) for line in (disk / "log").read_bytes().splitlines()]
        assert names(events, "verify") == ["begun", "verdict", "ended"]


def test_a_watch_tells_each_push(lab: Lab) -> None:
    done = lab.run("watch", "evidence", "none", *ITEM, "--sign-key", "ana", "--log", "log.jsonl")
    assert done.code == ExitCode.NOT_THERE
    assert [(one["event"], one.get("code")) for one in told(lab)] == [
        ("begun", None),
        ("session", None),
        ("refused", 10),
        ("ended", 10),
    ]
