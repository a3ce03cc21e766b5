"""Compares the verdict of a far vault with what this machine knows of the vault, and remembers its chains after a pass.

This machine knows what it remembers; and where the vault's documents were fetched and checked here, what these say.
"""

from __future__ import annotations

from typing import Final

import msgspec

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import KnownChain, whose_chain
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.evidence.identity import Title
from evidencesync.evidence.path import from_json_fields
from evidencesync.exit_codes import ExitCode
from evidencesync.localstate.heads import HeadMemory, RememberedHead, ShownHeads
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context, VaultIdentity, VerifyProgress
from evidencesync.verify.findings import Finding, Findings, Head, Reporter, Verdict, code_of, outcome_of
from evidencesync.verify.remembered import check_remembered, folders_of, place_of, recall_heads, remember_chains
from evidencesync.verify.signatures import SignatureJudge
from evidencesync.verify.vault_verdict import ChainEnd, VaultVerdict

_OF_DOCUMENTS: Final = frozenset({Check.VAULT, Check.CUSTODY, Check.MANIFEST, Check.RECEIPT, Check.TIME})


def joined(here: Verdict, vault_key: str, document: VaultVerdict, keys: VaultKeys, memory: HeadMemory, now_ns: int) -> Verdict:
    """Returns the verdict on documents that were fetched and checked `here`, and on the evidence, which the vault has read.

    1. The vault's verdict is on these documents: every chain that it has seen ends where it ends here, or goes on from there.
    2. A pass is about as many acquisitions. 3. Every error and warning of the vault counts, and is called the vault's.

    `vault_key`: that of the vault whose documents they are; `keys`: as for `compared`. After a pass of both the chains are
    remembered.
    """
    shown = [
        RememberedHead(_subject(document, one), vault_key, KnownChain.of(one.sequence, [one.sha256]), here.checked_at)
        for one in here.heads
    ]
    there = compared(document, keys, ShownHeads(memory, shown), now_ns, remembers=here.verdict == "pass")  # 1
    said, own = document.verdict.findings, there.findings[len(document.verdict.findings) :]
    between, counted = Findings(), document.verdict.checked
    if document.verdict.verdict == "pass" and counted.acquisitions < here.checked.acquisitions:  # 2
        text = f"the vault has verified {counted.acquisitions} acquisitions, and its documents are of {here.checked.acquisitions}"
        Reporter(between).report(Check.STRUCTURE, "not-compared", text)
    _report_growth(here, document, Reporter(between))
    codes = {ExitCode(here.exit_code), ExitCode(there.exit_code), between.exit_code}
    return msgspec.structs.replace(
        here,
        verdict=outcome_of(codes),
        exit_code=int(code_of(codes)),
        findings=[*here.findings, *own, *between.listed(), *_told(said, here.findings)],
        checked=msgspec.structs.replace(here.checked, files=counted.files, bytes=counted.bytes),
        digests=there.digests,
    )


def _subject(document: VaultVerdict, head: Head) -> ChainSubject:
    return ChainSubject(document.vault_id, head.case, head.item)


def _report_growth(here: Verdict, document: VaultVerdict, report: Reporter) -> None:
    """Says which chains have gone on since their documents were fetched: what was added was not checked here."""
    ends = {(one.case, one.item): one.sequence for one in document.verdict.heads}
    for one in here.heads:
        last = ends.get((one.case, one.item), 0)
        if last > one.sequence:
            text = f"{whose_chain(_subject(document, one))} has gone on to record {last} since its documents were fetched: those"
            report.report(Check.CUSTODY, "gone-on", f"{text} after record {one.sequence} were checked by the vault alone")


def _told(said: list[Finding], known: list[Finding]) -> list[Finding]:
    """What the vault says besides what was found here. For information it says nothing of documents: that was found here."""
    found = {_key_of(one) for one in known}
    return [
        msgspec.structs.replace(one, message=f"the vault says: {one.message}")
        for one in said
        if _key_of(one) not in found and not (one.severity == "info" and one.check in _OF_DOCUMENTS)
    ]


def _key_of(finding: Finding) -> tuple[object, ...]:
    place = finding.path, finding.path_b64, finding.offset
    return finding.slug, finding.case, finding.item, finding.acquisition, *place


