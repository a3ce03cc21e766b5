"""The audit of a vault, from the bytes up.

The checks, by the numbers that findings carry (see `checks.Check`):

1. Structure: every file and folder that belongs there is there and is what it must be; nothing else is under `cases/`.
2. The vault: its own chain holds, is signed with its key, and states who is trusted.
3. Custody: an item's chain holds, each record is signed by a key that may sign its type, and it is about what is published.
4. Manifest: strict form; signed by the examiner it names, trusted then; about this item, and after the manifest before.
5. Receipt: signed by the vault; agrees with manifest, sums, recipes, records and chain.
6. Sums: SHA256SUMS and BLAKE3SUMS list exactly what the manifest lists.
7. Contents: every stored file has the size and the digests of its manifest entry; where not, which bytes.
8. Presence: no file is missing, and nothing lies under `data/` that is not listed.
9. Modes: nothing stored is writable, executable or set-id.
10. Publishing: what an interrupted transfer or publish left is called that.
11. Index: the cache is about what is published.
12. Time: a timestamp is over the manifest's signature, by an authority that is trusted; clocks do not contradict each other.

Every check goes on after a finding. What could not be read or compared is a finding, too: unknown is never a pass.

Before a restore, all but the contents is checked, and the first error is raised.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from evidencesync.custody.trust import RevokedKeys, TrustedSigners, TrustLists
from evidencesync.errors import (
    ChainError,
    DigestMismatchError,
    EvidenceSyncError,
    IncompleteError,
    LaterFormatError,
    MissingOrExtraError,
    NotThereError,
    SignatureError,
    TimestampError,
    TrustFileError,
    UsageError,
)
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import ItemName, Title, is_derived, is_folder_name
from evidencesync.evidence.meant import nearest
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.exit_codes import ExitCode, most_severe
from evidencesync.files.disk import FOLDER_FLAGS
from evidencesync.home import whose_place
from evidencesync.localstate.heads import HeadMemory
from evidencesync.vault.layout import (
    ACQUISITIONS,
    BLAKE3SUMS,
    CASES,
    CHUNKS,
    CUSTODY,
    DATA,
    INDEX,
    SETTINGS,
    SHA256SUMS,
)
from evidencesync.vault.ledger import is_stray
from evidencesync.verify.allowed import check_roles, report_untold
from evidencesync.verify.cache import PublishedContents, check_index, list_published, published_in
from evidencesync.verify.checks import MEANINGS, Check
from evidencesync.verify.context import Context, VaultIdentity, VerifyProgress
from evidencesync.verify.documents import UNSAFE_SETTINGS, CheckedFolder, reason
from evidencesync.verify.findings import Asked, Counts, Finding, Findings, Reporter, TrustSource, Verdict, shown_place
from evidencesync.verify.item import ItemFolder, check_item
from evidencesync.verify.remembered import check_remembered, folders_of, recall_heads, remember_heads
from evidencesync.verify.signatures import SignatureJudge
from evidencesync.verify.trusted import TrustBytes, TrustRenewal, parse_trust, read_trust
from evidencesync.verify.vault_identity import (
    check_key_files,
    check_own_chain,
    check_root,
    check_rule,
    read_identity,
    takes_low_s_only,
)

if TYPE_CHECKING:
    from evidencesync.custody.timestamp import Roots

_MOST_NAMED: Final = 5  # of the cases or items that are there
_LOG: Final = logging.getLogger(__name__)
_HEADS: Final = "Each is printed as `chain head` by: evidencesync list VAULT"
_HEX: Final = frozenset("0123456789abcdef")
_SUMS: Final = frozenset({SHA256SUMS, BLAKE3SUMS})  # for other programs: all that they list is in the signed manifest
_NO_EVIDENCE: Final = _SUMS | {DATA}
_ERRORS: Final[Mapping[ExitCode, type[EvidenceSyncError]]] = MappingProxyType(
    {
        ExitCode.CHAIN: ChainError,
        ExitCode.SIGNATURE: SignatureError,
        ExitCode.TIMESTAMP: TimestampError,
        ExitCode.DIGEST: DigestMismatchError,
        ExitCode.MISSING_OR_EXTRA: MissingOrExtraError,
        ExitCode.NOT_THERE: NotThereError,
        ExitCode.USAGE: LaterFormatError,
        ExitCode.GAPS: IncompleteError,
    }
)


@dataclass(frozen=True, slots=True)
class AuditScope:
    """The case, item and acquisition to check, by exact numbers; None means all of them."""

    case: str | None = None
    item: str | None = None
    acquisition: int | None = None

    def __post_init__(self) -> None:
        if (self.item is not None and self.case is None) or (self.acquisition is not None and self.item is None):
            raise UsageError("an item needs its case, and an acquisition its item, to be named")


def audit_vault(  # noqa: PLR0913  # the options of one command, each by its name
    path: Path,
    *,
    case: str | None = None,
    item: str | None = None,
    acquisition: int | None = None,
    trusted: bytes | None = None,
    expect_head: str | None = None,
    memory: HeadMemory | None = None,
    all_digests: bool = False,
    roots: Roots | None = None,
    require_timestamp: bool = False,
    progress: VerifyProgress | None = None,
    now_ns: int,
    fetched: bool = False,
) -> Verdict:
    """Checks a vault, or the named part of it, and reports everything that was found. Never writes into the vault.

    `trusted` is an allowed_signers file from outside, and replaces the vault's own lists. `expect_head` is
    the SHA-256 of a custody record that must still be in one of the chains that are checked. `memory` is what was seen of the
    vault before: it is compared, and after a pass it is updated. `all_digests` compares every
    file's SHA-256, too. `roots` are the trusted authorities for timestamps; `require_timestamp` demands a timestamp for every
    manifest. `now_ns` is the time for signatures that only their signer dates. `fetched`: the documents of a far vault alone are
    there, without rows of chunks: evidence, sums, rows and the index are not looked at, and nothing is remembered.

    Never raises for what it finds. Raises UsageError, InvalidNameError and TrustFileError for invalid arguments.
    """
    selection = AuditScope(case, item, acquisition)
    if require_timestamp and roots is None:
        raise UsageError("to require a timestamp, say whose is believed", hint="Name the authority's root: --tsa-root FILE.")
    wanted_head = _checked_head(expect_head)
    outside = TrustLists(TrustedSigners.parse(trusted), RevokedKeys(frozenset())) if trusted is not None else None
    time = _Time(now_ns, roots, require_timestamp)
    run = _Audit(
        selection, outside, wanted_head, progress or VerifyProgress(), time, memory, all_digests=all_digests, contents=not fetched
    )
    run.not_fetched = _NO_EVIDENCE | {CHUNKS} if fetched else frozenset()
    run.check(path)
    if not fetched:
        run.remember()
    return run.verdict()


def audit_documents(
    path: Path,
    *,
    case: str,
    item: str,
    acquisition: int,
    trusted: bytes | None = None,
    memory: HeadMemory | None = None,
    now_ns: int,
    fetched: bool = False,
) -> tuple[Verdict, str | None]:
    """Checks all documents about one acquisition as `audit_vault` does, and reads no evidence. The memory is not updated.

    Sums are not read: whoever copies files compares their bytes with the manifest. `fetched`: the documents alone are there.

    Also returns the SHA-256 of the manifest that was checked; None where it could not be read.
    """
    outside = TrustLists(TrustedSigners.parse(trusted), RevokedKeys(frozenset())) if trusted is not None else None
    selection = AuditScope(case, item, acquisition)
    time = _Time(now_ns, None, required=False)
    run = _Audit(selection, outside, None, VerifyProgress(), time, memory, all_digests=False, contents=False)
    run.not_fetched = _NO_EVIDENCE if fetched else _SUMS
    run.check(path)
    return run.verdict(), run.manifest_sha256(acquisition)


def _checked_head(expect_head: str | None) -> str | None:
    if expect_head is None:
        return None
    head = expect_head.strip().lower()
    if len(head) != 64 or not _HEX.issuperset(head):
        raise UsageError("a chain's head is the SHA-256 of a custody record: 64 hexadecimal digits", hint=_HEADS)
    return head


@dataclass(frozen=True, slots=True)
class _Time:
    """The clock of the checker, the trusted authorities, and whether a timestamp is required."""

    now_ns: int
    roots: Roots | None
    required: bool


class _Audit:
    """One audit of one vault."""

    def __init__(
        self,
        selection: AuditScope,
        outside: TrustLists | None,
        wanted_head: str | None,
        progress: VerifyProgress,
        time: _Time,
        memory: HeadMemory | None,
        *,
        all_digests: bool,
        contents: bool = True,
    ) -> None:
        self._case = Title(selection.case).folder if selection.case is not None else None
        self._item = Title(selection.item).folder if selection.item is not None else None
        self._selection = selection
        self._outside = outside
        self._wanted_head = wanted_head
        self._progress = progress
        self._time = time
        self._memory = memory
        self.not_fetched: frozenset[str] = frozenset()
        self._all_digests = all_digests
        self._contents = contents
        self._findings = Findings()
        self._report = Reporter(self._findings)
        self._context: Context | None = None
        self._published: PublishedContents = {}
        self._published_before: PublishedContents = {}
        self._seen: set[tuple[str, str]] = set()  # case and item folders that were checked
        self._trust_files = TrustBytes(None, None)

    def verdict(self) -> Verdict:
        """Returns the verdict of all findings."""
        context = self._context
        trust: TrustSource = "vault" if self._outside is None else "outside"
        return Verdict(
            verdict=self._findings.outcome,
            exit_code=int(self._findings.exit_code),
            checked_at=format_utc_time(self._time.now_ns),
            asked=Asked(self._selection.case, self._selection.item, self._selection.acquisition),
            findings=self._findings.listed(),
            checked=(context.counts if context is not None else Counts()).fixed(),
            vault_id=context.identity.vault_id if context is not None else None,
            trust=trust,
            digests=["blake3", "sha256"] if self._all_digests else ["blake3"],
            heads=context.heads if context is not None else [],
        )

    def manifest_sha256(self, acquisition: int) -> str | None:
        """Returns the digest of a manifest that was read to its end, where one item was selected."""
        return self._context.manifests.get(acquisition) if self._context is not None else None

    def check(self, path: Path) -> None:
        """Opens the vault and checks it, from the root down."""
        real = os.path.realpath(os.fsencode(path))
        try:
            root_fd = os.open(real, FOLDER_FLAGS)
        except OSError as error:
            gone = error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG)
            slug = "vault-not-found" if gone else "unreadable"
            whose = f"; {whose_place(real)}" if isinstance(error, PermissionError) else ""
            self._report.report(Check.STRUCTURE, slug, f"{safe_text(os.fsencode(path), 200)}: {reason(error)}{whose}")
            return
        with CheckedFolder(root_fd, self._report, UNSAFE_SETTINGS) as root:
            if root.listed and SETTINGS.encode() not in root.names and CASES.encode() not in root.names:
                text = f"not a vault: {safe_text(os.fsencode(path), 200)}"
                self._report.report(Check.STRUCTURE, "vault-not-found", text)
                return
            self._check_root(root, real)

    def _check_root(self, root: CheckedFolder, real: bytes) -> None:
        """Reads in the order opposite to that of a push's writes: memory, the vault's own chain, items' chains, acquisitions.

        So everything that one of them states is in what is read after it, however many pushes end meanwhile.
        """
        with root.peeked(CUSTODY) as first:
            identity = read_identity(root, first)
        if identity is None:
            text = "neither vault.toml nor the first record says which vault this is, so that nothing was checked"
            self._report.report(Check.VAULT, "not-compared", text)
            return
        source = "the vault's own list of signers" if self._outside is None else "signers from outside"
        _LOG.info("checking vault %s, whose key is %s, by %s", safe_text(identity.vault_id), safe_text(identity.key), source)
        takes_index = self._contents and self._case is None
        if takes_index and INDEX.encode() in root.names:
            self._published_before = list_published(root)
        remembered = recall_heads(self._memory, identity.vault_id, self._report) if self._memory is not None else []
        custody = root.enter(CUSTODY, self._report.inside(CUSTODY))
        try:
            context = self._context = self._prepare(root, custody, identity)
            context.counts.vaults = 1
            context.remembered = {folders_of(one.subject): one.chain.sequence for one in remembered}
            check_root(root)
            if custody is not None:
                own = check_own_chain(context, custody)
                self._check_roles(context, root)
                context.judge.renew = TrustRenewal(root, own, self._trust_files.record, self._outside)
            check_key_files(root, context)
        finally:
            if custody is not None:
                custody.close()
        cases = root.enter(CASES, self._report.inside(CASES))
        if cases is not None:
            with cases:
                self._check_cases(context, cases)
        self._check_ends(context)
        check_remembered(context, remembered, self._is_selected)
        if takes_index and root.names.get(INDEX.encode()) is not None:
            index = root.enter(INDEX, self._report.inside(INDEX), (Check.INDEX, "index-not-read"))
            if index is not None:
                with index:
                    check_index(root, index, real, self._published, self._published_before)  # 11

    def _check_roles(self, context: Context, root: CheckedFolder) -> None:
        """Compares what the vault's list of roles says with what its own chain does, now that this was read."""
        files, judge, identity = self._trust_files, context.judge, context.identity
        if files.roles is not None:
            check_roles(root.report, files.roles, judge.roles, identity.vault_id, files.record)
        if self._outside is None and judge.trust is not None:
            report_untold(root.report, judge.trust, judge.roles, context.keys.keys.all)
        check_rule(root, judge.roles)

    def _prepare(self, root: CheckedFolder, custody: CheckedFolder | None, identity: VaultIdentity) -> Context:
        """Chooses the trusted signers for this audit."""
        files = read_trust(root, custody, identity.vault_id, relied_on=self._outside is None)
        self._trust_files = files
        if self._outside is None:
            judge = SignatureJudge(parse_trust(root, files), self._time.now_ns, unread=files.unread)
        else:
            judge = SignatureJudge(self._outside, self._time.now_ns, _revoked_in(files))
        judge.low_s = takes_low_s_only(custody, identity)
        return Context(
            identity,
            judge,
            self._report,
            self._all_digests,
            self._progress,
            contents=self._contents,
            not_fetched=self.not_fetched,
            roots=self._time.roots,
            require_timestamp=self._time.required,
            wanted_head=self._wanted_head,
        )

    def remember(self) -> None:
        """Remembers what was seen, if everything passed."""
        if self._context is not None and self._memory is not None and self._findings.outcome == "pass":
            remember_heads(self._context, self._memory)

    def _is_selected(self, case: str | None, item: str | None) -> bool:
        if case is None or item is None:
            return True
        return self._case in (None, Title(case).folder) and self._item in (None, Title(item).folder)

    # Cases and items.

    def _check_cases(self, context: Context, cases: CheckedFolder) -> None:
        for name in self._named_folders(cases, self._case, "case"):
            folder = cases.enter(name, cases.report.inside(name, case=name))
            if folder is None:
                continue
            context.counts.cases += 1
            self._published[name] = set()
            with folder:
                if folder.listed and not folder.names:
                    folder.report.report(Check.STRUCTURE, "empty-case", "a case without any item")
                for item_name in self._named_folders(folder, self._item, "item"):
                    item = folder.enter(item_name, folder.report.inside(item_name, item=item_name))
                    if item is not None:
                        with item:
                            self._check_item(context, item, self._where(name, item_name))

    def _where(self, case: str, item: str) -> ItemFolder:
        asked = self._selection
        return ItemFolder(case, item, asked.acquisition, (asked.case, asked.item))

    def _check_item(self, context: Context, item: CheckedFolder, where: ItemFolder) -> None:
        self._seen.add((where.case, where.item))
        check_item(context, item, where)
        acquisitions = item.peek(ACQUISITIONS)
        if acquisitions is not None:
            with acquisitions:
                self._published[where.case] |= {(where.item, number) for number in published_in(acquisitions)}

    def _named_folders(self, folder: CheckedFolder, wanted: str | None, what: str) -> Iterator[str]:
        """Yields the names of the folders to check; anything else in the folder is a finding, even if one is selected."""
        for raw in sorted(folder.names):
            name = raw.decode("utf-8", "replace")
            if folder.names[raw] == "symbolic link" and is_folder_name(name):
                text = f"a symbolic link in the place of a folder of one {what}: where it leads nobody looks"
                folder.report.report(Check.STRUCTURE, "wrong-type", text, raw)
                folder.do_not_miss(name)
            elif folder.names[raw] != "folder" or not is_folder_name(name):
                text = f"a {folder.names[raw]} that is no {what}"
                folder.report.report(Check.STRUCTURE, "extra-entry", text, raw)
            elif wanted in (None, name):
                yield name
        if wanted is not None and folder.listed and folder.names.get(wanted.encode()) is None:
            exact = self._selection.case if what == "case" else self._selection.item
            known = sorted(name for name in map(os.fsdecode, folder.names) if not is_derived(name))
            near = nearest(exact or "", known)
            some = near or (known if len(known) <= _MOST_NAMED else [*known[:_MOST_NAMED], "others"])
            which = "the nearest are" if len(some) < len(known) and near else "it has"
            has = f": {which} {', '.join(map(safe_text, some))}" if some else ""
            text = f"the vault has no {what} {safe_text(exact or '')}{has}"
            folder.report.report(Check.STRUCTURE, "not-there", text)

    # Ends.

    def _check_ends(self, context: Context) -> None:
        """Does the checks that need everything to be read."""
        for case, item in sorted(context.stated_at_first):
            stated = context.stated_heads[case, item]
            selected = self._case in (None, case) and self._item in (None, item)
            sequence = max(stated)
            gone = not self._findings.is_unread(f"{CASES}/{case}/{item}".encode())
            if selected and sequence and gone and (case, item) not in self._seen:
                text = f"the vault's own chain says that this item had {sequence} records, up to {stated[sequence]}; it is gone"
                where = self._report.inside(CASES).inside(safe_text(case), case=case).inside(safe_text(item), item=item)
                where.report(Check.CUSTODY, "rolled-back", text)
        if context.wanted_head is not None and not context.head_found and self._findings.is_chain_unread():
            text = f"not every chain could be read, so that nobody knows where the record {context.wanted_head} is"
            self._report.report(Check.CUSTODY, "not-compared", text)
        elif context.wanted_head is not None and not context.head_found:
            heads = "; ".join(f"{safe_text(one.case or 'the vault')} {one.sequence}: {one.sha256}" for one in context.heads[:10])
            text = f"no chain has the record {context.wanted_head}; they end with {heads or 'nothing'}"
            self._report.report(Check.CUSTODY, "rolled-back", text)
        if not context.counts.acquisitions:
            text = "no evidence was found in the vault, or in what was named of it"
            self._report.report(Check.STRUCTURE, "nothing-to-verify", text)


