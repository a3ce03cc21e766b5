"""`pull --dry-run` says over a real sshd, with and without an agent, what the pull then finds, and writes nothing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.exit_codes import ExitCode
from tests.corpus.lister import differences, list_folder
from tests.integration.cli_program import ITEM, Done, Lab, far_program, schema_errors, started_program
from tests.integration.conftest import make_key, running_sshd
from tests.integration.test_cli_pull import options, source_of

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

COUNTS = ("added", "removed", "changed")


@pytest.fixture(scope="module")
def sftp(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Sshd]:
    folder = tmp_path_factory.mktemp("sftp")
    make_key(folder / "host_ed25519")
    with running_sshd(folder, require_program("sshd"), "Subsystem sftp internal-sftp\n") as running:
        yield running


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    for name in ("a", "b", "logs/one", "logs/two", "same"):
        made.write(name, name.encode())
    return made


@pytest.fixture(params=["agent", "agentless"])
def how(request: pytest.FixtureRequest) -> tuple[str, ...]:
    return ("--remote-command", far_program()) if request.param == "agent" else ("--agentless",)


def pull(lab: Lab, sshd: Sshd, *more: str) -> Done:
    return lab.run("pull", source_of(lab, sshd), "vault", *ITEM, *options(sshd), *more)


def change(lab: Lab) -> None:
    evidence = lab.folder / "evidence"
    lab.write("a", b"longer")
    (evidence / "b").unlink()
    (evidence / "logs/two").rename(evidence / "two")
    lab.write("new\x1b[2J", b"12345")


def test_what_it_says_is_what_the_pull_then_finds(lab: Lab, sftp: Sshd, how: tuple[str, ...]) -> None:
    first = pull(lab, sftp, *how, "--dry-run", "--json").document
    assert (first["changes"]["since"], first["vault"]["acquisition"]) == (None, 1)
    assert pull(lab, sftp, *how).code == 0
    change(lab)
    before = list_folder(lab.folder)
    shown = pull(lab, sftp, *how, "--dry-run", "--itemize")
    assert shown.code == 0, shown
    assert [line.split()[0] for line in shown.out.splitlines()[:6]] == [
        *("changed", "removed", "removed", "added", "added", "moved?")
    ]
    assert r"added    file            5 B  -          new\x1b[2J" in shown.out
    told = pull(lab, sftp, *how, "--dry-run", "--json")
    assert schema_errors(told.document, "pull-dry-run-output") == []
    assert differences(before, list_folder(lab.folder), but={"atime"}) == []
    found = pull(lab, sftp, *how, "--json").document
    moved = found["changes"]["moved"]
    assert {name: told.document["changes"][name] for name in COUNTS} == {
        "added": found["changes"]["added"] + moved,
        "removed": found["changes"]["removed"] + moved,
        "changed": found["changes"]["changed"],
    }
    assert (told.document["vault"]["acquisition"], found["acquisition"]) == (2, 2)
    assert found["literal_bytes"] <= told.document["changes"]["most_bytes"]


def test_it_says_what_filters_leave_out_and_what_the_vault_refuses(lab: Lab, sftp: Sshd, how: tuple[str, ...]) -> None:
    assert pull(lab, sftp, *how).code == 0
    filtered = pull(lab, sftp, *how, "--dry-run", "--exclude", "logs/", "--exclude", "none", "--max-size", "3", "--json").document
    assert filtered["left_out"] == {"exclude logs/": 1, "max-size 3": 1}
    assert filtered["flags"] == {"skipped": 2}
    assert lab.run("custody", "seal", "vault", *ITEM, "--sign-key", "ana", "--yes").code == 0
    sealed = pull(lab, sftp, *how, "--dry-run")
    assert (sealed.code, "REFUSED      it would end before anything is sent" in sealed.out) == (ExitCode.LOCKED, True)
    nothing = pull(lab, sftp, *how, "--dry-run", "--exclude", "*")
    assert (nothing.code, "--allow-empty" in nothing.err) == (ExitCode.USAGE, True), nothing


def test_a_source_that_is_not_there_and_a_key_that_is_not_trusted_end_as_in_the_pull(
    lab: Lab, sftp: Sshd, how: tuple[str, ...]
) -> None:
    lab.make_key("eve")
    (lab.folder / "one-file").write_bytes(b"12345")
    for place, more, code in (
        ("evidence/none", (), ExitCode.USAGE),
        ("evidence", ("--sign-key", "eve"), ExitCode.SIGNATURE),
        ("one-file", (), ExitCode.COMPLETE),
    ):
        line = ("pull", source_of(lab, sftp, place), "vault", *ITEM, *options(sftp), *how, *more, "--json")
        looked, pulled = lab.run(*line, "--dry-run"), lab.run(*line)
        assert (looked.code, pulled.code) == (code, code), (looked, pulled)


def test_what_sftp_cannot_tell_is_said_to_be_not_checked(lab: Lab, sftp: Sshd) -> None:
    told = pull(lab, sftp, "--agentless", "--dry-run", "--json").document
    assert any(line.startswith("permissions to read it: over SFTP") for line in told["not_checked"])
    assert (
        told["changes"]["most_bytes"]
        == told["bytes"]
        == sum(path.stat().st_size for path in (lab.folder / "evidence").rglob("*") if path.is_file())
    )


def test_what_an_account_there_may_not_read_is_named_by_the_agent(lab: Lab, sftp: Sshd) -> None:
    offline = pull(lab, sftp, "--remote-command", far_program(), "--dry-run", "--offline", "--json")
    assert (offline.code, offline.document["changes"]) == (0, None)
    assert offline.document["files"] == 5


def test_a_source_on_this_machine_that_holds_the_vault_is_refused_as_in_the_pull(lab: Lab, sftp: Sshd) -> None:
    line = ("pull", source_of(lab, sftp, ""), "vault", *ITEM, *options(sftp), "--remote-command", far_program(), "--json")
    looked, pulled = lab.run(*line, "--dry-run"), lab.run(*line)
    assert (
        (looked.code, looked.error["message"])
        == (pulled.code, pulled.error["message"])
        == (ExitCode.USAGE, looked.error["message"])
    )


def test_an_end_from_before_it_knew_of_this_is_told_apart_and_reads_nothing(lab: Lab, sftp: Sshd) -> None:
    """Such an end decodes the question as an unknown message: here it is made to forget it."""
    old = lab.folder / "old.py"
    old.write_text(
        "import sys\n"
        "from evidencesync.protocol import framing\n"
        "del framing.MESSAGE_TYPES[75], framing._DECODERS[75]\n"
        "from evidencesync.cli.start import main\n"
        "sys.argv[0] = 'evidencesync'\n"
        "main()\n"
    )
    done = pull(
        lab, sftp, "--remote-command", started_program().replace("-m evidencesync", os.fspath(old)), "--dry-run", "--json"
    )
    assert (done.code, done.error["slug"]) == (ExitCode.CONNECT, "version-mismatch"), done
    assert "--agentless" in json.dumps(done.error)
