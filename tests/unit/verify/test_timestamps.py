"""Timestamps in a vault: which are good, what decides the time of a signature, and that no bit of one can change unnoticed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from evidencesync.custody.der import SEQUENCE, der, der_integer
from evidencesync.custody.timestamp import Request, Roots
from evidencesync.custody.trust import signer_line
from evidencesync.errors import LockedError, TimestampError, UntrustedSignerError, UsageError
from evidencesync.evidence.utc_time import parse_utc_time
from evidencesync.report.gather import VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.vault.item import lock_item
from evidencesync.vault.ledger import Ledger
from evidencesync.vault.timestamps import Answer, Who, attach, find_record, load_answer, load_stamped, lost_file
from tests.support.authority import Authority, make_authority
from tests.unit.vault.acquiring import STARTED, Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.sample import Made, edit, only, slugs

RECEIVED_NS = parse_utc_time(STARTED)
HOUR_NS = 3600 * 1_000_000_000
DAY_NS = 24 * HOUR_NS
NONCE = 4711
AUTHORITY = make_authority()
ROOTS = Roots.parse(AUTHORITY.root_pem, "roots")
OTHERS = Roots.parse(make_authority("Other").root_pem, "roots")
TSR, TSQ = "manifest.jsonl.sig.tsr", "manifest.jsonl.sig.tsq"


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A vault with one small acquisition."""
    path = tmp_path_factory.mktemp("stamped") / "vault"
    examiner = new_signer()
    Acquirer(new_vault(path, examiner), examiner).acquire({b"a": b"one"})
    return Made(path, examiner)


@pytest.fixture
def made(small: Made, tmp_path: Path) -> Made:
    path = tmp_path / "vault"
    shutil.copytree(small.path, path, symlinks=True)
    return Made(path, small.examiner)


def answer_of(made: Made, at_ns: int, authority: Authority = AUTHORITY, **wrong: object) -> Answer:
    stamped = load_stamped(made.open().item(item_name()), 1)
    response = authority.forge(stamped, at_ns, **{"nonce": NONCE, **wrong})  # type: ignore[arg-type]
    return Answer(response, Request.over(stamped, "sha512", NONCE).encode())


def stamp(made: Made, at_ns: int = RECEIVED_NS + HOUR_NS, answer: Answer | None = None, roots: Roots | None = ROOTS) -> Answer:
    """Attaches a timestamp of that time the right way."""
    vault = made.open()
    given = answer or answer_of(made, at_ns)
    attach(vault, vault.item(item_name()), 1, given, Who(made.examiner, "Ana"), roots, at_ns=at_ns)
    return given


def place(made: Made, answer: Answer) -> None:
    """Puts an answer there without asking anybody."""
    for name, data in ((TSR, answer.response), (TSQ, answer.request)):
        if data is not None:
            file = made.acquisition(1) / name
            file.unlink(missing_ok=True)
            file.write_bytes(data)
            file.chmod(0o444)


# --- Attaching -----------------------------------------------------------------------------------------------------------


def test_a_timestamp_is_stored_and_recorded_and_passes(made: Made) -> None:
    answer = stamp(made)
    folder = made.acquisition(1)
    assert (folder / TSR).read_bytes() == answer.response
    assert (folder / TSQ).read_bytes() == answer.request
    assert (folder / TSR).stat().st_mode & 0o777 == 0o444
    verdict = made.audit(roots=ROOTS, require_timestamp=True)
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"timestamp"})
    assert only(verdict, "timestamp").check == 12
    assert [file.kind for file in Ledger(made.item / "custody").files()] == ["acquired", "received", "timestamped"]


def test_a_timestamp_is_never_replaced_and_the_same_again_changes_nothing(made: Made) -> None:
    answer = stamp(made)
    before = sorted((made.item / "custody").iterdir())
    stamp(made, answer=answer)
    with pytest.raises(TimestampError, match="nothing is ever replaced"):
        stamp(made, answer=answer_of(made, RECEIVED_NS + 2 * HOUR_NS))
    with pytest.raises(TimestampError, match="nothing is ever replaced"):
        stamp(made, answer=Answer(answer.response))
    assert sorted((made.item / "custody").iterdir()) == before
    assert load_answer(made.open().item(item_name()), 1) == answer
    assert made.audit(roots=ROOTS).verdict == "pass"