def compared(document: VaultVerdict, keys: VaultKeys, memory: HeadMemory, now_ns: int, *, remembers: bool = True) -> Verdict:
    """Returns the vault's verdict, with what this machine finds by its memory, which was recalled before the vault was asked.

    `keys` are what the vault has proved of its keys: the last one has signed the verdict.

    After a pass the chains are remembered, as after a verification here. A chain about which the vault reports an error is not
    compared: it is not whole, and its verdict says so.
    """
    verdict, findings = document.verdict, Findings()
    report = Reporter(findings)
    shown = _shown_chains(document)
    remembered = {one.subject: one for one in recall_heads(memory, document.vault_id, report)}
    for subject, before in remembered.items():
        is_open = any(_leaves_open(one, subject) for one in verdict.findings)
        if before.vault_key not in keys.all or (_is_asked_for(document, subject) and not is_open):
            context = _context(document, keys, report, shown.get((subject.case, subject.item)), before, now_ns)
            check_remembered(context, [before], lambda _case, _item: True)
    if remembers and verdict.verdict == "pass" and findings.outcome == "pass":
        _remember(document, keys, memory, remembered, report)
    codes = {ExitCode(verdict.exit_code), findings.exit_code}
    return msgspec.structs.replace(
        verdict,
        verdict=outcome_of(codes),
        exit_code=int(code_of(codes)),
        findings=[*verdict.findings, *findings.listed()],
    )


def _shown_chains(document: VaultVerdict) -> dict[tuple[str | None, str | None], ChainEnd]:
    """Returns how far each chain reaches. Where not all passed, of each the head alone is known."""
    heads = [ChainEnd(one.case, one.item, one.sequence, [one.sha256]) for one in document.verdict.heads]
    return {(one.case, one.item): one for one in (*heads, *document.chains)}


def _is_asked_for(document: VaultVerdict, subject: ChainSubject) -> bool:
    """Whether a chain is one that was to be verified. The vault's own always is."""
    case, item = folders_of(subject)
    wanted = [None if number is None else Title(number).folder for number in (document.asked.case, document.asked.item)]
    return case is None or (wanted[0] in (None, case) and wanted[1] in (None, item))


def _leaves_open(finding: Finding, subject: ChainSubject) -> bool:
    """Whether a finding is about a chain's own files, or says that a folder above them could not be read."""
    if finding.severity != "error" or (finding.path is None and finding.path_b64 is None):
        return False
    path, place = from_json_fields(finding.path, finding.path_b64), place_of(subject)
    return (path + b"/").startswith(place + b"/") or (finding.slug == "unreadable" and place.startswith(path + b"/"))


def _context(
    document: VaultVerdict, keys: VaultKeys, report: Reporter, shown: ChainEnd | None, before: RememberedHead, now_ns: int
) -> Context:
    """Returns what is known now of a chain that was seen before. Records that the verdict does not reach back to are unread."""
    identity = VaultIdentity(document.vault_id, keys.first)
    context = Context(identity, SignatureJudge(None, now_ns), report, all_digests=False, progress=VerifyProgress())
    context.keys.keys = keys
    if shown is not None:
        key, first = (before.subject.case, before.subject.item), _first(shown)
        context.digests[key] = dict(enumerate(shown.digests, first))
        context.record_unread(key, set(range(1, first)), set())
    return context


def _first(chain: ChainEnd) -> int:
    """Returns the number of the first record whose digest is shown."""
    return chain.sequence - len(chain.digests) + 1


def _remember(
    document: VaultVerdict, keys: VaultKeys, memory: HeadMemory, remembered: dict[ChainSubject, RememberedHead], report: Reporter
) -> None:
    """Remembers each chain that reaches back to what was seen of it before: of another one nobody knows whether it goes on."""
    heads = []
    for chain in document.chains:
        subject = ChainSubject(document.vault_id, chain.case, chain.item)
        before = remembered.get(subject)
        if before is not None and before.chain.sequence < _first(chain):
            text = f"{whose_chain(subject)} has grown by more records than the verdict shows: see it with `list`"
            report.report(Check.CUSTODY, "not-remembered", text)
        else:
            known = KnownChain.of(chain.sequence, chain.digests)
            heads.append(RememberedHead(subject, keys.current, known, document.verdict.checked_at, keys.all))
    remember_chains(report, memory, heads)
