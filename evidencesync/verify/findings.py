"""Defines findings, collects them, and computes the verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Set
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import msgspec

from evidencesync.custody.documents import Fingerprint
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text
from evidencesync.evidence.path import from_json_fields, to_json_fields
from evidencesync.evidence.utc_time import UtcTime
from evidencesync.exit_codes import SEVERITY_ORDER, ExitCode, most_severe
from evidencesync.limits import MAX_FINDINGS
from evidencesync.vault.layout import CASES, CUSTODY
from evidencesync.verify.checks import MEANINGS, Check, Severity

Outcome = Literal["pass", "fail", "incomplete"]
TrustSource = Literal["vault", "outside"]

_ITEM_DEPTH: Final = 3  # cases/CASE/ITEM
WORST_FIRST: Final[tuple[Severity, ...]] = ("error", "warning", "info")
_INCOMPLETE: Final = frozenset({ExitCode.GAPS, ExitCode.NOT_THERE, ExitCode.USAGE})


class Finding(msgspec.Struct, frozen=True):
    """One result of a check.

    `path` is the file's path from the vault's root where it is clean UTF-8; else `path_b64` holds its exact bytes.
    `offset` and `length` are bytes in that file. `case` and `item` are exact numbers (or, where no document tells them,
    names of folders).
    """

    check: int
    severity: Severity
    slug: str
    case: str | None
    item: str | None
    acquisition: int | None
    path: str | None
    path_b64: str | None
    offset: int | None
    length: int | None
    message: str


class Checked(msgspec.Struct, frozen=True):
    """How much was checked: the files under `data/`, and the bytes of them that were read."""

    vaults: int
    cases: int
    items: int
    acquisitions: int
    records: int
    files: int
    bytes: int


class Head(msgspec.Struct, frozen=True):
    """The head of a chain. Without case and item it is the vault's own."""

    case: str | None
    item: str | None
    sequence: int
    sha256: str


class Asked(msgspec.Struct, frozen=True):
    """The scope of the check, by exact numbers: None means all."""

    case: str | None
    item: str | None
    acquisition: int | None


class Verdict(msgspec.Struct, frozen=True):
    """The outcome of all checks, begun at `checked_at`. `digests` are those that every file's bytes were compared with."""

    verdict: Outcome
    exit_code: int
    checked_at: UtcTime
    asked: Asked
    findings: list[Finding]
    checked: Checked
    vault_id: str | None
    trust: TrustSource
    digests: list[str]
    heads: list[Head]


class ByVault(msgspec.Struct, frozen=True):
    """A vault on another machine that verified itself, and signed the verdict; and where the signed verdict is kept, if it is.

    `verdict` is the vault's own word. `documents`: the word on the documents, where they were fetched and checked here; then the
    vault's word counts for its evidence. Null: it is the vault's word for all.
    """

    address: str
    key: Fingerprint
    tool: str
    begun: UtcTime
    ended: UtcTime
    kept: str | None
    verdict: Outcome
    documents: Outcome | None


class FarVerdict(Verdict, frozen=True):
    """The verdict of a vault on another machine on itself, with what this machine finds by what it knows."""

    by_vault: ByVault


def gravity(finding: Finding) -> tuple[int, int]:
    """How far in front a finding stands: by its severity, and then by the exit code that it makes."""
    code = MEANINGS[finding.slug].code if finding.slug in MEANINGS else ExitCode.GAPS
    return WORST_FIRST.index(finding.severity), SEVERITY_ORDER.index(code) if code in SEVERITY_ORDER else len(SEVERITY_ORDER)


@dataclass(slots=True)
class Counts:
    """The counts of what was checked so far."""

    vaults: int = 0
    cases: int = 0
    items: int = 0
    acquisitions: int = 0
    records: int = 0
    files: int = 0
    bytes: int = 0

    def fixed(self) -> Checked:
        """Returns the counts for a verdict."""
        return Checked(self.vaults, self.cases, self.items, self.acquisitions, self.records, self.files, self.bytes)


@dataclass(slots=True)
class Findings:
    """Collects findings: of each kind a bounded number, but all count for the verdict."""

    found: list[Finding] = field(default_factory=list)
    _codes: set[ExitCode] = field(default_factory=set)
    _unread: set[bytes] = field(default_factory=set)
    _kinds: Counter[str] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Adds one. An error of a kind that only a later version knows leaves the verdict open: it is never a pass."""
        known = MEANINGS.get(finding.slug)
        unknown = ExitCode.GAPS if finding.severity == "error" else ExitCode.COMPLETE
        self._codes.add(unknown if known is None else known.code)
        self._kinds[finding.slug] += 1
        if self._kinds[finding.slug] <= MAX_FINDINGS:
            self.found.append(finding)

    def record_unread(self, path: bytes) -> None:
        """Records that something could not be read, by its path from the vault's root: see `is_unread`."""
        if len(self._unread) < MAX_FINDINGS:
            self._unread.add(path)
        else:
            self._unread.add(b"")  # too many to keep: then nothing is reported as missing

    def is_unread(self, path: bytes) -> bool:
        """Whether a path, or a folder above it, could not be read. Then it is unknown whether it is there.

        What is unknown is never reported as missing, and nothing is judged by it: the verdict is incomplete already.
        """
        parts = path.split(b"/")
        return any(b"/".join(parts[:length]) in self._unread for length in range(len(parts) + 1))

    def is_chain_unread(self) -> bool:
        """Whether a record of any chain may be among what could not be read."""
        return any(_may_hold_records(path.split(b"/")) for path in self._unread)

    def count(self, slug: str) -> int:
        """Returns the number of findings of a kind."""
        return self._kinds[slug]

    @property
    def outcome(self) -> Outcome:
        """Returns the word for all findings."""
        return outcome_of(self._codes)

    @property
    def exit_code(self) -> ExitCode:
        """Returns the exit code of all findings."""
        return code_of(self._codes)

    def listed(self) -> list[Finding]:
        """Returns all kept findings, and a line for each kind of which some were not kept."""
        more = [left_out(slug, count - MAX_FINDINGS) for slug, count in self._kinds.items() if count > MAX_FINDINGS]
        return self.found + more


