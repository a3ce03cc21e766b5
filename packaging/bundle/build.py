"""Makes the bundle: one folder that runs evidencesync on any x86-64 Linux, and its archive.

    python packaging/bundle/build.py INPUTS RESULTS [--key FILE] [--level N]

Same inputs, code and SOURCE_DATE_EPOCH give the same bytes, whoever builds, wherever and with which Python: this part lays the
files out, and all that Python's version could change is done by the bundle's own Python (`seal.py`).
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from fetch import listed
from parts import describe

HERE: Final = Path(__file__).parent
PROJECT: Final = HERE.parents[1]
PLATFORM: Final = "linux-x86_64"
LOADER: Final = "ld-linux-x86-64.so.2"
_LIBRARY: Final = "usr/lib/python3.11"

# Of Python's library: what no command imports. Of wheels: what Python needs none of, and a second backend.
_LEFT_OUT_OF_PYTHON: Final = (
    "test ensurepip distutils lib2to3 idlelib tkinter turtle.py pydoc_data venv curses sitecustomize.py".split()
)
_LEFT_OUT_OF_WHEELS: Final = re.compile(r"\.pyi$|(^|/)py\.typed$|(^|/)tests?/|\.data/|\.dist-info/RECORD$|^zstandard/_cffi\.")

# What would bring code of a machine that may be under attack into our process: a list of libraries that are loaded into every
# process, a cache of names, the machine's own folders of libraries, and the list of modules that look up names. Without the last,
# the C library asks DNS and its own files. A path of the first kind becomes empty, a folder's becomes one that nobody has.
_LOADER_FILES: Final = (b"/etc/ld.so.cache", b"/etc/ld.so.preload")
_LOADER_FOLDERS: Final = (b"/lib/x86_64-linux-gnu/", b"/usr/lib/x86_64-linux-gnu/", b"/lib/", b"/usr/lib/")
_LIBC_FILES: Final = (b"/etc/nsswitch.conf",)


def version() -> str:
    """The version of this source tree."""
    found = re.search(r'^__version__ = "([^"]+)"', (PROJECT / "evidencesync/__init__.py").read_text(), re.MULTILINE)
    return found[1] if found else sys.exit("evidencesync/__init__.py has no version")


def build(inputs: Path, results: Path, key: Path | None, level: int) -> Path:
    """Makes the archive, and returns its path."""
    name = f"evidencesync-{version()}-{PLATFORM}"
    results.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=results) as made:
        unpacked, bundle = Path(made) / "unpacked", Path(made) / name
        for package in sorted(inputs / one for one in listed() if one.endswith(".deb")):
            subprocess.run(["dpkg-deb", "-x", package, unpacked], check=True)
        lay_out(bundle, unpacked, sorted(inputs / one for one in listed() if one.endswith(".whl")))
        describe(bundle, unpacked, version())
        archive = results / f"{name}.tar.zst"
        python = bundle / "python/bin/python3.11"
        loader: list[str | Path] = [
            bundle / "system" / LOADER,
            "--inhibit-cache",
            "--library-path",
            bundle / "system",
            "--argv0",
            python,
            python,
        ]
        words = [*loader, "-I", "-S", "-B", HERE / "seal.py", bundle, archive, str(level), *([key.absolute()] if key else [])]
        subprocess.run(words, check=True, env={**os.environ, "SOURCE_DATE_EPOCH": epoch()})
    return archive


def epoch() -> str:
    """The time that every file of the archive gets: SOURCE_DATE_EPOCH, else that of the last commit."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    if given is not None:
        return given
    asked = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=PROJECT, capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else sys.exit("no commit tells a time: set SOURCE_DATE_EPOCH")


def lay_out(bundle: Path, unpacked: Path, wheels: list[Path]) -> None:
    """Puts every file into its place."""
    ignored = shutil.ignore_patterns("__pycache__", *_LEFT_OUT_OF_PYTHON)
    shutil.copytree(unpacked / _LIBRARY, bundle / "python/lib/python3.11", ignore=ignored, symlinks=False)
    put(unpacked / "usr/bin/python3.11", bundle / "python/bin/python3.11")
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as packed:
            packed.extractall(bundle / "packages", [one for one in packed.namelist() if not _LEFT_OUT_OF_WHEELS.search(one)])
    shutil.copytree(PROJECT / "evidencesync", bundle / "packages/evidencesync", ignore=shutil.ignore_patterns("__pycache__"))
    for program in ("ssh", "ssh-keygen"):
        put(unpacked / "usr/bin" / program, bundle / f"ssh/{program}.bin")
        put(HERE / "inside/ssh", bundle / "ssh" / program)
    for name in ("evidencesync", "start.py", "README.txt"):
        put(HERE / "inside" / name, bundle / name)
    bring_libraries(bundle, unpacked)


def put(source: Path, target: Path) -> None:
    """Copies a file, with its permission to be executed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def bring_libraries(bundle: Path, unpacked: Path) -> None:
    """Brings what the programs and modules load, and the loader, which then finds nothing anywhere else.

    A module of Python's library whose own library is not among the packages is left out. Ends with an error for any other.
    """
    pool = [unpacked / "lib/x86_64-linux-gnu", unpacked / "usr/lib/x86_64-linux-gnu"]
    loader = bundle / "system" / LOADER
    put(pool[0] / LOADER, loader)
    make_deaf(loader, _LOADER_FILES, _LOADER_FOLDERS)
    programs = [bundle / "python/bin/python3.11", *bundle.glob("ssh/*.bin")]
    for module in [*programs, *bundle.rglob("*.so")]:
        words: list[str | Path] = [loader, "--inhibit-cache", "--library-path", ":".join(map(str, pool)), "--list", module]
        needed = subprocess.run(words, capture_output=True, text=True, check=False).stdout
        if "not found" in needed or not needed:
            if module.parent.name != "lib-dynload":
                sys.exit(f"{module.relative_to(bundle)} needs a library that no package brings:\n{needed}")
            module.unlink()
            continue
        for found in re.findall(r"=> (/.+) \(0x", needed):
            if Path(found).name != LOADER and not (bundle / "system" / Path(found).name).exists():
                put(Path(found), bundle / "system" / Path(found).name)
    make_deaf(bundle / "system/libc.so.6", _LIBC_FILES)


def make_deaf(file: Path, files: tuple[bytes, ...], folders: tuple[bytes, ...] = ()) -> None:
    """Takes paths out of a program: see above. Ends with an error where it has them in another form."""
    data = file.read_bytes()
    whole = b"\0".join(folders) + b"\0"
    for path in (*(b"\0" + one + b"\0" for one in files), *([whole] if folders else [])):
        if path not in data:
            sys.exit(f"{file.name} does not name {path!r}: look at what it reads instead")
    for path in files:
        data = data.replace(b"\0" + path + b"\0", b"\0" * (len(path) + 2))
    file.write_bytes(data.replace(whole, re.sub(rb"[^/\0]", b"\xff", whole)))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("inputs", type=Path)
    parser.add_argument("results", type=Path)
    parser.add_argument("--key", type=Path, help="an SSH key that signs SHA256SUMS")
    parser.add_argument("--level", type=int, default=19, help="how hard zstd tries")
    given = parser.parse_args()
    made = build(given.inputs.absolute(), given.results.absolute(), given.key, given.level)
    signed = "signed" if given.key else "UNSIGNED: name a key with KEY=FILE"
    print(f"{made.name}: {made.stat().st_size / (1 << 20):.1f} MiB, {signed}")
