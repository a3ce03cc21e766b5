"""What a run cost, at both ends and on the wire."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from tests.bench.sshd import Server

LOOPBACK: Final = Path("/sys/class/net/lo/statistics/tx_bytes")
STDERR_SHOWN: Final = 600
FAR_SECONDS: Final = 5.0
T = TypeVar("T", int, float)


class RunError(Exception):
    """A command did not do its work: its name, code and last words."""


@dataclass(frozen=True)
class Cost:
    """One run, or the medians of several. None is what could not be measured, or has no meaning.

    `wire_bytes` are both directions as the program itself counts them, `loopback_bytes` what the loopback interface carried. On
    rows with a line of their own, `wire_bytes` are what the proxy counted, the same measure for all. `grown_bytes` is what the
    destination's disk gave.
    """

    wall: float
    near_cpu: float
    far_cpu: float | None
    near_peak_kib: int
    far_peak_kib: int | None
    wire_bytes: int | None
    loopback_bytes: int | None
    grown_bytes: int | None = None


class Meter:
    """Runs commands with `rusage.py` in front of them. `folder` takes its files; `server` is the far end."""

    def __init__(self, folder: Path, server: Server) -> None:
        self._near = folder / "near.jsonl"
        self._far = folder / "far.jsonl"
        self._server = server

    @property
    def far_command(self) -> list[str]:
        """What stands before a command at the far end."""
        return _wrapped(self._far)

    def run(self, command: Sequence[str], *, inside: Path | None = None, home: Path, both_ends: bool = True) -> tuple[Cost, str]:
        """Runs it, and gives its cost (without the wire: only the program knows) and its standard output.

        With `both_ends`, a far command runs too, and may end a little later: a line that is far tells it late.
        """
        self._near.unlink(missing_ok=True)
        self._far.unlink(missing_ok=True)
        carried, used = _loopback_bytes(), self._server.cpu_seconds()
        output = run_quietly([*_wrapped(self._near), *command], inside=inside, home=home)
        deadline = time.monotonic() + FAR_SECONDS
        while both_ends and not self._far.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        used_after, carried_after = self._server.cpu_seconds(), _loopback_bytes()
        if any(str(self._far) in part for part in command):
            self._wait_for_far_end()
        near, far = _read(self._near), _read(self._far)
        cost = Cost(
            wall=sum(line["wall"] for line in near),
            near_cpu=sum(line["cpu"] for line in near),
            far_cpu=_far_cpu(used, used_after, far),
            near_peak_kib=max(int(line["peak_kib"]) for line in near),
            far_peak_kib=max((int(line["peak_kib"]) for line in far), default=None),
            wire_bytes=None,
            loopback_bytes=carried_after - carried if carried is not None and carried_after is not None else None,
        )
        return cost, output

    def _wait_for_far_end(self) -> None:
        """A vault's end writes its index after it has answered: what it used is known some time after the command has ended."""
        for _ in range(500):
            if self._far.exists():
                return
            time.sleep(0.02)


def run_quietly(command: Sequence[str], *, home: Path, inside: Path | None = None) -> str:
    """Standard output of a command that runs with a home folder of its own. Raises RunError when it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("SSH_", "XDG_", "EVIDENCESYNC_"))}
    environment |= {"HOME": str(home), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, cwd=inside, env=environment, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    if done.returncode != 0:
        words = (done.stderr or done.stdout).decode("utf-8", "backslashreplace").strip()
        name = next(part for part in command if not part.startswith("-") and "rusage" not in part and "python" not in part)
        raise RunError(f"{Path(name).name} ended with {done.returncode}: {words[-STDERR_SHOWN:]}")
    return done.stdout.decode("utf-8", "backslashreplace")


def median_of(costs: Sequence[Cost]) -> Cost:
    """The median of each figure by itself."""

    def middle(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.median(known) if known else None

    def whole(values: list[float | None]) -> int | None:
        value = middle(values)
        return None if value is None else round(value)

    return Cost(
        wall=statistics.median(cost.wall for cost in costs),
        near_cpu=statistics.median(cost.near_cpu for cost in costs),
        far_cpu=middle([cost.far_cpu for cost in costs]),
        near_peak_kib=round(statistics.median(cost.near_peak_kib for cost in costs)),
        far_peak_kib=whole([cost.far_peak_kib for cost in costs]),
        wire_bytes=whole([cost.wire_bytes for cost in costs]),
        loopback_bytes=whole([cost.loopback_bytes for cost in costs]),
        grown_bytes=whole([cost.grown_bytes for cost in costs]),
    )


def _far_cpu(before: float | None, after: float | None, far: Sequence[dict[str, float]]) -> float | None:
    """sshd's and its children's; or the command's alone, where sshd did not wait for its end."""
    counted = after - before if before is not None and after is not None else 0.0
    return max(counted, sum(line["cpu"] for line in far)) or None


def total_of(costs: Sequence[Cost]) -> Cost:
    """One run of several steps: sums, and the highest peak. A figure that one step lacks is missing."""

    def add(values: list[T | None]) -> T | None:
        known = [value for value in values if value is not None]
        return sum(known) if len(known) == len(values) else None

    return Cost(
        wall=sum(cost.wall for cost in costs),
        near_cpu=sum(cost.near_cpu for cost in costs),
        far_cpu=add([cost.far_cpu for cost in costs]),
        near_peak_kib=max(cost.near_peak_kib for cost in costs),
        far_peak_kib=max((cost.far_peak_kib for cost in costs if cost.far_peak_kib is not None), default=None),
        wire_bytes=add([cost.wire_bytes for cost in costs]),
        loopback_bytes=add([cost.loopback_bytes for cost in costs]),
    )


def disk_bytes(folder: Path) -> int:
    """What a folder takes on its disk; a file with several names once."""
    found = {}
    for parent, _, names in os.walk(folder):
        for path in (parent, *(os.path.join(parent, name) for name in names)):
            status = os.lstat(path)
            found[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(found.values())


def _wrapped(file: Path) -> list[str]:
    return [sys.executable, "-I", "-S", str(Path(__file__).with_name("rusage.py")), str(file)]


def _read(file: Path) -> list[dict[str, float]]:
    if not file.exists():
        return []
    return [json.loads(line) for line in file.read_text(encoding="ascii").splitlines()]


def _loopback_bytes() -> int | None:
    try:
        return int(LOOPBACK.read_text(encoding="ascii"))
    except OSError:
        return None
