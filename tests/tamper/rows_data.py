"""The evidence itself: files, folders and names under `data/`, and what shares their inodes."""

from __future__ import annotations

import os
import random
import stat
from pathlib import Path
from typing import Final, Literal

from tests.tamper.kinds import ANY, TYPES
from tests.tamper.row import (
    Deed,
    Row,
    Table,
    after,
    gone,
    linked_away,
    longer,
    made,
    mode,
    moved,
    overwrite,
    put,
    spoiled,
    swapped,
    taken,
    touch,
)
from tests.tamper.vault import FIRST, OTHER_FIRST, RETIRED_FIRST, SECOND, THIRD, Workshop

TABLE: Final = Table()
_add = TABLE.add
DATA, BEFORE, AFTER = f"{SECOND}/data", f"{FIRST}/data", f"{THIRD}/data"
LOG, TEXT, IMAGE, EMPTY, NEW = (f"{DATA}/{name}" for name in ("logs/day 1.log", "a.txt", "disk.img", "empty", "new.txt"))
DEEP: Final = f"{BEFORE}/logs/deep"
CODES: Final = {"emptied": "file-truncated", "cut off by a byte": "file-truncated", "cut off by half": "file-truncated"}
LONGER: Final = ("a newline longer", "a zero byte longer", "twice")


def _bytes() -> None:
    """LOG and IMAGE are in several acquisitions by a hard link: each of them is named."""
    for place in (LOG, TEXT, IMAGE):
        name = Path(place).name
        for kind, change in ANY.items():
            slug = CODES.get(kind, "file-extended" if kind in LONGER else "file-damaged")
            _add(f"the file {name} {kind}", Row(spoiled(place, change), 30, slug, place))
    for kind in ("emptied", "a newline longer", "a bit changed"):
        slug = CODES.get(kind, "file-extended" if kind in LONGER else "file-damaged")
        _add(
            f"the file in the acquisition before {kind}, too", Row(spoiled(LOG, ANY[kind]), 30, slug, f"{BEFORE}/logs/day 1.log")
        )
        _add(f"only one name of a hard link {kind}", Row(spoiled(LOG, ANY[kind], inode=False), 30, slug, LOG))
    _add("an empty file with a byte", Row(spoiled(EMPTY, lambda data: b"x"), 30, "file-extended", EMPTY))
    _add("an empty file with a hole", Row(longer(EMPTY, 1 << 20), 30, "file-extended", EMPTY))
    _add("a file of 32 GiB", Row(longer(TEXT), 30, "file-extended", TEXT))
    _add("an image of 32 GiB", Row(longer(IMAGE), 30, "file-extended", IMAGE))
    for name, start, size in (
        ("its beginning", 0, 4096),
        ("its middle", 100_000, 4096),
        ("its end", 645_904, 4096),
        ("its hole", 300_000, 4096),
    ):
        _add(f"an image with noise at {name}", Row(_noise_at(IMAGE, start, size), 30, "file-damaged", IMAGE))
    _add("an image with a hole in place of data", Row(_zeros_at(IMAGE, 20_480, 40_960), 30, "file-damaged", IMAGE))
    _add("an image with two blocks exchanged", Row(spoiled(IMAGE, _exchanged), 30, "file-damaged", IMAGE))
    _add(
        "an image with a block twice",
        Row(spoiled(IMAGE, lambda data: data[:4096] + data[:4096] + data[8192:]), 30, "file-damaged", IMAGE),
    )
    _add("an image with its hole written", Row(_written_hole, 0))
    _add("other bytes of the same size and time", Row(_same_time, 30, "file-damaged", LOG))
    _add("other bytes by a shared map", Row(_mapped, 30, "file-damaged", IMAGE))


def _noise_at(place: str, start: int, size: int) -> Deed:
    noise = random.Random(start).randbytes(size)
    return spoiled(place, lambda data: data[:start] + noise + data[start + size :])


def _zeros_at(place: str, start: int, size: int) -> Deed:
    return spoiled(place, lambda data: data[:start] + bytes(size) + data[start + size :])


def _exchanged(data: bytes) -> bytes:
    return data[4096:8192] + data[:4096] + data[8192:]


def _written_hole(shop: Workshop) -> None:
    """The same bytes, without a hole: a copy by a program that does not know holes."""
    file = shop.vault / IMAGE
    data = file.read_bytes()
    overwrite(file, data)


