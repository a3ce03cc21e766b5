"""Who asked for a change of trust is told by a signed request in its record; one that is forged, or was not allowed, fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from evidencesync.custody.documents import Person
from evidencesync.custody.roles import USUAL, Grant, make_grant
from evidencesync.custody.trust_requests import (
    REQUEST,
    REQUEST_SIGNATURE,
    ChangeOfTrust,
    SignedRequest,
    TrustRequest,
    changed,
    retired,
)
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.vault.key_files import VaultSigner
from evidencesync.vault.trust import AskedFor
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.unit.vault.acquiring import MADE_NS, new_signer, new_vault

DAY_NS = 86_400 * 10**9
ADMIN = make_grant(["admin"], None, None)
READ = make_grant(["read"], None, None)
Forge = Callable[[dict[str, str]], dict[str, str]]


class Asking:
    """A vault of Ana's and Ben's, and requests of Ana."""

    def __init__(self, folder: Path, grant: Grant = ADMIN) -> None:
        self.ana, self.ben = new_signer(), new_signer()
        self.vault = new_vault(folder / "vault", self.ana)
        self.vault.trust.change(self.ana.public_key, grant, at_ns=MADE_NS + 1)
        self.vault.trust.add(self.ben.public_key, "ben", at_ns=MADE_NS + 2)
        self.at_ns = MADE_NS + DAY_NS

    def request(self, change: ChangeOfTrust, signer: VaultSigner | None = None, **changes: Any) -> SignedRequest:
        settings, head, signer = self.vault.settings, self.vault.ledger.head(), signer or self.ana
        known = TrustRequest(
            format="evidencesync-trust-request/1",
            vault_id=settings.id,
            vault_key=settings.key,
            head_sequence=head.sequence,
            head_sha256=head.sha256 or "",
            nonce="0" * 64,
            time=format_utc_time(self.at_ns),
            actor=Person(name="Ana", principal="ana", key=signer.public_key.fingerprint),
            action=change.action,
            details=change.details,
        )
        return SignedRequest.of(msgspec.structs.replace(known, **changes), signer)

    def record(self, signed: SignedRequest, forge: Forge = dict, change: ChangeOfTrust | None = None) -> None:
        """As a vault would record it that checks nothing."""
        asked = AskedFor(self.vault.ledger.head(), forge(signed.kept()))
        self.vault.trust.apply(change or signed.request.change, at_ns=self.at_ns, asked=asked)

    def errors(self) -> set[str]:
        verdict = audit_vault(self.vault.layout.root, now_ns=self.at_ns + DAY_NS)
        return {one.slug for one in verdict.findings if one.severity == "error"}


@pytest.fixture
def asking(tmp_path: Path) -> Asking:
    return Asking(tmp_path)


def of_ben(asking: Asking) -> ChangeOfTrust:
    return changed(asking.ben.public_key.fingerprint, READ)


def test_a_change_that_an_administrator_asked_for_passes(asking: Asking) -> None:
    asking.record(asking.request(of_ben(asking)))
    assert asking.errors() == set()


def test_a_change_of_which_nothing_says_who_asked_passes_as_ever(asking: Asking) -> None:
    asking.vault.trust.apply(of_ben(asking), at_ns=asking.at_ns)
    assert asking.errors() == set()


@pytest.mark.parametrize(
    "grant",
    [USUAL, READ, make_grant(["admin"], ["2024-*"], None), make_grant(["admin"], None, "2023-03-28")],
    ids=["usual", "read", "some cases", "ended"],
)
def test_a_change_that_somebody_without_the_role_asked_for_fails(tmp_path: Path, grant: Grant) -> None:
    asking = Asking(tmp_path, grant)
    asking.record(asking.request(of_ben(asking)))
    assert asking.errors() == {"not-allowed"}


def test_the_role_is_judged_before_the_change_that_takes_it_away(asking: Asking) -> None:
    asking.record(asking.request(changed(asking.ana.public_key.fingerprint, READ)))
    assert asking.errors() == set()
    asking.record(asking.request(of_ben(asking)))
    assert asking.errors() == {"not-allowed"}


def test_who_asks_to_be_retired_was_trusted_then(asking: Asking) -> None:
    asking.record(asking.request(retired(asking.ana.public_key.fingerprint)))
    assert asking.errors() == set()


def test_a_request_by_a_key_that_was_revoked_later_counts_no_more(asking: Asking) -> None:
    asking.record(asking.request(of_ben(asking)))
    asking.vault.trust.revoke(asking.ana.public_key, at_ns=asking.at_ns + 1)
    assert asking.errors() == {"revoked-signer"}


@pytest.mark.parametrize(
    ("forge", "slug"),
    [
        (lambda kept: {**kept, REQUEST: kept[REQUEST].replace("Ana", "Eve")}, "bad-signature"),
        (lambda kept: {**kept, REQUEST: kept[REQUEST] + " "}, "malformed-document"),
        (lambda kept: {**kept, REQUEST_SIGNATURE: "?"}, "malformed-document"),
        (lambda kept: {**kept, REQUEST_SIGNATURE: "AAAA"}, "bad-signature"),
        (lambda kept: {**kept, "asked_by": "ben"}, "not-allowed"),
        (lambda kept: {"asked_by": kept["asked_by"]}, "malformed-document"),
        (lambda kept: {**kept, "more": "x"}, "not-allowed"),
    ],
)
def test_a_request_that_was_altered_fails(asking: Asking, forge: Forge, slug: str) -> None:
    asking.record(asking.request(of_ben(asking)), forge)
    assert asking.errors() == {slug}


def test_a_request_for_something_else_fails(asking: Asking) -> None:
    asking.record(asking.request(of_ben(asking)), change=retired(asking.ben.public_key.fingerprint))
    assert asking.errors() == {"not-allowed"}


def test_a_request_once_more_fails(asking: Asking) -> None:
    signed = asking.request(of_ben(asking))
    asking.record(signed)
    asking.record(signed)
    assert asking.errors() == {"not-allowed"}


@pytest.mark.parametrize("changes", [{"vault_id": "0" * 32}, {"head_sequence": 1}, {"head_sha256": "0" * 64}])
def test_a_request_that_was_signed_for_another_vault_or_record_fails(asking: Asking, changes: dict[str, Any]) -> None:
    asking.record(asking.request(of_ben(asking), **changes))
    assert asking.errors() == {"not-allowed"}


def test_a_request_of_a_stranger_fails(asking: Asking) -> None:
    asking.record(asking.request(of_ben(asking), new_signer()))
    assert asking.errors() == {"untrusted-signer"}


def test_the_request_and_its_signature_are_kept_byte_for_byte(asking: Asking) -> None:
    signed = asking.request(of_ben(asking))
    asking.record(signed)
    stored = Vault.open(asking.vault.layout.root).ledger.last("trust-changed")
    assert stored is not None
    assert SignedRequest.kept_in(stored.record.details) == signed