def left_out(slug: str, count: int) -> Finding:
    """Returns the finding that says of how many of a kind nothing more is said."""
    return Finding(
        check=Check.STRUCTURE,
        severity=MEANINGS["not-listed"].severity,
        slug="not-listed",
        case=None,
        item=None,
        acquisition=None,
        path=None,
        path_b64=None,
        offset=None,
        length=None,
        message=f"{count} more findings of the kind {slug} are not listed",
    )


@dataclass(frozen=True, slots=True)
class Reporter:
    """Adds findings about one folder of a vault and its contents. `folder` is its path from the vault's root."""

    findings: Findings
    folder: bytes = b""
    case: str | None = None
    item: str | None = None
    acquisition: int | None = None

    def inside(self, name: str, *, case: str | None = None, item: str | None = None, acquisition: int | None = None) -> Reporter:
        """Returns a reporter for a folder in this one."""
        return replace(
            self,
            folder=self.path_of(name.encode()),
            case=case or self.case,
            item=item or self.item,
            acquisition=acquisition or self.acquisition,
        )

    def about(self, case: str, item: str) -> Reporter:
        """Returns a reporter for the same folder, with the exact numbers."""
        return replace(self, case=case, item=item)

    def is_unread(self, name: str = "") -> bool:
        """Whether something in this folder, or the folder itself, could not be read."""
        return self.findings.is_unread(self.path_of(name.encode()))

    def path_of(self, name: bytes) -> bytes:
        """Returns the path from the vault's root of a name in this folder."""
        return self.folder + b"/" + name if self.folder and name else self.folder or name

    def report(
        self,
        check: Check,
        slug: str,
        message: str,
        name: bytes | str | None = None,
        *,
        offset: int | None = None,
        length: int | None = None,
    ) -> None:
        """Adds a finding about `name` in this folder, else about the folder itself. Messages contain no raw names."""
        raw = self.path_of(b"" if name is None else name.encode() if isinstance(name, str) else name)
        if slug == "unreadable":
            self.findings.record_unread(raw)
        path, encoded = to_json_fields(raw) if raw else (None, None)
        self.findings.add(
            Finding(
                check=int(check),
                severity=MEANINGS[slug].severity,
                slug=slug,
                case=self.case,
                item=self.item,
                acquisition=self.acquisition,
                path=path,
                path_b64=encoded,
                offset=offset,
                length=length,
                message=message,
            )
        )


def own_records(checked: Checked, heads: Iterable[Head]) -> int:
    """Returns how many of the records that were checked are of the vault's own chain, as far as its head tells."""
    return min(checked.records, next((head.sequence for head in heads if head.case is None), 0))


def records_text(checked: Checked, heads: Iterable[Head]) -> str:
    """How many records of items were checked, for people, and apart from them those of the vault's own chain."""
    own = own_records(checked, heads)
    more = f" and {own:,} of the vault's own" if own else ""
    return f"{count_text(checked.records - own, 'custody record')}{more}"


def outcome_of(codes: Set[ExitCode]) -> Outcome:
    """Returns the word for findings with these codes: fail when anything is wrong, incomplete when anything was not checked."""
    if codes - _INCOMPLETE - {ExitCode.COMPLETE}:
        return "fail"
    return "incomplete" if codes & _INCOMPLETE else "pass"


def code_of(codes: Set[ExitCode]) -> ExitCode:
    """Returns the most severe of the codes. A format that is not known (USAGE) hides nothing that is wrong."""
    if outcome_of(codes) == "incomplete" and ExitCode.USAGE in codes:
        return ExitCode.USAGE
    return most_severe({*codes} - {ExitCode.USAGE})


def _may_hold_records(path: list[bytes]) -> bool:
    """Whether a path, in its parts, is a record's, or that of a folder above records."""
    if path[0] == CASES.encode():
        return len(path) <= _ITEM_DEPTH or path[_ITEM_DEPTH] == CUSTODY.encode()
    return path[0] in (b"", CUSTODY.encode())


def leaves_open(finding: Finding) -> bool:
    """Whether an error says only that something could not be checked: it accuses nobody."""
    return finding.slug in MEANINGS and MEANINGS[finding.slug].code in _INCOMPLETE


def shown_place(finding: Finding) -> str:
    """Returns the place of a finding, for people: safe on a terminal and in a report. Empty for the whole vault."""
    named = finding.path is not None or finding.path_b64 is not None
    path = safe_text(from_json_fields(finding.path, finding.path_b64)) if named else ""
    if finding.offset is None or finding.length is None:
        return path
    return f"{path} [{finding.length:,} bytes from byte {finding.offset:,}]"