def _same_time(shop: Workshop) -> None:
    file = shop.vault / LOG
    before = file.stat()
    overwrite(file, b"enil\n" * 400)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def _mapped(shop: Workshop) -> None:
    import mmap

    file = shop.vault / IMAGE
    bits = file.stat().st_mode & 0o7777
    file.chmod(0o600)
    with file.open("r+b") as stream, mmap.mmap(stream.fileno(), 0) as view:
        view[7] ^= 1
    file.chmod(bits)


def _presence() -> None:
    for place in (LOG, TEXT, IMAGE, EMPTY, f"{DATA}/logs/twin", f"{DATA}/A.TXT"):
        _add(f"the file {Path(place).name} removed", Row(gone(place), 31, "missing-file", place))
    for place in (f"{DATA}/logs", f"{DATA}/logs/deep", f"{DATA}/empty folder"):
        # A working copy gets its empty folders from the manifest.
        empty: Literal["made"] | None = None if place.endswith("/logs") else "made"
        _add(f"the folder {Path(place).name} removed", Row(gone(place), 31, "missing-file", place, restore=empty))
        link = Row(linked_away(place), 31, "wrong-type", place, restore=empty)
        _add(f"the folder {Path(place).name} is a link to itself elsewhere", link)
        _add(f"the folder {Path(place).name} is a file", Row(made(place, touch), 31, "wrong-type", place, restore=empty))
        _add(f"the folder {Path(place).name} that everybody may write", Row(mode(place, 0o777), 0, "unsafe-mode", place))
    _add("data removed", Row(gone(DATA), 31, "missing-document", DATA))
    _add("data emptied", Row(gone(f"{DATA}/*"), 31, "missing-file", LOG))
    _add("data is a link to itself elsewhere", Row(linked_away(DATA), 31, "wrong-type", DATA))
    _add("data is a file", Row(made(DATA, touch), 31, "wrong-type", DATA))
    _add("data of the acquisition before", Row(taken(DATA, source=BEFORE), 30, "missing-file", NEW))
    _add("data of another vault", Row(_older_data, 31, "", ""))
    for place in (LOG, TEXT):
        for kind, make in TYPES.items():
            _add(f"the file {Path(place).name} is {kind}", Row(made(place, make), 31, "wrong-type", place))
        _add(f"the file {Path(place).name} is a link to itself elsewhere", Row(linked_away(place), 31, "wrong-type", place))
    for kind, make in TYPES.items():
        slug = "extra-entry" if kind == "a folder" else "wrong-type"
        _add(f"{kind} among the files", Row(made(f"{DATA}/logs/more", make), 31, slug, f"{DATA}/logs/more", restore="made"))


def _older_data(shop: Workshop) -> None:
    taken(DATA, source=f"{OTHER_FIRST}/data")(shop)
    (shop.vault / f"{DATA}/new.txt").unlink()


NAMES: Final = (
    ".hidden",
    "a.txt~",
    "Thumbs.db.exe",
    "new\nline",
    "\x1b[31mred",
    "gnp\u202e.exe",
    "\u0430.txt",
    "a.txt ",
    "-rf",
    "x" * 255,
    "manifest.jsonl",
    "a\u0301.txt",
)


