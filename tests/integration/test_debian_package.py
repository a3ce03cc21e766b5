"""The Debian package: its service is shut off from what it does not need. `make deb-twice` builds the whole package."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

import evidencesync
from docs.generate.manual import manual_pages
from tests.integration.cli_program import REPOSITORY
from tests.support.every_command import every_command

PARTS: Final = REPOSITORY / "packaging" / "deb"
_MOST_EXPOSED: Final = 2.0  # of 10, as systemd counts


def output(*words: str, **environment: str) -> str:
    done = subprocess.run(words, env={**os.environ, **environment}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_service_is_shut_off_from_what_it_does_not_need(require_program: Callable[[str], str]) -> None:
    analyze = require_program("systemd-analyze")
    said = output(analyze, "security", "--offline=yes", "--no-pager", str(PARTS / "evidencesync.service"), LC_ALL="C.UTF-8")
    (exposure,) = re.findall(r"Overall exposure level for \S+: ([\d.]+)", said)
    assert float(exposure) <= _MOST_EXPOSED


def test_the_service_gives_serve_options_that_it_has() -> None:
    (line,) = re.findall(r"^ExecStart=(.*)$", (PARTS / "evidencesync.service").read_text(), re.MULTILINE)
    program, command, *words = shlex.split(line)
    assert (program, command) == ("/usr/bin/evidencesync", "serve")
    known = {name for name, found in every_command() if name == "serve" for one in found.params for name in one.opts}
    assert {word for word in words if word.startswith("--")} <= known


@pytest.mark.parametrize("script", ["postinst", "prerm", "postrm", "build"])
def test_a_script_can_be_parsed(script: str) -> None:
    file = PARTS / script
    output("bash" if script == "build" else "sh", "-n", str(file))
    assert os.access(file, os.X_OK)


if os.environ.get("DEB") == "all":

    @pytest.fixture(scope="module")
    def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
        place = tmp_path_factory.mktemp("package")
        output(str(PARTS / "build"), str(place), DEBFULLNAME="Laboratory", DEBEMAIL="laboratory@evidence.invalid")
        (made,) = place.iterdir()
        return made

    def test_a_package_is_the_same_bytes_again(package: Path, tmp_path: Path) -> None:
        output(str(PARTS / "build"), str(tmp_path), DEBFULLNAME="Laboratory", DEBEMAIL="laboratory@evidence.invalid")
        assert (tmp_path / package.name).read_bytes() == package.read_bytes()

    @pytest.mark.skipif(shutil.which("lintian") is None, reason="only where lintian is installed, which CI does not need")
    def test_lintian_finds_no_error(package: Path) -> None:
        judged = subprocess.run(["lintian", "--allow-root", str(package)], capture_output=True, text=True, check=False).stdout
        assert [line for line in judged.splitlines() if line.startswith("E:")] == []

    def test_what_is_unpacked_runs_and_has_every_man_page(package: Path, tmp_path: Path) -> None:
        output("dpkg-deb", "-x", str(package), str(tmp_path))
        pages = {file.name.removesuffix(".gz") for file in (tmp_path / "usr/share/man/man1").iterdir()}
        assert pages == set(manual_pages())
        assert not list(tmp_path.rglob("*.pyc"))
        program = (tmp_path / "usr/bin/evidencesync").read_text().replace("/usr/lib", f"{tmp_path}/usr/lib")
        said = output("/usr/bin/python3", "-I", "-c", f"import sys; sys.argv[1:] = ['--version']\n{program}")
        assert said == f"evidencesync {evidencesync.__version__}\n"
