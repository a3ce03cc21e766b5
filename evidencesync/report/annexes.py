"""Composes what follows the items of a report: whom it trusts, how to verify without us, words, limits, where the files are."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from evidencesync.custody.principals import VAULT_PRINCIPAL
from evidencesync.custody.publickey import PublicKey
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.report import texts
from evidencesync.report.blocks import AnyBlock, Bullets, Column, Commands, Fact, Facts, FileTable, Paragraph, Section, Table
from evidencesync.report.document import Acquisition, Report, Signer, Trust
from evidencesync.report.exhibits import technical_facts
from evidencesync.report.verdicts import places_text
from evidencesync.report.volumes import REPORT_NAMESPACE, Choices, Volume

_STEPS: Final = (
    'verify() { ssh-keygen -Y verify -f my_signers -r revoked -I "$1" -n "$2" -s "$A/$3.sig" < "$A/$3"; }',
    'verify "$EXAMINER" manifest@evidencesync manifest.jsonl',
    "verify vault receipt@evidencesync receipt.json",
    '(cd "$A" && sha256sum --quiet --strict -c SHA256SUMS)',
    '(cd "$A" && b3sum --quiet --check BLAKE3SUMS)',
    '(cd "$A" && sha256sum acquired.json manifest.jsonl manifest.jsonl.sig SHA256SUMS BLAKE3SUMS chunks.bin)',
)

_SINCE: Final = {
    "made": "from the vault's making on,",
    "key-begun": "became the vault's key",
    "key-ended": "given up by the vault",
}
_REPORT_STEP: Final = f'ssh-keygen -Y verify -f my_signers -r revoked -I "$SIGNER" -n {REPORT_NAMESPACE} -s "$R.sig" < "$R"'

_SIGNS: Final = {
    "session@evidencesync": "transfers",
    "manifest@evidencesync": "manifests",
    "receipt@evidencesync": "receipts",
    "custody@evidencesync": "custody records",
}


def annexes(report: Report, volume: Volume, choices: Choices) -> Iterator[Section]:
    """All that follows the items; what is about the report as a whole stands in the first volume."""
    is_first = volume.number == 1
    if is_first:
        yield _trust(report)
    yield _how_to_verify(report, volume, choices)
    yield _technical(volume)
    if is_first:
        yield Section(
            "Words", 2, "words", [Facts([Fact(word, meaning) for word, meaning in texts.GLOSSARY], texts.GLOSSARY_CAPTION)]
        )
        yield Section("Limits", 2, "limits", [Bullets([*texts.MEANS_NOT, *texts.LIMITS])])
    yield _files(volume) if choices.files else Section("Files", 2, "files", [Paragraph(texts.NO_FILES)])


def volume_section(volume: Volume) -> Section:
    """What the other files of the report are."""
    facts = []
    for number, (name, shows) in enumerate(zip(volume.names, volume.shows, strict=True), 1):
        known = volume.sha256.get(number)
        digest = "this file" if number == volume.number else f"SHA-256 {known}" if known else texts.DIGEST_ELSEWHERE
        facts.append(Fact(f"Volume {number}: {shows}", f"{safe_text(name, 200)}, {digest}", exact=True))
    return Section("Volumes", 2, "volumes", [Paragraph(texts.VOLUMES), Facts(facts)])


def _trust(report: Report) -> Section:
    trust = report.trust
    blocks: list[AnyBlock] = [Paragraph(texts.OUTSIDE_LIST if trust.source == "outside" else texts.OWN_LIST)]
    if trust.problem is not None:
        blocks.append(Paragraph(f"The list cannot be shown: {trust.problem}.", "warning"))
    rows = [
        [
            ", ".join(signer.principals),
            f"{signer.key} ({signer.algorithm})",
            ", ".join(_SIGNS.get(name, name) for name in signer.namespaces) or "anything",
            _validity(signer.valid_after, signer.valid_before, revoked=signer.revoked),
        ]
        for signer in trust.signers
    ]
    if rows:
        columns = [
            Column("Name", "text", 3),
            Column("Key", "exact", 7),
            Column("Counts for", "text", 4),
            Column("Trusted (UTC)", "text", 4),
        ]
        blocks.append(Table("Signers", columns, rows))
        blocks += _roles(trust)
    blocks.append(
        Facts(
            [Fact("Key of the vault", report.vault.key, exact=True), Fact("Id of the vault", report.vault.vault_id, exact=True)]
        )
    )
    return Section("Signers and trust", 2, "trust", blocks)


def _roles(trust: Trust) -> Iterator[AnyBlock]:
    """What each key may do, in which cases and until when, and since when: the vault's own rule."""
    if trust.roles_problem is not None:
        yield Paragraph(f"What the keys may do, and since when, cannot be told: {trust.roles_problem}.", "warning")
        return
    yield Paragraph(texts.ROLES)
    columns = [
        Column("Name", "text", 3),
        Column("Key", "exact", 5),
        Column("May", "text", 3),
        Column("In cases", "text", 3),
        Column("Until", "text", 2),
        Column("Since (UTC)", "text", 5),
    ]
    rows = [
        [
            ", ".join(signer.principals),
            signer.key,
            _may(signer),
            "every case" if signer.cases is None else ", ".join(signer.cases),
            signer.until or "no end",
            _since(signer),
        ]
        for signer in trust.signers
    ]
    yield Table("Who may do what", columns, rows)


