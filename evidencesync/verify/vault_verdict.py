"""The verdict of a vault on itself, as a document that the vault's key signs for who asks from afar.

It proves that the vault's key said so, then, to this question. Whoever has that key can sign what is not true.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Annotated, Final, Literal

import msgspec

from evidencesync.custody.documents import AcquisitionNumber, Document, Fingerprint, Nonce, SessionId, TitleText, VaultId
from evidencesync.custody.text import check_title, check_utc_time, decode_readable, encode_readable
from evidencesync.errors import LimitExceededError, MalformedDocumentError, PathEscapeError
from evidencesync.evidence.digest import HexDigest
from evidencesync.evidence.display import is_clean
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import UtcTime, parse_utc_time
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import (
    MAX_FILE_SIZE,
    MAX_SEEN_DIGESTS,
    MAX_SHOWN_DIGESTS,
    MAX_SHOWN_FINDINGS,
    MAX_VERDICT_FILE,
)
from evidencesync.localstate.heads import RememberedHead
from evidencesync.vault.layout import MAX_SEQUENCE
from evidencesync.verify.checks import MEANINGS
from evidencesync.verify.findings import Finding, Head, Verdict, code_of, left_out, outcome_of

_WHAT: Final = "the vault's verdict"
_SEVERITIES: Final = ("error", "warning", "info")


class ChainEnd(Document, frozen=True):
    """A chain that passed: its last record's number, and the digests of its last records. Without case: the vault's own."""

    case: TitleText | None
    item: TitleText | None
    sequence: Annotated[int, msgspec.Meta(ge=1, le=MAX_SEQUENCE)]
    digests: Annotated[list[HexDigest], msgspec.Meta(min_length=1, max_length=MAX_SEEN_DIGESTS)]


class Question(Document, frozen=True):
    """What the reader asked to be verified, and the reader's own nonce."""

    nonce: Nonce
    case: TitleText | None
    item: TitleText | None
    acquisition: AcquisitionNumber | None
    all_digests: bool


class VaultVerdict(Document, frozen=True):
    """The vault's verdict on itself: who asked what, when, and what `verify --json` prints there. `reader_key`: who asked.

    `chains`: of a pass alone, how far each chain reaches, so that it can be compared with what was seen before.
    """

    format: Literal["evidencesync-verdict/1"]
    vault_id: VaultId
    vault_key: Fingerprint
    asked: Question
    reader_key: Fingerprint
    session: SessionId
    tool: Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
    begun: UtcTime
    ended: UtcTime
    chains: list[ChainEnd]
    verdict: Verdict


_DECODER: Final = msgspec.json.Decoder(VaultVerdict)


def encode_verdict(document: VaultVerdict) -> bytes:
    """Encodes a verdict: the bytes that are signed. Raises LimitExceededError for one that nobody would take."""
    data = encode_readable(document)
    if len(data) > MAX_VERDICT_FILE:
        raise LimitExceededError(f"{_WHAT} has {len(data)} bytes", hint="Verify one case after the other: --case CASE.")
    return data


