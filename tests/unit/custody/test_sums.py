"""SHA256SUMS and BLAKE3SUMS: the real sha256sum and b3sum write the same lines, and check ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.custody.sums import PATH_MAX, b3sum_line, sha256sum_line
from evidencesync.errors import InternalError
from evidencesync.evidence.digest import Blake3Digest, Sha256Digest, blake3_of, sha256_of

NAMES = [
    b"plain.txt",
    b" leading and trailing ",
    b"*star",
    b"-dash",
    b"back\\slash",
    b"\\n",
    b"\\",
    b"ends with \\",
    b"new\nline",
    b"\n",
    b"carriage\rreturn",
    b"ends with return\r",
    b"both\r\n",
    b"tab\tand \x1b[31mescape",
    b"quote\"'`$(id)",
    "naïve 検証 \u202e.txt".encode(),
    "replacement \ufffd".encode(),
    b"latin1 \xe9\xff",
    b"a" * 255,
    b"#comment",
    b"\xef\xbb\xbfbom",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for number, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(tmp_path), b"data", name), "wb") as file:
            file.write(b"content %d" % number)
    return tmp_path


def content(number: int) -> bytes:
    return b"content %d" % number


def test_sha256sum_writes_the_same_lines_and_checks_ours(tree: Path, require_program: Callable[[str], str]) -> None:
    program = require_program("sha256sum")
    lines = [sha256sum_line(sha256_of(content(i)), b"data/" + name) for i, name in enumerate(NAMES)]
    theirs = subprocess.run([program, "--", *(b"data/" + name for name in NAMES)], cwd=tree, capture_output=True, check=True)
    ours = b"".join(line or b"" for line in lines)
    assert None not in lines
    assert ours == theirs.stdout
    (tree / "SHA256SUMS").write_bytes(ours)
    subprocess.run([program, "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tree, check=True)
    with open(os.path.join(os.fsencode(tree), b"data", NAMES[-1]), "ab") as file:
        file.write(b"!")
    assert subprocess.run([program, "--quiet", "-c", "SHA256SUMS"], cwd=tree, capture_output=True, check=False).returncode == 1


def test_b3sum_writes_the_same_lines_and_checks_ours(tree: Path, require_program: Callable[[str], str]) -> None:
    program = require_program("b3sum")
    carried, lines = [], []
    for number, name in enumerate(NAMES):
        line = b3sum_line(blake3_of(content(number)), b"data/" + name)
        if line is not None:
            carried.append(name)
            lines.append(line)
    assert set(NAMES) - set(carried) == {
        b"carriage\rreturn",
        b"ends with return\r",
        b"both\r\n",
        "replacement \ufffd".encode(),
        b"latin1 \xe9\xff",
    }
    theirs = subprocess.run([program, "--", *(b"data/" + name for name in carried)], cwd=tree, capture_output=True, check=True)
    assert b"".join(lines) == theirs.stdout
    (tree / "BLAKE3SUMS").write_bytes(b"".join(lines))
    subprocess.run([program, "--quiet", "--check", "BLAKE3SUMS"], cwd=tree, check=True)


def test_a_path_that_open_cannot_take_is_left_out() -> None:
    longest = b"/".join([b"d" * 255] * 16)
    assert len(longest) == PATH_MAX
    assert sha256sum_line(sha256_of(b""), longest) is not None
    assert b3sum_line(blake3_of(b""), longest) is not None
    assert sha256sum_line(sha256_of(b""), longest + b"x") is None
    assert b3sum_line(blake3_of(b""), longest + b"x") is None


@pytest.mark.parametrize(("digest", "path"), [(b"short", b"data/a"), (bytes(32), b""), (bytes(32), b"a\0b")])
def test_what_can_be_no_line_is_a_defect(digest: bytes, path: bytes) -> None:
    with pytest.raises(InternalError):
        sha256sum_line(Sha256Digest(digest), path)
    with pytest.raises(InternalError):
        b3sum_line(Blake3Digest(digest), path)
