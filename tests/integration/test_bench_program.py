"""The comparison program still runs, one row of it; `make bench-dry` runs each. Nothing here looks at how long anything took."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def test_bench_measures_both_programs_over_one_sshd(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    for program in ("sshd", "ssh", "ssh-keygen", "rsync"):
        require_program(program)
    places = [
        "--dir",
        str(tmp_path / "vaults"),
        "--source-dir",
        str(tmp_path / "sources"),
        "--json",
        str(tmp_path / "figures.json"),
    ]
    small = ["--size-a", "1M", "--repeat", "1", "--rows", "A-edits", "--only", "rsync,evidencesync"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", *small, *places],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads((tmp_path / "figures.json").read_bytes())
    measured = {(figure["row"], figure["contender"]) for figure in figures}
    contenders = ("rsync -a", "evidencesync", "evidencesync, no read-back")
    assert {("A-edits", contender) for contender in contenders} <= measured
    for figure in figures:
        assert [run["wall"] > 0 and run["wire_bytes"] > 0 and run["far_peak_kib"] > 0 for run in figure["runs"]] == [True]
    assert [list((tmp_path / name).iterdir()) for name in ("vaults", "sources")] == [[], []], "it cleans up"


def test_bench_tells_which_rows_there_are() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench", "--help"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "A-fresh: " in done.stdout
