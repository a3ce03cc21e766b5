"""Composes what a report says of its findings: the section that lists them, how many there are, and what they are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from evidencesync.custody import labels
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.number_format import count_text, extent_text
from evidencesync.evidence.path import from_json_fields
from evidencesync.report import texts
from evidencesync.report.blocks import AnyBlock, Bullets, Column, Fact, Facts, Paragraph, Section, Table
from evidencesync.report.document import Item, Judgement, PathPair, Report
from evidencesync.report.places import EvidencePlace, acquisition_folder, evidence_place, path_of
from evidencesync.verify.checks import MEANINGS
from evidencesync.verify.findings import Finding, gravity, leaves_open
from evidencesync.verify.next_steps import next_steps

_FINDINGS_SHOWN: Final = 500
_NAMED_ONES: Final = 10  # on page one
_FILES: Final = 3  # of those in the box of the verdict
_GROUPED: Final = 3  # findings of one kind that are named; more stand in one row


def some_text(values: Iterable[str], named: int = _NAMED_ONES) -> str:
    """Each value once, in its order; of many the first, and how many more there are."""
    each = list(dict.fromkeys(values))
    more = [f"and {len(each) - named:,} more"] if len(each) > named else []
    return "; ".join([*each[:named], *more])


def places_text(acquisitions: Iterable[tuple[str, int]], named: int = _NAMED_ONES) -> str:
    """Acquisitions by item and number, those in a row as one: `item A, acquisitions 2 to 5, 7`. Of many the first."""
    numbers: dict[str, list[int]] = {}
    for title, number in sorted(set(acquisitions)):
        numbers.setdefault(title, []).append(number)
    return some_text((f"item {safe_text(title, 80)}, {_runs_text(each, named)}" for title, each in numbers.items()), named)


def _runs_text(numbers: list[int], named: int) -> str:
    runs: list[list[int]] = []
    for number in numbers:
        if runs and runs[-1][-1] + 1 == number:
            runs[-1].append(number)
        else:
            runs.append([number])
    parts = [f"{run[0]:,}" if len(run) == 1 else f"{run[0]:,} {'to' if run[2:] else 'and'} {run[-1]:,}" for run in runs[:named]]
    left = sum(map(len, runs[named:]))
    more = f" and {left:,} more" if left else ""
    return f"acquisition{'' if len(numbers) == 1 else 's'} {', '.join(parts)}{more}"


def severities_text(findings: Iterable[Finding]) -> str:
    """How many findings there are of each severity; empty without any."""
    counts = Counter(finding.severity for finding in findings)
    parts = [count_text(counts["error"], "error")] if counts["error"] else []
    parts += [count_text(counts["warning"], "warning")] if counts["warning"] else []
    parts += [f"{counts['info']:,} for information"] if counts["info"] else []
    return ", ".join(parts)


def mark(findings: Iterable[Finding]) -> str:
    """A cross where something is wrong, a question mark where something could not be checked, and else an exclamation mark."""
    errors = [finding for finding in findings if finding.severity == "error"]
    return "!" if not errors else "?" if all(map(leaves_open, errors)) else "✗"


def all_findings_text(judgement: Judgement) -> str:
    """How many findings there are, and of which severity."""
    said = severities_text(judgement.findings)
    return f"{len(judgement.findings):,}: {said}" if "," in said else said or "none"


def means(report: Report) -> list[str]:
    """What the verdict means. A pass says which digests were computed for it, and which of the manifests' were not."""
    judgement = report.judgement
    said = texts.MEANS[judgement.state]
    if judgement.state != "pass":
        return said
    left = digests_left(report)
    computed = labels.digests_text(judgement.digests).replace(", ", " and ")
    first = texts.DIGESTS_CHECKED.format(digests=computed) if computed else texts.NO_DIGEST_CHECKED
    more = [texts.DIGESTS_NOT_CHECKED.format(digests=labels.digests_text(left))] if left else []
    return [first, *more, *said]


def by_vault_text(judgement: Judgement) -> str:
    """That a vault on another machine has read its evidence itself, and who has checked its documents; empty for any other."""
    by = judgement.by_vault
    if by is None:
        return ""
    said = texts.BY_VAULT.format(address=safe_text(by.address, 200), tool=safe_text(by.tool, 60), key=by.key)
    return said + (texts.DOCUMENTS_THERE if by.documents is None else texts.DOCUMENTS_HERE)


