"""What documents call something is said in words."""

from __future__ import annotations

from typing import get_args

import pytest

from evidencesync.custody.documents import Direction
from evidencesync.custody.labels import (
    DIRECTIONS,
    FLAGS,
    GAP_FLAGS,
    counts_text,
    device_facts_text,
    digests_text,
    entries_text,
    label_text,
    options_text,
)
from evidencesync.custody.wholeness import FLAG_ORDER, REMARK_ORDER, TYPE_ORDER


def test_every_flag_remark_and_type_has_words() -> None:
    assert set(FLAGS) == {*FLAG_ORDER, *REMARK_ORDER}
    assert set(GAP_FLAGS) <= set(FLAGS)
    assert set(DIRECTIONS) == set(get_args(Direction))
    for kind in TYPE_ORDER:
        assert counts_text({kind: 1}) != counts_text({kind: 2})
        assert "-" not in counts_text({kind: 2}).replace(f"{kind}s", kind) or kind.endswith("-device")


def test_facts_of_a_device_come_in_the_order_of_a_form_and_what_is_unknown_comes_last_and_safely() -> None:
    facts = {"size": "512110190592", "logical_sector": "512", "odd_fact\x1b": "\x1b[2J", "serial": "S4X", "model": "SSD 970"}
    assert list(device_facts_text(facts)) == [
        ("Model", "SSD 970"),
        ("Serial number", "S4X"),
        ("Size", "512,110,190,592 bytes (512.1 GB)"),
        ("Sector size", "512 bytes"),
        ("Odd fact\\x1b", "\\x1b[2J"),
    ]


@pytest.mark.parametrize("size", ["", "-1", "many", "9" * 5000, "٣"])
def test_a_size_that_is_no_number_is_shown_as_it_is(size: str) -> None:
    ((label, value),) = device_facts_text({"size": size})
    assert (label, value[:3]) == ("Size", size[:3])


def test_options_and_details_are_words() -> None:
    assert list(options_text({"on-read-error": "zero", "new-option": "x"})) == [
        ("In place of what could not be read", "zeros"),
        ("New option", "x"),
    ]
    assert label_text("report_sha256") == "Report SHA-256"
    assert digests_text(["blake3", "sha256", "\x1b"]) == "BLAKE3, SHA-256, \\x1b"


def test_what_was_left_out_or_gone_is_not_counted_among_what_is_there() -> None:
    counts = {"file": 71, "directory": 2}
    assert entries_text(counts, {}) == "71 files, 2 folders"
    assert entries_text(counts, {"skipped": 6}, {"file": 5, "directory": 1}) == (
        "66 files, 1 folder, and 5 files, 1 folder that were seen and left out"
    )
    assert entries_text(counts, {"skipped": 5}) == "71 files, 2 folders, of which 5 were seen and left out"
    assert entries_text(counts, {"vanished": 1}) == "71 files, 2 folders, of which 1 was not there when it was read"
    assert entries_text({"file": 1}, {"skipped": 1}, {"file": 1}) == "nothing, and 1 file that was seen and left out"
