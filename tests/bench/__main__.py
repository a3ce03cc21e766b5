"""evidencesync side by side with rsync and others over the same sshd: `make bench`, or `python -m tests.bench --help`.

A program for people, not a test: it prints a table, and nothing passes or fails by the clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.bench import workloads
from tests.bench.contenders import Place
from tests.bench.machine import MIB, describe_machine, file_system_of, is_in_memory, load_average, take_memory
from tests.bench.measure import Cost, Meter, RunError, disk_bytes, total_of
from tests.bench.options import parse_options
from tests.bench.row import Lane, Row
from tests.bench.rows import ROWS
from tests.bench.sshd import running_server
from tests.bench.table import NOTES, CostTable, Result, render_memory, render_ratios
from tests.bench.work import History, Workshop, say
from tests.support.proxy import Proxy


def main() -> int:
    """Parses the options, makes the places, runs the rows, prints the tables. 1 when a contender or the clean-up failed."""
    options = parse_options(ROWS, __doc__)
    evidencesync = options.evidencesync or str(Path(sys.executable).with_name("evidencesync"))
    try:
        with ExitStack() as stack:
            sources = _new_folder(stack, options.source_dir, options.keep)
            folder = _new_folder(stack, options.dir, options.keep)
            _check_space(options, sources, folder)
            _print_facts(options, evidencesync, sources, folder)
            server = stack.enter_context(running_server(_made(sources / "sshd")))
            place = Place(folder / "run", _made(sources / "home"), server, Meter(sources, server), evidencesync)
            bench = Bench(options, Workshop(sources, options.sizes), place)
            results = report_rows(options.chosen, bench.run_row, options.json)
    except OSError as error:  # most of all of the clean-up: what was measured is printed and written by now
        say(f"failed: {error}")
        return 1
    return 1 if any(result.failure for result in results) else 0


def report_rows(rows: Sequence[Row], run_row: Callable[[Row], list[Result]], figures: Path | None) -> list[Result]:
    """Runs the rows. Prints each when it is done, and writes the figures of all so far; the comparisons come last."""
    table = CostTable(rows)
    results: list[Result] = []
    try:
        for row in rows:
            done = run_row(row)
            results += done
            for text in (table.render(done), *(f"FAILED: {result.failure}" for result in done if result.failure)):
                if text:
                    print(text, flush=True)
            if figures is not None:
                figures.write_text(json.dumps([_as_json(result) for result in results], indent=1) + "\n", encoding="utf-8")
    finally:  # also of what was measured before Ctrl-C
        _print_comparisons(results)
    return results


class Bench:
    """Runs the lanes of a row in turns."""

    def __init__(self, options: argparse.Namespace, shop: Workshop, place: Place) -> None:
        self._options = options
        self._shop = shop
        self._place = place

    def run_row(self, row: Row) -> list[Result]:
        """All lanes of `row` that can and should run here."""
        lanes = [lane for lane in row.lanes if self._takes_part(lane)]
        if not lanes:
            return []
        history = row.work.make(self._shop)
        costs: dict[str, list[Cost]] = {lane.contender.name: [] for lane in lanes}
        failures: dict[str, str] = {}
        for turn in range(self._options.repeat):
            for lane in lanes:
                name = lane.contender.name
                if name in failures:
                    continue
                say(f"{row.name}: {name}, run {turn + 1} of {self._options.repeat}")
                try:
                    costs[name].append(self._run_once(row, lane, history))
                except (RunError, KeyError, ValueError) as error:
                    failures[name] = f"{row.name}, {name}: {error}"
        self._shop.clear()
        return [Result(row, lane, tuple(costs[lane.contender.name]), failures.get(lane.contender.name)) for lane in lanes]

    def _takes_part(self, lane: Lane) -> bool:
        program = lane.contender.program
        if self._options.only and program not in self._options.only:
            return False
        if lane.real_disk_only and is_in_memory(self._place.folder.parent):
            return False
        if shutil.which(self._place.evidencesync if program == "evidencesync" else program) is None:
            say(f"{program} is not installed: left out")
            return False
        return True

    def _run_once(self, row: Row, lane: Lane, history: History) -> Cost:
        folder = self._place.folder
        _remove(folder)
        folder.mkdir()
        try:
            lane.contender.prepare(self._place, history.known)
            os.sync()
            sent = sum(disk_bytes(step.source) for step in history.sent)
            take_memory(folder.parent, sent + min(64 * sent, 1024 * MIB))
            before = disk_bytes(folder)
            cost = self._measure(row, lane, history)
            return replace(cost, grown_bytes=disk_bytes(folder) - before)
        finally:
            _remove(folder)

    def _measure(self, row: Row, lane: Lane, history: History) -> Cost:
        if row.line is None:
            return total_of([lane.contender.run(self._place, step) for step in history.sent])
        server = self._place.server
        with Proxy(("127.0.0.1", server.port), row.line) as proxy:
            place = replace(self._place, server=server.behind(proxy.port))
            cost = total_of([lane.contender.run(place, step) for step in history.sent])
            return replace(cost, wire_bytes=sum(proxy.moved), loopback_bytes=None)


def _new_folder(stack: ExitStack, parent: Path | None, keep: bool) -> Path:
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="evidencesync-bench-", dir=parent)).resolve()
    if not keep:
        stack.callback(_remove, folder)
    return folder


def _made(folder: Path) -> Path:
    folder.mkdir(mode=0o700)
    return folder


def _remove(folder: Path) -> None:
    """Removes what is there; a vault's folders and files may be read-only."""
    if folder.exists():
        for parent, _, _ in os.walk(folder):
            os.chmod(parent, 0o700)
        shutil.rmtree(folder)


