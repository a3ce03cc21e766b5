"""The serving end of a real process: behind a pipe, and behind sshd."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.ssh.client import open_channel

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]

SERVE = """
import asyncio, os, subprocess, sys
from evidencesync.ssh.stdio import open_stdio

async def main():
    channel = open_stdio()
    print("a stray print")
    sys.stdout.flush()
    subprocess.run(["sh", "-c", "echo a stray child; cat"], check=True)
    os.write(1, b"a stray write\\n")
    while block := await channel.read():
        await channel.write(block)
    await channel.write_eof()
    await channel.close()
    print(channel.wire_received, channel.wire_sent)

asyncio.run(main())
"""


@pytest.fixture
def program(tmp_path: Path) -> Path:
    path = tmp_path / "serve.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(ROOT)!r})\n{SERVE}")
    return path


def test_nothing_but_the_protocol_reaches_standard_output(program: Path) -> None:
    done = subprocess.run([sys.executable, program], input=b"payload", capture_output=True, timeout=30, check=True)
    assert done.stdout == b"payload"
    assert b"a stray print" in done.stderr
    assert b"a stray child" in done.stderr
    assert b"a stray write" in done.stderr
    assert b"7 7" in done.stderr


def test_files_instead_of_pipes_work_too(program: Path, tmp_path: Path) -> None:
    data = os.urandom(3 * MIB + 1)
    (tmp_path / "in").write_bytes(data)
    with (tmp_path / "in").open("rb") as source, (tmp_path / "out").open("wb") as sink:
        subprocess.run([sys.executable, program], stdin=source, stdout=sink, stderr=subprocess.DEVNULL, timeout=30, check=True)
    assert (tmp_path / "out").read_bytes() == data


def test_64_mib_go_both_ways_through_sshd(sshd: Sshd, program: Path) -> None:
    block = os.urandom(MIB)

    async def scenario() -> None:
        command = f"{shlex.quote(sys.executable)} {shlex.quote(str(program))}"
        channel = await open_channel(sshd.address(), sshd.options(remote_command=command), [])

        async def send() -> None:
            for _ in range(64):
                await channel.write(block)
            await channel.write_eof()

        sender = asyncio.create_task(send())
        digest = hashlib.sha256()
        while got := await channel.read():
            digest.update(got)
        await sender
        assert digest.digest() == hashlib.sha256(block * 64).digest()
        assert "a stray child" in channel.stderr_text
        await channel.close()

    asyncio.run(scenario())
