"""Compares the verdict of a far vault with what this machine remembers of the vault, and remembers its chains after a pass."""

from __future__ import annotations

import msgspec

from evidencesync.custody.chain import ChainSubject
from evidencesync.custody.consistency import KnownChain, whose_chain
from evidencesync.evidence.identity import Title
from evidencesync.evidence.path import from_json_fields
from evidencesync.exit_codes import ExitCode
from evidencesync.localstate.heads import HeadMemory, RememberedHead
from evidencesync.verify.checks import Check
from evidencesync.verify.context import Context, VaultIdentity, VerifyProgress
from evidencesync.verify.findings import Finding, Findings, Reporter, Verdict, code_of, outcome_of
from evidencesync.verify.remembered import check_remembered, folders_of, place_of, recall_heads, remember_chains
from evidencesync.verify.signatures import SignatureJudge
from evidencesync.verify.vault_verdict import ChainEnd, VaultVerdict


def compared(document: VaultVerdict, memory: HeadMemory, now_ns: int) -> Verdict:
    """Returns the vault's verdict, with what this machine finds by its memory, which was recalled before the vault was asked.

    After a pass the chains are remembered, as after a verification here. A chain about which the vault reports an error is not
    compared: it is not whole, and its verdict says so.
    """
    verdict, findings = document.verdict, Findings()
    report = Reporter(findings)
    shown = _shown_chains(document)
    remembered = {one.subject: one for one in recall_heads(memory, document.vault_id, report)}
    for subject, before in remembered.items():
        is_open = any(_leaves_open(one, subject) for one in verdict.findings)
        if before.vault_key != document.vault_key or (_is_asked_for(document, subject) and not is_open):
            context = _context(document, report, shown.get((subject.case, subject.item)), before, now_ns)
            check_remembered(context, [before], lambda _case, _item: True)
    if verdict.verdict == "pass" and findings.outcome == "pass":
        _remember(document, memory, remembered, report)
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


def _context(document: VaultVerdict, report: Reporter, shown: ChainEnd | None, before: RememberedHead, now_ns: int) -> Context:
    """Returns what is known now of a chain that was seen before. Records that the verdict does not reach back to are unread."""
    identity = VaultIdentity(document.vault_id, document.vault_key)
    context = Context(identity, SignatureJudge(None, now_ns), report, all_digests=False, progress=VerifyProgress())
    if shown is not None:
        key, first = (before.subject.case, before.subject.item), _first(shown)
        context.digests[key] = dict(enumerate(shown.digests, first))
        context.record_unread(key, set(range(1, first)), set())
    return context


def _first(chain: ChainEnd) -> int:
    """Returns the number of the first record whose digest is shown."""
    return chain.sequence - len(chain.digests) + 1


def _remember(
    document: VaultVerdict, memory: HeadMemory, remembered: dict[ChainSubject, RememberedHead], report: Reporter
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
            heads.append(RememberedHead(subject, document.vault_key, known, document.verdict.checked_at))
    remember_chains(report, memory, heads)