def digests_left(report: Report) -> list[str]:
    """The digests that manifests of the report state, and that its verdict did not compute again."""
    stated = {name for item in report.items for one in item.acquisitions if one.header for name in one.header.method.digests}
    return [name for name in labels.DIGESTS if name in stated and name not in report.judgement.digests]


def errors_about(judgement: Judgement, item: Item, number: int | None) -> list[Finding]:
    """The errors about an acquisition, or without a number about its item as a whole; none where the verdict does not hold."""
    about = findings_of(judgement, item, number) if judgement.state != "not-verified" else []
    return [finding for finding in about if finding.severity == "error"]


def path_remarks(judgement: Judgement, item: Item, number: int) -> dict[bytes, str]:
    """For each path of an acquisition's evidence that an error is about, what a list of files says of it."""
    remarks: dict[bytes, str] = {}
    for finding in errors_about(judgement, item, number):
        if (place := evidence_place(finding)) is not None:
            is_open = leaves_open(finding)
            if not is_open or place.path not in remarks:
                remarks[place.path] = texts.NOT_CHECKED_FILE if is_open else texts.WRONG_FILE
    return remarks


def findings_of(judgement: Judgement, item: Item, number: int | None) -> list[Finding]:
    """All findings about an acquisition, or without a number about its item as a whole."""
    case_folder, item_folder = item.folder.split("/")[-2:]
    return [
        finding
        for finding in judgement.findings
        if finding.acquisition == number and finding.case in (item.case, case_folder) and finding.item in (item.item, item_folder)
    ]


def findings_about(judgement: Judgement, item: Item, number: int | None) -> str:
    """The errors and warnings about an acquisition, or without a number about its item as a whole."""
    about = [finding for finding in findings_of(judgement, item, number) if finding.severity != "info"]
    if about:
        return f"{mark(about)} {severities_text(about)}"
    if judgement.state == "not-verified":
        return "not checked"
    return "not all are listed" if any(finding.slug == "not-listed" for finding in judgement.findings) else "none"


def findings_of_vault(judgement: Judgement) -> list[Finding]:
    """The errors and warnings about no item; none where the verdict is not about what is shown."""
    if judgement.state == "not-verified":
        return []
    return [finding for finding in judgement.findings if finding.item is None and finding.severity != "info"]


def touched_text(judgement: Judgement) -> str:
    """How many acquisitions the errors are about, which, and what files they name.

    Empty without an error, or where the verdict does not hold.
    """
    if judgement.state == "not-verified":
        return ""
    errors = [finding for finding in judgement.findings if finding.severity == "error"]
    wholes = [_whole(finding) for finding in errors if finding.acquisition is None]
    acquisitions = {(one.item or "", one.acquisition) for one in errors if one.acquisition is not None}
    counted = [f"{count_text(len(acquisitions), 'acquisition')} ({places_text(acquisitions)})"] if acquisitions else []
    about = [*counted, *([some_text(wholes)] if wholes else [])]
    files = some_text((_file(finding) for finding in errors if finding.path is not None or finding.path_b64 is not None), _FILES)
    named = f" They name {files}." if files else ""
    return f"The errors are about {'; '.join(about)}.{named}" if about else ""


def _file(finding: Finding) -> str:
    """The file of a finding: evidence by its path at the source, a document by its place in the vault."""
    place = evidence_place(finding)
    return safe_text(place.path if place is not None else path_of(finding), 120)


def _whole(finding: Finding) -> str:
    return texts.WHOLE_VAULT if finding.item is None else f"item {safe_text(finding.item, 80)} as a whole"


def findings_section(judgement: Judgement, items: Iterable[Item] = ()) -> Section:
    """All findings, the gravest first, and the chain heads that the check saw.

    `items` say where the content of a damaged file is whole.
    """
    ordered = sorted(judgement.findings, key=gravity)
    blocks: list[AnyBlock] = []
    if not ordered:
        blocks.append(Paragraph("None: no check found anything to say."))
    else:
        columns = [
            Column("Severity", "text", 4),
            Column("What it means, and the finding in detail", "text", 14),
            Column("Where", "text", 9),
            Column("Check", "exact", 5),
        ]
        copies = _copies_texts(items) if judgement.state != "not-verified" else {}
        groups = list(_groups(ordered))
        rows = [_row(group, copies) for group in groups[:_FINDINGS_SHOWN]]
        blocks.append(Table("Findings, the gravest first", columns, rows))
        if left := sum(map(len, groups[_FINDINGS_SHOWN:])):
            blocks.append(Paragraph(f"{count_text(left, 'more finding')} stand in the JSON report.", "warning"))
    heads = [
        Fact(
            "The vault" if head.case is None else f"{safe_text(head.case, 80)} / {safe_text(head.item or '', 80)}",
            f"record {head.sequence}, SHA-256 {safe_text(head.sha256, 64)}",
            exact=True,
        )
        for head in judgement.heads
    ]
    if heads:
        blocks += [Paragraph("Chain heads that the check saw, to be compared with those that were kept elsewhere:"), Facts(heads)]
    return Section("Findings", 2, "findings", blocks)


