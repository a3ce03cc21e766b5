"""A value that an option does not take, and a name that nobody has, come with a hint."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.cli.acquire import parse_compress
from evidencesync.cli.export_command import _parse_format
from evidencesync.errors import NotThereError, UsageError
from tests.support.every_command import run_in_process


@pytest.mark.parametrize("parse", [parse_compress, _parse_format])
def test_a_value_that_is_none_of_the_words_has_a_hint(parse: object) -> None:
    assert callable(parse)
    with pytest.raises(UsageError, match="not zip") as refused:
        parse("zip")
    assert refused.value.hint


@pytest.mark.parametrize("command", ["retire", "revoke"])
def test_a_signer_that_nobody_is_leads_to_the_list(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vault = str(tmp_path / "vault")
    assert run_in_process(["init", vault]) == 0
    capsys.readouterr()
    assert run_in_process(["trust", command, vault, "nosuch"]) == NotThereError.exit_code
    assert capsys.readouterr().err.splitlines()[-1] == f"hint: Who is trusted is listed by: evidencesync trust list {vault}"


def test_a_report_that_is_there_already_is_refused_in_words_that_are_said_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vault, report = str(tmp_path / "vault"), tmp_path / "report.html"
    assert run_in_process(["init", vault]) == 0
    report.touch()
    capsys.readouterr()
    assert run_in_process(["report", vault, "--case", "1", "-o", str(report)]) == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {report} is there already: nothing is ever replaced",
        "hint: Choose another place, which may not lie in a vault: -o FILE",
    ]