def _names() -> None:
    for name in NAMES:
        place = f"{DATA}/{name}"
        _add(f"a file too many: {name[:20]!r}", Row(made(place, touch), 31, "extra-entry", place, restore="made"))
    for name in ("Thumbs.db", "._a.txt", "logs/.DS_Store", "logs/deep/Desktop.ini"):
        place = f"{DATA}/{name}"
        _add(f"a file that systems leave: {name}", Row(made(place, touch), 31, "extra-entry", place, restore="made"))
    place = f"{DATA}/Thumbs.db"
    _add(
        "a folder that has the name of a file that systems leave",
        Row(made(place, Path.mkdir), 31, "extra-entry", place, restore="made"),
    )
    _add("a file too many: no text", Row(_no_text, 31, "extra-entry", f"{DATA}/\udcff\udcfe", restore="made"))
    for place in (f"{DATA}/logs/deep/new", f"{DATA}/empty folder/new"):
        _add(f"a file too many in {Path(place).parent.name}", Row(made(place, touch), 31, "extra-entry", place, restore="made"))
    _add("a folder too many", Row(made(f"{DATA}/more", Path.mkdir), 31, "extra-entry", f"{DATA}/more", restore="made"))
    _add(
        "an empty file too many",
        Row(made(f"{DATA}/more", lambda file: put(file, b"")), 31, "extra-entry", f"{DATA}/more", restore="made"),
    )
    _add("one more name for a file", Row(_one_more_name, 31, "extra-entry", f"{DATA}/more", restore="made"))
    for name, to in (("a.txt", "b.txt"), ("a.txt", "logs/a.txt"), ("logs", "Logs"), ("logs/deep", "deep"), ("a.txt", "a.txt ")):
        whole: Literal["made"] | None = "made" if name == "logs/deep" else None  # which is empty
        _add(
            f"{name} renamed to {to!r}",
            Row(moved(f"{DATA}/{name}", f"{DATA}/{to}"), 31, "missing-file", f"{DATA}/{name}", restore=whole),
        )
    _add(
        "a name in another Unicode form",
        Row(moved(f"{DEEP}/\u540d.txt", f"{DEEP}/\uf900.txt"), 31, "missing-file", f"{DEEP}/\u540d.txt", about=FIRST),
    )
    _add("a.txt and A.TXT exchanged", Row(swapped(TEXT, f"{DATA}/A.TXT"), 30, "", TEXT))
    _add("two files exchanged", Row(swapped(TEXT, LOG), 30, "file-extended", TEXT))
    _add("two folders exchanged", Row(swapped(f"{DATA}/logs", f"{DATA}/empty folder"), 31, "", f"{DATA}/logs/day 1.log"))
    _add("two acquisitions' data exchanged", Row(swapped(DATA, BEFORE), 30, "missing-file", NEW))
    _add("two cases' data exchanged", Row(swapped(f"{OTHER_FIRST}/data", BEFORE), 30, "", "", about=FIRST))


def _no_text(shop: Workshop) -> None:
    Path(os.fsdecode(os.fsencode(shop.vault / DATA) + b"/\xff\xfe")).write_bytes(b"x")


def _one_more_name(shop: Workshop) -> None:
    os.link(shop.vault / TEXT, shop.vault / f"{DATA}/more")


def _from_elsewhere() -> None:
    _add("a file of the acquisition before", Row(taken(TEXT, source=f"{BEFORE}/a.txt"), 30, "file-truncated", TEXT))
    _add("a file of another item", Row(taken(TEXT, source=f"{RETIRED_FIRST}/data/disk.img"), 30, "file-extended", TEXT))
    _add("a file that is a hard link to another", Row(_hard_link(f"{DATA}/A.TXT", TEXT), 30, "", TEXT))
    _add("a file that is a hard link to the acquisition before", Row(_hard_link(f"{BEFORE}/a.txt", TEXT), 30, "", TEXT))
    _add("a file that is a hard link into the other case", Row(_hard_link(f"{OTHER_FIRST}/data/a.txt", TEXT), 0))
    _add("a file with a name outside the vault", Row(_name_outside, 0))
    _add("hard links made copies", Row(after(*(_unlinked(place) for place in (LOG, IMAGE, EMPTY))), 0))
    _add("the source's hard link made a copy", Row(_unlinked(f"{DATA}/logs/twin 2"), 0))


def _hard_link(place: str, name: str) -> Deed:
    def do(shop: Workshop) -> None:
        (shop.vault / name).unlink()
        os.link(shop.vault / place, shop.vault / name)

    return do


def _name_outside(shop: Workshop) -> None:
    aside = shop.folder / "outside"
    aside.unlink(missing_ok=True)
    os.link(shop.vault / LOG, aside)


def _unlinked(place: str) -> Deed:
    def do(shop: Workshop) -> None:
        file = shop.vault / place
        data, bits = file.read_bytes(), stat.S_IMODE(file.stat().st_mode)
        put(file, data, bits)

    return do


def _modes() -> None:
    for bits in (0o644, 0o464, 0o446, 0o544, 0o4444, 0o2444, 0o777):
        _add(f"a file of the mode {bits:04o}", Row(mode(TEXT, bits), 0, "unsafe-mode", TEXT))
    _add("a file of another owner", Row(lambda shop: os.chown(shop.vault / TEXT, 4711, 4711), 0)) if os.geteuid() == 0 else None
    _add("a file of another time", Row(lambda shop: os.utime(shop.vault / TEXT, (0, 0)), 0))
    _add("a file of a time to come", Row(lambda shop: os.utime(shop.vault / TEXT, (2**33, 2**33)), 0))
    _add("a file with an attribute", Row(_attribute, 0))


def _attribute(shop: Workshop) -> None:
    os.setxattr(shop.vault / TEXT, "user.note", b"x")


_bytes()
_presence()
_names()
_from_elsewhere()
_modes()
