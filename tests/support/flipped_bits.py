"""A small vault of which every byte is changed, one bit at a time, and what `verify` must say about each.

Hard links are one place: all names of the changed bytes must be named.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Final

from evidencesync.evidence.path import from_json_fields
from evidencesync.limits import MAX_CHUNK
from evidencesync.verify.audit import audit_vault
from evidencesync.verify.findings import Verdict
from tests.support.bench_of_evidence import make_bench, new_signer
from tests.support.moments import LONG_AFTER_NS

NOW_NS: Final = LONG_AFTER_NS
NOISE: Final = random.Random(17).randbytes
LARGE: Final = 16 * 1024  # of a content above this not every byte is changed, but those around its chunks' edges and many more
HOLE_AT, HOLE, IMAGE_SIZE = 192 * 1024, 256 * 1024, 640 * 1024


@dataclass(frozen=True)
class Place:
    """One bit of a file: its names from the vault's root, an offset, and the bit."""

    names: tuple[str, ...]
    offset: int
    bit: int


@dataclass
class Outcome:
    """How many bits were changed, which were not found, and which were found but blamed on something else."""

    flips: int = 0
    not_found: list[Place] = field(default_factory=list)
    misnamed: list[tuple[Place, str]] = field(default_factory=list)

    def add(self, other: Outcome) -> None:
        """Takes in what another worker found."""
        self.flips += other.flips
        self.not_found += other.not_found
        self.misnamed += other.misnamed


def make_small_vault(folder: Path) -> Path:
    """Two acquisitions of one item: a folder, an empty file, a file of some KB, a sparse one, a link; one revoked key."""
    bench = make_bench(folder)
    source = bench.source
    (source / "logs").mkdir()
    (source / "logs" / "day 1.log").write_bytes(b"one")
    (source / "empty").write_bytes(b"")
    (source / "mail.pst").write_bytes(NOISE(3000))
    (source / "link").symlink_to("logs/day 1.log")
    with (source / "disk.img").open("wb") as image:
        image.write(NOISE(HOLE_AT))
        image.seek(HOLE_AT + HOLE)
        image.write(NOISE(IMAGE_SIZE - HOLE_AT - HOLE))
    bench.push()
    (source / "logs" / "day 1.log").write_bytes(b"two")
    bench.push()
    stranger = new_signer().public_key
    bench.vault.trust.add(stranger, "ben@lab")
    bench.vault.trust.revoke(stranger, "lost")
    shutil.rmtree(bench.vault.layout.root / "index", ignore_errors=True)  # a cache: not judged by its bytes
    return bench.vault.layout.root


def files_below(vault: Path, part: str) -> list[tuple[str, ...]]:
    """All files of a part of a vault (a file itself, or a folder), with all names of each."""
    names: dict[int, list[str]] = {}
    top = vault / part
    found = [top] if top.is_file() else [Path(folder) / name for folder, _, inside in os.walk(top) for name in inside]
    for file in sorted(found):
        names.setdefault(file.stat().st_ino, []).append(file.relative_to(vault).as_posix())
    return [tuple(one) for one in names.values()]


def places(vault: Path, names: tuple[str, ...], bits: range) -> Iterator[Place]:
    """Every byte of a file, with these bits of it (one bit, by the offset, where none is given)."""
    size = (vault / names[0]).stat().st_size
    offsets: Iterator[int] | range = range(size)
    if "/data/" in names[0] and size > LARGE:
        step, edges = 4096, 16
        near = {at + more for at in range(0, size + 1, step) for more in range(-edges, edges)}
        offsets = iter(sorted(at for at in near | set(range(0, size, 97)) if 0 <= at < size))
    for offset in offsets:
        for bit in bits or (offset * 5 % 8,):
            yield Place(names, offset, bit)


def flip_all(vault: Path, wanted: list[Place]) -> Outcome:
    """Changes each bit, verifies, and changes it back."""
    outcome = Outcome()
    opened: tuple[str, int] | None = None
    for place in wanted:
        if opened is None or opened[0] != place.names[0]:
            if opened is not None:
                os.close(opened[1])
            opened = (place.names[0], _open(vault / place.names[0]))
        fd = opened[1]
        (byte,) = os.pread(fd, 1, place.offset)
        os.pwrite(fd, bytes([byte ^ 1 << place.bit]), place.offset)
        try:
            _judge(audit_vault(vault, now_ns=NOW_NS), place, outcome)
        finally:
            os.pwrite(fd, bytes([byte]), place.offset)
    if opened is not None:
        os.close(opened[1])
    return outcome


def _open(file: Path) -> int:
    """For writing, although its mode stays that of evidence."""
    mode = file.stat().st_mode
    file.chmod(0o600)
    fd = os.open(file, os.O_RDWR)
    file.chmod(mode)
    return fd


def _judge(verdict: Verdict, place: Place, outcome: Outcome) -> None:
    outcome.flips += 1
    if verdict.verdict == "pass":
        outcome.not_found.append(place)
        return
    errors = [one for one in verdict.findings if one.severity == "error"]
    if verdict.verdict != "fail" or verdict.exit_code not in (30, 31, 32, 34):
        outcome.misnamed.append((place, f"verdict {verdict.verdict}, exit code {verdict.exit_code}"))
    for name in place.names:
        here = [one for one in errors if _path(one.path, one.path_b64) == os.fsencode(name)]
        if not here:
            outcome.misnamed.append((place, f"{name} is not named, but {[(one.slug, one.path) for one in errors]}"))
        elif "/data/" in name:
            ranges = [(one.offset or 0, one.length or 0) for one in here]
            good = len(errors) == len(place.names) and len(ranges) == 1 and ranges[0][0] <= place.offset < sum(ranges[0])
            zeros = HOLE_AT <= place.offset < HOLE_AT + HOLE  # a run of zeros is one piece, however long
            if not good or ranges[0][1] > (HOLE + MAX_CHUNK if zeros else MAX_CHUNK):
                outcome.misnamed.append((place, f"{name}: the ranges {ranges}, among {len(errors)} errors"))


def _path(text: str | None, encoded: str | None) -> bytes | None:
    return from_json_fields(text, encoded) if text is not None or encoded is not None else None


def flip_in_processes(vault: Path, wanted: list[Place], jobs: int, folder: Path) -> Outcome:
    """The same, shared among processes, each with a copy of the vault in which hard links are kept."""
    if jobs < 2:
        return flip_all(vault, wanted)
    outcome = Outcome()
    copies = []
    for number in range(jobs):
        copy = folder / f"copy-{number}"
        subprocess.run(["cp", "-a", str(vault), str(copy)], check=True)
        copies.append(copy)
    share = -(-len(wanted) // jobs)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        parts = [wanted[number * share : (number + 1) * share] for number in range(jobs)]
        for done in pool.map(flip_all, copies, parts):
            outcome.add(done)
    return outcome