def _revoked_in(files: TrustBytes) -> RevokedKeys | None:
    """Returns the vault's revocations, to be reported beside signers from outside; None if unusable."""
    try:
        return RevokedKeys.parse(files.revoked_keys) if files.revoked_keys is not None else None
    except TrustFileError:
        return None  # they are not relied on; a wrong file was reported already


def verified_manifest(
    vault: Path,
    name: ItemName,
    acquisition: int,
    trusted: bytes | None,
    memory: HeadMemory,
    now_ns: int,
    *,
    fetched: bool = False,
) -> str:
    """Returns the SHA-256 of an acquisition's manifest after all documents about it were checked; else raises.

    Trust, chain, manifest and receipt are checked as `verify` does, and chains are compared with `memory`; evidence
    is not read. `trusted` is an allowed_signers file from outside, which replaces the vault's own lists. What could not be
    checked raises IncompleteError: unknown is never good, nor is it reported as bad. `fetched`: see `audit_documents`.
    """
    verdict, digest = audit_documents(
        vault,
        case=name.case.text,
        item=name.item.text,
        acquisition=acquisition,
        trusted=trusted,
        memory=memory,
        now_ns=now_ns,
        fetched=fetched,
    )
    errors = [one for one in verdict.findings if one.severity == "error" and not _is_beside(one)]
    if not errors and digest is not None:
        return digest
    code = most_severe({MEANINGS[one.slug].code for one in errors})
    first = next((one for one in errors if MEANINGS[one.slug].code is code), None)
    if first is None:
        raise SignatureError(f"nothing vouches for acquisition {acquisition} of {name}")
    place = shown_place(first)
    more = f" (and {len(errors) - 1} more findings)" if len(errors) > 1 else ""
    hint = (
        "See all of it: evidencesync verify VAULT. Where you have signers of your own that you trust, bring them: --trusted FILE"
    )
    raise _ERRORS.get(code, SignatureError)(f"{first.message}{f' [{place}]' if place else ''}{more}", hint=hint)


def _is_beside(finding: Finding) -> bool:
    """Whether it is about what lies beside documents and does not concern a copy. What may be a renamed record does."""
    if finding.slug != "extra-entry":
        return False
    folder, _, name = os.fsdecode(from_json_fields(finding.path, finding.path_b64)).rpartition("/")
    return not (folder.rpartition("/")[2] == CUSTODY and is_stray(name))
