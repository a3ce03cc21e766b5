"""The last pages of a report: who signs, how to check all of it without us, drafts of certificates, words, limits, files."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from typing import Final

from evidencesync.evidence.display import safe_text
from evidencesync.report import texts
from evidencesync.report.blocks import (
    AnyBlock,
    Blanks,
    Bullets,
    Column,
    Commands,
    Fact,
    Facts,
    FileTable,
    Paragraph,
    Section,
    Table,
)
from evidencesync.report.document import Report

_KEYGEN: Final = "ssh-keygen -Y verify -f my_signers"


def annexes(report: Report) -> Iterator[Section]:
    """All that follows the items."""
    yield _trust(report)
    yield _how_to_verify(report)
    yield _certificate("Draft certificate (United States)", "certificate-us", texts.CERTIFICATE_US)
    yield _certificate("Draft statement (neutral)", "certificate", texts.CERTIFICATE_NEUTRAL)
    yield Section("Words", 2, "words", [Facts([Fact(word, meaning) for word, meaning in texts.GLOSSARY])], new_page=True)
    yield Section("Limits", 2, "limits", [Bullets([*texts.MEANS_NOT, *texts.LIMITS])])
    yield _files(report)


def _trust(report: Report) -> Section:
    trust = report.trust
    blocks: list[AnyBlock] = [Paragraph(texts.OUTSIDE_LIST if trust.source == "outside" else texts.OWN_LIST)]
    if trust.problem is not None:
        blocks.append(Paragraph(f"The list cannot be shown: {trust.problem}.", "warning"))
    rows = [
        [
            ", ".join(signer.principals),
            f"{signer.key} ({signer.algorithm})",
            ", ".join(name.partition("@")[0] for name in signer.namespaces) or "anything",
            _validity(signer.valid_after, signer.valid_before, revoked=signer.revoked),
        ]
        for signer in trust.signers
    ]
    if rows:
        columns = [Column("Name", "text", 2), Column("Key", "exact", 6), Column("Signs", "text", 3), Column("Trusted", "text", 4)]
        blocks.append(Table("Signers", columns, rows))
    blocks.append(
        Facts(
            [Fact("Key of the vault", report.vault.key, exact=True), Fact("Id of the vault", report.vault.vault_id, exact=True)]
        )
    )
    return Section("Signers and trust", 2, "trust", blocks)


def _validity(after: str | None, before: str | None, *, revoked: bool) -> str:
    if revoked:
        return "revoked: nothing it ever signed counts"
    parts = [f"from {after[:10]} {after[11:19]}" if after else "", f"until {before[:10]} {before[11:19]}" if before else ""]
    return " ".join(part for part in parts if part) or "always"


def _how_to_verify(report: Report) -> Section:
    blocks: list[AnyBlock] = [Paragraph(texts.VERIFY_INTRO)]
    for item in report.items:
        for one in item.acquisitions:
            if one.header is None:
                continue
            principal = shlex.quote(safe_text(one.header.examiner.principal))
            lines = [
                f"cd {shlex.quote(f'{item.folder}/acquisitions/{one.number:04}')}",
                f"{_KEYGEN} -I {principal} -n manifest@evidencesync -s manifest.jsonl.sig < manifest.jsonl",
                f"{_KEYGEN} -I vault -n receipt@evidencesync -s receipt.json.sig < receipt.json",
                "sha256sum --quiet -c SHA256SUMS",
                "b3sum --quiet --check BLAKE3SUMS",
                "sha256sum manifest.jsonl manifest.jsonl.sig SHA256SUMS BLAKE3SUMS chunks.bin",
            ]
            blocks += [
                Paragraph(f"Item {safe_text(item.item, 80)}, acquisition {one.number}, from the vault's folder:"),
                Commands(lines),
            ]
    blocks.append(Paragraph(texts.VERIFY_REST))
    return Section("How to verify without evidencesync", 2, "verify", blocks, new_page=True)


def _certificate(title: str, anchor: str, paragraphs: list[str]) -> Section:
    blocks: list[AnyBlock] = [Paragraph(texts.DRAFT, "warning")]
    for text in paragraphs:
        blocks.append(Paragraph(text))
        if text.endswith(":"):
            blocks.append(Blanks(["", ""]))
    return Section(title, 2, anchor, [*blocks, Blanks(texts.CERTIFICATE_BLANKS)], new_page=True)


def _files(report: Report) -> Section:
    blocks: list[AnyBlock] = []
    index = 0
    for item in report.items:
        for one in item.acquisitions:
            caption = f"Item {safe_text(item.item, 80)}, acquisition {one.number}"
            digest = one.contents.manifest_sha256 or "unknown: it cannot be read to its end"
            blocks.append(FileTable(index, caption, one.contents.entries, digest))
            index += 1
    return Section("Files", 2, "files", blocks, new_page=True)
