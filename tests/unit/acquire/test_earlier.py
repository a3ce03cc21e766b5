"""Which files `--quick` takes from the acquisition before: those that look as they did, by a rule that is on the safe side."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.acquire import earlier
from evidencesync.acquire.earlier import EarlierFiles, is_as_it_was
from evidencesync.acquire.reading import PageRead, SourceEvent, SourceReading
from evidencesync.connection.progress import Progress
from evidencesync.custody.documents import CustodyRecord, Person
from evidencesync.custody.manifest import decode_last_line, encode_header
from evidencesync.evidence.digest import sha256_of
from evidencesync.evidence.entry import Entry, ReadError
from evidencesync.evidence.utc_time import UtcTime, format_file_time, format_utc_time
from evidencesync.limits import RACY_SECONDS
from evidencesync.localstate.receipts import KeptManifest
from evidencesync.source.filters import FilterRules
from evidencesync.source.root import resolve_source
from tests.support.manifest_of_a_folder import FINISHED, header_by

FINGERPRINT = "SHA256:" + "A" * 43
LONG_AFTER = "2200-06-01T10:00:00.000000Z"
SECOND = 1_000_000_000
DIGESTS: dict[str, Any] = {"blake3": "ab" * 32, "sha256": "cd" * 32}
RECORD = CustodyRecord(
    format="evidencesync-custody/1",
    vault_id="0" * 32,
    sequence=1,
    type="acquired",
    time=FINISHED,
    case="2024/17",
    item="1",
    actor=Person(name="Ana", principal="ana@lab", key=FINGERPRINT),
    previous_sha256=None,
    details={},
)

# --- The rule ------------------------------------------------------------------------------------------------------------

SEEN = {"st_ino": 7, "st_dev": 9, "st_size": 3}
TIMES = {"st_mtime_ns": 50 * SECOND, "st_ctime_ns": 60 * SECOND}


def status(**changes: int) -> Any:
    return type("Status", (), {**SEEN, **TIMES, **changes})()


def entry(**changes: Any) -> Entry:
    times = {"mtime": format_file_time(50 * SECOND), "ctime": format_file_time(60 * SECOND)}
    return Entry("file", **{"path": "a", "size": 3, "inode": "7", "device": "9", **DIGESTS, **times, **changes})


STARTED = 100 * SECOND


@pytest.mark.parametrize("field", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev"])
@pytest.mark.parametrize("by", [-1, 1])
def test_each_of_the_five_values_counts(field: str, by: int) -> None:
    assert is_as_it_was(entry(), status(), STARTED)
    before = {**SEEN, **TIMES}[field]
    assert not is_as_it_was(entry(), status(**{field: before + by}), STARTED)


@pytest.mark.parametrize(
    "other",
    [
        {"flags": ["changed-while-read"]},
        {"flags": ["unreadable"], "read_errors": [ReadError(0, 1, 5, "zero")]},
        {"blake3": None, "sha256": None, "size": None, "flags": ["skipped"]},
        {"ctime": None},
        {"mtime": None},
        {"inode": None},
        {"device": None},
    ],
)
def test_an_entry_that_is_not_whole_or_does_not_state_all_of_it_is_read_again(other: dict[str, Any]) -> None:
    assert not is_as_it_was(entry(**other), status(), STARTED)


@pytest.mark.parametrize(("changed_at", "taken"), [(99, True), (100, False), (101, False)])
def test_what_had_changed_when_its_reading_began_or_by_a_clock_that_was_set_back_is_read_again(
    changed_at: int, taken: bool
) -> None:
    at = changed_at * SECOND
    assert is_as_it_was(entry(ctime=format_file_time(at)), status(st_ctime_ns=at), STARTED) is taken


def test_what_was_not_read_the_last_time_has_passed_that_rule_before() -> None:
    assert is_as_it_was(entry(read_in=1), status(), 10 * SECOND)
    assert not is_as_it_was(entry(), status(), 10 * SECOND)


# --- A whole source ------------------------------------------------------------------------------------------------------


def read(source: Path, files: EarlierFiles | None = None, now: UtcTime = FINISHED) -> tuple[list[bytes], list[bytes | int]]:
    """Reads a source; returns all lines but the header, and the small contents."""
    lines: list[bytes] = []
    contents: list[bytes | int] = []

    def emit(item: SourceEvent, size: int) -> None:
        if isinstance(item, PageRead):
            lines.extend(item.lines.splitlines(keepends=True))
            contents.extend(item.contents)

    reading = SourceReading(resolve_source(source), FilterRules.none(), emit, Progress(), lambda: now)
    reading.earlier = files
    reading.run()
    return lines, contents


def kept(folder: Path, lines: list[bytes], number: int = 1, started: UtcTime = LONG_AFTER) -> KeptManifest:
    """A manifest as a receipt keeps it."""
    header = msgspec.structs.replace(
        header_by(FINGERPRINT),
        started=started,
        acquisition=number,
        previous_manifest_sha256="ab" * 32 if number > 1 else None,
    )
    data = encode_header(header) + b"".join(lines)
    path = folder / f"manifest-{number}"
    path.write_bytes(data)
    return KeptManifest(path.open("rb"), sha256_of(data).hex(), header, decode_last_line(data), RECORD)


def earlier_of(manifest: KeptManifest) -> EarlierFiles:
    return EarlierFiles(manifest)


def marked(lines: list[bytes]) -> dict[str, int]:
    decoded = [msgspec.json.decode(line) for line in lines[:-1]]
    return {one["path"]: one["read_in"] for one in decoded if "read_in" in one}


def without_marks(lines: list[bytes]) -> list[bytes]:
    return [re.sub(rb',"read_in":[0-9]+}\n$', b"}\n", line) for line in lines[:-1]]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "sub/d"):
        (folder / name).write_bytes(name.encode() * 100)
    return folder


def write_with_the_time_kept(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes()[::-1])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def rename_another_over_it(path: Path) -> None:
    before = path.stat()
    other = path.with_name("other")
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    other.rename(path)


def copy_it_back(path: Path) -> None:
    shutil.copy2(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


EDITS: dict[str, Callable[[Path], object]] = {
    "other bytes of the same size, with the time put back": write_with_the_time_kept,
    "another file renamed over it": rename_another_over_it,
    "the same bytes in another file": copy_it_back,
    "a new mode": lambda path: path.chmod(0o600),
    "the same bytes, written again": lambda path: path.write_bytes(path.read_bytes()),
    "a new link to it": lambda path: os.link(path, path.with_name("link")),
    "a time of its own": lambda path: os.utime(path, ns=(1, 1)),
    "longer": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "an attribute": lambda path: os.setxattr(path, "user.a", b"b"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_what_was_touched_is_read_and_nothing_else(edit: str, source: Path, tmp_path: Path) -> None:
    lines, _ = read(source)
    try:
        EDITS[edit](source / "sub" / "c")
    except OSError as error:
        pytest.skip(f"this file system has no attributes: {error}")
    now, contents = read(source, earlier_of(kept(tmp_path, lines)))
    assert marked(now) == {"a": 1, "b": 1, "sub/d": 1}
    assert contents.count(100) == 2
    assert without_marks(now) == without_marks(read(source)[0])


def test_a_file_that_was_written_as_the_last_run_began_is_read_again(source: Path, tmp_path: Path) -> None:
    lines, _ = read(source)
    changed = max(path.stat().st_ctime_ns for path in source.rglob("*"))
    seconds = changed // SECOND + 1
    for later, taken in ((0, 0), (RACY_SECONDS - 1, 0), (RACY_SECONDS + 1, 4)):
        manifest = kept(tmp_path, lines, started=format_utc_time((seconds + later) * SECOND))
        assert len(marked(read(source, earlier_of(manifest))[0])) == taken


def test_a_manifest_that_was_kept_and_is_another_one_now_is_of_no_use(source: Path, tmp_path: Path) -> None:
    lines, _ = read(source)
    manifest = kept(tmp_path, lines)
    lines[1] = lines[1].replace(b'"blake3":"', b'"blake3":"00', 1)
    (tmp_path / "manifest-1").write_bytes(b"".join(lines))
    files = earlier_of(manifest)
    assert marked(read(source, files)[0]) == {}
    assert "cannot be used" in (files.why_not or "")


def test_a_file_system_without_change_times_is_read(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines, _ = read(source)
    for name in ("vfat", "exfat", "fuse.sshfs", "fuseblk", None):
        monkeypatch.setattr(earlier, "file_system_of", lambda path, name=name: name)
        assert marked(read(source, earlier_of(kept(tmp_path, lines)))[0]) == {}


@pytest.mark.parametrize("answer", [os.ST_RDONLY | os.ST_NOSUID, None])
def test_what_is_mounted_read_only_is_read_for_another_image_may_have_the_same_times(
    answer: int | None, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def statvfs(path: bytes) -> Any:
        if answer is None:
            raise OSError
        return type("Status", (), {"f_flag": answer})()

    lines, _ = read(source)
    monkeypatch.setattr(os, "statvfs", statvfs)
    assert marked(read(source, earlier_of(kept(tmp_path, lines)))[0]) == {}


def test_a_single_file_is_taken_over(source: Path, tmp_path: Path) -> None:
    lines, _ = read(source / "a")
    assert marked(read(source / "a", earlier_of(kept(tmp_path, lines)))[0]) == {"a": 1}


@pytest.mark.parametrize("seed", range(6))
def test_a_quick_manifest_without_its_marks_is_that_of_a_full_run(seed: int, tmp_path: Path) -> None:
    """Of random trees, over three runs with random edits in between."""
    chance, source = random.Random(seed), tmp_path / "source"
    source.mkdir()
    names = [f"{chance.choice('abcxyz')}{number}" for number in range(12)]
    for name in names:
        folder = source.joinpath(*chance.choices("pqr", k=chance.randrange(3)))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(chance.randbytes(chance.choice([0, 1, 100, 5000])))
    lines, _ = read(source)
    for number in (1, 2, 3):
        files = sorted(path for path in source.rglob("*") if path.is_file())
        for path in chance.sample(files, min(4, len(files))):
            if chance.random() < 0.3:
                path.unlink()
            else:
                EDITS[chance.choice(sorted(EDITS.keys() - {"an attribute", "a new link to it"}))](path)
        quick, _ = read(source, earlier_of(kept(tmp_path, lines, number)))
        assert without_marks(quick) == without_marks(read(source)[0])
        assert marked(quick).keys() < {str(path.relative_to(source)) for path in source.rglob("*")}
        assert set(marked(quick).values()) <= set(range(1, number + 1))
        lines = quick
