"""Sessions whose frames are spoiled on their way, to the vault or the source of a pull, or from it: typed errors, a sound vault.

The suite tries some; `make fuzz` tries as many as COUNT says, from SEED on. A failure names its seed: make fuzz SEED=77 COUNT=1
"""

from __future__ import annotations

import gc
import os
import random
import resource
import shutil
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Literal

import pytest

from evidencesync.acquire.connect import connect_for_pull
from evidencesync.acquire.custody import Appended, RecordDraft, append_record
from evidencesync.acquire.pull import pull
from evidencesync.acquire.push import push
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.connection.progress import Progress
from evidencesync.errors import EvidenceSyncError, InternalError
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.receive import receive
from evidencesync.serve.source_server import serve_source
from evidencesync.vault.ledger import iter_records
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.custody_client import custody_request
from tests.support.fuzzed_link import Direction, FuzzedLink, Impatience
from tests.support.mutations import Frame
from tests.support.soak import Tally
from tests.support.undo import Undo

SEED: Final = int(os.environ.get("SEED", "0"))
COUNT: Final = int(os.environ.get("FUZZ", "60"))
SECONDS: Final = 60.0
MORE_MEMORY: Final = 96 << 20
Purpose = Literal["push", "first push", "custody", "pull"]
PURPOSES: Final[tuple[Purpose, ...]] = ("push", "first push", "custody", "pull")


@dataclass
class Arena:
    """A vault with an acquisition, put back after each session, and what an honest session of each kind says."""

    bench: Bench
    undo: list[Undo]
    recorded: dict[tuple[Purpose, Direction], list[Frame]] = field(default_factory=dict)

    def renew(self) -> None:
        for one in self.undo:
            one.undo()
        shutil.rmtree(self.bench.source.parent / "seen", ignore_errors=True)  # what the examiner remembers of the chain


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Arena:
    folder = tmp_path_factory.mktemp("fuzz")
    bench = make_bench(folder)
    source, noise = bench.source, random.Random(3)
    (source / "logs").mkdir()
    (source / "small").write_bytes(b"small evidence")
    (source / "logs" / "day").write_bytes(noise.randbytes(3000))
    image = bytearray(noise.randbytes(180_000) + bytes(100_000) + noise.randbytes(100_000))
    (source / "image").write_bytes(image)
    bench.push()
    image[50_000:51_000] = noise.randbytes(1000)
    (source / "image").write_bytes(image)
    (source / "new").write_bytes(noise.randbytes(500))
    undo = []
    for name in ("vault", "source"):
        shutil.copytree(folder / name, folder / f"{name} as made", symlinks=True)
        undo.append(Undo(folder / f"{name} as made", folder / name))
    made = Arena(bench, undo)
    for purpose in PURPOSES:
        made.renew()
        one = Session(made, purpose, "up", random.Random(0), honest=True)
        one.run()
        assert one.error is None
        for direction, frames in one.link.passed.items():
            made.recorded[purpose, direction] = frames
    return made


