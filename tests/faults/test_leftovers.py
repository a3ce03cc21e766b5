"""What interrupted sessions leave behind: nothing of it is lost to the run that ends well, and none of it is believed."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from evidencesync.acquire import connect
from evidencesync.acquire.request import PushOutcome
from evidencesync.errors import EvidenceSyncError
from evidencesync.vault.journal import JournaledSegment, read_journal
from evidencesync.vault.resume.left_sessions import find_abandoned
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.cut_links import FlakyBench
from tests.support.small_segments import UNIT, cut_smaller

SIZE = 32 * UNIT


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    cut_smaller(monkeypatch)
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.01)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = make_bench(tmp_path)
    (bench.source / "image").write_bytes(random.Random(3).randbytes(SIZE))
    return bench


def interrupted(bench: Bench, sent: int, **changes: object) -> None:
    """A run whose both ends end when so many bytes were sent."""
    flaky = FlakyBench(bench, may_reconnect=False)
    with pytest.raises(EvidenceSyncError):
        flaky.push([{"sent": sent}], retries=0, compress="never", **changes)
    flaky.join()


def sessions(bench: Bench) -> list[Path]:
    incoming = bench.vault.layout.item(bench.name).incoming
    return sorted(incoming.iterdir(), key=lambda path: path.stat().st_mtime_ns) if incoming.exists() else []


def newest(bench: Bench) -> Path:
    return sessions(bench)[-1]


def staged_bytes(session: Path) -> int:
    return sum(path.stat().st_size for path in (session / "contents").iterdir())


def whole(bench: Bench, **changes: object) -> PushOutcome:
    flaky = FlakyBench(bench)
    outcome = flaky.push([None], compress="never", **changes)
    flaky.join()
    return outcome


def stored_of(bench: Bench, number: int) -> dict[str, dict[str, int]]:
    stored: dict[str, dict[str, int]] = msgspec.json.decode((bench.acquisition(number) / "receipt.json").read_bytes())["stored"]
    return stored


def assert_equal(bench: Bench, number: int = 1) -> None:
    data = bench.acquisition(number) / "data"
    for folder, _, names in os.walk(bench.source):
        for name in names:
            path = Path(folder) / name
            assert (data / path.relative_to(bench.source)).read_bytes() == path.read_bytes(), path
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    assert (verdict.verdict, [finding.slug for finding in verdict.findings if finding.severity == "error"]) == ("pass", [])


def test_what_a_first_run_brought_is_not_lost_by_a_second_that_ends_early(bench: Bench) -> None:
    interrupted(bench, 31 * UNIT)
    staged = staged_bytes(newest(bench))
    interrupted(bench, 2_500)  # takes the begun file over, goes a little way, and is lost as well
    journal = newest(bench) / "journal"
    with journal.open("rb") as file:
        second = [record.position for record in read_journal(file) if isinstance(record, JournaledSegment)][1]
    os.truncate(journal, second)
    outcome = whole(bench)
    assert outcome.literal_bytes < SIZE - staged + 5 * UNIT
    assert_equal(bench)
    assert sessions(bench) == []


def test_small_files_that_only_an_older_attempt_has_are_not_sent_again(bench: Bench) -> None:
    (bench.source / "image").unlink()
    chance = random.Random(5)
    for number in range(1000):
        (bench.source / f"{number:03}").write_bytes(chance.randbytes(7_500))
    interrupted(bench, 28 * UNIT)
    older = newest(bench)
    younger = older.with_name("f" * 32)  # one that had the lines, and none of the files
    shutil.copytree(older, younger)
    for path in (younger / "acquisition" / "data").iterdir():
        path.unlink()
    stored = sum(path.stat().st_size for path in (older / "acquisition" / "data").iterdir())
    outcome = whole(bench)
    assert outcome.literal_bytes <= 7_500_000 - stored + 5 * UNIT  # the last pages' lines were not there
    assert_equal(bench)
    assert sessions(bench) == []


def test_two_equal_contents_are_both_gone_on_from(bench: Bench) -> None:
    chance = random.Random(3)
    (bench.source / "image").write_bytes(chance.randbytes(6 * UNIT))
    (bench.source / "twin").write_bytes((bench.source / "image").read_bytes() + chance.randbytes(26 * UNIT))
    interrupted(bench, 31 * UNIT)  # what the second has in common with the first is sent once
    twins = [path for path in newest(bench).rglob("*") if path.is_file() and path.stat().st_size > UNIT]
    assert len(twins) == 2
    staged = sum(path.stat().st_size for path in twins)
    outcome = whole(bench)
    assert outcome.literal_bytes < 38 * UNIT - staged + 5 * UNIT
    assert_equal(bench)


def test_a_file_of_an_attempt_at_another_source_is_not_moved_or_written_to(bench: Bench) -> None:
    interrupted(bench, 31 * UNIT)
    (begun,) = (newest(bench) / "contents").iterdir()
    before = begun.read_bytes()
    other = bench.source.with_name("other")
    other.mkdir()
    (other / "image").write_bytes((bench.source / "image").read_bytes()[: 9 * UNIT] + bytes(100) + b"another disk" * 10_000)
    whole(bench, source=os.fsencode(other))
    assert begun.read_bytes() == before
    outcome = whole(bench)
    assert outcome.literal_bytes < SIZE - len(before) + 5 * UNIT
    assert_equal(bench, 2)


def test_what_was_linked_to_published_files_in_an_earlier_attempt_is_counted_as_linked(bench: Bench) -> None:
    for number in range(300):
        (bench.source / f"{number:03}").write_bytes(random.Random(number).randbytes(3_000))
    whole(bench)
    (bench.source / "zz").write_bytes(random.Random(4).randbytes(SIZE))
    interrupted(bench, 12 * UNIT)
    assert any((newest(bench) / "acquisition" / "data").iterdir())
    whole(bench)
    stored = stored_of(bench, 2)
    assert (stored["linked"]["files"], stored["written"]["files"]) == (301, 1)
    assert_equal(bench, 2)


def test_an_attempt_that_ended_before_its_first_page_leaves_nothing_after_success(bench: Bench) -> None:
    flaky = FlakyBench(bench, may_reconnect=False)
    with pytest.raises(EvidenceSyncError):
        flaky.push([{"received": 300}], retries=0)
    flaky.join()
    assert len(sessions(bench)) == 1
    whole(bench)
    assert sessions(bench) == []
    assert_equal(bench)


# Somebody edits staging by hand.


def to_a_path_upwards(session: Path, published: Path) -> None:
    forge_place(session, b"../../../../acquisitions/0001/data/published")


def through_a_linked_folder(session: Path, published: Path) -> None:
    (session / "acquisition" / "data" / "way").symlink_to(published.parent)
    forge_place(session, b"way/published")


def through_a_linked_contents(session: Path, published: Path) -> None:
    (begun,) = (session / "contents").iterdir()
    shutil.rmtree(session / "contents")
    (session / "contents").symlink_to(published.parent)
    published.rename(published.with_name(begun.name))
    published.symlink_to(begun.name)


def by_a_hard_link(session: Path, published: Path) -> None:
    (begun,) = (session / "contents").iterdir()
    begun.unlink()
    os.link(published, begun)


def by_a_symbolic_link(session: Path, published: Path) -> None:
    (begun,) = (session / "contents").iterdir()
    begun.unlink()
    begun.symlink_to(published)


def forge_place(session: Path, path: bytes) -> None:
    (begun,) = (session / "contents").iterdir()
    begun.unlink()
    with (session / "journal").open("ab") as journal:
        journal.write(b"P" + int(begun.name, 16).to_bytes(4, "little") + len(path).to_bytes(4, "little") + path)


@pytest.mark.parametrize(
    "edit", [to_a_path_upwards, through_a_linked_folder, through_a_linked_contents, by_a_hard_link, by_a_symbolic_link]
)
def test_an_edited_staging_area_never_leads_into_what_is_published(bench: Bench, edit: Callable[[Path, Path], None]) -> None:
    interrupted(bench, 31 * UNIT)
    session = newest(bench)
    other = bench.source.with_name("other")
    other.mkdir()
    shutil.copy(bench.source / "image", other / "published")
    whole(bench, source=os.fsencode(other))
    published = bench.acquisition(1) / "data" / "published"
    with (bench.source / "image").open("r+b") as image:  # what is written over the last segments would show
        image.seek(SIZE // 4)
        image.write(b"edited")
    edit(session, published)
    before = {path.name: (path.stat().st_ino, path.read_bytes()) for path in published.parent.iterdir()}
    whole(bench)
    assert {path.name: (path.stat().st_ino, path.read_bytes()) for path in published.parent.iterdir()} == before


def a_fifo_for_a_manifest(session: Path) -> None:
    (session / "acquisition" / "manifest.jsonl").unlink()
    os.mkfifo(session / "acquisition" / "manifest.jsonl")


def a_fifo_for_a_journal(session: Path) -> None:
    (session / "journal").unlink()
    os.mkfifo(session / "journal")


def a_folder_for_a_journal(session: Path) -> None:
    (session / "journal").unlink()
    (session / "journal").mkdir()


def a_fifo_for_a_content(session: Path) -> None:
    (begun,) = (session / "contents").iterdir()
    begun.unlink()
    os.mkfifo(begun)


def a_torn_journal(session: Path) -> None:
    os.truncate(session / "journal", (session / "journal").stat().st_size - 5)


def garbage_in_the_journal(session: Path) -> None:
    with (session / "journal").open("ab") as journal:
        journal.write(random.Random(1).randbytes(100_000))


def no_journal(session: Path) -> None:
    (session / "journal").unlink()


def a_file_for_a_session(session: Path) -> None:
    session.with_name("e" * 32).write_bytes(b"not a folder")


def a_link_for_a_session(session: Path) -> None:
    session.with_name("e" * 32).symlink_to("/")


EDITS = [
    a_fifo_for_a_manifest,
    a_fifo_for_a_journal,
    a_folder_for_a_journal,
    a_fifo_for_a_content,
    a_torn_journal,
    garbage_in_the_journal,
    no_journal,
    a_file_for_a_session,
    a_link_for_a_session,
]


@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_staging_area_stops_nobody(bench: Bench, edit: Callable[[Path], None]) -> None:
    interrupted(bench, 12 * UNIT)
    edit(newest(bench))
    assert find_abandoned(bench.vault.layout)
    whole(bench)
    for strange in newest(bench).parent.glob("e" * 32) if sessions(bench) else ():
        strange.unlink()  # verify names it, and nobody follows it
    assert_equal(bench)


def test_an_earlier_attempt_that_cannot_be_removed_makes_no_failure_of_what_is_published(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(bench, 12 * UNIT)
    session = newest(bench)
    real = os.rmdir

    def refuse(path: object, **more: object) -> None:
        if path == session.name:
            raise PermissionError(1, "Operation not permitted")
        real(path, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "rmdir", refuse)
    assert whole(bench).acquisition == 1
    assert_equal(bench)


# The source changed between the attempts.


def shorter(content: bytes) -> bytes:
    return content[: 10 * UNIT - 77]


def much_shorter(content: bytes) -> bytes:
    return content[:1000]


def longer(content: bytes) -> bytes:
    return content + b"more" * UNIT


def inserted(content: bytes) -> bytes:
    return content[: 9 * UNIT] + b"new" * 100_000 + content[9 * UNIT :]


def removed(content: bytes) -> bytes:
    return content[: 3 * UNIT] + content[4 * UNIT :]


def edited(content: bytes) -> bytes:
    return content[: 9 * UNIT] + b"edited" + content[9 * UNIT + 6 :]


def zeroed(content: bytes) -> bytes:
    return content[: 5 * UNIT] + bytes(6 * UNIT) + content[11 * UNIT :]


def all_zeros(content: bytes) -> bytes:
    return bytes(len(content))


def twice(content: bytes) -> bytes:
    return content[: 9 * UNIT] * 2 + content[: 4 * UNIT]


CHANGES = [shorter, much_shorter, longer, inserted, removed, edited, zeroed, all_zeros, twice]


@pytest.mark.parametrize(("change", "read_back"), [*((change, True) for change in CHANGES), (CHANGES[0], False)])
def test_a_source_that_changed_between_the_attempts_is_acquired_as_it_is(
    bench: Bench, change: Callable[[bytes], bytes], *, read_back: bool
) -> None:
    interrupted(bench, 18 * UNIT)
    (bench.source / "image").write_bytes(change((bench.source / "image").read_bytes()))
    interrupted(bench, 300)
    (bench.source / "image").write_bytes(change((bench.source / "image").read_bytes()))
    whole(bench, read_back=read_back)
    assert_equal(bench)
    assert sessions(bench) == []


def test_leftovers_of_other_examiners_and_other_sources_stay(bench: Bench) -> None:
    interrupted(bench, 12 * UNIT)
    other = bench.source.with_name("other")
    shutil.copytree(bench.source, other)
    mine = newest(bench).name
    whole(bench, source=os.fsencode(other))
    assert [path.name for path in sessions(bench)] == [mine]
    whole(bench)
    assert sessions(bench) == []