def _check_space(options: argparse.Namespace, sources: Path, place: Path) -> None:
    """Stops before the first byte when the disks cannot hold what the rows will make."""
    spaces = [row.work.space(options.sizes) for row in options.chosen]
    bases = options.sizes.image + options.sizes.files * (workloads.MEAN_FILE_BYTES + 6000)
    needed = {sources: bases + max(spaces), place: 2 * max(spaces)}
    if sources.stat().st_dev == place.stat().st_dev:
        needed = {place: sum(needed.values())}
    for folder, count in needed.items():
        free = shutil.disk_usage(folder).free
        if free < count * 1.1:
            raise SystemExit(f"bench: {folder} has {free / 2**30:.1f} GiB free, and needs {count * 1.1 / 2**30:.1f}; see --scale")


def _print_facts(options: argparse.Namespace, evidencesync: str, sources: Path, place: Path) -> None:
    facts = [
        *describe_machine(evidencesync),
        ("workload A", f"{options.sizes.image / 2**30:.3g} GiB: half random, a quarter text-like, a quarter zeros"),
        ("workload B", f"{options.sizes.files} files, about {options.sizes.files * workloads.MEAN_FILE_BYTES / 1e6:.3g} MB"),
        ("source on", f"{file_system_of(sources)} ({sources})"),
        ("vault on", f"{file_system_of(place)} ({place})"),
        ("load at start", load_average()),
    ]
    width = max(len(name) for name, _ in facts)
    print("\n".join(f"{name.ljust(width)}  {value}" for name, value in facts), flush=True)


def _print_comparisons(results: Sequence[Result]) -> None:
    print(f"\nload at end  {load_average()}")
    if ratios := render_ratios(results):
        print(f"\nRatios of the medians\n{ratios}")
    if memory := render_memory(results):
        print(f"\nMemory of our largest process, either end\n{memory}")
    if results:
        print(f"\n{NOTES}", flush=True)


def _as_json(result: Result) -> dict[str, object]:
    runs = [dataclasses.asdict(cost) for cost in result.costs]
    return {"row": result.row.name, "contender": result.name, "runs": runs, "failure": result.failure}


if __name__ == "__main__":
    sys.exit(main())