def _may(signer: Signer) -> str:
    if VAULT_PRINCIPAL in signer.principals:
        if any(one.action == "key-ended" for one in signer.changes):
            return "nothing any more: the vault has given it up; what it signed before counts"
        return "sign receipts, and the vault's own records"
    return "everything: nobody has said otherwise" if signer.may is None else ", ".join(signer.may)


def _since(signer: Signer) -> str:
    changes = [f"{_SINCE.get(one.action, one.action)} {one.at[:10]} {one.at[11:19]}" for one in signer.changes]
    return "; ".join(changes) or "no record tells of it"


def _validity(after: str | None, before: str | None, *, revoked: bool) -> str:
    if revoked:
        return "revoked: nothing it ever signed counts"
    parts = [f"from {after[:10]} {after[11:19]}" if after else "", f"until {before[:10]} {before[11:19]}" if before else ""]
    return " ".join(part for part in parts if part) or "always"


def _signer_lines(report: Report, volume: Volume) -> list[str]:
    """The lines of a list of signers for each examiner's key and the vault's. Keys come from their owners, and not from here."""
    headers = [one.header for shown in volume.items for one in shown.acquisitions if one.header is not None]
    wanted = [(header.examiner.principal, "manifest@evidencesync", header.examiner.key) for header in headers]
    algorithms = {signer.key: signer.algorithm for signer in report.trust.signers}
    lines = dict.fromkeys([*wanted, (VAULT_PRINCIPAL, "receipt@evidencesync", report.vault.key)])
    return [line for principal, namespace, key in lines for line in _signer(principal, namespace, key, algorithms.get(key))]


def _signer(principal: str, namespace: str, key: str, algorithm: str | None) -> list[str]:
    """Whose line it is, by the fingerprint, and the line: a page breaks neither, so that they can be copied."""
    return [f"# {safe_text(key)}", f'{_quoted(principal)} namespaces="{namespace}" {safe_text(algorithm or "ALGORITHM")} KEY']


def _own_signature(report: Report, name: str, key: PublicKey) -> Iterator[AnyBlock]:
    """How the signature of this very file is checked: the line of its signer, and the command."""
    known = (signer.principals for signer in report.trust.signers if signer.key == key.fingerprint)
    principal = next(iter(next(known, [])), "signer")
    yield Paragraph(texts.VERIFY_REPORT_SIGNER)
    yield Commands(_signer(principal, REPORT_NAMESPACE, key.fingerprint, key.algorithm))
    yield Paragraph(texts.VERIFY_REPORT)
    yield Commands([f"R={shell_text(name)} SIGNER={shell_text(principal)}", _REPORT_STEP])


def _quoted(principal: str) -> str:
    shown = safe_text(principal)
    return f'"{shown}"' if " " in shown else shown


def _how_to_verify(report: Report, volume: Volume, choices: Choices) -> Section:
    """The steps once, and for each acquisition the line that says which it is."""
    which = [
        f"A={shell_text(f'{shown.item.folder}/acquisitions/{one.number:04}')} "
        f"EXAMINER={shell_text(one.header.examiner.principal)}"
        for shown in volume.items
        for one in shown.acquisitions
        if one.header is not None
    ]
    blocks: list[AnyBlock] = [Paragraph(texts.VERIFY_INTRO)]
    blocks += [Paragraph(texts.VERIFY_SIGNERS), Commands(_signer_lines(report, volume))]
    if which:
        blocks += [Paragraph(texts.VERIFY_WHICH), Commands(which), Paragraph(texts.VERIFY_STEPS), Commands(list(_STEPS))]
    blocks.append(Paragraph(texts.VERIFY_REST))
    if choices.key is not None:
        blocks += _own_signature(report, volume.names[volume.number - 1], choices.key)
    return Section("How to verify without evidencesync", 2, "verify", blocks)


def _technical(volume: Volume) -> Section:
    """How contents were cut and which algorithms SSH used: each once, and where they differ, for which acquisitions."""
    used: dict[str, dict[str, list[tuple[str, int]]]] = {}
    for shown in volume.items:
        for one in shown.acquisitions:
            for label, value in technical_facts(one):
                used.setdefault(label, {}).setdefault(value, []).append((shown.item.item, one.number))
    facts = [
        Fact(label, value if len(values) == 1 else f"{value} ({places_text(acquisitions)})")
        for label, values in used.items()
        for value, acquisitions in values.items()
    ]
    return Section("Technical details", 2, "technical", [Facts(facts) if facts else Paragraph("None are stated.")])


def _files(volume: Volume) -> Section:
    blocks: list[AnyBlock] = []
    for index, (caption, one) in enumerate(_captions(volume)):
        digest = one.contents.manifest_sha256 or "unknown: it cannot be read to its end"
        blocks.append(FileTable(index, caption, one.contents.entries, digest))
    return Section("Files", 2, "files", blocks, new_page=True)


def _captions(volume: Volume) -> Iterator[tuple[str, Acquisition]]:
    for shown in volume.items:
        for one in shown.acquisitions:
            yield f"Item {safe_text(shown.item.item, 80)}, acquisition {one.number}", one