@pytest.mark.parametrize("placed", [{TSQ}, {TSQ, TSR}])
def test_what_a_crash_left_half_done_is_completed_by_the_same_command(made: Made, placed: set[str]) -> None:
    answer = answer_of(made, RECEIVED_NS + HOUR_NS)
    place(made, answer)
    for name in {TSQ, TSR} - placed:
        (made.acquisition(1) / name).unlink()
    (made.item / "custody" / f".new-{TSR}").write_bytes(b"half")
    assert (made.audit(roots=ROOTS).exit_code, slugs(made.audit())) == (33, {"timestamp-not-recorded"})
    stamp(made, answer=answer)
    assert slugs(made.audit(roots=ROOTS), "info", "warning", "error") == {"timestamp"}


def test_only_a_trusted_signer_attaches_and_only_under_the_items_lock(made: Made) -> None:
    vault, answer = made.open(), answer_of(made, RECEIVED_NS + HOUR_NS)
    item = vault.item(item_name())
    with pytest.raises(UntrustedSignerError):
        attach(vault, item, 1, answer, Who(new_signer(), "Eve"), ROOTS, at_ns=RECEIVED_NS + HOUR_NS)
    with lock_item(vault.item(item_name())), pytest.raises(LockedError):
        attach(vault, item, 1, answer, Who(made.examiner, "Ana"), ROOTS, at_ns=RECEIVED_NS + HOUR_NS)
    assert load_answer(item, 1) is None
    assert made.audit().findings == []


def test_an_answer_that_is_not_good_is_not_attached(made: Made) -> None:
    item = made.open().item(item_name())
    good = answer_of(made, RECEIVED_NS)
    bad = [
        Answer(AUTHORITY.forge(b"other bytes", RECEIVED_NS, nonce=NONCE), good.request),
        answer_of(made, RECEIVED_NS, nonce=NONCE + 1),
        answer_of(made, RECEIVED_NS, status=2),
        answer_of(made, RECEIVED_NS, imprint="sha1"),
        Answer(good.response[:-1], good.request),
        Answer(good.response + b"\x00", good.request),
        answer_of(made, RECEIVED_NS, make_authority("Other")),
    ]
    for answer in bad:
        with pytest.raises(TimestampError):
            stamp(made, answer=answer)
    assert load_answer(item, 1) is None
    assert made.audit().findings == []


# --- Judging -------------------------------------------------------------------------------------------------------------


def test_without_roots_it_passes_and_says_that_the_authority_was_not_checked(made: Made) -> None:
    stamp(made, roots=None)
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"authority-not-checked"})


def test_an_authority_whose_root_was_not_given_is_not_believed(made: Made) -> None:
    stamp(made)
    verdict = made.audit(roots=OTHERS)
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 33, {"untrusted-authority"})


def test_a_required_timestamp_that_is_not_there_or_not_good_fails(made: Made) -> None:
    with pytest.raises(UsageError):
        made.audit(require_timestamp=True)
    verdict = made.audit(roots=ROOTS, require_timestamp=True)
    assert (verdict.verdict, verdict.exit_code, slugs(verdict)) == ("fail", 33, {"no-timestamp"})
    stamp(made)
    assert slugs(made.audit(roots=OTHERS, require_timestamp=True)) == {"untrusted-authority", "no-timestamp"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"imprint": "sha1"},
        {"digest": "sha1"},
        {"status": 2},
        {"signers": 2},
        {"tokens": 2},
        {"nonce": NONCE + 1},
        {"certificates": ()},
    ],
    ids=str,
)
def test_a_bad_token_in_the_place_of_a_good_one_fails(made: Made, wrong: dict[str, object]) -> None:
    stamp(made)
    place(made, answer_of(made, RECEIVED_NS, **wrong))  # type: ignore[arg-type]
    for roots in (None, ROOTS):
        verdict = made.audit(roots=roots)
        assert (verdict.verdict, verdict.exit_code) == ("fail", 33)
        assert "bad-timestamp" in slugs(verdict)


def test_a_good_token_in_the_place_of_another_fails(made: Made) -> None:
    stamp(made)
    place(made, answer_of(made, RECEIVED_NS - DAY_NS))
    verdict = made.audit(roots=ROOTS)
    assert (verdict.exit_code, slugs(verdict)) == (33, {"timestamp-differs"})
    assert "gen_time" in only(verdict, "timestamp-differs").message