def chain_ends(seen: Iterable[RememberedHead]) -> list[ChainEnd]:
    """Returns how far chains reach: of many chains fewer digests each, MAX_SHOWN_DIGESTS in all."""
    chains = [*seen]
    each = max(1, min(MAX_SEEN_DIGESTS, MAX_SHOWN_DIGESTS // max(len(chains), 1)))
    return [ChainEnd(one.subject.case, one.subject.item, one.chain.sequence, [*one.chain.digests[-each:]]) for one in chains]


def bounded_findings(findings: list[Finding]) -> list[Finding]:
    """Returns the findings that a verdict shows afar, MAX_SHOWN_FINDINGS bytes of them, and how many of each kind it does not.

    The worst go first. The first one of each kind always stays: so what is shown has the word and the exit code of all of them.
    """
    room, kinds = MAX_SHOWN_FINDINGS, set[str]()
    kept, lost = set[int](), Counter[str]()
    for severity in _SEVERITIES:
        for number, finding in enumerate(findings):
            if finding.severity != severity:
                continue
            room -= len(msgspec.json.encode(finding))
            if room >= 0 or finding.slug not in kinds:
                kept.add(number)
            else:
                lost[finding.slug] += 1
            kinds.add(finding.slug)
    return [one for number, one in enumerate(findings) if number in kept] + [left_out(slug, lost[slug]) for slug in lost]


def decode_verdict(data: bytes) -> VaultVerdict:
    """Decodes a verdict strictly, and checks that it agrees with itself. Raises MalformedDocumentError.

    1. Texts are clean, numbers possible, times and titles and paths in their one form.
    2. It says what was asked, and counts what it must have read.
    3. Word, exit code and findings agree: nothing passes beside an error.
    4. Of a pass: each chain's head is on the chain that it shows.
    """
    document = decode_readable(_DECODER, data, MAX_VERDICT_FILE, _WHAT)
    _check_texts(document)  # 1
    asked, verdict = document.asked, document.verdict
    stated = (verdict.asked.case, verdict.asked.item, verdict.asked.acquisition)
    digests = ["blake3", "sha256"] if asked.all_digests else ["blake3"]
    passed = verdict.verdict == "pass"
    known_id = verdict.vault_id == document.vault_id or (verdict.vault_id is None and not passed)
    if stated != (asked.case, asked.item, asked.acquisition) or verdict.digests != digests or verdict.trust != "vault":  # 2
        raise MalformedDocumentError(f"{_WHAT} is about something else than it says was asked")
    if not known_id or (passed and (verdict.checked.vaults != 1 or not verdict.checked.acquisitions)):
        raise MalformedDocumentError(f"{_WHAT} passes what it has not read, or is about another vault than it says")
    if not _is_consistent(verdict):
        raise MalformedDocumentError(f"{_WHAT} contradicts itself: its word, its exit code and its findings do not agree")  # 3
    if passed:
        _check_chains(document)  # 4
    return document


def _check_texts(document: VaultVerdict) -> None:
    verdict = document.verdict
    for time in (document.begun, document.ended, verdict.checked_at):
        check_utc_time(time, _WHAT)
    if parse_utc_time(document.ended) < parse_utc_time(document.begun):
        raise MalformedDocumentError(f"{_WHAT} ended before it began")
    numbers = [*msgspec.structs.astuple(verdict.checked)]
    texts: list[str | None] = [document.tool]
    ends: list[Head | ChainEnd] = [*verdict.heads, *document.chains]
    for head in ends:
        if (head.case is None) != (head.item is None) or head.sequence < 1:
            raise MalformedDocumentError(f"{_WHAT} names an impossible chain")
        for title in (head.case, head.item):
            if title is not None:
                check_title(title, _WHAT)
        numbers.append(head.sequence)
        texts.append(getattr(head, "sha256", None))
    for finding in verdict.findings:
        if finding.path is not None or finding.path_b64 is not None:
            try:
                from_json_fields(finding.path, finding.path_b64)
            except (PathEscapeError, ValueError) as error:
                raise MalformedDocumentError(f"{_WHAT} names an impossible path") from error
        numbers += [number or 0 for number in (finding.check, finding.acquisition, finding.offset, finding.length)]
        texts += [finding.slug, finding.case, finding.item, finding.message]
    if not all(0 <= number <= MAX_FILE_SIZE for number in numbers) or not all(text is None or is_clean(text) for text in texts):
        raise MalformedDocumentError(f"{_WHAT} holds unclean text, or impossible numbers")


def _is_consistent(verdict: Verdict) -> bool:
    """Whether the word and the exit code are those of the findings; of a kind that is not known here, that it hides nothing."""
    known = [MEANINGS[one.slug] for one in verdict.findings if one.slug in MEANINGS]
    if any(MEANINGS[one.slug].severity != one.severity for one in verdict.findings if one.slug in MEANINGS):
        return False
    codes = {meaning.code for meaning in known} | {ExitCode.COMPLETE}
    if len(known) == len(verdict.findings):
        return (verdict.verdict, verdict.exit_code) == (outcome_of(codes), code_of(codes))
    if verdict.exit_code not in set(ExitCode):
        return False
    stated = ExitCode(verdict.exit_code)
    has_errors = any(one.severity == "error" for one in verdict.findings)
    return (
        verdict.verdict == outcome_of({stated})
        and code_of({stated, *codes}) == stated
        and not (has_errors and verdict.verdict == "pass")
    )


def _check_chains(document: VaultVerdict) -> None:
    chains = {(one.case, one.item): one for one in document.chains}
    for head in document.verdict.heads:
        chain = chains.get((head.case, head.item))
        back = chain.sequence - head.sequence if chain is not None else -1
        if chain is None or not 0 <= back < len(chain.digests) or chain.digests[-1 - back] != head.sha256:
            raise MalformedDocumentError(f"{_WHAT} passes a chain that it does not show")
    heads = {(head.case, head.item) for head in document.verdict.heads}
    asked = document.asked
    if (
        len(chains) != len(document.chains)
        or (None, None) not in heads
        or len(heads) < 2
        or (asked.item is not None and (asked.case, asked.item) not in heads)
        or any(len(one.digests) > one.sequence for one in document.chains)
    ):
        raise MalformedDocumentError(f"{_WHAT} passes other chains than it must have read")
