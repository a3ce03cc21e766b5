"""The options of the comparison."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.bench import workloads
from tests.bench.row import Row
from tests.bench.work import FULL_SIZE_A, Sizes

FILES_B: Final = 100_000
_UNITS: Final = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_options(known_rows: Sequence[Row], description: str | None) -> argparse.Namespace:
    """What was asked for, with `chosen` (rows) and `sizes` worked out."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description=description, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0, help="of all workloads; 1 is 2 GiB and 100,000 files (default 1)")
    parser.add_argument("--size-a", type=_size, help="bytes of workload A instead, such as 8G")
    parser.add_argument("--files-b", type=int, help="files of workload B instead")
    names = "\n".join(f"  {row.name}: {row.title}{'' if row.by_default else ' (not by default)'}" for row in known_rows)
    names = names.replace("%", "%%")  # argparse fills in what stands behind one
    parser.add_argument("--rows", type=_names, help=f"which, separated by commas; V-* is all that begin so:\n{names}")
    parser.add_argument("--only", type=_names, help="programs that take part, such as rsync,evidencesync (default: all)")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each; the median counts (default 3)")
    parser.add_argument("--dir", type=Path, help="where the vault and the copies go (default: the folder for temporary files)")
    parser.add_argument("--source-dir", type=Path, help="where the workloads go (default: the same)")
    parser.add_argument("--keep", action="store_true", help="leave both folders")
    parser.add_argument("--json", type=Path, help="a file for all figures of all runs")
    parser.add_argument("--evidencesync", help="the command to measure (default: the one beside this Python)")
    options = parser.parse_args()
    unknown = [name for name in options.rows or () if not any(_matches(row, name) for row in known_rows)]
    if unknown or options.repeat < 1 or options.scale <= 0:
        parser.error(f"no such row: {', '.join(unknown)}" if unknown else "--repeat and --scale must be above 0")
    options.chosen = [
        row for row in known_rows if (any(_matches(row, name) for name in options.rows) if options.rows else row.by_default)
    ]
    image = options.size_a or max(int(FULL_SIZE_A * options.scale), workloads.MIB)
    options.sizes = Sizes(image, options.files_b or max(int(FILES_B * options.scale), 1))
    return options


def _matches(row: Row, name: str) -> bool:
    return row.name.startswith(name[:-1]) if name.endswith("*") else row.name == name


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _size(text: str) -> int:
    found = re.fullmatch(r"(\d+)([KMGT]?)i?B?", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a size: {text}")
    return int(found[1]) * _UNITS[found[2]]
