"""Attack: to change trust alone in a vault that demands two people, or with a consent that was given to something else."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.acquire.trust import ask_for_change
from evidencesync.custody.documents import Person
from evidencesync.custody.roles import EVERYTHING, USUAL, Role, make_grant
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.trust_requests import (
    ChangeOfTrust,
    SignedRequest,
    about_proposal,
    added,
    changed,
    retired,
    revoked,
    two_person,
)
from evidencesync.custody.two_people import OPEN_FOR_NS, Proposal
from evidencesync.errors import (
    EvidenceSyncError,
    HeadMovedError,
    LockedError,
    NeedsTwoError,
    NotAllowedError,
    NotThereError,
    UsageError,
    VersionError,
)
from evidencesync.ingest.admission import Reader
from evidencesync.ingest.trust import carry_out
from evidencesync.protocol.messages import KEPT_VERSION, TRUST_VERSION
from evidencesync.protocol.trust_messages import TrustAsk
from evidencesync.ssh.keys import KeySigner
from evidencesync.vault import trust as trust_store
from evidencesync.vault.trust import AskedFor
from evidencesync.vault.vault import Vault
from evidencesync.vault.writer import locked_for_writing
from tests.security.test_trust_from_afar import Admin, administrator, audited
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.hostile_client import HostileReader

BEN, CLEO, EVE = new_signer(), new_signer(), new_signer()
ADMIN = make_grant(["admin"], None, None)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Ana and Ben may administer, Cleo may do the usual; trust needs two people."""
    made = make_bench(tmp_path)
    made.vault.trust.change(made.signer.public_key, EVERYTHING)
    made.vault.trust.add(BEN.public_key, "ben@lab", ADMIN)
    made.vault.trust.add(CLEO.public_key, "cleo@lab")
    made.vault.trust.apply(two_person(("trust",)))
    return Bench(Vault.open(made.vault.layout.root), made.signer, made.source, made.name)


def asked(bench: Bench, change: ChangeOfTrust, signer: SigningKey | None = None) -> int:
    """Has a change asked for; the number of its record."""
    number = ask_for_change(administrator(bench, signer), lambda _: change)[1]
    assert number is not None
    return number


def is_open(bench: Bench) -> list[Proposal]:
    return bench.vault.trust.proposals().is_open(time.time_ns())


def consent_to(bench: Bench, number: int) -> ChangeOfTrust:
    return about_proposal("consented", number, bench.vault.trust.proposals().pending[number].sha256)


def errors(bench: Bench) -> set[str]:
    return {one.slug for one in audited(bench).findings if one.severity != "info"} - {"nothing-to-verify"}


def eve() -> ChangeOfTrust:
    return added(EVE.public_key, "eve@lab", USUAL)


def knows_eve(bench: Bench) -> bool:
    return any(one.signer.key == EVE.public_key for one in bench.vault.trust.signers())


def test_what_one_asks_for_has_no_effect_before_another_consents(bench: Bench) -> None:
    number = asked(bench, eve())
    assert ([one.record for one in is_open(bench)], knows_eve(bench), errors(bench)) == ([number], False, set())
    done = asked(bench, consent_to(bench, number), BEN)
    assert (is_open(bench), knows_eve(bench), errors(bench)) == ([], True, set())
    details = bench.vault.ledger.load(bench.vault.ledger.files()[done - 1]).record.details
    assert (details["action"], details["asked_by"], details["proposal"]) == ("added", "ben@lab", str(number))


@pytest.mark.parametrize("make", [retired, lambda key: changed(key, EVERYTHING)])
def test_every_change_of_trust_is_proposed(bench: Bench, make: Callable[[str], ChangeOfTrust]) -> None:
    number = asked(bench, make(CLEO.public_key.fingerprint))
    assert bench.vault.load_trust().grant_of(CLEO.public_key) == USUAL
    asked(bench, consent_to(bench, number), BEN)
    assert errors(bench) == set()


def test_nobody_changes_trust_without_asking(bench: Bench) -> None:
    with pytest.raises(NeedsTwoError, match="two people"):
        bench.vault.trust.apply(eve())
    with pytest.raises(NeedsTwoError, match="two people"):
        bench.vault.trust.apply(two_person(()))


def test_who_has_proposed_it_does_not_consent(bench: Bench) -> None:
    number = asked(bench, eve())
    with pytest.raises(NotAllowedError, match="another person"):
        asked(bench, consent_to(bench, number))
    assert not knows_eve(bench)


def test_a_second_key_of_the_same_person_does_not_consent(tmp_path: Path) -> None:
    made = make_bench(tmp_path)
    second = new_signer()
    for signer, name in ((BEN, "ben@lab"), (second, "ana@lab")):
        made.vault.trust.add(signer.public_key, name, ADMIN)
    made.vault.trust.change(made.signer.public_key, ADMIN)
    made.vault.trust.apply(two_person(("trust",)))
    number = asked(made, eve())
    with pytest.raises(NotAllowedError, match="another person"):
        asked(made, consent_to(made, number), second)
    assert not knows_eve(made)


