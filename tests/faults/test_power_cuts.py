"""Power cuts, as far as a test can imitate them: the file system forgets what was not synced, in the middle of a push."""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidencesync.limits import MAX_SEGMENT
from evidencesync.vault.publish import STEPS
from tests.faults import power_victim
from tests.integration.cli_program import Done, Lab
from tests.support.file_systems import mount_again, mounted
from tests.support.soak import SOAK
from tests.support.victims import run_victim

MIB = 1 << 20
SIZE = 24 * MIB
SMALL = 4 * MIB
INTERVAL = 2 * MIB
CERTAIN = STEPS.index("parents-synced")
"""From this step on an acquisition outlives a power cut."""


@pytest.fixture(params=["xfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Path]:
    with mounted(request.param, tmp_path, 400 * MIB, require_program) as place:
        yield place


@pytest.fixture
def lab(tmp_path: Path, disk: Path) -> Lab:
    lab = Lab.make(tmp_path, vault=False)
    assert lab.run("init", str(disk / "vault"), "--trust", "ana.pub", "--principal", "ana@lab").code == 0
    return lab


def push_arguments(lab: Lab, disk: Path, item: str) -> tuple[str, ...]:
    options = ("--case", "2024-017", "--item", item, "--sign-key", "ana", "--compress", "never", "--json")
    return ("push", "evidence", str(disk / "vault"), *options)


def push_until(moment: str, lab: Lab, disk: Path, item: str) -> str:
    """A push that suffers a power cut, and what it said; the file system is there again afterwards."""
    arguments = (str(disk), moment, *push_arguments(lab, disk, item))
    code, out, error = run_victim(power_victim.main, *arguments, folder=lab.folder, environment=lab.environment)
    assert code == -signal.SIGKILL, (out, error)
    mount_again(disk)
    return out


def push_again(lab: Lab, disk: Path, item: str) -> dict[str, object]:
    done = lab.run(*push_arguments(lab, disk, item))
    assert done.code == 0, done
    return done.document


def verified(lab: Lab, disk: Path) -> Done:
    return lab.run("verify", str(disk / "vault"))


def acquisitions(disk: Path, item: str) -> list[Path]:
    return sorted((disk / "vault" / "cases" / "2024-017" / item / "acquisitions").iterdir())


def assert_same(lab: Lab, stored: Path) -> None:
    for path in (lab.folder / "evidence").rglob("*"):
        if path.is_file():
            assert (stored / "data" / path.relative_to(lab.folder / "evidence")).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("at", [9 * MIB, 14 * MIB, 22 * MIB] if SOAK else [14 * MIB])
def test_after_a_power_cut_what_was_synced_is_not_sent_again(lab: Lab, disk: Path, at: int) -> None:
    chance = random.Random(at)
    lab.write("image", chance.randbytes(SIZE - SMALL))
    for number in range(200):
        lab.write(f"small/{number:03}", chance.randbytes(SMALL // 200))
    synced = int(push_until(f"stored:{at}:{INTERVAL}", lab, disk, "E1"))
    assert synced > 0
    said = push_again(lab, disk, "E1")
    assert (said["acquisition"], said["continued"]) == (1, 1)
    assert int(str(said["literal_bytes"])) <= SIZE - synced + MAX_SEGMENT
    (stored,) = acquisitions(disk, "E1")
    assert_same(lab, stored)
    assert verified(lab, disk).code == 0
    assert os.listdir(stored.parents[1] / "incoming") == []


def test_a_power_cut_while_publishing_leaves_all_of_it_or_nothing(lab: Lab, disk: Path) -> None:
    """After each step; in the suite after every second one on one file system, and after the others on the other."""
    lab.write("a/log", b"line\n" * 1000)
    lab.write("image", random.Random(1).randbytes(MIB))
    for number, step in enumerate(STEPS):
        if not SOAK and number % 2 == (disk.name == "xfs"):
            continue
        item = f"E{number}"
        push_until(f"step:{step}", lab, disk, item)
        found = acquisitions(disk, item)
        assert len(found) == 1 or number < CERTAIN, step
        for stored in found:
            assert_same(lab, stored)
        said = push_again(lab, disk, item)
        assert said["acquisition"] == len(found) + 1, step
        for stored in acquisitions(disk, item):
            assert_same(lab, stored)
    done = verified(lab, disk)
    assert done.code == 0, done


def test_what_was_acknowledged_outlives_a_power_cut_at_once(lab: Lab, disk: Path) -> None:
    lab.write("image", random.Random(2).randbytes(3 * MIB))
    said = json.loads(push_until("acknowledged", lab, disk, "E1"))
    assert said["acquisition"] == 1
    (stored,) = acquisitions(disk, "E1")
    assert_same(lab, stored)
    done = verified(lab, disk)
    assert done.code == 0, done
