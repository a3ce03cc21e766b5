"""Times over SFTP: 32 bits of whole seconds, which are another time where the file's own is before 1970 or after 2106."""

from __future__ import annotations

import pytest

from evidencesync.acquire.sftp_entries import make_entry, untold_times
from evidencesync.ssh.sftp_answers import SftpStatus, listed_year

NEW_YEAR_2000 = 946_684_800
DAY = 86_400


def status(mtime: int | None, atime: int | None, year: int | None) -> SftpStatus:
    return SftpStatus("file", 0o100644, 0, 0, 0, mtime, atime, year)


@pytest.mark.parametrize(
    ("real", "year", "told"),
    [
        (0, 1970, True),
        (NEW_YEAR_2000, 2000, True),
        (NEW_YEAR_2000 - 1, 2000, True),  # 1999 in UTC: a server tells the year of its own time zone
        (NEW_YEAR_2000, 1999, True),
        (NEW_YEAR_2000, None, True),
        (2**31, 2038, True),
        (2**32 - 1, 2106, True),
        (2**31, None, False),  # 2038, or 1901
        (-1, 1969, False),
        (-1, 1970, False),
        (-1, None, False),
        (-(2**31), 1901, False),
        (2**32, 2106, False),
        (2**32 + NEW_YEAR_2000, 2136, False),
        (2**33 + NEW_YEAR_2000, 2272, False),
        (-(2**33) + NEW_YEAR_2000, 1727, False),
        (NEW_YEAR_2000, 10**12 - 1, False),
        (NEW_YEAR_2000, -999, False),
    ],
)
def test_a_modification_time_that_sftp_cannot_say_is_not_stated(real: int, year: int | None, told: bool) -> None:
    carried = real % 2**32
    entry = make_entry(b"file", status(carried, 5, year))
    expected = (f"{real}.000000000", "5.000000000") if told else (None, None)
    assert (entry.mtime, entry.atime) == expected
    assert untold_times(status(carried, 5, year)) == (0 if told else 2)


def test_an_access_time_in_the_half_that_means_two_things_is_not_stated() -> None:
    seen = status(NEW_YEAR_2000, 2**32 - DAY, 2000)
    entry = make_entry(b"file", seen)
    assert (entry.mtime, entry.atime, untold_times(seen)) == (f"{NEW_YEAR_2000}.000000000", None, 1)


def test_times_that_were_not_given_are_not_counted() -> None:
    entry = make_entry(b"file", status(None, None, 2106))
    assert (entry.mtime, entry.atime, untold_times(status(None, None, 2106))) == (None, None, 0)


@pytest.mark.parametrize(
    ("line", "name", "year"),
    [
        (b"-rw-r--r--    1 root     root            6 Jan  1  1960 name", b"name", 1960),
        (b"-rw-r--r--    ? 0        0               6 Feb  7  2136 name", b"name", 2136),
        (b"drwxr-xr-x    2 an owner group          6 Dec 31 1969 a name Jan  1  2000", b"a name Jan  1  2000", 1969),
        (b"-rw-r--r--    1 root     root            6 Mar 14  -713 old", b"old", -713),
        (b"-rw-r--r--    1 root     root            6 Nov  2 12:30 name", b"name", None),  # of these months
        (b"-rw-r--r--    1 root     root            6 Jan  1  1960 other", b"name", None),
        (b"-rw-r--r--    1 root     root            6 2001-02-03 name", b"name", None),
        (b"Jan  1  2000 name", b"name", None),
        (b"", b"name", None),
        (b"name", b"name", None),
        (None, b"name", None),
        (b" " * 100_000 + b" Jan  1  " + b"9" * 100_000 + b" name", b"name", None),
    ],
)
def test_the_year_is_read_from_a_listings_line(line: bytes | None, name: bytes, year: int | None) -> None:
    assert listed_year(line, name) == year
