"""Sample evidence: a disk image, logs, a few hundred small files, and the names that real evidence has.

Everything is seeded: it is the same bytes each time.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from docs.demo.disk_image import ImageFile, build_fat_image

SEED: Final = 20240305
IMAGE_BYTES: Final = 12 << 20
PAGE_FILE_BYTES: Final = 8 << 20
SMALL_FILES: Final = 300
WHEN: Final = datetime(2024, 3, 5, 14, 30, 20, tzinfo=UTC)

# Each is legal on Linux, and each has broken some tool.
ODD_NAMES: Final = (
    "Überweisung – 送金.txt".encode(),
    b"not-utf8-\xff\xfe.txt",
    b"two\nlines.txt",
    b"\x1b[31mred\x1b[0m.txt",
    "invoice-\u202egpj.exe".encode(),
    b"[bold red]markup[not bold].txt",
    b"C:\\Windows\\hosts",
    b"-rf",
    b" blank at both ends ",
    b"'single' \"double\" $(id) `id`",
    b"name " * 51,
)

_WORDS: Final = (
    "accepted account backup closed connection failed file from invoice key login opened password payment port user".split()
)


def make_evidence(folder: Path) -> list[bytes]:
    """Fills the empty `folder`. Returns the odd names that this file system refused."""
    (folder / "disk.img").write_bytes(_disk_image(changed=False))
    (folder / "pagefile.sys").write_bytes(bytes(PAGE_FILE_BYTES))
    _make_logs(folder / "logs")
    _make_home(folder / "home")
    refused = _make_odd_names(os.fsencode(folder / "odd names"))
    (folder / "empty folder").mkdir()
    (folder / "link to nowhere").symlink_to("/no/such/place")
    os.mkfifo(folder / "pipe")
    return refused


def change_evidence(folder: Path) -> None:
    """A day later: a log has grown, a document on the disk was edited and another was written, a folder was renamed."""
    with (folder / "logs" / "auth.log").open("a", encoding="ascii") as log:
        log.writelines(_log_lines(random.Random(SEED + 1), 200))
    (folder / "disk.img").write_bytes(_disk_image(changed=True))
    (folder / "home" / "user3").rename(folder / "home" / "user3-renamed")
    (folder / "home" / "user0" / "new.txt").write_text("This was not there yesterday.\n", encoding="ascii")


def _log_lines(source: random.Random, count: int) -> Iterator[str]:
    for second in sorted(source.choices(range(86_400), k=count)):
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        yield f"Mar  5 {clock} host sshd[{source.randrange(30_000)}]: {' '.join(source.choices(_WORDS, k=8))}\n"


def _make_logs(folder: Path) -> None:
    folder.mkdir()
    source = random.Random(SEED)
    for name, lines in (("auth.log", 12_000), ("syslog", 20_000), ("syslog.1", 20_000)):
        (folder / name).write_text("".join(_log_lines(source, lines)), encoding="ascii")


def _make_home(folder: Path) -> None:
    source = random.Random(SEED + 2)
    for number in range(SMALL_FILES):
        place = folder / f"user{number % 6}" / ("documents", "downloads", ".config")[number % 3]
        place.mkdir(parents=True, exist_ok=True)
        text = " ".join(source.choices(_WORDS, k=source.randrange(10, 600)))
        (place / f"note-{number:03}.txt").write_text(text + "\n", encoding="ascii")


def _make_odd_names(folder: bytes) -> list[bytes]:
    """Bytes all the way: a name that is not UTF-8 has no faithful text."""
    Path(os.fsdecode(folder)).mkdir()
    refused = []
    for name in ODD_NAMES:
        try:
            with open(folder + b"/" + name, "wb") as file:
                file.write(b"The name is the interesting part of this file.\n")
        except OSError:
            refused.append(name)
    return refused


def _disk_image(changed: bool) -> bytes:
    source = random.Random(SEED + 3)
    photos = [ImageFile(f"PHOTOS/IMG{number:04}.JPG", source.randbytes(150_000 + 5000 * number), WHEN) for number in range(30)]
    letter = b"Dear Ms Example, the amount is " + (b"9,900.00" if changed else b"1,200.00") + b" EUR.\r\n"
    files = [
        ImageFile("LETTER.TXT", letter * 40, WHEN),
        ImageFile("PLAN.TXT", b"Nobody will ever read this.\r\n" * 50, WHEN, deleted=True),
        *photos,
    ]
    if changed:
        files.append(ImageFile("LATER.TXT", b"Written after the first acquisition.\r\n", WHEN))
    return build_fat_image(IMAGE_BYTES, "EVIDENCE", files)
