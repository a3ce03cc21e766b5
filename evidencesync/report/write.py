"""Writes a report in one of its three forms, and composes the pages of HTML and PDF: every heading, sentence and table."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from evidencesync.custody.labels import digests_text
from evidencesync.errors import InternalError
from evidencesync.evidence.display import person_text, safe_text
from evidencesync.evidence.entry import Entry
from evidencesync.evidence.number_format import count_text, duration_text, size_text, time_text
from evidencesync.report import texts
from evidencesync.report.annexes import annexes, volume_section
from evidencesync.report.blocks import Fact, FirstPage, Pages, Sink
from evidencesync.report.certificate import write_certificate
from evidencesync.report.custody_pages import holder_text, sealing_record
from evidencesync.report.document import Item, Judgement, Report
from evidencesync.report.exhibits import exhibit_sections, gaps_text
from evidencesync.report.gather import Gathered
from evidencesync.report.html_report import write_html
from evidencesync.report.item_table import item_table, state_of
from evidencesync.report.manifests import manifest_lines
from evidencesync.report.pdf_report import write_pdf
from evidencesync.report.timestamps import timestamps_text
from evidencesync.report.verdicts import (
    all_findings_text,
    by_vault_text,
    findings_section,
    means,
    places_text,
    some_text,
    touched_text,
    what_to_do,
)
from evidencesync.report.volumes import Choices, Volume
from evidencesync.verify.findings import records_text

Form = Literal["html", "pdf", "json", "certificate", "statement"]
_EMPTY_END: Final = b'"files":[]}'
_BLOCK: Final = 1 << 18
_EXAMINERS: Final = 10  # on page one


def compose(report: Report, volume: Volume, choices: Choices) -> Pages:
    """All pages of one file. Quoted text is made safe to show here, or in the functions that this one calls."""
    sections = [*([volume_section(volume)] if volume.is_split else [])]
    if volume.number == 1:
        sections += [findings_section(report.judgement, report.items), *what_to_do(report.judgement)]
    for shown in volume.items:
        sections += exhibit_sections(shown, report.judgement)
    sections += annexes(report, volume, choices)
    return Pages(
        made_at=report.made_at,
        footer=f"{report.tool} {report.version}, case {safe_text(report.case, 60)}, made {time_text(report.made_at)}",
        first=_first_page(report, volume, choices),
        sections=sections,
    )


# --- Page one ----------------------------------------------------------------------------------------------------------


def _first_page(report: Report, volume: Volume, choices: Choices) -> FirstPage:
    judgement = report.judgement
    symbol, word = texts.WORDS[judgement.state]
    item = "" if report.item is None else f", item {safe_text(report.item, 200)}"
    acquisition = "" if report.acquisition is None else f", acquisition {report.acquisition}"
    reason = f"Reason: {judgement.reason}." if judgement.reason is not None else ""
    sentence = " ".join(part for part in (texts.SENTENCES[judgement.state], reason, touched_text(judgement)) if part)
    return FirstPage(
        title="Audit report of digital evidence",
        subject=f"Case {safe_text(report.case, 200)}{item}{acquisition}",
        state=judgement.state,
        symbol=symbol,
        word=word,
        sentence=sentence,
        reservations=_reservations(report.items),
        when=" ".join(filter(None, (_when(judgement), by_vault_text(judgement)))),
        facts=[*_volume_facts(volume), *_people(report, choices), *_first_facts(report)],
        items=item_table(report.judgement, volume),
        means=means(report),
        means_not=texts.MEANS_NOT,
    )


def _when(judgement: Judgement) -> str:
    if judgement.source == "checked":
        return f"Checked for this report, beginning {time_text(judgement.checked_at)}."
    days = judgement.age_seconds // 86_400
    age = count_text(days, "day") if days else duration_text(judgement.age_seconds)
    return f"Checked {time_text(judgement.checked_at)}, {age} before this report was made. {texts.OLD_VERDICT}"


def _volume_facts(volume: Volume) -> list[Fact]:
    if not volume.is_split:
        return []
    return [Fact("Volume", texts.VOLUME.format(number=volume.number, total=len(volume.names)))]


def _people(report: Report, choices: Choices) -> list[Fact]:
    """Who acquired, for which organisation, and who signs this report. What no document states is said to be not stated."""
    people = [one.header.examiner for item in report.items for one in item.acquisitions if one.header is not None]
    names: dict[str, dict[str, None]] = {}  # by key: one person may have written the own name in two ways
    for one in people:
        names.setdefault(safe_text(one.key, 80), {})[person_text(one.name, one.principal, 200, 200)] = None
    more = len(names) - _EXAMINERS
    roles = some_text(safe_text(one.role, 200) for one in people if one.role)
    organisations = some_text(safe_text(one.organisation, 200) for one in people if one.organisation)
    return [
        *([] if names else [Fact("Examiner", "cannot be read")]),
        *(
            fact
            for key, called in list(names.items())[:_EXAMINERS]
            for fact in (Fact("Examiner", some_text(called)), Fact("Key of the examiner", key, exact=True))
        ),
        *([Fact("Examiners", f"and {more:,} more")] if more > 0 else []),
        *([Fact("Role", roles)] if roles else []),
        Fact("Organisation", organisations or ("not stated" if people else "cannot be read")),
        Fact("Acquisitions started", _period(report.items)),
        Fact("Report signed by", choices.signed_by or "nobody: it is not signed"),
    ]


def _period(items: list[Item]) -> str:
    """When the shown acquisitions began: the first, and the last."""
    started = sorted(one.header.started for item in items for one in item.acquisitions if one.header is not None)
    if not started:
        return "cannot be read"
    first, last = time_text(started[0]), time_text(started[-1])
    return first if first == last else f"between {first} and {last}"


def _checked(report: Report) -> str:
    """How much was checked."""
    checked = report.judgement.checked
    parts = [
        count_text(checked.acquisitions, "acquisition"),
        count_text(checked.files, "file"),
        size_text(checked.bytes),
        records_text(checked, report.judgement.heads),
    ]
    return f"{', '.join(parts)}; contents by {digests_text(report.judgement.digests) or 'no digest'}"


def _first_facts(report: Report) -> list[Fact]:
    judgement = report.judgement
    harmless = judgement.state == "pass" and judgement.findings and all(one.severity == "info" for one in judgement.findings)
    return [
        Fact("Findings", all_findings_text(judgement) + ("; no error, no warning" if harmless else "")),
        Fact("Checked", _checked(report)),
        *([Fact("Custody", custody)] if (custody := some_text(_held(report.items))) else []),
        Fact("Gaps at the source", _gaps(report.items)),
        Fact("Left out by filters", _filtered(report.items)),
        Fact("Timestamps", timestamps_text(judgement, report.items)),
        Fact("Trust", texts.OUTSIDE_LIST if judgement.trust == "outside" else texts.OWN_LIST),
        Fact("Vault", f"{safe_text(report.vault.name, 200)} ({report.vault.vault_id})"),
        Fact("Report made", f"{time_text(report.made_at)}, by {report.tool} {report.version}"),
    ]


def _held(items: list[Item]) -> Iterator[str]:
    """Which items are sealed, and who has those that were handed over."""
    for item in items:
        sealed = sealing_record(item)
        handed = item.open_hand_over
        said = [f"sealed since custody record {sealed.sequence}"] if sealed is not None else []
        said += [f"held by {holder_text(item)}"] if item.held_by is not None else []
        said += [f"a hand-over to {safe_text(handed.to, 200)} is open since custody record {handed.record}"] if handed else []
        said += ["never handed over"] if sealed is not None and item.held_by is None and handed is None else []
        if said:
            yield f"item {safe_text(item.item, 80)}: {', '.join(said)}"


def _reservations(items: list[Item]) -> list[str]:
    """How many acquisitions have not all of their source: a pass is about what was acquired."""
    states = [state_of(one) for item in items for one in item.acquisitions]
    total = count_text(len(states), "acquisition")
    known = [state for state in states if state is not None]  # of the others nobody knows: that is no gap
    counted = (
        (sum(state.verdict != "complete" for state in known), texts.NOT_COMPLETE),
        (sum(state.filtered for state in known), texts.LEFT_SOME_OUT),
        (len(states) - len(known), texts.NOT_KNOWN_WHETHER),
    )
    return [text.format(some=f"{some:,}", all=total) for some, text in counted if some]


def _gaps(items: list[Item]) -> str:
    """The gaps of each acquisition that has any: a pass says nothing about what was not read."""
    said: dict[str, list[tuple[str, int]]] = {}
    for item in items:
        for one in item.acquisitions:
            gaps = gaps_text(one)
            if gaps != texts.NO_GAPS:
                said.setdefault(gaps, []).append((item.item, one.number))
    return some_text(f"{places_text(acquisitions)}: {gaps}" for gaps, acquisitions in said.items()) or texts.NO_GAPS


def _filtered(items: list[Item]) -> str:
    """What filters left out on purpose: that is no gap."""
    every = [state_of(one) for item in items for one in item.acquisitions]
    states = [state for state in every if state is not None]
    count, entries = sum(state.filtered for state in states), sum(state.left_out for state in states)
    unknown = len(every) - len(states)
    of_others = f"; {texts.FILTERS_NOT_KNOWN.format(acquisitions=count_text(unknown, 'acquisition'))}" if unknown else ""
    if not count:
        return (texts.NOT_FILTERED if states else "cannot be read") + (of_others if states else "")
    what = count_text(entries, "entry", "entries") if entries else "no entry is marked"
    return texts.FILTERED.format(what=what, acquisitions=count_text(count, "acquisition")) + of_others


def write_json(gathered: Gathered, out: Sink) -> None:
    """Writes one JSON document. Raises OSError."""
    encoder = msgspec.json.Encoder()
    head = encoder.encode(gathered.report)
    if not head.endswith(_EMPTY_END):
        raise InternalError("a report's last field is not its file lists")
    out.write(head[: -len(b"]}")])
    first = True
    for item, layout in zip(gathered.report.items, gathered.layouts, strict=True):
        for one in item.acquisitions:
            start = f'"item":{encoder.encode(item.item).decode()},"acquisition":{one.number},"entries":['
            out.write(b"" if first else b",\n")
            out.write(b"{" + start.encode())
            first = False
            buffer, separator = bytearray(), b"\n"
            continued = 0
            for line in manifest_lines(layout, one.number):
                if not isinstance(line, Entry):
                    continued += 1
                    continue
                buffer += separator + encoder.encode(line)
                separator = b",\n"
                if len(buffer) >= _BLOCK:
                    out.write(bytes(buffer))
                    buffer.clear()
            out.write(bytes(buffer) + f'\n],"continued":{continued}}}'.encode())
    out.write(b"\n]}\n")


def write_report(gathered: Gathered, kind: Form, volume: Volume, choices: Choices, out: Sink) -> None:
    """Writes one file of the report. Raises MissingPartError where its form needs what is not installed, and OSError."""
    if kind == "json":
        write_json(gathered, out)
        return
    if kind in ("certificate", "statement"):
        write_certificate(gathered.report, kind, out)
        return
    pages = compose(gathered.report, volume, choices)
    (write_html if kind == "html" else write_pdf)(volume, pages, out)