@pytest.mark.parametrize("name", [TSR, TSQ])
def test_a_token_or_request_that_was_removed_is_missed(made: Made, name: str) -> None:
    stamp(made)
    (made.acquisition(1) / name).unlink()
    verdict = made.audit(roots=ROOTS)
    assert (verdict.verdict, verdict.exit_code) == ("fail", 33)
    assert only(verdict, "missing-timestamp").path == f"{(made.acquisition(1) / name).relative_to(made.path)}"
    assert slugs(verdict) == {"missing-timestamp"}, "what is lost is no other timestamp"


@pytest.mark.parametrize("names", [(TSR,), (TSQ,), (TSR, TSQ)])
def test_what_was_lost_of_a_timestamp_is_put_back_by_the_same_attachment(made: Made, names: tuple[str, ...]) -> None:
    answer = stamp(made)
    for name in names:
        (made.acquisition(1) / name).unlink()
    item = made.open().item(item_name())
    lost = lost_file(find_record(item, 1), load_answer(item, 1))
    assert lost is not None
    assert "record 3" in lost.message
    with pytest.raises(TimestampError, match="nothing is ever replaced"):
        stamp(made, answer=answer_of(made, RECEIVED_NS + 2 * HOUR_NS))
    stamp(made, answer=answer)
    assert made.audit(roots=ROOTS).verdict == "pass"
    assert load_answer(item, 1) == answer
    assert lost_file(find_record(item, 1), answer) is None
    assert [file.kind for file in item.ledger.files()] == ["acquired", "received", "timestamped"]


def test_a_response_that_was_never_with_a_request_lacks_nothing(made: Made) -> None:
    answer = stamp(made, answer=Answer(answer_of(made, RECEIVED_NS + HOUR_NS).response))
    item = made.open().item(item_name())
    assert lost_file(find_record(item, 1), answer) is None
    assert made.audit(roots=ROOTS).verdict == "pass"


def test_a_report_of_an_earlier_pass_misses_a_token_that_was_removed_since(made: Made) -> None:
    stamp(made)
    verdict, shown = made.audit(), ReportScope(item_name().case.text, None, None)
    source, now_ns = VerdictSource(verdict, given=True, trusted=None), parse_utc_time(verdict.checked_at)
    assert gather(made.open(), shown, source, now_ns=now_ns).report.judgement.state == "pass"
    (made.acquisition(1) / TSR).unlink()
    judgement = gather(made.open(), shown, source, now_ns=now_ns).report.judgement
    assert (judgement.state, judgement.exit_code) == ("not-verified", 3)
    assert "timestamp" in (judgement.reason or "")


def test_a_huge_file_in_the_place_of_a_token_is_not_read(made: Made) -> None:
    stamp(made)
    file = made.acquisition(1) / TSR
    file.chmod(0o644)
    with file.open("r+b") as stream:
        stream.truncate(1 << 40)
    file.chmod(0o444)
    assert only(made.audit(roots=ROOTS), "bad-timestamp").message.endswith("is longer than 65536 bytes")


@pytest.mark.slow
def test_each_byte_of_token_and_request_counts(made: Made) -> None:
    """Some in the suite, every one with `make flips`. Also the few that no signature covers (such as the status): the custody
    record names the files by their digests.
    """
    answer = stamp(made)
    folder = made.acquisition(1)
    for name, data in ((TSR, answer.response), (TSQ, answer.request or b"")):
        for offset in range(0, len(data), 1 if os.environ.get("FLIPS") == "all" else 7):
            edit(folder / name, data[:offset] + bytes([data[offset] ^ 1 << offset % 8]) + data[offset + 1 :])
            verdict = made.audit(roots=ROOTS)
            assert (verdict.verdict, verdict.exit_code) == ("fail", 33), (name, offset)
            assert "timestamp" not in slugs(verdict, "info")
        edit(folder / name, data)
    assert made.audit(roots=ROOTS).verdict == "pass"


# --- What decides the time of a signature --------------------------------------------------------------------------------


def test_a_timestamp_proves_that_a_signature_is_older_than_its_signers_retirement(made: Made) -> None:
    stamp(made)  # its record is the chain's last, and is judged by the time of checking: see docs/threat-model.md
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + 2 * HOUR_NS)
    manifest = [one for one in made.audit(roots=ROOTS).findings if one.check == 4]
    assert [one.slug for one in manifest] == ["retired-signer"]
    assert "when a trusted timestamp was made over it" in manifest[0].message
    assert "without" not in manifest[0].message
    by_the_vault = [one for one in made.audit().findings if one.check == 4]
    assert [one.slug for one in by_the_vault] == ["retired-signer"]
    assert "when the vault signed for it, without a trusted timestamp" in by_the_vault[0].message


