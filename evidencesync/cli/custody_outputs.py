"""What the `custody` commands and `verify --record` print with `--json`."""

from __future__ import annotations

from evidencesync.cli.outputs import Output, Problem, ShownRecord
from evidencesync.custody.documents import CustodyRecord, VaultId
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.entry import Count
from evidencesync.verify.findings import Outcome, Verdict


class KnownDetailOutput(Output, frozen=True):
    """What is known of the item under a name, and the number of the custody record that says so."""

    name: str
    value: str
    record: Count


class OpenHandOverOutput(Output, frozen=True):
    """A hand-over that nobody has accepted yet: by whom and to whom (principals), and its record's number."""

    record: Count
    principal: str
    to: str


class CustodyProblem(Output, frozen=True):
    """A record that may not stand where it stands, by the number of the record. The slug is the one that `verify` uses."""

    record: Count
    slug: str
    message: str


class CustodyShowOutput(Output, frozen=True):
    """An item's custody chain. It holds together; whether its signers are trusted is for `verify`.

    `held_by` is the principal who accepted the item last, null before the first acceptance.
    """

    vault_id: VaultId
    case: str
    item: str
    sealed: bool
    held_by: str | None
    open_hand_over: OpenHandOverOutput | None
    known: list[KnownDetailOutput]
    problems: list[CustodyProblem]
    custody: list[ShownRecord]
    chain_head_sha256: HexDigest


class CustodyAppendOutput(Output, frozen=True):
    """A record that was appended, and its digest. `chain_head_sha256` is where the chain ended when the vault showed it."""

    vault_id: VaultId
    case: str
    item: str
    record: CustodyRecord
    sha256: HexDigest
    chain_head_sha256: HexDigest


class RecordedItem(Output, frozen=True):
    """What `verify --record` has recorded of one item: the item's own verdict, and the number of the record that says so.

    Where it could not be recorded, `record` is null, and the problem and its exit code say why.
    """

    case: str
    item: str
    verdict: Outcome
    exit_code: Count
    record: Count | None
    problem: Problem | None
    problem_code: Count | None


class RecordedVerdict(Verdict, frozen=True):
    """A verdict, and where it was recorded."""

    recorded: list[RecordedItem]
