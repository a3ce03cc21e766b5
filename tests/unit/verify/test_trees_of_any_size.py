"""What is missing or too much is found in folders of any size, and of anything."""

from __future__ import annotations

import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.evidence.path import SortedNames
from evidencesync.verify import tree
from tests.unit.verify.sample import Made

NAMES = st.binary(min_size=1, max_size=6).filter(lambda name: b"/" not in name)


@given(st.lists(NAMES), st.integers(1, 9))
def test_names_come_out_once_and_sorted_by_their_bytes_however_they_were_given(names: list[bytes], run: int) -> None:
    found = SortedNames()
    for start in range(0, len(names), run):
        found.add(names[start : start + run])
    assert list(found) == sorted(set(names))


@pytest.mark.parametrize("run", [2, 1 << 16])
def test_extra_things_of_every_kind_among_listed_ones_are_named_in_a_folder_of_many_runs(
    made: Made, monkeypatch: pytest.MonkeyPatch, run: int
) -> None:
    monkeypatch.setattr(tree, "RUN", run)
    data = made.acquisition(2) / "data"
    (data / "logs" / "deep").chmod(0o755)
    names = [f"{letter}{end}" for letter in "adklz" for end in ("", "-x", " y", "\x01")]
    random.Random(3).shuffle(names)
    wanted = set()
    for number, name in enumerate(names):
        path = data / "logs" / name
        if number % 4 == 0:
            path.mkdir()
        elif number % 4 == 1:
            path.symlink_to("x")
        elif number % 4 == 2:
            os.mkfifo(path)
        else:
            path.write_bytes(b"")
        wanted.add(b"logs/" + name.encode())
    (data / "logs" / "day 1.log").unlink()
    (data / "a.txt").unlink()
    (data / "a.txt").mkdir()
    found = {(one.slug, prefixed(one.path or "")) for one in made.audit().findings}
    told = {path for slug, path in found if slug in ("extra-entry", "wrong-type")}
    assert {path for path in told if path.startswith(b"logs/")} == {path for path in wanted if b"\x01" not in path}
    assert ("wrong-type", b"a.txt") in found
    assert ("missing-file", b"logs/day 1.log") in found


def prefixed(path: str) -> bytes:
    """The evidence path of a finding."""
    return path.partition("/acquisitions/0002/data/")[2].encode()
