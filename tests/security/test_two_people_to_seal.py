"""Attack: to seal an item alone in a vault that demands two people, or with a consent that was given to something else."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from evidencesync.custody.documents import RecordType
from evidencesync.custody.roles import EVERYTHING, DatedRule, Role, RoleHistory, make_grant
from evidencesync.custody.rule_of_two import NeedsTwo
from evidencesync.custody.trust_requests import two_person
from evidencesync.custody.two_people import OPEN_FOR_NS, lapse_text
from evidencesync.errors import EvidenceSyncError, NeedsTwoError, NotAllowedError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ingest import custody as custody_room
from evidencesync.ssh.keys import KeySigner
from evidencesync.vault.vault import Vault
from tests.security.test_trust_from_afar import audited
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import chain_of, state
from tests.support.unreadable import Unreadable

BEN, CLEO = new_signer(), new_signer()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """Ana and Ben may do everything, and two people are demanded for a seal."""
    bench = make_bench(tmp_path_factory.mktemp("made"))
    (bench.source / "a").write_bytes(b"a")
    bench.vault.trust.change(bench.signer.public_key, EVERYTHING)
    bench.vault.trust.add(BEN.public_key, "ben@lab", EVERYTHING)
    bench.vault.trust.add(CLEO.public_key, "ana@lab", EVERYTHING)
    bench.push()
    bench.vault.trust.apply(two_person(("seal",)))
    return replace(bench, vault=Vault.open(bench.vault.layout.root))


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    return copy_of(made, tmp_path)


def propose(bench: Bench, signer: KeySigner | None = None) -> dict[str, str]:
    """Proposes to seal the item; what a consent to that names."""
    details = {"proposes": "sealed", "lapses": lapse_text(time.time_ns())}
    appended = state(bench, "proposed", details, signer).record
    return {"proposal": str(appended.record.sequence), "proposal_sha256": appended.sha256}


def sealed(bench: Bench) -> bool:
    return chain_of(bench).history.facts().sealed


def errors(bench: Bench) -> set[str]:
    return {one.slug for one in audited(bench).findings if one.severity != "info"}


def test_a_seal_by_one_is_refused_and_one_with_a_consent_is_not(bench: Bench) -> None:
    with pytest.raises(NeedsTwoError):
        state(bench, "sealed", {"reason": "closed"})
    named = propose(bench)
    assert (sealed(bench), errors(bench)) == (False, set())
    state(bench, "sealed", named, BEN)
    assert (sealed(bench), errors(bench)) == (True, set())


@pytest.mark.parametrize("second", [None, CLEO], ids=["the same key", "a second key of the same person"])
def test_who_has_proposed_it_does_not_consent(bench: Bench, second: KeySigner | None) -> None:
    named = propose(bench)
    with pytest.raises(NotAllowedError, match="another person"):
        state(bench, "sealed", named, second)
    assert not sealed(bench)


@pytest.mark.parametrize("role", ["acquire", "read", "verify", "admin"])
def test_who_may_not_add_to_the_chain_neither_proposes_nor_consents(bench: Bench, role: Role) -> None:
    named = propose(bench)
    bench.vault.trust.change(BEN.public_key, make_grant([role], None, None))
    kinds: tuple[RecordType, ...] = ("sealed", "withdrawn")
    for kind in kinds:
        with pytest.raises(NotAllowedError):
            state(bench, kind, named, BEN)
    with pytest.raises(NotAllowedError):
        propose(bench, BEN)
    assert not sealed(bench)


@pytest.mark.parametrize("changes", [{"proposal": "1"}, {"proposal_sha256": "0" * 64}, {"proposal": "x"}])
def test_a_consent_is_to_exactly_one_proposal(bench: Bench, changes: dict[str, str]) -> None:
    named = propose(bench)
    propose(bench)
    with pytest.raises(NotAllowedError, match="no proposal that is open"):
        state(bench, "sealed", {**named, **changes}, BEN)
    assert not sealed(bench)


def test_a_consent_to_a_proposal_of_another_item_is_none(bench: Bench) -> None:
    other = replace(bench, name=ItemName(Title("2026/11"), Title("E2")))
    other.push()
    named = propose(bench)
    with pytest.raises(NotAllowedError):
        state(other, "sealed", named, BEN)


def test_a_proposal_lapses_with_the_next_acquisition(bench: Bench) -> None:
    named = propose(bench)
    (bench.source / "b").write_bytes(b"b")
    bench.push()
    with pytest.raises(NotAllowedError):
        state(bench, "sealed", named, BEN)
    assert errors(bench) == set()


def test_a_proposal_that_was_withdrawn_or_is_without_an_end_is_none(bench: Bench) -> None:
    named = propose(bench)
    state(bench, "withdrawn", named, BEN)
    with pytest.raises(NotAllowedError):
        state(bench, "sealed", named, BEN)
    for lapses in ("", "never", lapse_text(time.time_ns() + OPEN_FOR_NS), lapse_text(time.time_ns() - 2 * OPEN_FOR_NS)):
        with pytest.raises(EvidenceSyncError):
            state(bench, "proposed", {"proposes": "sealed", "lapses": lapses})
    with pytest.raises(EvidenceSyncError):
        state(bench, "proposed", {"proposes": "revoked", "lapses": lapse_text(time.time_ns())})


def test_the_vault_looks_at_its_own_clock(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    named = propose(bench)
    require = custody_room._require_two
    late = lambda vault, found, at_ns: require(vault, found, at_ns + OPEN_FOR_NS)  # noqa: E731
    monkeypatch.setattr(custody_room, "_require_two", late)
    with pytest.raises(NotAllowedError, match="has lapsed"):
        state(bench, "sealed", named, BEN)


def test_a_proposal_by_a_key_that_was_revoked_since_is_none(bench: Bench) -> None:
    named = propose(bench, CLEO)
    bench.vault.trust.revoke(CLEO.public_key)
    with pytest.raises(NotAllowedError, match="revoked"):
        state(bench, "sealed", named, BEN)


def test_a_seal_by_a_program_that_does_not_know_the_rule_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(custody_room, "_require_two", lambda *_: None)
    state(bench, "sealed", {"reason": "closed"})
    assert errors(bench) == {"not-allowed"}


@pytest.mark.parametrize("how", ["unreadable", "damaged"])
def test_a_proposal_that_cannot_be_read_makes_nobody_one_who_acted_alone(
    how: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of the record itself is said; the consent to it has the name of a proposal, and a second signer."""
    state(bench, "sealed", propose(bench), BEN)
    (record,) = bench.vault.layout.root.glob("cases/*/*/custody/*-proposed.json")
    if how == "damaged":
        record.write_bytes(record.read_bytes().replace(b"{", b"(", 1))
    else:
        Unreadable(monkeypatch, record, "open")
    assert "not-allowed" not in errors(bench)
    assert errors(bench)


