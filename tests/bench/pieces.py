"""What changes inside of contents cost on the wire, against rsync: `python -m tests.bench.pieces --dir /dev/shm/x`.

Bytes are counted in both directions, evidencesync over a link inside this process (nothing is compressed), rsync by what it
says of itself when it copies between two folders with its delta algorithm. CPU is that of both ends together.
A program for people, not a test.
"""

from __future__ import annotations

import argparse
import random
import re
import resource
import shutil
import sqlite3
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from evidencesync.vault.vault import Vault
from tests.bench.workloads import EDIT_BYTES, IMAGE_NAME, MIB, RandomBytes, TextBytes, make_edited, make_image, make_inserted
from tests.support.bench_of_evidence import Bench, make_bench

SEED: Final = "evidencesync pieces 1"
Maker = Callable[[Path, Path], None]
"""Makes the new folder out of the old one."""


def edits(count: int, align: int = 1) -> Maker:
    """4 KiB overwritten in `count` places, each a multiple of `align`."""

    def make(old: Path, new: Path) -> None:
        if align == 1:
            make_edited(old / IMAGE_NAME, new, count, SEED)
            return
        new.mkdir()
        copy = Path(shutil.copyfile(old / IMAGE_NAME, new / IMAGE_NAME))
        places, other = random.Random(SEED), RandomBytes(SEED)
        with copy.open("r+b") as file:
            for _ in range(count):
                file.seek(places.randrange(copy.stat().st_size // align) * align)
                file.write(other.take(EDIT_BYTES))

    return make


def spliced(count: int, removed: int, added: int, moved: int) -> Maker:
    """In `count` places `removed` bytes fall away, `moved` bytes go on as they were, and `added` new ones follow."""

    def make(old: Path, new: Path) -> None:
        new.mkdir()
        size = (old / IMAGE_NAME).stat().st_size
        other = RandomBytes(SEED)
        step = size // (count + 1)
        with (old / IMAGE_NAME).open("rb") as source, (new / IMAGE_NAME).open("wb") as target:
            for number in range(1, count + 1):
                while (left := number * step + number % 4096 - source.tell()) > 0:
                    target.write(source.read(min(left, 4 * MIB)))
                source.seek(removed, 1)
                target.write(source.read(moved))
                target.write(other.take(added))
            shutil.copyfileobj(source, target, 4 * MIB)

    return make


def make_log(folder: Path, size: int) -> None:
    """A log."""
    folder.mkdir()
    with (folder / "app.log").open("wb") as file:
        text = TextBytes(SEED)
        for _ in range(size // MIB):
            file.write(text.take(MIB))


def grown(old: Path, new: Path) -> None:
    """The log an hour later."""
    shutil.copytree(old, new)
    with (new / "app.log").open("ab") as file:
        file.write(TextBytes(SEED + " later").take(100_000))


def make_database(folder: Path, rows: int) -> None:
    """A database of messages with an index."""
    folder.mkdir()
    chance = random.Random(SEED)
    with sqlite3.connect(folder / "messages.db") as database:
        database.execute("CREATE TABLE messages (id INTEGER PRIMARY KEY, sender INTEGER, body BLOB)")
        made = ((number, chance.randrange(5000), chance.randbytes(chance.randrange(40, 800))) for number in range(rows))
        database.executemany("INSERT INTO messages VALUES (?, ?, ?)", made)
        database.execute("CREATE INDEX by_sender ON messages (sender)")


def updated(share: float) -> Maker:
    """Rows of the database updated, deleted and added."""

    def make(old: Path, new: Path) -> None:
        shutil.copytree(old, new)
        chance = random.Random(SEED + " later")
        with sqlite3.connect(new / "messages.db") as database:
            (count,) = database.execute("SELECT max(id) FROM messages").fetchone()
            for _ in range(int(count * share)):
                number = chance.randrange(count)
                database.execute("UPDATE messages SET body = ? WHERE id = ?", [chance.randbytes(300), number])
                database.execute("DELETE FROM messages WHERE id = ?", [chance.randrange(count)])
                database.execute("INSERT INTO messages (sender, body) VALUES (?, ?)", [number % 5000, chance.randbytes(400)])

    return make


def build(folder: Path, size: int, version: int) -> None:
    """An ext4 image of a tree of files. In the second version one in twenty is another, and one in twenty has grown."""
    folder.mkdir()
    chance = random.Random(SEED)
    with tempfile.TemporaryDirectory(dir=folder.parent) as tree:
        left = size * 3 // 4
        number = 0
        while left > 0:
            length = min(int(chance.lognormvariate(9.5, 1.8)) + 1, 8 * MIB)
            content = random.Random(number).randbytes(length)
            kind = chance.random()
            if version == 2 and kind < 0.05:
                content = random.Random(-number - 1).randbytes(length)
            elif version == 2 and kind < 0.1:
                content = content[: length // 2] + b"one more line\n" + content[length // 2 :]
            Path(tree, f"{number // 200}").mkdir(exist_ok=True)
            Path(tree, f"{number // 200}/{number}").write_bytes(content)
            left -= length
            number += 1
        command = ["mkfs.ext4", "-q", "-d", tree, "-U", "4c16ac35-0000-4000-8000-000000000000", str(folder / IMAGE_NAME)]
        subprocess.run([*command, f"{size // MIB}M"], check=True)


def cases(size: int) -> dict[str, list[tuple[str, Maker]]]:
    """The changes by the kind of what is changed. Counts are those of 2 GiB, and fewer in less."""
    share = size / (2 << 30)
    thousand = max(round(1000 * share), 1)
    return {
        "image": [
            (f"{thousand} edits of 4 KiB, anywhere", edits(thousand)),
            (f"{thousand} edits of 4 KiB, page-aligned", edits(thousand, 4096)),
            (f"{10 * thousand} edits of 4 KiB, anywhere", edits(10 * thousand)),
            (f"{thousand // 4} blocks of 64 KiB shifted by 100 bytes", spliced(thousand // 4, 100, 100, 64 << 10)),
            (f"{thousand // 4} inserts of 100 bytes", spliced(thousand // 4, 0, 100, 0)),
            ("one byte inserted at the front", lambda old, new: make_inserted(old / IMAGE_NAME, new)),
            (f"{thousand // 4} fresh blocks of 256 KiB", spliced(thousand // 4, 256 << 10, 256 << 10, 0)),
        ],
        "log": [("a log grown by 100 kB", grown)],
        "database": [("1 % of a database's rows changed", updated(0.01)), ("0.1 % of them", updated(0.001))],
        "build": [("another build of an ext4 image", lambda _, new: build(new, size // 4, 2))],
    }


def make_old(kind: str, folder: Path, size: int) -> None:
    """What is changed."""
    match kind:
        case "image":
            make_image(folder, size, SEED)
        case "log":
            make_log(folder, size // 16)
        case "database":
            make_database(folder, size // 8000)
        case _:
            build(folder, size // 4, 1)


def rsync_bytes(old: Path, new: Path, work: Path) -> int:
    """What rsync would send and receive."""
    shutil.copytree(old, work)
    command = ["rsync", "-a", "--ignore-times", "--no-whole-file", "--stats", f"{new}/", f"{work}/"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    shutil.rmtree(work)
    return sum(int(number.replace(",", "")) for number in re.findall(r"Total bytes (?:sent|received): ([\d,]+)", said))


def cpu_seconds() -> float:
    """Of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def push_changed(bench: Bench, new: Path, work: Path) -> tuple[int, int, float]:
    """Pushes the new content to a copy of the vault: bytes both ways, bytes of content among them, CPU seconds."""
    subprocess.run(["cp", "-al", bench.vault.layout.root, work], check=True)
    for file in work.rglob("*.sqlite"):
        copy = file.with_suffix(".copy")
        shutil.copyfile(file, copy)
        copy.replace(file)
    started = cpu_seconds()
    other = replace(bench, vault=Vault.open(work), source=new)
    outcome = other.push(compress="never", read_back=False, timeout_seconds=300)
    used = cpu_seconds() - started
    shutil.rmtree(work)
    return outcome.wire_sent + outcome.wire_received, outcome.literal_bytes, used


def main() -> None:
    """Runs every case and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dir", type=Path, required=True, help="where the data may lie: some four times the size")
    parser.add_argument("--mib", type=int, default=2048, help="size of the image")
    parser.add_argument("--kinds", nargs="*", help="image, log, database, build")
    parser.add_argument("--no-rsync", action="store_true")
    options = parser.parse_args()
    size = options.mib * MIB
    for kind, changes in cases(size).items():
        if options.kinds and kind not in options.kinds:
            continue
        with tempfile.TemporaryDirectory(dir=options.dir) as name:
            folder = Path(name)
            old, new, work = folder / "old", folder / "new", folder / "work"
            make_old(kind, old, size)
            bench = make_bench(folder)
            replace(bench, source=old).push(compress="never", read_back=False, timeout_seconds=300)
            for label, make in changes:
                make(old, new)
                ours, literal, used = push_changed(bench, new, work)
                theirs = 0 if options.no_rsync else rsync_bytes(old, new, work)
                ratio = f"{theirs / 1e6:10.2f} {ours / theirs:7.3f}" if theirs else ""
                print(f"{label:48} {ours / 1e6:8.2f} {literal / 1e6:8.2f} {used:7.2f} s {ratio}", flush=True)
                shutil.rmtree(new)


if __name__ == "__main__":
    main()
