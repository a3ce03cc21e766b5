"""What `verify` prints of its verdict for people."""

from __future__ import annotations

from typing import Literal

import msgspec
import pytest

from evidencesync.cli.verify_command import verdict_lines
from evidencesync.cli.verify_next import next_lines
from evidencesync.exit_codes import ExitCode
from evidencesync.verify.checks import MEANINGS, Check
from evidencesync.verify.findings import Asked, Checked, Finding, Head, Verdict
from evidencesync.verify.next_steps import NEXT, next_steps


def finding(severity: Literal["info", "warning", "error"], message: str) -> Finding:
    return Finding(Check.VAULT, severity, "a-slug", None, None, None, None, None, None, None, message)


def verdict(*findings: Finding) -> Verdict:
    return Verdict(
        verdict="fail",
        exit_code=32,
        checked_at="2026-01-02T03:04:05.000000000Z",
        asked=Asked(None, None, None),
        findings=list(findings),
        checked=Checked(0, 0, 0, 0, 0, 0, 0),
        vault_id="0" * 32,
        trust="vault",
        digests=["blake3"],
        heads=[],
    )


def test_the_worst_findings_stand_last_where_they_are_seen_and_are_counted() -> None:
    found = [finding("error", "one"), finding("info", "two"), finding("warning", "three"), finding("error", "four")]
    lines = list(verdict_lines(verdict(*found)))
    assert [line.partition("] ")[2] for line in lines if "a-slug" in line] == ["two", "three", "one", "four"]
    assert lines[-2:] == ["findings: 2 errors, 1 warning, 1 info", "verdict: FAIL"]


def test_a_place_that_is_no_vault_has_a_hint_and_no_counts() -> None:
    missing = msgspec.structs.replace(finding("error", "not a vault: /tmp"), slug="vault-not-found")
    lines = list(verdict_lines(verdict(missing)))
    assert lines[0].endswith("not a vault: /tmp")
    assert "hint: Look at the path: a vault is a folder with vault.toml in it." in lines
    assert not [line for line in lines if line.startswith("checked ")]


def test_where_nothing_was_found_nothing_is_counted() -> None:
    assert not [line for line in verdict_lines(verdict()) if line.startswith("findings")]


def test_a_vault_that_could_not_be_opened_has_no_counts() -> None:
    unread = msgspec.structs.replace(verdict(finding("error", "/srv/vault: Permission denied")), vault_id=None)
    assert not [line for line in verdict_lines(unread) if line.startswith("checked ")]


def test_of_many_warnings_of_a_kind_the_first_are_shown_and_of_errors_all() -> None:
    found = verdict(*(finding(severity, str(number)) for severity in ("warning", "error") for number in range(30)))
    lines = list(verdict_lines(found))
    assert sum(line.startswith("warning: [2 ") for line in lines) == 10
    assert sum(line.startswith("error: ") for line in lines) == 30
    assert "warning: [a-slug] 20 more of this kind: see them with -v, or --json" in lines
    assert lines[-2] == "findings: 30 errors, 30 warnings"
    assert sum("more of this kind" in line for line in verdict_lines(found, everything=True)) == 0


def test_every_kind_of_finding_that_spoils_a_verdict_says_what_to_do_now() -> None:
    spoiling = {slug for slug, one in MEANINGS.items() if one.code is not ExitCode.COMPLETE}
    assert spoiling - set(NEXT) == {"vault-not-found", "not-there"}  # which have a hint
    assert set(NEXT) <= spoiling


@pytest.mark.parametrize(
    ("slug", "part"),
    [
        ("file-damaged", "While the source is at hand, push it again"),
        ("untrusted-signer", "evidencesync trust list VAULT"),
        ("rolled-back", "evidencesync receipts check --vault VAULT"),
        ("unreadable", "copy the vault to a disk that reads well"),
    ],
)
def test_what_to_do_now_stands_behind_the_findings(slug: str, part: str) -> None:
    found = verdict(*[msgspec.structs.replace(finding("error", "one"), slug=slug)] * 2)
    lines = list(verdict_lines(found, following=next_lines(found, str, recorded=False)))
    assert [line.partition(":")[0] for line in lines[-5:]] == ["error", "error", "next", "findings", "verdict"]
    assert part in lines[-3]


def test_the_gravest_finding_comes_last_and_its_advice_first_and_none_contradicts_it() -> None:
    kinds = ("missing-record", "file-damaged", "extra-entry")
    found = verdict(*(msgspec.structs.replace(finding("error", slug), slug=slug) for slug in kinds))
    shown = [line.split()[2].rstrip("]") for line in verdict_lines(found) if line.startswith("error: ")]
    assert shown == ["extra-entry", "file-damaged", "missing-record"]
    steps = next_steps(found.findings)
    assert steps[0] == NEXT["missing-record"]
    assert "push it again" not in " ".join(steps)
    assert "push it again" in next_steps(found.findings[1:])[0]


def test_a_verdict_that_is_recorded_is_not_told_to_be() -> None:
    head = Head(None, None, 1, "0" * 64)
    found = msgspec.structs.replace(verdict(msgspec.structs.replace(finding("error", "one"), slug="unreadable")), heads=[head])
    assert any(line.endswith("with --record.") for line in next_lines(found, str, recorded=False))
    assert not any(line.endswith("with --record.") for line in next_lines(found, str, recorded=True))
    assert not list(next_lines(msgspec.structs.replace(found, verdict="pass"), str, recorded=False))


@pytest.mark.parametrize("slug", ["chain-broken", "rolled-back", "trust-changed"])
def test_no_record_is_asked_for_where_the_vault_would_refuse_it(slug: str) -> None:
    errors = [msgspec.structs.replace(finding("error", "one"), slug=one) for one in ("file-damaged", slug)]
    found = msgspec.structs.replace(verdict(*errors), heads=[Head(None, None, 1, "0" * 64)])
    assert not any("--record" in line for line in next_lines(found, str, recorded=False))
