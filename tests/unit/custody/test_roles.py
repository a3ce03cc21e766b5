"""What a key may do: patterns for cases, days that are over, the one form of the document and of what records state."""

from __future__ import annotations

import msgspec
import pytest

from evidencesync.custody.patterns import case_fits, case_pattern_problem
from evidencesync.custody.roles import (
    EVERYTHING,
    ROLES_FORMAT,
    USUAL,
    DatedGrant,
    Grant,
    RoleHistory,
    Roles,
    decode_roles,
    encode_roles,
    grant_of,
    make_grant,
)
from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.utc_time import parse_utc_time

KEY, OTHER = (f"SHA256:{letter * 43}" for letter in "AB")
COMPOSED, APART = "Caf\u00e9", "Cafe\u0301"
HOUR = 3600 * 10**9


@pytest.mark.parametrize(
    ("case", "pattern", "fit"),
    [
        ("2024-017", "2024-*", True),
        ("2024-017", "2024-0??", True),
        ("2024-017", "2024-01", False),
        ("2024-017", "2024-017", True),
        ("2024-017a", "2024-017", False),
        ("k-1", "K-1", False),
        ("2024/017", "2024*", False),
        ("2024/017", "2024?017", False),
        ("2024/017", "2024/*", True),
        ("2024/017/3", "2024/*", False),
        ("2024/017/3", "2024/*/*", True),
        (APART, COMPOSED, True),
        (APART, "Caf?", True),
        ("\u0410-1", "A-1", False),  # a Cyrillic letter
    ],
)
def test_a_pattern_means_whole_numbers_in_their_spelling_and_never_leaps_over_a_slash(case: str, pattern: str, fit: bool) -> None:
    assert case_fits(case, pattern) == fit


@pytest.mark.parametrize(
    "pattern",
    [
        "*",
        "",
        " ",
        " 2024",
        "2024**",
        "2024-[01]",
        "{a,b}",
        "a,b",
        "a\\*",
        "!2024",
        "a\n",
        "a\u202e",
        APART,
        "2024-\uff0a",
        "x" * 201,
    ],
)
def test_a_pattern_that_could_be_read_in_two_ways_is_refused(pattern: str) -> None:
    assert case_pattern_problem(pattern)
    with pytest.raises(MalformedDocumentError):
        make_grant(["read"], [pattern], None)


@pytest.mark.parametrize("pattern", ["2024-*", "2024/1*/?", "K 17", COMPOSED, "*-2024", "???"])
def test_other_patterns_are_taken(pattern: str) -> None:
    assert case_pattern_problem(pattern) is None


def test_the_last_day_is_part_of_it_by_utc() -> None:
    grant = make_grant(["read"], None, "2026-02-28")
    midnight = parse_utc_time("2026-03-01T00:00:00.000000Z")
    assert grant.reason_refused("read", "any", midnight - 1) is None
    assert "until 2026-02-28" in (grant.reason_refused("read", "any", midnight) or "")
    assert grant.reason_refused("read", "any", midnight + HOUR) is not None


@pytest.mark.parametrize("until", ["2026-02-30", "2026-2-3", "20260203", "tomorrow", "", "2026-02-03T00:00"])
def test_a_day_that_does_not_exist_is_refused(until: str) -> None:
    with pytest.raises(MalformedDocumentError):
        make_grant(["read"], None, until)


def test_a_role_in_some_cases_is_none_in_all_of_them() -> None:
    grant = make_grant(["verify"], ["2024-*"], None)
    assert grant.reason_refused("verify", "2024-1", 0) is None
    assert grant.reason_refused("verify", "2025-1", 0) is not None
    assert grant.reason_refused("verify", None, 0) is not None
    assert grant.reason_refused("read", "2024-1", 0) is not None


def test_roles_are_kept_in_one_order_and_nobody_administers_without_being_named() -> None:
    assert make_grant(["read", "acquire", "read"], None, None).may == ("acquire", "read")
    assert "admin" not in USUAL.may
    for wrong in ([], [""], ["Read"], ["all"]):
        with pytest.raises(MalformedDocumentError):
            make_grant(wrong, None, None)


@pytest.mark.parametrize("grant", [USUAL, EVERYTHING, make_grant(["read"], ["a*", "b/?"], "2026-01-01")])
def test_a_record_states_a_grant_and_it_is_read_back(grant: Grant) -> None:
    assert grant_of({"action": "changed", **grant.details()}) == grant
    assert grant_of({"action": "retired"}) is None


@pytest.mark.parametrize(
    "details",
    [
        {"may": "read,acquire"},
        {"may": "read,read"},
        {"may": "read,approve"},
        {"may": ""},
        {"may": "read", "cases": ""},
        {"may": "read", "cases": "a,a"},
        {"may": "read", "cases": "*"},
        {"may": "read", "until": "2026-13-01"},
    ],
)
def test_a_record_that_states_roles_in_no_known_form_is_refused(details: dict[str, str]) -> None:
    with pytest.raises(MalformedDocumentError):
        grant_of(details)


def roles(grant: Grant) -> Roles:
    return Roles(ROLES_FORMAT, "0" * 32, USUAL, {KEY: grant})


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"read"', b'"approve"'),
        lambda data: data.replace(b"  ", b" "),
        lambda data: data.replace(b'"grants"', b'"more": 1, "grants"'),
        lambda data: data.replace(b"2024-*", b"*"),
        lambda data: data.replace(b"2026-12-31", b"2026-12-32"),
        lambda data: data[:-1],
        lambda data: b"[" * 100_000,
        lambda data: data.replace(b'"acquire",\n        "read"', b'"read",\n        "acquire"'),
    ],
)
def test_roles_in_another_form_than_the_one_are_refused(change: object) -> None:
    data = encode_roles(roles(make_grant(["acquire", "read"], ["2024-*"], "2026-12-31")))
    assert encode_roles(decode_roles(data)) == data
    changed = change(data)  # type: ignore[operator]
    assert changed != data
    with pytest.raises(MalformedDocumentError):
        decode_roles(changed)


def test_a_key_of_which_nothing_is_said_may_do_what_others_may() -> None:
    known = roles(make_grant(["read"], None, None))
    assert (known.of(KEY).may, known.of(OTHER)) == (("read",), USUAL)
    assert msgspec.json.decode(encode_roles(known))["others"] == {"may": ["acquire", "custody", "read", "verify"]}


def test_what_a_key_might_do_follows_the_order_of_the_chain_before_any_clock() -> None:
    read, nothing_more = make_grant(["read"], None, None), make_grant(["custody"], None, None)
    history = RoleHistory(changes={KEY: [DatedGrant(5, 100, read), DatedGrant(9, 200, nothing_more)]})
    assert history.grant_at(KEY, 99, None) == EVERYTHING
    assert history.grant_at(KEY, 150, None) == read
    assert history.grant_at(KEY, 250, None) == nothing_more
    assert history.grant_at(KEY, 250, 8) == read  # dated after the change by a fast clock, and stated before it
    assert history.grant_at(KEY, 250, 4) == EVERYTHING
    assert history.roles("0" * 32, 8).grants == {KEY: read}
    assert history.roles("0" * 32, 9).grants == {KEY: nothing_more}
