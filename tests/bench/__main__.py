"""evidencesync side by side with rsync over the same sshd: `make bench`, or `python -m tests.bench --help`.

A program for people, not a test: it prints a table, and nothing passes or fails by the clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from tests.bench import workloads
from tests.bench.contenders import Place
from tests.bench.machine import describe_machine, file_system_of, is_in_memory, load_average
from tests.bench.measure import Cost, Meter, RunError
from tests.bench.rows import ROWS, Lane, Row
from tests.bench.sshd import running_server
from tests.bench.table import NOTES, Result, render_costs, render_ratios

SIZE_A: Final = 2 << 30
FILES_B: Final = 100_000
EDITS: Final = 1000  # in SIZE_A; fewer in less, so that the share that changed stays
SEED: Final = "evidencesync bench 1"
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def main() -> int:
    """Parses the options, makes the places, runs the rows, prints the tables. 1 when a contender failed."""
    options = _parse_options()
    rows = [row for row in ROWS if (row.name in options.rows if options.rows else row.by_default)]
    evidencesync = options.evidencesync or str(Path(sys.executable).with_name("evidencesync"))
    with ExitStack() as stack:
        sources = _new_folder(stack, options.source_dir, options.keep)
        place = _new_folder(stack, options.dir, options.keep)
        _check_space(options, rows, sources, place)
        _print_facts(options, evidencesync, sources, place)
        server = stack.enter_context(running_server(_made(sources / "sshd")))
        bench = Bench(
            options, sources, Place(place / "run", _made(sources / "home"), server, Meter(sources, server), evidencesync)
        )
        results = [result for row in rows for result in bench.run_row(row)]
    _print_results(results)
    if options.json is not None:
        options.json.write_text(json.dumps([_as_json(result) for result in results], indent=1) + "\n", encoding="utf-8")
    return 1 if any(result.failure for result in results) else 0


def _parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of both workloads; 1 is 2 GiB and 100,000 files (default 1)")
    parser.add_argument("--size-a", type=_size, help="bytes of workload A instead, such as 8G")
    parser.add_argument("--files-b", type=int, help="files of workload B instead")
    names = " ".join(row.name + ("" if row.by_default else " (not by default)") for row in ROWS)
    parser.add_argument("--rows", type=_names, help=f"which, separated by commas, of: {names}")
    parser.add_argument("--only", type=_names, help="programs that take part: rsync,evidencesync,hashdeep,b3sum (default all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the median counts (default 3)")
    parser.add_argument("--dir", type=Path, help="where the vault and the copies go (default: the folder for temporary files)")
    parser.add_argument("--source-dir", type=Path, help="where the workloads go (default: the same)")
    parser.add_argument("--keep", action="store_true", help="leave both folders")
    parser.add_argument("--json", type=Path, help="a file for all figures of all runs")
    parser.add_argument("--evidencesync", help="the command to measure (default: the one beside this Python)")
    options = parser.parse_args()
    unknown = set(options.rows or ()) - {row.name for row in ROWS}
    if unknown or options.repeat < 1 or options.scale <= 0:
        parser.error(f"no such row: {', '.join(sorted(unknown))}" if unknown else "--repeat and --scale must be above 0")
    options.size_a = options.size_a or max(int(SIZE_A * options.scale), workloads.MIB)
    options.files_b = options.files_b or max(int(FILES_B * options.scale), 1)
    return options


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)i?B?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a size: {text}")
    return int(found[1]) * _UNITS[found[2]]


class Bench:
    """Makes sources when they are first needed, and runs the lanes of a row in turns."""

    def __init__(self, options: argparse.Namespace, sources: Path, place: Place) -> None:
        self._options = options
        self._sources = sources
        self._place = place

    def run_row(self, row: Row) -> list[Result]:
        """All lanes of `row` that can and should run here."""
        lanes = [lane for lane in row.lanes if self._takes_part(lane)]
        if not lanes:
            return []
        base, source = self._base(row), self._variant(row)
        costs: dict[str, list[Cost]] = {lane.contender.name: [] for lane in lanes}
        failures: dict[str, str] = {}
        for turn in range(self._options.repeat):
            for lane in lanes:
                name = lane.contender.name
                if name in failures:
                    continue
                _say(f"{row.name}: {name}, run {turn + 1} of {self._options.repeat}")
                try:
                    costs[name].append(self._run_once(lane, base if row.known else None, source))
                except (RunError, KeyError, ValueError) as error:
                    failures[name] = f"{row.name}, {name}: {error}"
        if row.variant != "same":
            shutil.rmtree(source)
        return [Result(row, lane, tuple(costs[lane.contender.name]), failures.get(lane.contender.name)) for lane in lanes]

    def _takes_part(self, lane: Lane) -> bool:
        program = lane.contender.program
        if self._options.only and program not in self._options.only:
            return False
        if lane.real_disk_only and is_in_memory(self._place.folder.parent):
            return False
        if shutil.which(self._place.evidencesync if program == "evidencesync" else program) is None:
            _say(f"{program} is not installed: left out")
            return False
        return True

    def _run_once(self, lane: Lane, base: Path | None, source: Path) -> Cost:
        folder = self._place.folder
        _remove(folder)
        folder.mkdir()
        try:
            lane.contender.prepare(self._place, base)
            os.sync()
            return lane.contender.run(self._place, source)
        finally:
            _remove(folder)

    def _base(self, row: Row) -> Path:
        base = self._sources / row.workload
        if not base.exists():
            _say(f"making workload {row.workload}")
            if row.workload == "B":
                workloads.make_files(base, self._options.files_b, SEED)
            else:
                workloads.make_image(base, self._options.size_a * (4 if row.workload == "A4" else 1), SEED)
        return base

    def _variant(self, row: Row) -> Path:
        base = self._base(row)
        if row.variant == "same":
            return base
        image, folder = base / workloads.IMAGE_NAME, self._sources / f"{row.workload}-{row.variant}"
        if row.variant == "edited":
            workloads.make_edited(image, folder, max(EDITS * self._options.size_a // SIZE_A, 1), SEED)
        elif row.variant == "inserted":
            workloads.make_inserted(image, folder)
        else:
            workloads.make_renamed(image, folder)
        return folder


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


def _check_space(options: argparse.Namespace, rows: Sequence[Row], sources: Path, place: Path) -> None:
    """Stops before the first byte when the disks cannot hold what the rows will make."""
    sizes = {"A": options.size_a, "A4": 4 * options.size_a, "B": options.files_b * (workloads.MEAN_FILE_BYTES + 6000)}
    made = {row.workload for row in rows}
    variants = max((sizes[row.workload] for row in rows if row.variant != "same"), default=0)
    needed = {sources: sum(sizes[name] for name in made) + variants, place: max((2 * sizes[name] for name in made), default=0)}
    if sources.stat().st_dev == place.stat().st_dev:
        needed = {place: sum(needed.values())}
    for folder, count in needed.items():
        free = shutil.disk_usage(folder).free
        if free < count * 1.1:
            raise SystemExit(f"bench: {folder} has {free / 2**30:.1f} GiB free, and needs {count * 1.1 / 2**30:.1f}; see --scale")


def _print_facts(options: argparse.Namespace, evidencesync: str, sources: Path, place: Path) -> None:
    facts = [
        *describe_machine(evidencesync),
        ("workload A", f"{options.size_a / 2**30:.3g} GiB: half random, a quarter text-like, a quarter zeros"),
        ("workload B", f"{options.files_b} files, about {options.files_b * workloads.MEAN_FILE_BYTES / 1e6:.3g} MB"),
        ("source on", f"{file_system_of(sources)} ({sources})"),
        ("vault on", f"{file_system_of(place)} ({place})"),
        ("load at start", load_average()),
    ]
    width = max(len(name) for name, _ in facts)
    print("\n".join(f"{name.ljust(width)}  {value}" for name, value in facts), flush=True)


def _print_results(results: Sequence[Result]) -> None:
    print(f"load at end  {load_average()}\n")
    if results:
        print(render_costs(results))
        ratios = render_ratios(results)
        print(f"\nRatios of the medians\n{ratios}\n\n{NOTES}" if ratios else f"\n{NOTES}")
    for result in results:
        if result.failure:
            print(f"\nFAILED: {result.failure}")


def _as_json(result: Result) -> dict[str, object]:
    runs = [dataclasses.asdict(cost) for cost in result.costs]
    return {"row": result.row.name, "contender": result.name, "runs": runs, "failure": result.failure}


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
