"""`make demo` is the first thing a newcomer sees."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.support.patience import PATIENCE_SECONDS

REPOSITORY = Path(__file__).parents[2]


def test_the_demo_comes_out_as_it_says(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    require_program("ssh")
    folder = tmp_path / "demo evidence"  # a blank in the path, as many a user's has
    done = subprocess.run(
        [sys.executable, "-m", "docs.demo", "--dir", str(folder)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "== All as it should be" in done.stdout
    assert "exit code 30" in done.stdout
    assert "[y/yes or n/no] yes\n" in done.stdout
    assert "more lines" not in done.stdout
    assert done.stdout.count("travelled ") == 2  # one figure of each push
    assert list(folder.glob("vault/cases/*/*/acquisitions/0002/data/disk.img"))


def test_the_demo_never_uses_a_folder_that_is_there_already(tmp_path: Path) -> None:
    from docs.demo.__main__ import _new_folder

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("precious")
    assert _new_folder(mine) == tmp_path / "mine-2"
    assert [file.name for file in mine.iterdir()] == ["thesis.txt"]