@pytest.mark.parametrize("role", ["acquire", "custody", "read", "verify"])
def test_who_may_not_administer_neither_proposes_nor_consents(tmp_path: Path, role: Role) -> None:
    made = make_bench(tmp_path)
    made.vault.trust.change(made.signer.public_key, ADMIN)
    made.vault.trust.add(BEN.public_key, "ben@lab", ADMIN)
    made.vault.trust.add(CLEO.public_key, "cleo@lab", make_grant([role], None, None))
    made.vault.trust.apply(two_person(("trust",)))
    number = asked(made, eve())
    for change in (consent_to(made, number), about_proposal("withdrawn", number, "0" * 64), retired(BEN.public_key.fingerprint)):
        with pytest.raises(NotAllowedError):
            asked(made, change, CLEO)
    assert ([one.record for one in is_open(made)], knows_eve(made)) == ([number], False)


def test_a_consent_is_to_exactly_one_proposal(bench: Bench) -> None:
    """Its number is not enough, nor its digest, nor a consent that was signed for another place."""
    number = asked(bench, retired(CLEO.public_key.fingerprint))
    other = asked(bench, eve(), BEN)
    sha256 = {one.record: one.sha256 for one in is_open(bench)}
    for change in (about_proposal("consented", number, sha256[other]), about_proposal("consented", 1, sha256[number])):
        with pytest.raises(NotThereError, match="no proposal that is open"):
            asked(bench, change, BEN)
    assert len(is_open(bench)) == 2


def handed_in(bench: Bench, change: ChangeOfTrust, signer: KeySigner, principal: str) -> tuple[Reader, TrustAsk]:
    """A request as it comes to the vault's end, in a session of its own."""
    admin = Admin.entered(Bench(bench.vault, signer, bench.source, bench.name))
    who = Person(name="Somebody", principal=principal, key=signer.public_key.fingerprint)
    signed = SignedRequest.of(admin.request(change, actor=who), signer)
    assert admin.welcome is not None
    reader = Reader(principal, signer.public_key, "0" * 32, admin.welcome.nonce.hex())
    return reader, TrustAsk(signed.data, signed.signature)


def test_a_consent_is_of_no_use_a_second_time(bench: Bench) -> None:
    reader, ask = handed_in(bench, consent_to(bench, asked(bench, eve())), BEN, "ben@lab")
    carry_out(bench.vault, reader, ask, time.time_ns())
    assert knows_eve(bench)
    with pytest.raises(EvidenceSyncError):
        carry_out(bench.vault, reader, ask, time.time_ns())
    assert errors(bench) == set()


def test_of_two_proposals_the_second_lapses_with_the_first_that_has_its_effect(bench: Bench) -> None:
    first, second = asked(bench, eve()), asked(bench, retired(CLEO.public_key.fingerprint))
    second_consent = consent_to(bench, second)
    asked(bench, consent_to(bench, first), BEN)
    with pytest.raises(NotThereError):
        asked(bench, second_consent, BEN)
    assert (is_open(bench), errors(bench)) == ([], set())


def test_a_proposal_lapses_by_its_time(bench: Bench) -> None:
    number = asked(bench, eve())
    reader, ask = handed_in(bench, consent_to(bench, number), BEN, "ben@lab")
    with pytest.raises(NotThereError):
        carry_out(bench.vault, reader, ask, time.time_ns() + OPEN_FOR_NS)
    assert not knows_eve(bench)


def test_a_proposal_of_a_key_that_was_revoked_since_has_lapsed(bench: Bench) -> None:
    asking = AskedFor(bench.vault.ledger.head(), {}, consented=True)
    bench.vault.trust.apply(changed(CLEO.public_key.fingerprint, ADMIN), asked=asking)
    number = asked(bench, eve())
    stale = consent_to(bench, number)
    revoking = asked(bench, revoked(bench.signer.public_key, "stolen"), BEN)
    asked(bench, consent_to(bench, revoking), CLEO)
    with pytest.raises(NotThereError):
        asked(bench, stale, BEN)
    assert not knows_eve(bench)


def test_a_proposal_is_withdrawn_by_an_administrator(bench: Bench) -> None:
    number = asked(bench, eve())
    sha256 = bench.vault.trust.proposals().pending[number].sha256
    asked(bench, about_proposal("withdrawn", number, sha256), BEN)
    assert (is_open(bench), errors(bench)) == ([], set())
    with pytest.raises(NotThereError):
        asked(bench, about_proposal("consented", number, sha256), BEN)


def test_nobody_consents_to_the_own_revocation(bench: Bench) -> None:
    number = asked(bench, revoked(BEN.public_key))
    with pytest.raises(UsageError, match="own revocation"):
        asked(bench, consent_to(bench, number), BEN)