class Session:
    """One session of a purpose, spoilt in one direction. `raised` are errors that are none of ours."""

    def __init__(self, arena: Arena, purpose: Purpose, spoilt: Direction, chance: random.Random, *, honest: bool = False) -> None:
        self.raised: list[str] = []
        self.error: EvidenceSyncError | None = None
        self.outcome: object = None
        self._bench = arena.bench
        self._purpose = purpose
        self._ours, theirs = local_pair()
        self.link = FuzzedLink(self._ours, chance, spoilt, arena.recorded.get((purpose, spoilt), []))
        self._impatient = not honest
        if honest:
            self.link._places = set()
        self._ends = [
            threading.Thread(target=self._guarded, args=(lambda: self._serve(theirs),), daemon=True),
            threading.Thread(target=self._guarded, args=(self._send,), daemon=True),
        ]

    def run(self) -> None:
        """Both ends, to their end."""
        for one in self._ends:
            one.start()
        impatience = Impatience(self._ours) if self._impatient else None
        until = time.monotonic() + SECONDS
        for one in self._ends:
            one.join(max(until - time.monotonic(), 0))
            if one.is_alive():
                self.raised.append(f"an end is still at work after {SECONDS} s")
        if impatience is not None:
            impatience.end()
        self._ours.close()

    def _guarded(self, work: Callable[[], object]) -> None:
        try:
            work()
        except InternalError:
            self.raised.append(traceback.format_exc(limit=-4))
        except EvidenceSyncError as error:
            if work == self._send:
                self.error = error
        except BaseException:  # noqa: BLE001 - whatever else comes out is what is looked for
            self.raised.append(traceback.format_exc(limit=-6))

    def _serve(self, link: LocalLink) -> None:
        try:
            if self._purpose == "pull":
                serve_source(link, os.fsencode(self._bench.source))
                return
            receive(link, Vault.open(self._bench.vault.layout.root), "a fuzzed test", may_reconnect=False)
        finally:
            link.close()

    def _send(self) -> None:
        try:
            if self._purpose == "custody":
                request = custody_request(self._bench)
                self.outcome = append_record(lambda: self.link, request, lambda _: RecordDraft("noted", {"text": "seen"}))
                return
            if self._purpose == "pull":
                vault = partial(connect_for_pull, str(self._bench.vault.layout.root))
                self.outcome = pull(self.link, vault, self._bench.request(vault=b""), Progress())
                return
            name = self._bench.name if self._purpose == "push" else ItemName(Title("2026/12"), Title("E9"))
            self.outcome = push(self.link, self._bench.request(name=name), Progress())
        finally:
            self._ours.close()


def objections(arena: Arena, seed: int) -> list[str]:
    """What is wrong after the session of a seed."""
    chance = random.Random(seed)
    purpose = PURPOSES[seed % len(PURPOSES)]
    spoilt: Direction = "up" if seed // len(PURPOSES) % 2 else "down"
    arena.renew()
    before = everything_else(arena)
    session = Session(arena, purpose, spoilt, chance)
    session.run()
    found = list(session.raised)
    verdict = audit_vault(arena.bench.vault.layout.root, now_ns=time.time_ns())
    if verdict.exit_code:
        found.append(f"verify ends with {verdict.exit_code}: {[(one.slug, one.path) for one in verdict.findings]}")
    if session.outcome is not None and not is_there(arena, purpose, session.outcome):
        found.append("it was acknowledged, and is not there")
    if everything_else(arena) != before:
        found.append("something outside the vault was written")
    about = f"seed {seed}, {purpose}, {spoilt}: {', '.join(session.link.done)} (ended with {session.error!r})"
    return [f"{about}: {one}" for one in found]


def is_there(arena: Arena, purpose: Purpose, outcome: object) -> bool:
    """Whether the vault has what a session of this purpose adds."""
    bench = arena.bench
    if purpose in {"push", "pull"}:
        return bench.acquisitions() == ["0001", "0002"]
    if purpose == "custody":
        assert isinstance(outcome, Appended)
        return outcome.record.sha256 in {sha256_of(one.data).hex() for one in iter_records(bench.vault.item(bench.name).ledger)}
    return bench.vault.layout.item(ItemName(Title("2026/12"), Title("E9"))).acquisition(1).is_dir()


def everything_else(arena: Arena) -> dict[str, tuple[int, int]]:
    """What lies beside the vault and its template: names, sizes and times."""
    top = arena.bench.source.parent
    kept = ("vault", "vault as made", "seen")
    return {
        str(path): ((status := path.lstat()).st_size, status.st_mtime_ns)
        for one in top.iterdir()
        if one.name not in kept
        for path in [one, *one.rglob("*")]
    }


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_spoilt_sessions_end_with_typed_errors_and_leave_a_sound_vault(arena: Arena) -> None:
    wrong, tally = list[str](), Tally("sessions")
    for seed in range(SEED, SEED + len(PURPOSES)):  # whatever is loaded and opened once
        wrong += tally.count(objections(arena, seed))
    gc.collect()
    files, memory, threads = open_files(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, threading.active_count()
    for seed in range(SEED + len(PURPOSES), SEED + COUNT):
        wrong += tally.count(objections(arena, seed))
    gc.collect()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) << 10
    assert not wrong, "\n".join(wrong)
    assert open_files() <= files + 2
    assert threading.active_count() <= threads
    assert grown < MORE_MEMORY, f"{grown >> 20} MiB more than after the first sessions"