HOUR_NS = 3_600_000_000_000


def alone(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """A seal by one person, in a vault that lets it pass: what a check says of it."""
    monkeypatch.setattr(custody_room, "_require_two", lambda *_: None)
    state(bench, "sealed", {"reason": "closed"})
    return errors(bench)


@pytest.mark.parametrize(
    ("rules", "needed"),
    [
        ([], False),
        ([(5, 0, ("seal",))], True),
        ([(5, 0, ("seal",)), (7, 2, ())], False),  # lifted before the vault stated the seal, by a clock that was fast
        ([(5, 2, ("seal",))], None),
        ([(5, 0, ("seal",)), (11, 0, ())], True),  # lifted after it
        ([(11, 0, ("seal",))], False),
    ],
)
def test_the_order_of_the_chain_says_which_rule_held(
    rules: list[tuple[int, int, tuple[NeedsTwo, ...]]], needed: bool | None
) -> None:
    history = RoleHistory(two_person=[DatedRule(record, hours * HOUR_NS, rule) for record, hours, rule in rules])
    assert history.needed_two("seal", HOUR_NS, 9) is needed


def test_a_rule_that_was_made_by_a_fast_clock_lets_no_lone_seal_pass(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does it accuse: the record of the rule may have come just after the seal."""
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.vault.trust.change(bench.signer.public_key, EVERYTHING)
    bench.vault.trust.add(BEN.public_key, "ben@lab", EVERYTHING)
    bench.push()
    bench.vault.trust.apply(two_person(("seal",)), at_ns=time.time_ns() + HOUR_NS)
    found = alone(bench, monkeypatch)
    assert "not-compared" in found
    assert "not-allowed" not in found


def test_a_seal_from_before_the_rule_counts(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.vault.trust.change(bench.signer.public_key, EVERYTHING)
    bench.vault.trust.add(BEN.public_key, "ben@lab", EVERYTHING)
    bench.push()
    state(bench, "sealed", {})
    bench.vault.trust.apply(two_person(("seal",)))
    assert errors(bench) == set()


def test_an_edited_vault_toml_switches_nothing_off(bench: Bench) -> None:
    file = bench.vault.layout.root / "vault.toml"
    file.write_text(file.read_text().replace('two_person = ["seal"]\n', ""))
    opened = replace(bench, vault=Vault.open(bench.vault.layout.root))
    with pytest.raises(NeedsTwoError):
        state(opened, "sealed", {})