def test_the_rule_itself_is_taken_back_by_two(bench: Bench) -> None:
    number = asked(bench, two_person(()))
    assert bench.vault.trust.rule() == ("trust",)
    asked(bench, consent_to(bench, number), BEN)
    assert (bench.vault.trust.rule(), Vault.open(bench.vault.layout.root).settings.two_person) == ((), ())
    bench.vault.trust.apply(eve())
    assert errors(bench) == set()


def test_the_rule_needs_two_who_could_follow_it(tmp_path: Path) -> None:
    made = make_bench(tmp_path)
    made.vault.trust.change(made.signer.public_key, ADMIN)
    with pytest.raises(UsageError, match="fewer than two"):
        made.vault.trust.apply(two_person(("trust",)))


def test_a_recorded_rule_is_said_to_be_recorded_where_vault_toml_cannot_be_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """vault.toml is written under the lock of the record: two changes at once do not leave the earlier rule in it."""
    number, layout = asked(bench, two_person(("seal", "trust"))), bench.vault.layout

    def full(*_: object, **__: object) -> None:
        with pytest.raises(LockedError), locked_for_writing(layout, layout.custody, "the chain"):
            pass
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr("evidencesync.vault.edited_settings.store_new_file", full)
    with pytest.raises(EvidenceSyncError) as failed:
        asked(bench, consent_to(bench, number), BEN)
    record = bench.vault.ledger.head().sequence
    assert f"Record {record} of the vault's own chain states the change" in str(failed.value.hint)
    assert str(failed.value.hint).endswith(': two_person = ["seal", "trust"]')
    assert bench.vault.trust.rule() == ("seal", "trust")


@pytest.mark.parametrize("line", ["", "two_person = []\n"])
def test_an_edited_vault_toml_switches_nothing_off(bench: Bench, line: str) -> None:
    file = bench.vault.layout.root / "vault.toml"
    assert 'two_person = ["trust"]\n' in file.read_text()
    file.write_text(file.read_text().replace('two_person = ["trust"]\n', line))
    opened = Vault.open(bench.vault.layout.root)
    with pytest.raises(NotAllowedError):
        opened.trust.apply(eve())
    assert errors(bench) == {"rule-differs"}


def test_a_list_of_roles_without_the_rule_is_not_believed(bench: Bench) -> None:
    file = bench.vault.layout.root / "roles.json"
    roles = json.loads(file.read_text())
    del roles["two_person"]
    file.write_text(json.dumps(roles, indent=2) + "\n")
    assert "trust-changed" in errors(bench)
    with pytest.raises(EvidenceSyncError):
        bench.vault.trust.apply(eve())


def test_a_change_by_a_program_that_does_not_know_the_rule_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.vault.trust.needs_two", lambda *_: False)
    bench.vault.trust.apply(eve())
    assert errors(bench) == {"not-allowed"}


def test_an_effect_that_only_says_it_was_consented_to_fails(bench: Bench) -> None:
    number = asked(bench, eve())
    asking = AskedFor(bench.vault.ledger.head(), {"proposal": str(number)}, consented=True)
    bench.vault.trust.apply(eve(), asked=asking)
    assert errors(bench) == {"not-allowed"}


@pytest.mark.parametrize("version", [KEPT_VERSION, TRUST_VERSION])
def test_an_older_client_is_refused_with_a_hint(bench: Bench, version: int) -> None:
    client = HostileReader(bench)
    with pytest.raises(VersionError) as error:
        client.hello(versions=[version], purpose="push")
    assert error.value.hint == "Update evidencesync on the machine from which you ask."


def test_a_proposal_upon_an_older_chain_is_refused(bench: Bench) -> None:
    number = asked(bench, eve())
    reader, ask = handed_in(bench, consent_to(bench, number), BEN, "ben@lab")
    asked(bench, retired(CLEO.public_key.fingerprint))
    with pytest.raises(HeadMovedError):
        carry_out(bench.vault, reader, ask, time.time_ns())


@pytest.mark.parametrize(("at", "is_done"), [("write_drafts", False), ("move_drafts", True)])
@pytest.mark.parametrize("consents", [False, True])
def test_a_kill_leaves_the_old_state_or_the_new(
    bench: Bench, at: str, is_done: bool, consents: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if consents:
        given = handed_in(bench, consent_to(bench, asked(bench, eve())), BEN, "ben@lab")
    else:
        given = handed_in(bench, eve(), bench.signer, "ana@lab")

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(trust_store, at, killed)
        with pytest.raises(KeyboardInterrupt):
            carry_out(bench.vault, *given, time.time_ns())
    again = Bench(Vault.open(bench.vault.layout.root), bench.signer, bench.source, bench.name)
    assert knows_eve(again) is (is_done and consents)
    assert bool(is_open(again)) is (is_done is not consents)
    assert errors(again) == set()