def test_a_timestamp_after_the_signers_retirement_neither_saves_a_signature_nor_accuses_it(made: Made) -> None:
    """Old evidence may be stamped late. The vault received it before, and the authority does not say otherwise."""
    stamp(made, RECEIVED_NS + HOUR_NS)
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + HOUR_NS // 2)
    manifest = [one for one in made.audit(roots=ROOTS).findings if one.check == 4]
    assert [one.slug for one in manifest] == ["not-compared"]
    assert "a timestamp does not tell how old a signature is" in manifest[0].message


@pytest.mark.parametrize(
    ("stamped", "trusted_from", "trusted_until"),
    [(HOUR_NS, None, RECEIVED_NS - DAY_NS), (-HOUR_NS, RECEIVED_NS, None)],
    ids=["retired before it was received", "trusted after it was stamped"],
)
def test_a_timestamp_accuses_who_was_not_trusted_by_what_the_vault_says_either(
    made: Made, stamped: int, trusted_from: int | None, trusted_until: int | None
) -> None:
    stamp(made, RECEIVED_NS + stamped)
    examiner = signer_line("ana", made.examiner.public_key, ("manifest@evidencesync",), trusted_from, trusted_until)
    signers = made.outside_trust(examiner=False) + f"{examiner}\n".encode()
    manifest = [one for one in made.audit(roots=ROOTS, trusted=signers).findings if one.check == 4]
    assert [one.slug for one in manifest] == ["untrusted-signer"]


SLOW_BY_AN_HOUR = der(SEQUENCE, der_integer(3600))


@pytest.mark.parametrize(
    ("retired_after", "slug"),
    [(3 * HOUR_NS, "retired-signer"), (HOUR_NS + HOUR_NS // 2, "not-compared"), (HOUR_NS // 2, "not-compared")],
)
def test_a_timestamp_proves_no_more_than_its_clock_is_exact(made: Made, retired_after: int, slug: str) -> None:
    """An authority says one o'clock, and that its clock may be an hour slow: a key that was retired at half past one may have
    signed before, or after.
    """
    answer = answer_of(made, RECEIVED_NS + HOUR_NS, accuracy=SLOW_BY_AN_HOUR)
    stamp(made, answer=answer)
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + retired_after)
    verdict = made.audit(roots=ROOTS)
    assert [one.slug for one in verdict.findings if one.check == 4] == [slug]
    assert "give or take 3600 s" in only(verdict, "timestamp").message


def test_a_clock_that_may_be_slow_for_ever_proves_nothing(made: Made) -> None:
    stamp(made, answer=answer_of(made, RECEIVED_NS, accuracy=der(SEQUENCE, der_integer(1 << 200))))
    assert made.audit(roots=ROOTS).verdict == "pass"
    made.open().trust.retire(made.examiner.public_key, at_ns=RECEIVED_NS + DAY_NS)
    assert [one.slug for one in made.audit(roots=ROOTS).findings if one.check == 4] == ["not-compared"]


def test_no_timestamp_saves_what_a_revoked_key_signed(made: Made) -> None:
    stamp(made)
    made.open().trust.revoke(made.examiner.public_key, "stolen", at_ns=RECEIVED_NS + DAY_NS)
    verdict = made.audit(roots=ROOTS)
    assert verdict.exit_code == 32
    assert [one.slug for one in verdict.findings if one.check == 4] == ["revoked-signer"]


@pytest.mark.parametrize(("hours", "warned"), [(-2, True), (0, False), (1000, False)])
def test_a_timestamp_from_before_the_signature_is_a_contradiction_of_clocks(made: Made, hours: int, warned: bool) -> None:
    stamp(made, answer=answer_of(made, RECEIVED_NS + hours * HOUR_NS))
    verdict = made.audit(roots=ROOTS)
    assert verdict.verdict == "pass"
    contradictions = [one.message for one in verdict.findings if one.slug == "times-contradict"]
    assert bool(contradictions) == warned
    assert all("2 h 00 min earlier" in one for one in contradictions)
