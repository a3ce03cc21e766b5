"""Who may sign which record, row by row: every type by every kind of signer, when it is handed in and when it is verified."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal, get_args

import msgspec
import pytest

from evidencesync.custody.documents import (
    MANIFEST_NAMESPACE,
    SESSION_NAMESPACE,
    CustodyRecord,
    Person,
    RecordType,
)
from evidencesync.custody.record import SIGNERS, VAULT_TYPES, SignedBy
from evidencesync.custody.sshsig import SigningKey
from evidencesync.custody.statements import Statements
from evidencesync.custody.trust import signer_line
from evidencesync.custody.two_people import lapse_text
from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time
from evidencesync.exit_codes import ExitCode
from evidencesync.vault.create import create_vault
from evidencesync.vault.ledger import iter_records, sign_record
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.custody_client import CustodyClient, state
from tests.support.hostile_client import MOMENT

Kind = Literal["vault", "acquirer", "examiner", "stranger", "revoked", "retired", "elsewhere"]
KINDS: Final = get_args(Kind)
TYPES: Final[list[RecordType]] = sorted(get_args(RecordType), key="sealed".__eq__)  # sealing comes last
ANSWERS: Final[dict[RecordType, RecordType]] = {"accepted": "handed-over", "withdrawn": "proposed"}
DAY_NS: Final = 86_400 * 1_000_000_000
PRINCIPALS: Final = {
    "vault": "vault",
    "acquirer": "ana@lab",
    "examiner": "ben@lab",
    "stranger": "eve@lab",
    "revoked": "rob@lab",
    "retired": "rita@lab",
    "elsewhere": "otto@lab",
}


class Cast:
    """A vault with one acquisition and every kind of signer, and a clerk who hands the item over to them."""

    def __init__(self, folder: Path) -> None:
        self.bench: Bench = make_bench(folder)
        vault = self.bench.vault
        self.signers: dict[str, SigningKey] = {kind: new_signer() for kind in KINDS}
        self.signers |= {"vault": vault.signer, "acquirer": self.bench.signer}
        self.clerk = new_signer()
        long_ago = time.time_ns() - 2 * DAY_NS
        vault.trust.add(self.clerk.public_key, "clerk@lab", at_ns=long_ago)
        for kind in ("examiner", "revoked", "retired"):
            vault.trust.add(self.signers[kind].public_key, PRINCIPALS[kind], at_ns=long_ago)
        vault.trust.retire(self.signers["retired"].public_key, at_ns=long_ago + DAY_NS)
        vault.trust.revoke(self.signers["revoked"].public_key)
        self._trust_elsewhere()
        (self.bench.source / "small").write_bytes(b"evidence")
        self.bench.push()

    def _trust_elsewhere(self) -> None:
        """A key that may open sessions and sign manifests, but no custody records. No command makes one; an admin can."""
        line = signer_line(PRINCIPALS["elsewhere"], self.signers["elsewhere"].public_key, (SESSION_NAMESPACE, MANIFEST_NAMESPACE))
        self.bench.vault.trust._change(
            lambda files: msgspec.structs.replace(files, trusted_signers=files.trusted_signers + line.encode() + b"\n"),
            {},
            time.time_ns(),
        )

    def details(self, kind: RecordType, who: str, at_ns: int, *, to: str = "clerk@lab") -> dict[str, str]:
        """What a record of a type has to say, as the next one of the chain. What it answers is the last one."""
        head = self.bench.vault.item(self.bench.name).ledger.head()
        if kind == "handed-over":
            return {"to": to}
        if kind == "accepted":
            return {"record": str(head.sequence)}
        if kind == "proposed":
            return {"proposes": "sealed", "lapses": lapse_text(at_ns)}
        if kind == "withdrawn":
            return {"proposal": str(head.sequence), "proposal_sha256": head.sha256 or ""}
        return {"record": "1"} if kind == "corrected" else {"text": f"by {who}"}


def shape(kind: RecordType) -> dict[str, Any]:
    """What else a record of a type needs, to be one."""
    if kind in VAULT_TYPES:
        return {"case": None, "item": None}
    if kind in ("acquired", "received"):
        receipt = "b" * 64 if kind == "received" else None
        return {"acquisition": 2, "manifest_sha256": "a" * 64, "receipt_sha256": receipt}
    return {}


def in_place_of_holder(bench: Bench) -> dict[str, str]:
    """What a hand-over states that is not made by who holds the item."""
    statements = Statements()
    for stored in iter_records(bench.vault.item(bench.name).ledger):
        statements.add(stored.record)
    return {} if statements.held_by is None else {"in_place_of": statements.held_by}


def is_expected(kind: RecordType, who: str) -> bool:
    """Only the types of examiners, and only by keys that are trusted for custody records now."""
    return SIGNERS[kind] is SignedBy.EXAMINER and who in ("acquirer", "examiner")


# --- Handed in ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory) -> Cast:
    return Cast(tmp_path_factory.mktemp("cast"))


@pytest.mark.parametrize("who", KINDS)
@pytest.mark.parametrize("kind", TYPES)
def test_each_type_is_appended_for_its_signers_alone(cast: Cast, kind: RecordType, who: str) -> None:
    bench = cast.bench
    ledger = bench.vault.item(bench.name).ledger
    if kind == "accepted":
        to = PRINCIPALS[who] if who != "vault" else "porter@lab"  # nothing is handed over to the vault itself
        details = {"to": to, "outside_recipient": "yes", **in_place_of_holder(bench)}
        state(bench, "handed-over", details, cast.clerk)
    elif kind == "withdrawn":
        state(bench, "proposed", cast.details("proposed", who, time.time_ns()), cast.clerk)
    before = ledger.head()
    client = CustodyClient(bench, cast.signers[who])

    def hand_in() -> None:
        client.enter()
        client.append(client.statement(kind, details=cast.details(kind, who, parse_utc_time(MOMENT)), **shape(kind)))

    if kind == "sealed" and who == "examiner":  # the acquirer has sealed it
        with pytest.raises(EvidenceSyncError) as sealed:
            hand_in()
        assert sealed.value.exit_code is ExitCode.LOCKED
    elif kind == "timestamped":  # it comes with its files, which only whoever is at the vault's disk can bring
        with pytest.raises(EvidenceSyncError) as lone:
            hand_in()
        assert lone.value.exit_code in (ExitCode.NOT_THERE, ExitCode.SIGNATURE)
        assert ledger.head() == before
    elif is_expected(kind, who):
        hand_in()
        client.link.close()
        assert ledger.head().sequence == before.sequence + 1
        assert ledger.load(ledger.files()[-1]).data == client.last
    else:
        with pytest.raises(EvidenceSyncError) as refused:
            hand_in()
        assert refused.value.exit_code is ExitCode.SIGNATURE, refused.value
        assert ledger.head() == before


# --- Verified ----------------------------------------------------------------------------------------------------------


def put(vault: Vault, bench: Bench, kind: RecordType, signer: SigningKey, principal: str, details: dict[str, str]) -> int:
    """Appends a well-linked record to the item's chain, whoever signs it: what an insider can do."""
    ledger = vault.item(bench.name).ledger
    head = ledger.head()
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=vault.settings.id,
        sequence=head.sequence + 1,
        type=kind,
        time=format_utc_time(time.time_ns()),
        case=bench.name.case.text,
        item=bench.name.item.text,
        actor=Person(name=principal, principal=principal, key=signer.public_key.fingerprint),
        previous_sha256=head.sha256,
        details=details,
    )
    if kind not in VAULT_TYPES:
        record = msgspec.structs.replace(record, **shape(kind))
    ledger.append(*sign_record(record, signer))
    return record.sequence


