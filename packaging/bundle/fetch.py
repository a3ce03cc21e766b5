"""Fetches what the bundle is made of: packages of Debian 12 and wheels of PyPI, whose names and digests `inputs.sha256` lists.

    python packaging/bundle/fetch.py FOLDER           fetches what the folder lacks, and checks all of it
    python packaging/bundle/fetch.py FOLDER --renew   takes today's versions, and writes the list anew

The list has the form of `sha256sum`. apt-get checks Debian's signature on what it downloads, and pip has none to check: from then
on the list is what counts. It is renewed by a person, who looks at what has changed.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final
from urllib.parse import unquote

HERE: Final = Path(__file__).parent
LIST: Final = HERE / "inputs.sha256"
_PROJECT: Final = HERE.parents[1] / "pyproject.toml"

# The release whose C library and Python the bundle has: its C library runs on Linux 3.2 and later.
RELEASE: Final = "12"
DEBIAN: Final = """
base-files libc6 libgcc-s1 gcc-12-base zlib1g libexpat1 libffi8 libssl3 libsqlite3-0 libuuid1
python3.11-minimal libpython3.11-minimal libpython3.11-stdlib
openssh-client libselinux1 libpcre2-8-0 libgssapi-krb5-2 libkrb5-3 libk5crypto3 libcom-err2 libkrb5support0 libkeyutils1
""".split()
EXTRAS: Final = ("encrypt",)
"""The optional parts that are inside."""
NOT_NEEDED: Final = {"pycparser"}
"""What pip brings along, and nothing imports: cffi parses C with it, and nobody here gives it any."""


def listed() -> dict[str, str]:
    """The digest of each file that the list names."""
    rows = (line.split("  ", 1) for line in LIST.read_text().splitlines())
    return {name: digest for digest, name in rows}


def digest_of(file: Path) -> str:
    """A file's SHA-256."""
    with file.open("rb") as data:
        return hashlib.file_digest(data, "sha256").hexdigest()


def fetch(folder: Path) -> None:
    """Fetches what the folder lacks of the list. Ends with an error for a file that is not the listed one."""
    folder.mkdir(parents=True, exist_ok=True)
    wanted = listed()
    missing = [name for name in wanted if not (folder / name).exists()]
    debs = [name.split("_")[:2] for name in missing if name.endswith(".deb")]
    wheels = [name.split("-")[:2] for name in missing if name.endswith(".whl")]
    if debs:
        _download_debs(folder, [f"{name}={unquote(version)}" for name, version in debs])
    if wheels:
        _download_wheels(folder, [f"{name}=={version}" for name, version in wheels], "--no-deps")
    wrong = [name for name, digest in wanted.items() if not (folder / name).exists() or digest_of(folder / name) != digest]
    if wrong:
        sys.exit(f"not what {LIST.name} lists: {', '.join(wrong)}. What servers no longer have is renewed with --renew.")


def renew(folder: Path) -> None:
    """Fetches today's versions into an empty folder, and writes the list."""
    if folder.exists() and any(folder.iterdir()):
        sys.exit(f"{folder} is not empty: a list is renewed into an empty folder")
    folder.mkdir(parents=True, exist_ok=True)
    project = tomllib.loads(_PROJECT.read_text())["project"]
    wanted = [*project["dependencies"], *(one for extra in EXTRAS for one in project["optional-dependencies"][extra])]
    _download_debs(folder, DEBIAN)
    _download_wheels(folder, wanted)
    for file in folder.iterdir():
        if file.name.split("-")[0] in NOT_NEEDED:
            file.unlink()
    LIST.write_text("".join(f"{digest_of(file)}  {file.name}\n" for file in sorted(folder.iterdir())))


def _download_debs(folder: Path, wanted: list[str]) -> None:
    release = Path("/etc/debian_version")
    if not release.exists() or release.read_text().split(".")[0].strip() != RELEASE:
        sys.exit(f"the bundle is made of packages of Debian {RELEASE}, which apt-get gives on such a machine alone")
    _run(folder, "apt-get", "download", "-q", "-o", "APT::Sandbox::User=root", *wanted)


def _download_wheels(folder: Path, wanted: list[str], *more: str) -> None:
    platforms = [f"--platform=manylinux_2_{minor}_x86_64" for minor in (34, 28, 17)] + ["--platform=manylinux2014_x86_64"]
    pip = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--only-binary=:all:"]
    _run(folder, *pip, "--python-version=3.11", "--implementation=cp", "--abi=cp311", "--abi=abi3", *platforms, *more, *wanted)


def _run(folder: Path, *words: str) -> None:
    if subprocess.run(words, cwd=folder, stdout=subprocess.DEVNULL, check=False).returncode:
        sys.exit(f"{words[0]} has not brought all that {LIST.name} lists")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--renew", action="store_true")
    given = parser.parse_args()
    (renew if given.renew else fetch)(given.folder)
