"""What a push costs, step by step: `make profile`, or `python -m tests.bench.profile --dir FOLDER`.

Each end has a process of its own, joined by a socket: SSH and the start of programs are not in it. For each work it prints

- CPU by thread and step: the least of several runs, for a GiB of A or a file of B, without what a push of one file costs;
- system calls by thread, and which they are (`strace`);
- instructions in user mode, both ends together (`valgrind`): they hardly vary, also where other programs use the machine. It has
  no SHA instructions, so that SHA-256 counts for more than it takes.

The last two are differences between a push and one of twice the size. A program for people, not a test.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from evidencesync.acquire.push import push
from evidencesync.connection.process import keep_large_blocks
from evidencesync.connection.progress import Progress
from evidencesync.connection.session_socket import SocketLink
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest.receive import receive
from evidencesync.ssh.keys import KeySigner
from evidencesync.vault.create import create_vault
from evidencesync.vault.vault import Vault
from tests.bench import workloads
from tests.bench.steps import STEPS, Spent, Stopwatch
from tests.bench.work import FULL_SIZE_A, SEED
from tests.support.bench_of_evidence import Bench

_EDITS: Final = 1000  # in an image of full size
_SHOWN: Final = 8  # kinds of system calls in a line
_CALL: Final = re.compile(r"^(\w+)\(", re.MULTILINE)
_COLLECTED: Final = re.compile(r"Collected : (\d+)")
_SIGNER: Final = KeySigner.from_private(Ed25519PrivateKey.from_private_bytes(bytes(32)))
_NAME: Final = ItemName(Title("bench"), Title("profile"))


@dataclass(frozen=True)
class Work:
    """A source that is pushed; with `known` the vault has it already, or has it as it was before it was `edited`."""

    name: str
    large: bool
    known: bool = False
    edited: bool = False

    @property
    def unit(self) -> str:
        """What the figures are for."""
        return "GiB" if self.large else "file"

    def units(self, size: int) -> float:
        """How many of them there are in bytes of A, or files of B."""
        return size / 2**30 if self.large else size

    def prepare(self, folder: Path, size: int) -> Bench:
        """Makes the source, and a vault in an empty folder that has what it knows."""
        base, folder_of_edited = folder / "base", folder / "edited"
        make = workloads.make_image if self.large else workloads.make_files
        make(base, size, SEED)
        bench = Bench(create_vault(folder / "vault", "bench", [(_SIGNER.public_key, "bench")]), _SIGNER, base, _NAME)
        if self.known:
            push_once(bench, Stopwatch(()), read_back=False)
        if self.edited:
            workloads.make_edited(base / workloads.IMAGE_NAME, folder_of_edited, max(_EDITS * size // FULL_SIZE_A, 1), SEED)
            bench = replace(bench, source=folder_of_edited)
        return bench


WORKS: Final = (
    Work("A-fresh", large=True),
    Work("A-edits", large=True, known=True, edited=True),
    Work("B-fresh", large=False),
    Work("B-unchanged", large=False, known=True),
)


def push_once(bench: Bench, watch: Stopwatch, *, read_back: bool) -> None:
    """One push, with the vault's end in a process that is forked for it."""
    ours, theirs = socket.socketpair()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        ours.close()
        try:
            watch.begin("vault")
            watch.measure("main", lambda: receive(SocketLink(theirs), bench.vault, "a bench", may_reconnect=False))
            with open(write, "w", encoding="utf-8") as file:  # after the index, which is filled after the acknowledgement
                file.write(watch.as_json())
        finally:
            os._exit(0)  # noqa: TID251  # the forked half of this process has nothing else to do
    theirs.close()
    os.close(write)
    watch.begin("near")
    request = bench.request(compress="never", read_back=read_back, timeout_seconds=600)
    watch.measure("main", lambda: push(SocketLink(ours), request, Progress()))
    with open(read, encoding="utf-8") as file:
        watch.add_json(file.read())
    os.waitpid(child, 0)


