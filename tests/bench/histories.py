"""What happens to evidence over the weeks: moved files, rotated logs, a second machine, similar images, a database in use."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sqlite3
from pathlib import Path
from typing import Final

from tests.bench.work import SEED, History, Step, Work, Workshop, files_space, image_space
from tests.bench.workloads import IMAGE_NAME, RandomBytes, TextBytes

SHARE: Final = 1 / 32  # of image A: 64 MiB at full scale
IMAGES: Final = 20
DAYS: Final = 5
_BLOCK: Final = 4096


def moved(shop: Workshop) -> History:
    """Every second file renamed in its folder, the others moved to another folder under their names. Contents as they were."""
    base, after = shop.files(0.1), shop.scratch("moved")
    for number, file in enumerate(sorted(path for path in base.rglob("*") if path.is_file())):
        folder, name = file.parent.name, file.name
        place = after / folder / f"renamed-{name}" if number % 2 else after / f"moved-{folder}" / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.hardlink_to(file)
    return History((Step(base),), (Step(after),))


def rotated(shop: Workshop) -> History:
    """Four logs, each moved on by one (`log` to `log.1`), the oldest gone, and a new one begun."""
    before, after = shop.scratch("logs"), shop.scratch("logs-rotated")
    before.mkdir()
    after.mkdir()
    size = int(shop.sizes.image * SHARE / 4)
    names = ["app.log", "app.log.1", "app.log.2", "app.log.3"]
    for day, name in enumerate(names):
        (before / name).write_bytes(TextBytes(f"{SEED} {name}").take(size))
        _date(before / name, len(names) - day)
    for old, new in itertools.pairwise(names):
        (after / new).hardlink_to(before / old)
    (after / "app.log").write_bytes(TextBytes(f"{SEED} new").take(size // 10))
    return History((Step(before),), (Step(after),))


def other_item(shop: Workshop) -> History:
    """The same files, found on another machine of the same case."""
    base = shop.files(0.1)
    return History((Step(base),), (Step(base, item="bench-2"),))


def other_case(shop: Workshop) -> History:
    """The same files in another case of the same vault."""
    base = shop.files(0.1)
    return History((Step(base),), (Step(base, item="bench-2", case="bench-other"),))


def similar_images(shop: Workshop) -> History:
    """Twenty machines from one installation: each image differs from the first in 2 %, in runs of 4 to 256 KiB."""
    base = shop.image(SHARE)
    size = (base / IMAGE_NAME).stat().st_size
    steps = [Step(base, "machine-00")]
    for number in range(1, IMAGES):
        folder = shop.scratch(f"machine-{number:02}")
        folder.mkdir()
        image = Path(shutil.copyfile(base / IMAGE_NAME, folder / IMAGE_NAME))
        places, other = random.Random(number), RandomBytes(f"{SEED} machine {number}")
        left = size // 50
        with image.open("r+b") as file:
            while left > 0:
                run = min(_BLOCK << places.randrange(7), left)
                file.seek(places.randrange(max(size - run, 1)) // _BLOCK * _BLOCK)
                left -= file.write(other.take(run))
        _date(image, number)
        steps.append(Step(folder, f"machine-{number:02}"))
    return History(tuple(steps[:1]), tuple(steps[1:]))


def growing_log(shop: Workshop) -> History:
    """A log on five days; each adds 2 % of the first."""
    text = TextBytes(f"{SEED} growing")
    size = int(shop.sizes.image * SHARE)
    steps = []
    content = text.take(size)
    for day in range(DAYS + 1):
        folder = shop.scratch(f"day-{day}")
        folder.mkdir()
        (folder / "app.log").write_bytes(content)
        _date(folder / "app.log", day)
        steps.append(Step(folder))
        content += text.take(size // 50)
    return History(tuple(steps[:1]), tuple(steps[1:]))


def database(shop: Workshop) -> History:
    """A SQLite database with an index; then one row in a hundred is changed, and as many are added and deleted."""
    before, after = shop.scratch("database"), shop.scratch("database-used")
    before.mkdir()
    rows = max(int(shop.sizes.image * SHARE) // 600, 100)
    with sqlite3.connect(before / "app.db") as database:
        database.execute("CREATE TABLE visits (id INTEGER PRIMARY KEY, address TEXT, time INTEGER)")
        database.execute("CREATE INDEX by_time ON visits (time)")
        _insert(database, rows, "first")
    database.close()
    shutil.copytree(before, after)
    chosen = random.Random(SEED)
    with sqlite3.connect(after / "app.db") as database:
        changed = [(chosen.randrange(1 << 30), chosen.randrange(rows)) for _ in range(rows // 100)]
        database.executemany("UPDATE visits SET time = ? WHERE id = ?", changed)
        database.executemany("DELETE FROM visits WHERE id = ?", [(chosen.randrange(rows),) for _ in range(rows // 100)])
        _insert(database, rows // 100, "second")
    database.close()
    _date(after / "app.db", 1)
    return History((Step(before),), (Step(after),))


def _insert(database: sqlite3.Connection, count: int, label: str) -> None:
    text, times = TextBytes(f"{SEED} {label}"), random.Random(label)
    rows = ((text.take(500).decode(), times.randrange(1 << 30)) for _ in range(count))
    database.executemany("INSERT INTO visits (address, time) VALUES (?, ?)", rows)


def two_builds(shop: Workshop) -> History:
    """An image of files on block boundaries, built twice: in another order, one file in ten with another content."""
    before, after = shop.scratch("build-1"), shop.scratch("build-2")
    sizes = random.Random(SEED)
    left = int(shop.sizes.image * SHARE)
    files: list[tuple[int, int]] = []
    while left > 0:
        size = min(int(sizes.lognormvariate(9.5, 1.5)), left)
        files.append((len(files), size))
        left -= size + _BLOCK
    groups = [files[start : start + 40] for start in range(0, len(files), 40)]
    sizes.shuffle(groups)
    for folder, order, build in ((before, files, 1), (after, [file for group in groups for file in group], 2)):
        folder.mkdir()
        with (folder / IMAGE_NAME).open("wb") as image:
            for number, size in order:
                changed = build if number % 10 == 0 else 1
                kind = TextBytes if number % 500 == 1 else RandomBytes
                content = kind(f"{SEED} {number} {changed}").take(size)
                image.write(content + bytes(-len(content) % _BLOCK))
        _date(folder / IMAGE_NAME, build)
    return History((Step(before),), (Step(after),))


def shifted_block(shop: Workshop) -> History:
    """64 KiB cut out after a quarter of an image, and put in again after three quarters."""
    base, after = shop.image(SHARE), shop.scratch("shifted")
    after.mkdir()
    data = (base / IMAGE_NAME).read_bytes()
    quarter, block = len(data) // 4, 64 << 10
    cut, rest = data[quarter : quarter + block], data[:quarter] + data[quarter + block :]
    (after / IMAGE_NAME).write_bytes(rest[: 3 * quarter] + cut + rest[3 * quarter :])
    _date(after / IMAGE_NAME, 1)
    return History((Step(base),), (Step(after),))


def _date(file: Path, day: int) -> None:
    """A time of its own: rsync goes by whole seconds, and would take what was made in the same one for the same."""
    os.utime(file, (day * 86400, day * 86400))


WORKS: Final = {
    "moved": Work(moved, files_space(0.1)),
    "rotated": Work(rotated, image_space(2 * SHARE)),
    "other-item": Work(other_item, files_space(0.1)),
    "other-case": Work(other_case, files_space(0.1)),
    "images": Work(similar_images, image_space(IMAGES * SHARE)),
    "growing": Work(growing_log, image_space((DAYS + 2) * SHARE)),
    "database": Work(database, image_space(3 * SHARE)),
    "builds": Work(two_builds, image_space(2 * SHARE)),
    "shifted": Work(shifted_block, image_space(2 * SHARE)),
}
