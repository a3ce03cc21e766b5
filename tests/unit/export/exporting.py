"""Exports of a real acquisition, and readers of the formats that owe nothing to the code that writes them."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from evidencesync.export.encrypt import Recipient
from evidencesync.export.run import Exported, ExportRequest, Format, export_acquisition
from evidencesync.verify.context import VerifyProgress
from tests.support.bench_of_evidence import Bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.patience import PATIENCE_SECONDS

NOW_NS: Final = LONG_AFTER_NS

# What the formats, and the programs that read them, all take as it is.
GOOD_NAMES: Final = {
    b"plain.txt": b"plain",
    b"empty": b"",
    b"a,b \"quoted\" 'c'": b"commas",
    b"[bold]markup[/bold] <b>&amp;</b>": b"markup",
    b"*star": b"star",
    b"#hash": b"hash",
    b"~tilde": b"tilde",
    b"\x01\x1b[31mred\x7f": b"control",
    b"tab\tinside": b"tab",
    "\u202eexe.txt".encode(): b"bidirectional",
    "Übung/名".encode(): b"scripts",
    b"back\\slash": b"backslash",
    b"n" * 255: b"longest",
    b"logs/deep/er/x": b"x",
    b"logs.txt": b"after the folder in a listing, after its contents in a walk",
    b"same content": b"plain",
}
# What RFC 8493 and CASE hold, and hashdeep's lines cannot.
BROKEN_LINES: Final = {b"new\nline": b"1", b"carriage\r": b"2", b"both\r\n": b"3"}
# What the bagit program for Python reads wrongly.
MISREAD: Final = {b"100%25": b"4", b"%0A": b"5", b"space at the end ": b"6", "one\u2028two".encode(): b"7", b"feed\x0chere": b"8"}
NOT_UTF8: Final = {b"latin-\xe9": b"9", b"surrogate-\xed\xa0\x80": b"10"}


def write_files(folder: Path, files: dict[bytes, bytes]) -> None:
    for name, data in files.items():
        path = os.fsencode(folder) + b"/" + name
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def export(
    bench: Bench, form: Format, destination: Path, recipients: list[Recipient] | None = None, acquisition: int = 1
) -> Exported:
    wanted = ExportRequest(bench.vault, bench.vault.item(bench.name), acquisition, form, destination, recipients or [], NOW_NS)
    with wanted.open_destination() as place:
        return export_acquisition(wanted, place, lambda _: None, VerifyProgress())


def run(*command: str | Path, folder: Path | None = None) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(command, cwd=folder, capture_output=True, timeout=PATIENCE_SECONDS, check=False)


def bagit_program(bag: Path) -> subprocess.CompletedProcess[bytes]:
    """The Library of Congress's own opinion of a bag."""
    return run(sys.executable, "-m", "bagit", "--validate", bag)


_CASE_PROGRAM: Final = """
import functools, json, sys
from case_utils import case_validate
case_validate.get_ontology_graph = functools.cache(case_validate.get_ontology_graph)
wanted = {"case_version": "case-1.3.0", "allow_infos": True, "inference": None}
judged = [case_validate.validate(one, **wanted) for one in json.loads(sys.argv[1])]
print(json.dumps([(one.conforms, one.text) for one in judged]))
"""


def case_program(*sets: Sequence[Path]) -> list[tuple[bool, str]]:
    """CASE's own opinion of each set of graphs, and its words: all in one process, for it takes seconds to begin.

    That BLAKE3 is not in its list of digests is an information, and not a violation.
    """
    done = run(sys.executable, "-c", _CASE_PROGRAM, json.dumps([[str(graph) for graph in one] for one in sets]))
    assert done.returncode == 0, done.stderr.decode()
    return [(conforms, text) for conforms, text in json.loads(done.stdout)]


def payload(bag: Path, manifest: str = "manifest-sha256.txt") -> dict[bytes, str]:
    """The files of a bag's manifest, read as RFC 8493 2.1.3 says and not as any program does."""
    found = {}
    for line in (bag / manifest).read_bytes().removesuffix(b"\n").split(b"\n"):
        if not line:
            continue
        digest, path = line.split(b"  ", 1)
        name = re.sub(rb"%(0[AaDd]|25)", lambda escaped: bytes([int(escaped[1], 16)]), path)
        assert name not in found
        found[name] = digest.decode()
    return found


def files_below(folder: Path) -> dict[bytes, str]:
    """Every file below a folder with its SHA-256, by its path from there."""
    root = os.fsencode(folder)
    found = {}
    for place, _, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, root)] = hashlib.sha256(file.read()).hexdigest()
    return found


def digests(files: dict[bytes, bytes]) -> dict[bytes, str]:
    return {name: hashlib.sha256(data).hexdigest() for name, data in files.items()}


def make_deep(folder: Path, depth: int) -> bytes:
    """A file so many folders of 200 letters deep; its path from the folder."""
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    file = os.open("bottom", os.O_WRONLY | os.O_CREAT, dir_fd=fd)
    os.write(file, b"deep")
    os.close(file)
    os.close(fd)
    return b"/".join([b"d" * 200] * depth + [b"bottom"])