class Profile:
    """Takes the figures of one work."""

    def __init__(self, folder: Path, *, read_back: bool) -> None:
        self._folder = folder
        self._read_back = read_back

    def steps(self, work: Work, size: int, runs: int) -> list[str]:
        """CPU by thread and step."""
        watch = Stopwatch(STEPS)
        tiny = self._least(Work("one file", large=False, known=work.known), 1, runs, watch)
        spent = self._least(work, size, runs, watch)
        spent.subtract(tiny)
        scale, name = (1e9, "s") if work.large else (1e3, "us")
        each = {key: nanoseconds / scale / work.units(size) for key, nanoseconds in spent.items()}
        all_of_it = sum(each.values())
        once = sum(tiny.values()) / 1e6
        lines = [f"{work.name}, CPU a {work.unit}: {all_of_it:.2f} {name} (besides, {once:.0f} ms for a push of one file)"]
        for thread in sorted({thread for thread, _ in each}):
            steps = Counter({step: value for (other, step), value in each.items() if other == thread})
            if (total := sum(steps.values())) > all_of_it / 200:
                lines.append(f"  {thread:28} {total:8.2f}")
                lines += [f"    {step:26} {value:8.2f}" for step, value in steps.most_common() if value > all_of_it / 200]
        return lines

    def calls(self, work: Work, size: int) -> list[str]:
        """System calls by thread."""
        once, twice = self._traced(work, size), self._traced(work, 2 * size)
        lines = [f"{work.name}, system calls a {work.unit}"]
        for thread in sorted({thread for thread, _ in twice}):
            calls = Counter(
                {
                    call: (count - once[thread, call]) / work.units(size)
                    for (other, call), count in twice.items()
                    if other == thread
                }
            )
            total = sum(calls.values())
            shown = ", ".join(f"{call} {count:.2f}" for call, count in calls.most_common(_SHOWN) if count > total / 50)
            if total > 0.1:
                lines.append(f"  {thread:16} {total:10.2f}: {shown}")
        return lines

    def instructions(self, work: Work, size: int) -> list[str]:
        """Instructions in user mode."""
        tool = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
        counts = []
        for count in (size, 2 * size):
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                said = self._run_below(tool, work.prepare(Path(name), count)).stderr
                counts.append(sum(map(int, _COLLECTED.findall(said))))
        return [f"{work.name}, instructions a {work.unit}: {(counts[1] - counts[0]) / work.units(size):,.0f}"]

    def _least(self, work: Work, size: int, runs: int, watch: Stopwatch) -> Spent:
        found: list[Spent] = []
        for _ in range(runs):
            with tempfile.TemporaryDirectory(dir=self._folder) as name:
                bench = work.prepare(Path(name), size)
                with watch:
                    push_once(bench, watch, read_back=self._read_back)
                found.append(Counter(watch.spent))
        return min(found, key=lambda spent: sum(spent.values()))

    def _traced(self, work: Work, size: int) -> Spent:
        calls: Spent = Counter()
        with tempfile.TemporaryDirectory(dir=self._folder) as name:
            bench = work.prepare(Path(name), size)
            said = self._run_below(["strace", "-ff", "-qq", "-o", f"{name}/calls"], bench).stdout
            for identity, thread in json.loads(said).items():
                text = Path(name, f"calls.{identity}").read_text(encoding="utf-8", errors="replace")
                calls.update((thread, call) for call in _CALL.findall(text))
        return calls

    def _run_below(self, tool: list[str], bench: Bench) -> subprocess.CompletedProcess[str]:
        """Runs one push in a process that a tool watches."""
        program = [*tool, sys.executable, "-m", "tests.bench.profile", "--alone", str(bench.source), str(bench.vault.layout.root)]
        return subprocess.run(
            [*program, *(["--read-back"] if self._read_back else [])], capture_output=True, text=True, check=True
        )


def main() -> None:
    """Prints the figures of each work as soon as they are there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument(
        "--dir", type=Path, help="where the data and the vault lie, best on a tmpfs (default: a temporary folder)"
    )
    parser.add_argument("--mib", type=int, default=512, help="size of A (default 512)")
    parser.add_argument("--files", type=int, default=20_000, help="files of B (default 20,000)")
    parser.add_argument("--runs", type=int, default=3, help="of which the least counts (default 3)")
    parser.add_argument("--works", nargs="*", default=[work.name for work in WORKS], help="which (default: all)")
    parser.add_argument(
        "--counts", nargs="*", default=["steps", "calls"], help="steps, calls, instructions (default: the first two)"
    )
    parser.add_argument("--read-back", action="store_true", help="with the third point")
    parser.add_argument("--alone", nargs=2, type=Path, metavar=("SOURCE", "VAULT"), help="one push, for a tool that watches it")
    options = parser.parse_args()
    keep_large_blocks()  # as both ends do
    if options.alone:
        source, vault = options.alone
        with Stopwatch(()) as watch:
            push_once(Bench(Vault.open(vault), _SIGNER, source, _NAME), watch, read_back=options.read_back)
        print(json.dumps(watch.threads))
        return
    with tempfile.TemporaryDirectory(dir=options.dir) as name:
        profile = Profile(Path(name), read_back=options.read_back)
        for work in (work for work in WORKS if work.name in options.works):
            size = options.mib * workloads.MIB if work.large else options.files
            small = max(size // 8, 16 * workloads.MIB) if work.large else max(size // 20, 10)
            lines = profile.steps(work, size, options.runs) if "steps" in options.counts else []
            for count, program in (("calls", "strace"), ("instructions", "valgrind")):
                if count in options.counts and shutil.which(program):
                    lines += getattr(profile, count)(work, small)
            print("\n".join(lines), end="\n\n", flush=True)


if __name__ == "__main__":
    main()
