"""Judges signatures: whether one is valid, who signed, and whether that key was trusted when it was made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

from evidencesync.custody.chain import STATED_BEFORE, retired_after
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import RoleHistory
from evidencesync.custody.sshsig import decode_armor, is_malleable, verify_signature
from evidencesync.custody.trust import RevokedKeys, TrustLists
from evidencesync.custody.vault_keys import reason_untrusted
from evidencesync.errors import SignatureError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import shown_time
from evidencesync.vault.layout import SIGNATURE_SUFFIX
from evidencesync.verify.allowed import Needed, Refusal, refusal
from evidencesync.verify.checks import Check
from evidencesync.verify.findings import Reporter
from evidencesync.verify.known_keys import KnownKeys
from evidencesync.verify.signed_at import ON_ITS_WAY_NS, RETIREMENT, TRUSTED_TIME, SignedAt

_OTHER_FORM: Final = (
    "it fits the document, but in the other form of an ECDSA signature, which this vault does not hold: an earlier version of "
    "evidencesync has written to the vault, or somebody has made this one of the good one, which takes no key"
)


@dataclass(slots=True)
class SignatureJudge:
    """Judges all signatures of a run by one set of lists. Without lists (they are damaged) no signer is ever trusted.

    `unread`: the lists could not be read; then no signer is judged. `renew` reads the lists again, if they have changed since
    (else None): a signer who was added just now may have signed already. `vault_revoked` are the vault's own revocations where
    signers from outside replace the vault's. `low_s`: the vault accepts only low-s signatures, so another form was made without
    the key. `retirements`: by a key's fingerprint, the records of the vault's own chain that retire it: number and time (ns).
    `additions`: the numbers of those that add it. `statements`: by number, the times of those that state heads of items.
    `roles`: what each key might do at each time. `keys`: those of the vault itself.
    """

    trust: TrustLists | None
    now_ns: int
    vault_revoked: RevokedKeys | None = None
    low_s: bool = False
    unread: bool = False
    renew: Callable[[], TrustLists | None] | None = None
    retirements: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    additions: dict[str, list[int]] = field(default_factory=dict)
    statements: dict[int, int] = field(default_factory=dict)
    roles: RoleHistory = field(default_factory=RoleHistory)
    keys: KnownKeys | None = None
    _reported: set[tuple[str, str, str | None, str | None, int | None]] = field(default_factory=set)

    def at_checking(self) -> SignedAt:
        """Returns the time of the check, the last resort."""
        return SignedAt(self.now_ns, "it is checked")

    def check_signature(
        self, report: Reporter, check: Check, name: str, armored: bytes, namespace: str, sha512: bytes
    ) -> PublicKey | None:
        """Returns the key that signed the document `name`, trusted or not; None after findings.

        1. The signature is in its strict form, in this namespace, and verifies. Where it does not verify, it is unknown whether
        the document or the signature was changed: both are named.
        """
        signature_name = name + SIGNATURE_SUFFIX
        try:
            key = verify_signature(armored, namespace, sha512, low_s=self.low_s)
            if not self.low_s and is_malleable(armored):
                text = "good, and in the form that anybody can make of an ECDSA signature: older versions wrote it, too"
                self._report_once(report, check, "loose-signature", signature_name, key, text)
            return key
        except SignatureError as error:
            if self.low_s and _fits_in_other_form(armored, namespace, sha512):
                report.report(check, "bad-signature", f"{safe_text(signature_name)}: {_OTHER_FORM}", signature_name)
                return None
            report.report(check, "bad-signature", f"{safe_text(signature_name)}: {error.message}", signature_name)
        if _is_well_formed(armored):
            text = f"{safe_text(name)} is not vouched for by its signature: one of the two was changed"
            report.report(check, "bad-signature", text, name)
        return None

    def check_signer(
        self,
        report: Reporter,
        check: Check,
        name: str,
        key: PublicKey,
        namespace: str,
        principal: str | None,
        at: SignedAt,
        *,
        time_known: bool = True,
    ) -> bool:
        """Whether a signature's key is accepted; findings when it is not. Without a principal, any trusted name is accepted.

        2. The key was never revoked (then nothing that it signed counts, whenever that was).  3. It is trusted under
        this name, in this namespace, at the time of the signature, or the vault had stated that signature before it retired the
        key; and that time does not contradict the order in which the vault did both.  4. Where the key is not trusted any more,
        that is reported.

        `time_known`: whether everything that dates the signature could be read and is undamaged. If not, it may be older than
        `at`, and a signer who is trusted at other times than that is not judged.
        """
        if not self._may_be_judged(report, check, name, key):
            return False
        at = self._before_retirement(key, at)  # 3
        untrusted = self._reason_untrusted(key, namespace, principal, at.ns)
        if untrusted is not None and self.is_renewed():
            at = self.at_checking() if at.source == "it is checked" else at  # that time is later now
            return self.check_signer(report, check, name, key, namespace, principal, at, time_known=time_known)
        if untrusted is not None:
            reason = self._reason_not_judged(key, namespace, principal, at, time_known=time_known)
            if reason is not None:
                slug, text = "not-compared", f"{untrusted}; but {reason}"
            else:
                slug, text = "untrusted-signer", f"{untrusted} (judged at {shown_time(at.ns)}, when {at.source})"
            report.report(check, slug, f"{safe_text(name)}: {text}", name)
            return False
        contradiction = self._stated_after_retirement(key, at)
        if contradiction is not None:
            report.report(check, "not-compared", f"{safe_text(name)}: {contradiction}", name)
            return False
        ended = self._reason_untrusted(key, namespace, principal, self.now_ns)  # 4
        if ended is not None and self.trust is not None and self.trust.signers.is_retired(key):
            without = "" if at.source == TRUSTED_TIME else ", without a trusted timestamp"
            counts = f"the signature counts as of {shown_time(at.ns)}, when {at.source}{without}"
            self._report_once(report, check, "retired-signer", name, key, f"{ended}, the time of this check; {counts}")
        return True

    def _may_be_judged(self, report: Reporter, check: Check, name: str, key: PublicKey) -> bool:
        """Whether a key may be judged: there are lists, and it was not revoked (step 2 of `check_signer`). Findings if not."""
        shown = safe_text(name)
        if self.unread:
            report.report(check, "not-compared", f"{shown}: who is trusted could not be read; nobody was judged", name)
            return False
        if self.trust is None:
            report.report(check, "untrusted-signer", f"{shown}: nobody is trusted, for want of a usable list", name)
            return False
        if self.trust.revoked.refuses(key):
            report.report(check, "revoked-signer", f"{shown}: the key {key.fingerprint} was revoked", name)
            return False
        if self.vault_revoked is not None and self.vault_revoked.refuses(key):
            text = f"the key {key.fingerprint} is in the vault's revoked_keys"
            self._report_once(report, check, "revoked-by-vault", name, key, text)
        return True

    def check_role(
        self, report: Reporter, check: Check, name: str, key: PublicKey, needed: Needed, at: SignedAt, *, time_known: bool
    ) -> bool:
        """Whether the key had the role that a document needs; a finding when it had not. It may have got it just now."""

        def judged() -> Refusal | None:
            return refusal(self.roles, key.fingerprint, needed, at, self.statements, time_known=time_known)

        refused = judged()
        if refused is not None and self.is_renewed():
            refused = judged()
        if refused is not None:
            report.report(check, refused.slug, f"{safe_text(name)}: {refused.text}", name)
        return refused is None

    def may_know(self, key: PublicKey, is_listed: Callable[[PublicKey, TrustLists], bool]) -> bool:
        """Whether a key may belong to a signer that the vault knows; also where that is unknown."""
        if self.trust is None or self.vault_revoked is not None or is_listed(key, self.trust):
            return True
        return self.is_renewed() and is_listed(key, self.trust)

    def _before_retirement(self, key: PublicKey, at: SignedAt) -> SignedAt:
        """Moves the time to before a retirement, where the vault stated the signature before it retired the key.

        The records of one chain are in order, even if the clocks that dated them were wrong. So what the vault had stated
        before it retired a key was signed before that, also where a clock was ahead. Signers from outside were retired by
        others (see `_may_be_older`), and a trusted timestamp needs no such correction.
        """
        retired = self._retired_after(key, at)
        if self.vault_revoked is not None or self.trust is None or retired is None:
            return at
        ended = self.trust.signers.end_of(key, retired)
        return replace(at, ns=ended, source=RETIREMENT, earliest_ns=None) if ended < at.ns else at

    def _stated_after_retirement(self, key: PublicKey, at: SignedAt) -> str | None:
        """Why a date at which a key was trusted is not believed: the vault retired the key, and first stated this later.

        Only where it dated that statement long before the retirement: its clock was set back, and so may be the date of the
        signature. A record that was on its way while the key was retired is dated a little before that, and counts.
        """
        stated_by = at.stated_by or 0
        before = [one for one in self.retirements.get(key.fingerprint, ()) if one[0] < stated_by]
        if not before or at.source == TRUSTED_TIME or self.vault_revoked is not None:
            return None
        (number, retired_ns), stated_ns = max(before), self.statements[stated_by]
        again = any(number < one < stated_by for one in self.additions.get(key.fingerprint, ()))
        if again or stated_ns + ON_ITS_WAY_NS >= retired_ns:
            return None
        return (
            f"the vault retired the key {key.fingerprint} at {shown_time(retired_ns)} by its clock, and first stated this "
            f"later, at {shown_time(stated_ns)}: the clock was set back, and when this was signed is not known"
        )

    def _reason_not_judged(
        self, key: PublicKey, namespace: str, principal: str | None, at: SignedAt, *, time_known: bool
    ) -> str | None:
        """Why a signer who is not trusted at the time `at` is not judged: the signature may be older. None if it is not.

        Unknown is neither good nor bad.
        """
        if self._may_be_older(key, namespace, principal, at):
            return STATED_BEFORE
        if self._was_trusted_before(key, namespace, principal, at):
            return (
                "the vault states that it had it when the key was trusted, and a timestamp does not tell how old a signature is"
            )
        if not time_known and self.trust is not None and self.trust.signers.is_ever_trusted(principal, key, namespace):
            return "what dates the signature is damaged, gone or unreadable, so that it was not judged"
        earliest = at.earliest_ns
        if earliest is not None and earliest != at.ns and self._reason_untrusted(key, namespace, principal, earliest) is None:
            return (
                f"the timestamp states {shown_time(earliest)}, when the key was trusted, by a clock that may be slow: "
                f"it proves no more than that the signature existed at {shown_time(at.ns)}"
            )
        return None

    def _was_trusted_before(self, key: PublicKey, namespace: str, principal: str | None, at: SignedAt) -> bool:
        """Whether a key's time ended before a timestamp was made, and the vault states that it had the signature within it.

        The authority does not bear the vault out, and does not contradict it either.
        """
        if at.without is None or self.trust is None or not self.trust.signers.has_ended(key, namespace, at.ns, principal):
            return False
        return self._reason_untrusted(key, namespace, principal, self._before_retirement(key, at.without).ns) is None

    def _may_be_older(self, key: PublicKey, namespace: str, principal: str | None, at: SignedAt) -> bool:
        """Whether the vault's chain shows that a signature is older than its date, while signers from outside are used.

        Then one of two dates that the vault has signed is wrong, and it is unknown which: the signer is not judged.
        """
        retired = self._retired_after(key, at) if self.vault_revoked is not None else None
        return retired is not None and self._reason_untrusted(key, namespace, principal, retired) is None

    def _retired_after(self, key: PublicKey, at: SignedAt) -> int | None:
        if at.stated_by is None or at.source == TRUSTED_TIME:
            return None
        return retired_after(self.retirements.get(key.fingerprint, ()), at.stated_by)

    def is_renewed(self) -> bool:
        """Reads the lists again; returns whether they have changed."""
        trust = self.renew() if self.renew is not None else None
        if trust is not None:
            self.trust = trust
        return trust is not None

    def _reason_untrusted(self, key: PublicKey, namespace: str, principal: str | None, at_ns: int) -> str | None:
        if self.trust is None:
            return "nobody is trusted"
        if principal is None and self.keys is not None:  # the vault's: signers from outside may know an earlier key of it
            return reason_untrusted(self.trust.signers, self.keys.keys, key, namespace, at_ns)
        return self.trust.signers.reason_untrusted(principal, key, namespace, at_ns)

    def _report_once(self, report: Reporter, check: Check, slug: str, name: str, key: PublicKey, text: str) -> None:
        """Reports once for each key and acquisition what would be true of each of its signatures."""
        reported_before = (slug, key.fingerprint, report.case, report.item, report.acquisition)
        if reported_before not in self._reported:
            self._reported.add(reported_before)
            report.report(check, slug, f"{safe_text(name)}: {text}", name)


def _fits_in_other_form(armored: bytes, namespace: str, sha512: bytes) -> bool:
    """Whether a signature is valid except for its form: then the document is not in question."""
    try:
        verify_signature(armored, namespace, sha512)
    except SignatureError:
        return False
    return True


def _is_well_formed(armored: bytes) -> bool:
    try:
        decode_armor(armored)
    except SignatureError:
        return False
    return True