EXAMINERS_TYPES: Final = [kind for kind in TYPES if SIGNERS[kind] is SignedBy.EXAMINER]


@pytest.mark.parametrize("who", KINDS)
def test_each_record_of_an_examiner_is_judged_by_its_signer(tmp_path: Path, who: str) -> None:
    cast = Cast(tmp_path)
    bench, signer, principal = cast.bench, cast.signers[who], PRINCIPALS[who]
    written: dict[str, RecordType] = {}
    for kind in EXAMINERS_TYPES:
        if kind in ANSWERS:
            asked = cast.details(ANSWERS[kind], who, time.time_ns(), to=principal)
            put(bench.vault, bench, ANSWERS[kind], cast.clerk, "clerk@lab", asked)
        number = put(bench.vault, bench, kind, signer, principal, cast.details(kind, who, time.time_ns()))
        written[f"{number:04}-{kind}.json"] = kind
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns())
    slugs: dict[RecordType, set[str]] = {kind: set() for kind in EXAMINERS_TYPES}
    for finding in verdict.findings:
        name = (finding.path or "").rpartition("/")[2]
        if finding.severity == "error":
            assert name in written, finding
            slugs[written[name]].add(finding.slug)
    expected = {
        "vault": "wrong-signer",
        "acquirer": None,
        "examiner": None,
        "stranger": "untrusted-signer",
        "revoked": "revoked-signer",
        "retired": "untrusted-signer",
        "elsewhere": "untrusted-signer",
    }[who]
    assert slugs == {kind: set() if expected is None else {expected} for kind in EXAMINERS_TYPES}
    assert verdict.exit_code == (0 if expected is None else 32)


