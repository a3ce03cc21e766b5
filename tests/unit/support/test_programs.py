"""How this run was started shows in no test: programs, signals, modes, and what is said about what is missing."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import PACKAGES, find

REPOSITORY = Path(__file__).parents[3]
A_TEST_THAT_NEEDS_A_PROGRAM = "tests/unit/export/test_hashdeep.py"


def run_tests(place: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "COV"))}
    options = ["-q", "-n0", "-p", "no:cacheprovider", f"--basetemp={place}"]  # what another run has left is not tidied up here
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, A_TEST_THAT_NEEDS_A_PROGRAM, *more],
        cwd=REPOSITORY, env={**kept, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_where_a_program_is_missing_the_run_ends_with_what_to_install(tmp_path: Path) -> None:
    done = run_tests(tmp_path / "run", CI="", WITHOUT_PROGRAMS="1")
    assert done.returncode == 0, done.stdout
    assert re.search(r"= [0-9]+ tests? (was|were) skipped: install hashdeep to run all of them =", done.stdout), done.stdout


@pytest.mark.slow
def test_in_ci_a_missing_program_is_a_failure(tmp_path: Path) -> None:
    done = run_tests(tmp_path / "run", "-x", CI="true", WITHOUT_PROGRAMS="1")
    assert done.returncode == 1, done.stdout
    assert "hashdeep is not installed (package hashdeep), and CI must judge us with it" in done.stdout


def test_each_package_stands_in_the_readme() -> None:
    (line,) = re.findall(r"`apt install ([^`]*)`", (REPOSITORY / "README.md").read_text())
    assert line.split() == sorted(set(PACKAGES.values()))


def test_each_program_that_a_test_asks_for_has_its_package() -> None:
    always_there = {"bash", "sha256sum"}
    asked = set()
    for file in (REPOSITORY / "tests").rglob("*.py"):
        asked |= set(re.findall(r"(?:require|find)_program\(f?\"([^\"{]+)\"\)", file.read_text()))
    assert len(asked) > 10
    assert asked - always_there <= PACKAGES.keys()


def test_programs_start_as_from_a_terminal() -> None:
    """Whether this run is in the background of a script or under nohup."""
    status = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True, check=True).stdout
    masks = {name: int(value, 16) for name, value in re.findall(r"(Sig(?:Ign|Blk)):\s+([0-9a-f]+)", status)}
    first_fifteen = (1 << 15) - 1  # HUP, INT, QUIT and TERM are among them
    assert {name: mask & first_fifteen for name, mask in masks.items()} == {"SigIgn": 0, "SigBlk": 0}


def test_files_are_made_with_the_usual_modes(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


@pytest.mark.skipif(find("losetup") is None, reason="only where the system has losetup")
def test_programs_for_disks_are_found_by_their_names() -> None:
    subprocess.run(["losetup", "--version"], capture_output=True, check=True)
