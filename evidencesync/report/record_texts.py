"""Says what a custody record states: in sentences what programs record, in labels and values what people do."""

from __future__ import annotations

import contextlib
from typing import Final, NamedTuple

from evidencesync.custody import labels
from evidencesync.custody.documents import CustodyRecord
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import bytes_text, count_text, time_text
from evidencesync.evidence.utc_time import parse_utc_time

_LONGEST: Final = 500


class _Sentence(NamedTuple):
    """A sentence with the details that it names, and those that only the record itself shows."""

    text: str
    names: frozenset[str]
    left_out: frozenset[str]


def _sentence(text: str, names: str, left_out: str = "") -> _Sentence:
    return _Sentence(text, frozenset(names.split()), frozenset(left_out.split()))


_SENTENCES: Final[dict[str, list[_Sentence]]] = {
    "verified": [
        _sentence(
            "Verdict {verdict}, with {errors} and {warnings}, after a check of {scope}: {acquisitions}, {records} and "
            "{vault_records} of the vault's own, {files}, {bytes}; contents by {digests}; trust: {trust}. The chain ended then "
            "with {chain_head}.",
            "verdict errors warnings scope acquisitions records vault_records files bytes digests trust chain_head",
            "exit_code tool",
        ),
        _sentence(
            "Verdict {verdict}, with {errors} and {warnings}, after a check of {scope}: {acquisitions}, {records}, {files}, "
            "{bytes}; contents by {digests}; trust: {trust}. The chain ended then with {chain_head}.",
            "verdict errors warnings scope acquisitions records files bytes digests trust chain_head",
            "exit_code tool",
        ),
    ],
    "timestamped": [
        _sentence(
            "{authority} states that the manifest's signature existed at {gen_time}. Its answer has the number {serial} under "
            "the policy {policy}, and the SHA-256 {token_sha256}.",
            "authority gen_time serial policy token_sha256",
            "imprint request_sha256",
        )
    ],
    "exported": [
        _sentence(
            "A report was made as {report_format} at {report_made_at}, with the verdict {report_verdict}, and signed. Its "
            "SHA-256 is {report_sha256}. The chain ended then with {report_chain_head}.",
            "report_format report_made_at report_verdict report_sha256 report_chain_head",
        ),
        _sentence(
            "Exported as {format} with the name {destination}: {files}, {bytes}. SHA-256 of {digest_of}: {sha256}; of the "
            "manifest: {manifest_sha256}.",
            "format destination files bytes digest_of sha256 manifest_sha256",
            "tool",
        ),
    ],
    "restored": [
        _sentence(
            "A working copy was made on {host}, in {destination}: {entries}, {bytes}; wanted: {scope}; outcome: {verdict}; it "
            "lacks: {lacks}; read back: {read_back}. SHA-256 of the manifest: {manifest_sha256}. Trust: {trust}.",
            "host destination entries bytes scope verdict lacks read_back manifest_sha256 trust",
            "tool",
        )
    ],
}
_BYTES: Final = ("bytes", "bytes_not_readable")
_COUNTED: Final = {
    "acquisitions": ("acquisition", "acquisitions"),
    "records": ("custody record", "custody records"),
    "files": ("file", "files"),
    "entries": ("entry", "entries"),
    "errors": ("error", "errors"),
    "warnings": ("warning", "warnings"),
}
_VERDICTS: Final = {"pass": "PASS", "fail": "FAIL", "incomplete": "INCOMPLETE"}
_FORMATS: Final = {"html": "HTML", "pdf": "PDF", "json": "JSON", "bagit": "BagIt", "case-uco": "CASE/UCO"}
_WORDS: Final = {
    "scope": {"vault": "the whole vault", "case": "this case", "item": "this item"},
    "verdict": _VERDICTS,
    "report_verdict": _VERDICTS,
    "format": _FORMATS,
    "report_format": _FORMATS,
}
_LABELS: Final = {
    ("corrected", "record"): "Corrects record",
    ("accepted", "record"): "Accepts the hand-over of record",
    ("handed-over", "outside_recipient"): "The receiver has no key that the vault trusts",
    ("exported", "report_volumes"): "Volumes (the SHA-256 is that of volume 1)",
    ("exported", "left_out"): "Entries without content, which are not in it",
    ("exported", "recipients"): "Encrypted for the keys",
}


def record_text(record: CustodyRecord) -> str:
    """All that a record states by its details, safe to show; empty for none. What no sentence has is named by its label."""
    said: list[str] = []
    left = dict(record.details)
    for sentence in _SENTENCES.get(record.type, ()):
        if sentence.names <= left.keys():
            said.append(sentence.text.format_map({name: value_text(name, left[name]) for name in sentence.names}))
            left = {name: left[name] for name in left if name not in sentence.names | sentence.left_out}
            break
    named = [
        f"{_LABELS.get((record.type, name), labels.label_text(name))}: {_plain_text(name, value)}" for name, value in left.items()
    ]
    return " ".join([*said, *(["; ".join(named)] if named else [])])


def message_text(message: str) -> str:
    """An error's message, which escapes what it quotes."""
    return "\\".join(safe_text(part) for part in message.split("\\"))


def _plain_text(name: str, value: str) -> str:
    return value_text(name, value) if name == "bytes_not_readable" else safe_text(value, _LONGEST)


def value_text(name: str, value: str) -> str:
    """A value in words, where it is what a program writes there; else as it stands. Always safe to show."""
    shown = safe_text(value, _LONGEST)
    number = int(value) if value.isascii() and value.isdecimal() and len(value) <= 20 else None
    if number is not None and (name in _BYTES or name in _COUNTED):
        return bytes_text(number) if name in _BYTES else count_text(number, *_COUNTED[name])
    if name in ("gen_time", "report_made_at"):
        with contextlib.suppress(ValueError):
            parse_utc_time(value)
            return time_text(value)
    if name == "digests":
        return labels.digests_text(value.split(", ")) or "no digest"
    if name in ("chain_head", "report_chain_head"):
        record, _, digest = shown.partition(" ")
        return f"record {record}, SHA-256 {digest}" if digest else shown
    if name in _COUNTED or name == "bytes":
        return f"{labels.label_text(name)}: {shown}"
    return _WORDS.get(name, {}).get(value, shown)