@pytest.mark.parametrize("who", KINDS)
@pytest.mark.parametrize("kind", ["acquired", "received"])
def test_an_acquisition_that_nobody_made_is_found_whoever_signs_its_records(
    cast: Cast, tmp_path: Path, kind: Any, who: str
) -> None:
    import shutil

    shutil.copytree(cast.bench.vault.layout.root, tmp_path / "copy", symlinks=True)
    vault = Vault.open(tmp_path / "copy")
    put(vault, cast.bench, kind, cast.signers[who], PRINCIPALS[who], {})
    assert audit_vault(tmp_path / "copy", now_ns=time.time_ns()).verdict == "fail"


@pytest.mark.parametrize("who", KINDS)
def test_the_vaults_own_chain_is_the_vaults_alone(tmp_path: Path, who: str) -> None:
    cast = Cast(tmp_path)
    vault, signer = cast.bench.vault, cast.signers[who]
    head = vault.ledger.head()
    record = CustodyRecord(
        format="evidencesync-custody/1",
        vault_id=vault.settings.id,
        sequence=head.sequence + 1,
        type="heads",
        time=format_utc_time(time.time_ns()),
        case=None,
        item=None,
        actor=Person(name=who, principal=PRINCIPALS[who], key=signer.public_key.fingerprint),
        previous_sha256=head.sha256,
        details={},
    )
    vault.ledger.append(*sign_record(record, signer))
    verdict = audit_vault(vault.layout.root, now_ns=time.time_ns())
    assert verdict.exit_code == (0 if who == "vault" else 32)


def test_who_is_retired_after_a_statement_is_still_believed(tmp_path: Path) -> None:
    """The vault states each head that its chains get, so that there is a time by which a statement was there."""
    bench = make_bench(tmp_path)
    (bench.source / "small").write_bytes(b"evidence")
    bench.push()
    state(bench, "noted", {"text": "seen"})
    bench.vault.trust.retire(bench.signer.public_key, at_ns=time.time_ns() + DAY_NS)
    verdict = audit_vault(bench.vault.layout.root, now_ns=time.time_ns() + 3 * DAY_NS)
    assert verdict.exit_code == 0
    assert {finding.slug for finding in verdict.findings} == {"retired-signer"}


def test_a_vault_made_without_examiners_lets_nobody_append(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "small").write_bytes(b"evidence")
    bench.push()
    other = replace(bench, vault=create_vault(tmp_path / "other", "other", []))
    with pytest.raises(EvidenceSyncError) as refused:
        state(other, "noted", {"text": "seen"})
    assert refused.value.exit_code is ExitCode.SIGNATURE
