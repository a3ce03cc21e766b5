"""What `pip`, `pipx` and `uv` install has everything, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import REPOSITORY, TIMEOUT_SECONDS

_OWN: Final = frozenset({"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"})


def run(*words: str, folder: Path) -> str:
    return subprocess.run(words, cwd=folder, capture_output=True, text=True, check=True, timeout=TIMEOUT_SECONDS).stdout


def build(folder: Path, made: Path) -> Path:
    """The source archive and the wheel of a folder; returns the wheel."""
    run(sys.executable, "-m", "hatchling", "build", "-d", str(made), folder=folder)
    (wheel,) = made.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(REPOSITORY, tmp_path_factory.mktemp("built"))


def names(wheel: Path) -> set[str]:
    """The files of a wheel: of the package, `share/...` of the data, and what the format itself wants."""
    with zipfile.ZipFile(wheel) as archive:
        found = archive.namelist()
    parts = [name.partition("/") for name in found]
    return {
        rest.removeprefix("data/") if first.endswith(".data") else name
        for name, (first, _, rest) in zip(found, parts, strict=True)
        if not (first.endswith(".dist-info") and rest in _OWN)
    }


def test_a_wheel_has_the_whole_package_and_the_man_pages_and_nothing_else(wheel: Path) -> None:
    package = REPOSITORY / "evidencesync"
    wanted = {
        str(file.relative_to(REPOSITORY)) for file in package.rglob("*") if file.is_file() and "__pycache__" not in file.parts
    }
    pages = {f"share/man/man1/{file.name}" for file in (REPOSITORY / "docs" / "man").iterdir()}
    assert names(wheel) == wanted | pages


def test_no_file_of_a_wheel_names_the_machine_that_built_it(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            assert os.fsencode(REPOSITORY) + b"/" not in archive.read(name), name


def test_the_source_archive_makes_the_same_wheel_and_again_the_same_bytes(wheel: Path, tmp_path: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    assert build(folder, tmp_path / "again").read_bytes() == wheel.read_bytes()
    assert (tmp_path / "again" / archive.name).read_bytes() == archive.read_bytes()


def test_an_installed_wheel_runs_without_this_folder(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "installed"
    install = ("install", "-q", "--no-deps", "--no-index", "--target", str(place), str(wheel))
    run(sys.executable, "-m", "pip", *install, folder=tmp_path)
    start = f"import sys; sys.path.insert(0, {str(place)!r}); from evidencesync.cli import start; "
    assert run(sys.executable, "-c", f"{start} print(start.__file__)", folder=tmp_path).startswith(str(place))
    program = (sys.executable, "-c", f"{start} sys.exit(start.main())")
    run(*program, "init", str(tmp_path / "vault"), "--name", "Digital lab", folder=tmp_path)
    assert "Digital lab" in run(*program, "list", str(tmp_path / "vault"), folder=tmp_path)
