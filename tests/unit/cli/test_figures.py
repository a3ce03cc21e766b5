from __future__ import annotations

import pytest

from evidencesync.cli.number_format import kinds_text, parse_duration, parse_rate, parse_size, rate_text, stored_text
from evidencesync.custody.documents import Stored, Tally
from evidencesync.errors import UsageError
from evidencesync.evidence.number_format import count_text, duration_text, notebook_fingerprint, share_text, size_text


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_949, "999.9 kB"),
        (999_999, "1.0 MB"),
        (2**31, "2.1 GB"),
        (10**19, "10000.0 PB"),
    ],
)
def test_sizes_are_in_decimal_units(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "under 0.1 s"),
        (0.0367, "under 0.1 s"),
        (0.1, "0.1 s"),
        (59.9, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7800, "2 h 10 min"),
        (400 * 86_400, "400 days"),
    ],
)
def test_durations_are_in_two_units_at_most_and_never_zero(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0 %"), (5, 0, "0 %"), (1, 10**9, "under 0.1 %"), (999_999, 10**6, "99.9 %"), (1, 1, "100.0 %"), (1, 3, "33.3 %")],
)
def test_a_share_is_never_rounded_to_all_or_nothing(part: int, whole: int, text: str) -> None:
    assert share_text(part, whole) == text


def test_only_the_ways_in_which_something_was_stored_are_named() -> None:
    nothing = Tally(0, 0)
    assert stored_text(Stored(nothing, nothing, nothing, nothing)) == "nothing"
    assert stored_text(Stored(Tally(1, 0), nothing, nothing, nothing)) == "0 B written (1 file)"  # an empty file
    changed = Stored(Tally(0, 81_920), Tally(1200, 5), Tally(1, 104_775_680), Tally(2, 3_000))
    shown = "81.9 kB written, 5 B linked (1,200 files), 104.8 MB reflinked (1 file), 3.0 kB copied (2 files)"
    assert stored_text(changed) == shown


def test_a_rate_needs_time() -> None:
    assert rate_text(10, 0) == "-"
    assert rate_text(3_000_000, 2) == "1.5 MB/s"


def test_a_noun_follows_its_count() -> None:
    assert [count_text(n, "entry", "entries") for n in (0, 1, 1234)] == ["0 entries", "1 entry", "1,234 entries"]


def test_the_fingerprint_for_a_notebook_is_twenty_digits_in_fours() -> None:
    assert notebook_fingerprint("0123456789abcdef0123" + "f" * 44) == "0123 4567 89ab cdef 0123"


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1", 1),
        ("500K", 512_000),
        ("1M", 1_048_576),
        ("1.5m", 1_572_864),
        ("2G", 2**31),
        (" 7 ", 7),
        ("5MB", 5_000_000),
        ("1.5 kB/s", 1500),
        ("1GiB", 2**30),
        ("3b", 3),
        ("2m/s", 2**21),
    ],
)
def test_rates_are_read(text: str, rate: int) -> None:
    assert parse_rate(text) == rate


@pytest.mark.parametrize("text", ["0", "0K", "0.0"])
def test_a_rate_of_0_is_no_way_to_say_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match="would send nothing") as refused:
        parse_rate(text)
    assert refused.value.hint == "For no limit, leave it out."


@pytest.mark.parametrize("text", ["", "0", "0K", "-1", "1e9", "M", "1iB", "5 Mib/m", "1.M", "٣", "9" * 40, "0.0001"])
def test_what_is_no_rate_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1Mb/s", "100Kb", "1 Gb/s"])
def test_bits_are_not_taken_for_bytes(text: str) -> None:
    with pytest.raises(UsageError, match="may mean bits or bytes"):
        parse_rate(text)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("0.5s", 0.5), ("15m", 900), ("12H", 43_200), (" 2d ", 172_800), ("30d", 2_592_000)]
)
def test_durations_are_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "m", "1 m", "1w", "1e3", "nan", "inf", "31d", "9" * 20, "1.2345"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


def test_entries_are_counted_by_type() -> None:
    assert kinds_text({}) == "none"
    assert kinds_text({"file": 66, "directory": 1, "block-device": 1}) == "66 files, 1 folder, 1 block device"
    assert kinds_text({"directory": 2, "bad\x1b[m": 2}) == r"2 folders, 2 bad\x1b[m"


@pytest.mark.parametrize(
    ("text", "size"), [("0", 0), ("500K", 512_000), ("5MB", 5_000_000), ("2GiB", 2**31), ("1.5 tb", 15 * 10**11)]
)
def test_sizes_are_read_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


def test_a_size_is_no_rate() -> None:
    with pytest.raises(UsageError, match="not a size"):
        parse_size("5MB/s")
