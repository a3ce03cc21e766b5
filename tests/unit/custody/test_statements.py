"""Hand-overs and their acceptance, corrections, and what a chain's details add up to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.details import DETAILS, EVENT_NAMES, DetailsFold, KnownDetail, detail_name, make_details, record_number
from evidencesync.custody.documents import CustodyRecord, Person, RecordType
from evidencesync.custody.statements import ItemHistory, Statements, Violation
from evidencesync.errors import ChainError, UsageError
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_DETAIL_NAME, MAX_DETAILS, MAX_FREE_TEXT
from tests.unit.custody.test_record_and_chain import ITEM, PLAIN, SEALED, acquired, chain_of, check_chain, received

KEYS = {name: f"SHA256:{name[0] * 43}" for name in ("ana@lab", "ben@lab", "carl@lab")}


def said(sequence: int, kind: RecordType, who: str = "ana@lab", **details: str) -> CustodyRecord:
    """A record by somebody; only what it says counts here."""
    actor = Person(name=who, principal=who, key=KEYS[who])
    previous = None if sequence == 1 else "0" * 64
    return msgspec.structs.replace(
        PLAIN, sequence=sequence, type=kind, actor=actor, previous_sha256=previous, details=dict(details)
    )


def judge(*records: CustodyRecord) -> list[tuple[int, str]]:
    statements = Statements()
    found = [statements.add(record) for record in records]
    return [(violation.record, violation.slug) for violation in found if violation is not None]


def test_details_that_no_frame_can_carry_are_refused_before_anything_is_read() -> None:
    """Each alone is short enough, and so is their number; the vault could only have called the whole malformed."""
    large = "\U0001f600" * MAX_FREE_TEXT
    assert len(make_details([(f"d{number}", large) for number in range(15)])) == 15
    with pytest.raises(UsageError, match="a record has room for 524288"):
        make_details([(f"d{number}", large) for number in range(16)])


@pytest.mark.parametrize(
    ("kind", "stated", "slugs"),
    [
        ("noted", {}, []),
        ("timestamped", {"manifest_sha256": "a" * 64}, []),
        ("timestamped", {"manifest_sha256": "c" * 64}, ["wrong-reference"]),
        ("noted", {"receipt_sha256": "b" * 64}, []),
        ("noted", {"receipt_sha256": "a" * 64}, ["wrong-reference"]),
        ("exported", {"details": {"manifest_sha256": "a" * 64}}, []),
        ("exported", {"details": {"manifest_sha256": "c" * 64}}, ["wrong-reference"]),
        ("restored", {"details": {"manifest_sha256": "c" * 64}}, ["wrong-reference"]),
        ("noted", {"details": {"manifest_sha256": "what a person calls so"}}, []),
        ("exported", {"acquisition": 2, "details": {"manifest_sha256": "c" * 64}}, []),  # a record that could not be read
    ],
)
def test_what_a_record_says_of_an_acquisitions_documents_is_what_the_chain_says(
    kind: RecordType, stated: dict[str, Any], slugs: list[str]
) -> None:
    first = msgspec.structs.replace(said(1, "acquired"), acquisition=1, manifest_sha256="a" * 64)
    second = msgspec.structs.replace(said(2, "received"), acquisition=1, manifest_sha256="a" * 64, receipt_sha256="b" * 64)
    third = msgspec.structs.replace(said(3, kind), **{"acquisition": 1, **stated})
    assert judge(first, second, third) == [(3, slug) for slug in slugs]


HANDED = said(2, "handed-over", to="ben@lab")


def test_a_hand_over_is_released_by_one_and_accepted_by_the_other() -> None:
    statements = Statements()
    assert statements.add(HANDED) is None
    assert statements.pending is not None
    assert (statements.pending.record, statements.pending.to, statements.held_by) == (2, "ben@lab", None)
    assert statements.add(said(3, "noted")) is None
    assert statements.add(said(4, "accepted", "ben@lab", record="2")) is None
    assert statements == Statements(pending=None, held_by="ben@lab")


@pytest.mark.parametrize(
    ("records", "expected"),
    [
        ([said(2, "accepted", "ben@lab", record="1")], [(2, "no-hand-over")]),
        ([HANDED, said(3, "accepted", "ben@lab")], [(3, "no-hand-over")]),
        ([HANDED, said(3, "accepted", "ben@lab", record="02")], [(3, "no-hand-over")]),
        ([HANDED, said(3, "accepted", "ben@lab", record="3")], [(3, "no-hand-over")]),
        ([HANDED, said(3, "accepted", record="2")], [(3, "wrong-recipient")]),
        ([HANDED, said(3, "accepted", "carl@lab", record="2")], [(3, "wrong-recipient")]),
        ([said(2, "handed-over")], [(2, "wrong-recipient")]),
        ([said(2, "handed-over", to="")], [(2, "wrong-recipient")]),
        ([said(2, "handed-over", to="ana@lab")], [(2, "wrong-recipient")]),
        (
            [HANDED, said(3, "accepted", "ben@lab", record="2"), said(4, "accepted", "ben@lab", record="2")],
            [(4, "no-hand-over")],
        ),
        (
            [HANDED, said(3, "handed-over", to="carl@lab"), said(4, "accepted", "ben@lab", record="2")],
            [(4, "no-hand-over")],
        ),
        ([said(2, "handed-over", to="ben@lab", in_place_of="carl@lab")], [(2, "wrong-reference")]),
        (
            [HANDED, said(3, "accepted", "ben@lab", record="2"), said(4, "handed-over", to="carl@lab", in_place_of="dora@lab")],
            [(4, "wrong-reference")],
        ),
        (
            [HANDED, said(3, "accepted", "ben@lab", record="2"), said(4, "handed-over", to="carl@lab", in_place_of="ben@lab")],
            [],
        ),
        ([said(2, "corrected")], [(2, "wrong-reference")]),
        ([said(2, "corrected", record="2")], [(2, "wrong-reference")]),
        ([said(2, "corrected", record="-1")], [(2, "wrong-reference")]),
        ([said(2, "corrected", record="1")], []),
    ],
)
def test_what_does_not_hold_is_objected_to(records: list[CustodyRecord], expected: list[tuple[int, str]]) -> None:
    assert judge(*records) == expected


def test_the_same_key_under_the_named_principal_does_not_accept_its_own_hand_over() -> None:
    both = msgspec.structs.replace(said(3, "accepted", "ben@lab", record="2"), actor=Person("x", "ben@lab", KEYS["ana@lab"]))
    assert judge(HANDED, both) == [(3, "wrong-recipient")]


def test_a_wrong_acceptance_leaves_the_hand_over_open() -> None:
    wrong, right = said(3, "accepted", "carl@lab", record="2"), said(4, "accepted", "ben@lab", record="2")
    assert judge(HANDED, wrong, right) == [(3, "wrong-recipient")]


@pytest.mark.parametrize(("slug", "code"), [("no-hand-over", 10), ("wrong-reference", 10), ("wrong-recipient", 32)])
def test_a_violation_is_an_error_with_a_hint(slug: Any, code: int) -> None:
    error = Violation(3, slug, "x").error()
    assert (error.exit_code, bool(error.hint)) == (ExitCode(code), True)


def test_an_item_is_sealed_once_and_can_still_be_spoken_of_and_handed_over() -> None:
    still: list[dict[str, Any]] = [
        {"type": kind, "details": details}
        for kind, details in (
            ("noted", {}),
            ("corrected", {"record": "1"}),
            ("handed-over", {"to": "ben@lab"}),
            ("verified", {}),
            ("exported", {}),
            ("restored", {}),
            ("timestamped", {}),
        )
    ]
    assert check_chain(chain_of(acquired(1), received(1), SEALED, *still), ITEM).sealed
    with pytest.raises(ChainError, match="sealed before"):
        check_chain(chain_of(acquired(1), received(1), SEALED, SEALED), ITEM)


def test_an_item_history_has_links_violations_and_details() -> None:
    story = ItemHistory(ITEM)
    steps: list[dict[str, Any]] = [
        {**acquired(1), "details": {"make": "Dell"}},
        received(1),
        {"type": "accepted", "details": {"record": "1", "seal_number": "4"}},
    ]
    for document in chain_of(*steps):
        story.add(document)
    assert [one.slug for one in story.violations] == ["no-hand-over"]
    assert [(one.name, one.value, one.record) for one in story.known()] == [("make", "Dell", 1), ("seal_number", "4", 3)]
    with pytest.raises(ChainError):
        story.add(document)


# --- Details -----------------------------------------------------------------------------------------------------------


def fold(*records: CustodyRecord) -> dict[str, tuple[str, int]]:
    folding = DetailsFold()
    for record in records:
        folding.add(record)
    return {one.name: (one.value, one.record) for one in folding.known()}


def test_the_last_statement_counts_and_a_correction_puts_only_its_record_right() -> None:
    first, later = said(1, "acquired", make="Del", model="X"), said(3, "noted", make="HP", text="not a detail")
    assert fold(first) == {"make": ("Del", 1), "model": ("X", 1)}
    corrected = said(4, "corrected", record="1", make="Dell", model="Y")
    assert fold(first, corrected) == {"make": ("Dell", 4), "model": ("Y", 4)}
    assert fold(first, later, corrected) == {"make": ("HP", 3), "model": ("Y", 4)}
    again = said(5, "corrected", record="4", model="Z")
    assert fold(first, later, corrected, again) == {"make": ("HP", 3), "model": ("Z", 5)}


def test_a_correction_can_add_and_withdraw() -> None:
    first = said(1, "acquired", make="Dell")
    assert fold(first, said(3, "corrected", record="1", make="", model="X")) == {"model": ("X", 3)}
    assert fold(first, said(3, "noted", make="HP"), said(4, "corrected", record="3", make="")) == {}


def test_records_that_are_not_about_the_item_state_nothing() -> None:
    assert fold(said(1, "verified", verdict="fail"), said(2, "corrected", record="1", verdict="pass")) == {}
    assert fold(said(2, "corrected", record="7", make="x"), said(3, "corrected", record="no", make="x")) == {}


def test_what_practice_asks_for_comes_first() -> None:
    folding = DetailsFold()
    folding.add(said(1, "noted", **{"asset tag": "1", "storage": "2", "make": "3", "legal_authority": "4"}))
    assert [one.name for one in folding.known()] == ["legal_authority", "make", "storage", "asset tag"]
    assert folding.known()[1] == KnownDetail("make", "3", 1)


@pytest.mark.parametrize("given", ["serial_number", "Serial number", " serial-number "])
def test_a_known_name_has_one_spelling(given: str) -> None:
    assert detail_name(given) == "serial_number"


def test_a_name_of_ones_own_stays_as_it_is() -> None:
    assert detail_name("Inventarnummer Ö") == "Inventarnummer Ö"


@pytest.mark.parametrize("given", ["", " ", "a\x1bb", "a\u202eb", "x" * (MAX_DETAIL_NAME + 1), *sorted(EVENT_NAMES), "Record"])
def test_a_name_that_would_mislead_is_refused(given: str) -> None:
    with pytest.raises(UsageError):
        detail_name(given)


@pytest.mark.parametrize(
    "given",
    [
        [("make", "")],
        [("make", "a\nb")],
        [("make", "\x1b[2J")],
        [("make", "x" * (MAX_FREE_TEXT + 1))],
        [("make", "a"), ("Make", "b")],
        [(f"n{number}", "x") for number in range(MAX_DETAILS + 1)],
    ],
)
def test_details_that_no_record_takes_are_refused_with_a_hint_or_a_bound(given: list[tuple[str, str]]) -> None:
    with pytest.raises(UsageError):
        make_details(given)


def test_only_a_correction_may_withdraw() -> None:
    assert make_details([("make", "")], may_withdraw=True) == {"make": ""}


def test_no_detail_has_the_name_of_an_event() -> None:
    assert not EVENT_NAMES & set(DETAILS)


@given(st.lists(st.tuples(st.sampled_from(["noted", "corrected", "acquired", "sealed"]), st.integers(0, 8), st.text(max_size=3))))
def test_any_chain_of_statements_can_be_folded(steps: list[tuple[Any, int, str]]) -> None:
    records = [said(at, kind, record=str(number), make=text) for at, (kind, number, text) in enumerate(steps, 1)]
    known = fold(*records)
    assert set(known) <= {"make"}
    for value, record in known.values():
        assert records[record - 1].details["make"] == value != ""


@given(st.text())
def test_a_reference_is_a_number_in_one_form(text: str) -> None:
    number = record_number(said(1, "noted", record=text))
    assert number is None or str(number) == text
