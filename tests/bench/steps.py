"""Measures the CPU of each step of a push, by thread: functions of the package are replaced by ones that are timed.

The time of a step is what its thread computed in it, without the steps inside it. What the timing itself costs is measured
first, and taken off. Steps are named by their place in the code, so a step that is renamed there fails here at once.
"""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from functools import wraps
from inspect import isgenerator
from typing import Any, Final, Self

STEPS: Final = (
    ("walk", "acquire.reading:walk"),
    ("open, read, close", "acquire.reading:read_small acquire.reading:open_file source.reader:OpenedFile.read_into"),
    ("birth time, attributes", "source.details:DetailReader.of_descriptor source.details:DetailReader.of_found"),
    ("BLAKE3", "acquire.reading:blake3_of acquire.streaming:Digests.update"),
    ("SHA-256", "acquire.reading:sha256_of"),
    ("cut", "delta.chunker:SegmentCutter.commit delta.chunker:SegmentCutter.zeros delta.chunker:SegmentCutter.finish"),
    ("entry", "source.metadata:EntryMaker.make_entry"),
    ("line, page", "acquire.reading:PageBuilder.add acquire.reading:PageBuilder.flush"),
    ("pages", "protocol.sender:Sender.add_page"),
    ("segments", "protocol.sender:Sender.add_segment"),
    ("chunk digests", "delta.chunker:Segment.rows"),
    ("pieces", "protocol.outgoing_segments:OutgoingPieces.name protocol.outgoing_segments:OutgoingPieces.on_need"),
    ("manifest's digests", "acquire.signing:ManifestHasher.update"),
    ("answers", "protocol.sender:Sender.receive"),
    ("frames out", "protocol.data_frames:DataEncoder.encode connection.writer:BufferedWriter.write_some"),
    ("frames in", "protocol.receiver:Receiver.receive"),
    ("previous manifest", "ingest.session:previous_manifest"),
    ("lines: decode, check", "custody.manifest:ManifestReader.read_lines"),
    ("lookup", "ingest.basis:Lookup.find_contents ingest.basis:Lookup.find_segment ingest.basis:Lookup.find_chunks"),
    ("open, read, close", "ingest.basis:Basis.read_whole ingest.basis:Basis.read"),
    ("BLAKE3", "ingest.tree:blake3_of ingest.assembly:Assembly._digest"),
    ("SHA-256", "ingest.tree:sha256_of"),
    ("chunk digests", "ingest.segments:chunk_digest_of ingest.streams:rows_of"),
    ("pieces", "ingest.segments:Refiner.choose ingest.segments:Refiner.compare ingest.segments:rebuild"),
    ("create, write, close", "vault.tree:TreeWriter.create_file vault.staged_files:StagedContent.write_at"),
    ("link", "vault.tree:TreeWriter.link"),
    ("manifest", "vault.staging:Staging.append_manifest"),
    ("sums", "vault.staging:Staging.add_to_sums"),
    ("recipes", "vault.staging:Staging.append_recipe"),
    ("files of a page", "ingest.pages:PageIntake.advance"),
    ("segments", "ingest.segments:SegmentStore.store"),
    ("differences", "ingest.session:IngestSession._compare"),
    ("sync", "vault.staging:Staging.sync"),
    ("read-back", "ingest.session:read_back"),
    ("index", "ingest.session:catch_up"),
)
REST: Final = "the rest"
_TRIALS: Final = 20_000


Spent = Counter[tuple[str, str]]
"""Nanoseconds by thread and step."""


class Stopwatch:
    """CPU by thread and step, while it is entered. Without steps, it only tells the threads."""

    def __init__(self, steps: Iterable[tuple[str, str]]) -> None:
        self.spent: Spent = Counter()
        self.threads: dict[str, str] = {}
        """Their names by the numbers that the system has for them."""
        self._steps = tuple(steps)
        self._end = ""
        self._local = threading.local()
        self._inside = self._outside = 0.0
        self._inside, self._outside = self._calibrated()
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        self.spent.clear()
        self.threads.clear()
        for step, places in self._steps:
            for place in places.split():
                self._replace(step, place)
        run = threading.Thread.run
        self._set(threading.Thread, "run", lambda thread: self.measure(thread.name, lambda: run(thread)))
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def begin(self, end: str) -> None:
        """Says which end of the transfer this process is: it stands before the names of threads."""
        self._end = end

    def measure(self, thread: str, work: Callable[[], Any]) -> Any:
        """Does work as a thread of that name."""
        name = f"{self._end}, {thread.rstrip('_0123456789')}"
        self.threads[str(threading.get_native_id())] = name
        self._local.name, self._local.stack, self._local.mark = name, [REST], time.thread_time_ns()
        try:
            return work()
        finally:
            self._charge(REST)
            del self._local.stack

    def as_json(self) -> str:
        """What was measured in this process, for the one that forked it."""
        return json.dumps([self.threads, [[*key, value] for key, value in self.spent.items()]])

    def add_json(self, text: str) -> None:
        """Adds what a forked process has measured."""
        threads, spent = json.loads(text)
        self.threads.update(threads)
        self.spent.update({(thread, step): nanoseconds for thread, step, nanoseconds in spent})

    def _charge(self, step: str) -> None:
        now = time.thread_time_ns()
        self.spent[self._local.name, step] += now - self._local.mark
        self._local.mark = now

    def _timed(self, step: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""
        local = self._local

        @wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            stack = getattr(local, "stack", None)
            if stack is None:
                return function(*args, **kwargs)
            self._charge(stack[-1])
            stack.append(step)
            try:
                result = function(*args, **kwargs)
                return _repeat(self._timed(step, result.__next__)) if isgenerator(result) else result
            finally:
                self._charge(stack.pop())
                self.spent[local.name, step] -= round(self._inside)
                self.spent[local.name, stack[-1]] -= round(self._outside)

        return call

    def _replace(self, step: str, place: str) -> None:
        module, _, path = place.partition(":")
        owner: Any = importlib.import_module(f"evidencesync.{module}")
        *classes, name = path.split(".")
        for each in classes:
            owner = getattr(owner, each)
        self._set(owner, name, self._timed(step, getattr(owner, name)))

    def _set(self, owner: Any, name: str, value: object) -> None:
        self._undo.callback(setattr, owner, name, getattr(owner, name))
        setattr(owner, name, value)

    def _calibrated(self) -> tuple[float, float]:
        """What timing one call adds to its own step, and to the step around it."""
        empty = self._timed("empty", lambda: None)

        def calls() -> None:
            for _ in range(_TRIALS):
                empty()

        self.measure("trial", calls)
        return self.spent[", trial", "empty"] / _TRIALS, self.spent[", trial", REST] / _TRIALS


def _repeat(call: Callable[[], Any]) -> Iterator[Any]:
    """Yields what the calls return, until one raises StopIteration."""
    while True:
        try:
            item = call()
        except StopIteration:
            return
        yield item