def _groups(ordered: list[Finding]) -> Iterator[list[Finding]]:
    """Findings that stand in one row: each error alone, and of the others those of one kind about one item, if they are many."""
    alike: dict[tuple[object, ...], list[Finding]] = {}
    for place, one in enumerate(ordered):
        key = (place,) if one.severity == "error" else (one.severity, one.slug, one.case, one.item)
        alike.setdefault(key, []).append(one)
    for group in alike.values():
        yield from [group] if len(group) > _GROUPED else [[one] for one in group]


def _row(group: list[Finding], copies: Mapping[EvidencePlace, str]) -> list[str]:
    """A finding; or many of one kind, with how many there are, and the first few."""
    first, *others = (_finding_row(one, copies) for one in group[:_GROUPED])
    if not others:
        return first
    left = len(group) - _GROUPED
    more = f"and {left:,} more, which stand in the JSON report"
    said = "; ".join([first[1].removesuffix("."), *(_safe_message(one.message) for one in group[1:_GROUPED])])
    where = "; ".join([first[2], *(row[2] for row in others)])
    return [f"{first[0]} ({len(group):,} times)", f"{said}; {more}.", f"{where}; {more}", first[3]]


def what_to_do(judgement: Judgement) -> Iterator[Section]:
    """What a person does now who has read the findings; nothing after a pass."""
    steps = next_steps(judgement.findings) if judgement.state in {"fail", "incomplete"} else []
    if steps:
        yield Section("What to do", 2, "what-to-do", [Paragraph(texts.WHAT_TO_DO), Bullets(steps)])


def _copies_texts(items: Iterable[Item]) -> dict[EvidencePlace, str]:
    """What is said of damaged files whose content another acquisition has whole."""
    said = {}
    for item in items:
        for one in item.acquisitions:
            for copy in one.whole_copies:
                there = "" if copy.there == copy.file else f", as {safe_text(_raw(copy.there))}"
                place = EvidencePlace(acquisition_folder(item.folder, one.number), _raw(copy.file))
                said[place] = texts.WHOLE_ELSEWHERE.format(number=copy.acquisition, there=there)
    return said


def _raw(pair: PathPair) -> bytes:
    return from_json_fields(pair.path, pair.path_b64)


def _finding_row(finding: Finding, copies: Mapping[EvidencePlace, str]) -> list[str]:
    known = MEANINGS[finding.slug].text if finding.slug in MEANINGS else ""
    meaning = f"{known[:1].upper()}{known[1:]}. In detail: " if known else ""
    about = [] if finding.item is None else [f"item {safe_text(finding.item, 80)}"]
    about += [] if finding.acquisition is None else [f"acquisition {finding.acquisition}"]
    about += [said] if (said := place_text(finding)) else []
    message = _safe_message(finding.message)  # may begin with the name of a file: no letter of it is changed
    place = evidence_place(finding)
    elsewhere = copies.get(place, "") if finding.severity == "error" and place is not None else ""
    return [
        "information" if finding.severity == "info" else f"{mark([finding])} {finding.severity}",
        f"{meaning}{message}.{elsewhere}",
        ", ".join(about) or texts.WHOLE_VAULT,
        f"{finding.check} {finding.slug}",
    ]


def place_text(finding: Finding) -> str:
    """Where a finding is, below the item and the acquisition that it names. Empty where it is about all of that."""
    where = "" if finding.offset is None or finding.length is None else f", within {extent_text(finding.offset, finding.length)}"
    if (place := evidence_place(finding)) is not None:
        return f"evidence: {safe_text(place.path)}{where}"
    parts = path_of(finding).split(b"/")
    if finding.item is not None and parts[0] == b"cases":
        parts = parts[5 if finding.acquisition is not None and parts[3:4] == [b"acquisitions"] else 3 :]
    below = safe_text(b"/".join(parts))
    return f"in the vault: {below}{where}" if below else ""


def _safe_message(message: str) -> str:
    """Messages hold no raw names when `verify` makes them; from a file they may hold anything. Backslashes stay as they are."""
    return "\\".join(safe_text(part) for part in message.split("\\"))
