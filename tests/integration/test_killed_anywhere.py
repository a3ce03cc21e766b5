"""Either end killed at any moment, over a real SSH server and without one: the next run ends it, as if nothing had happened."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.limits import MAX_SEGMENT
from tests.integration.cli_program import TIMEOUT_SECONDS, Lab, started_program
from tests.integration.test_cli_remote import _ssh_options
from tests.integration.test_resume import pids_of
from tests.support.soak import seeds

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

MIB = 1 << 20
IMAGES = 24 * MIB
SMALL_FILES = 300 * 3_000


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    chance = random.Random(5)
    for number in range(3):
        made.write(f"image-{number}", chance.randbytes(IMAGES // 3))
    for number in range(300):
        made.write(f"m/{number:03}", chance.randbytes(3_000))
    return made


def arguments(lab: Lab, sshd: Sshd | None, item: str) -> tuple[str, ...]:
    named = ("--case", "2024-017", "--item", item, "--sign-key", "ana", "--compress", "never", "--json")
    if sshd is None:
        return ("push", "evidence", "vault", *named)
    vault = f"{sshd.user}@127.0.0.1:{lab.folder}/vault"
    return ("push", "evidence", vault, *named, *_ssh_options(sshd), "--remote-command", started_program())


def staged_bytes(lab: Lab) -> int:
    """What lies in staging of the large files, at this moment."""
    size = 0
    for pattern in ("contents/*", "acquisition/data/image-*"):
        for path in lab.folder.glob(f"vault/cases/*/*/incoming/*/{pattern}"):
            try:
                size += path.stat().st_size
            except FileNotFoundError:  # it has just got its other name: counting less only asks for less
                continue
    return size


def acquisitions(lab: Lab, item: str) -> list[Path]:
    return sorted(lab.folder.glob(f"vault/cases/*/{item}/acquisitions/*"))


def lines_of(acquisition: Path) -> list[dict[str, object]]:
    """The manifest without what names the session, header and footer, and without what anybody changes who looks at a folder."""
    lines = (acquisition / "manifest.jsonl").read_bytes().splitlines()[1:-1]
    return [{key: value for key, value in json.loads(line).items() if key != "atime"} for line in lines]


@pytest.mark.parametrize("seed", seeds(3, 200))
def test_a_kill_at_any_moment_costs_no_more_than_what_was_under_way(lab: Lab, sshd: Sshd, seed: int) -> None:
    chance = random.Random(seed)
    victim = ("local", "sender", "vault")[seed % 3]
    server = None if victim == "local" else sshd
    # A slow push is met in the middle; one without a limit at its beginning and its end.
    process = lab.start(*arguments(lab, server, "E1"), *chance.choice([(), ("--limit-rate", "16M")]))
    wanted = chance.choice([0, chance.randrange(IMAGES)])
    deadline = time.monotonic() + TIMEOUT_SECONDS
    while staged_bytes(lab) < wanted and process.poll() is None and not acquisitions(lab, "E1"):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(chance.choice([0, chance.uniform(0, 0.7)]))
    staged = staged_bytes(lab)
    if victim == "vault":
        for pid in pids_of(lab, "serve --vault"):
            with contextlib.suppress(ProcessLookupError):  # it may just have come to its end
                os.kill(pid, signal.SIGKILL)
    else:
        process.kill()
    out, err = process.communicate(timeout=TIMEOUT_SECONDS)
    published = len(acquisitions(lab, "E1"))
    assert published <= 1
    if process.returncode == 0:
        assert (published, json.loads(out)["acquisition"]) == (1, 1)
    elif victim == "vault":  # it was gone before the session had begun, or when it had been published
        assert process.returncode in {20, 23}, (out, err)
    again = lab.run(*arguments(lab, server, "E1"))
    assert again.code == 0, again
    # A vault that had got all of it publishes it, whether its sender is still there or not: that may have been in between.
    made = len(acquisitions(lab, "E1"))
    assert again.document["acquisition"] == made
    assert made - published in ({1, 2} if victim == "sender" else {1})
    if not published:
        assert again.document["literal_bytes"] <= IMAGES - staged + 2 * MAX_SEGMENT + SMALL_FILES
    quiet = lab.run(*arguments(lab, None, "E2"))
    assert quiet.code == 0, quiet
    (expected,) = acquisitions(lab, "E2")
    for acquisition in acquisitions(lab, "E1"):
        assert lines_of(acquisition) == lines_of(expected)
    verified = lab.run("verify", "vault")
    assert verified.code == 0, verified
    assert [os.listdir(path) for path in lab.folder.glob("vault/cases/*/*/incoming")] == [[], []]
