"""The serving end of a real process behind pipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.patience import PATIENCE_SECONDS

SERVE = """
import os, subprocess, sys
from evidencesync.serve.serving import take_standard_streams

link = take_standard_streams()
print("a stray print")
sys.stdout.flush()
subprocess.run(["sh", "-c", "echo a stray child; cat"], check=True)
os.write(1, b"a stray write\\n")
while block := link.read():
    link.write(block)
link.close()
print(link.wire_received, link.wire_sent)
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "serve.py"
    path.write_text(SERVE)
    return path


def test_nothing_but_the_protocol_reaches_standard_output(program: Path) -> None:
    done = subprocess.run([sys.executable, program], input=b"payload", capture_output=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == b"payload"
    for stray in (b"a stray print", b"a stray child", b"a stray write", b"7 7"):
        assert stray in done.stderr


def test_many_megabytes_pass_through_unchanged(program: Path) -> None:
    payload = bytes(range(256)) * 40_000
    done = subprocess.run([sys.executable, program], input=payload, capture_output=True, timeout=PATIENCE_SECONDS, check=True)
    assert done.stdout == payload


def test_an_other_end_that_has_gone_is_a_lost_link(program: Path) -> None:
    script = program.read_text().replace("link.close()", "").replace("    link.write(block)", "    link.write(block * 100_000)")
    program.write_text(script)
    process = subprocess.Popen([sys.executable, program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if process.stdout is None or process.stdin is None:
        pytest.fail("no pipes")
    process.stdout.close()
    process.stdin.write(b"x" * 100)
    process.stdin.flush()
    process.stdin.close()
    process.stdin = None
    process.stdout = None
    _, said = process.communicate(timeout=PATIENCE_SECONDS)
    assert b"LinkLostError" in said
