"""Composes the pages about one item: origin, acquisitions, custody, differences between acquisitions."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from evidencesync.custody import labels
from evidencesync.custody.times import clock_difference
from evidencesync.evidence.display import person_text, safe_text, shell_text
from evidencesync.evidence.number_format import bytes_text, count_text, duration_text, size_text, time_text
from evidencesync.evidence.path import from_json_fields
from evidencesync.report import texts
from evidencesync.report.blocks import (
    AnyBlock,
    Bullets,
    Column,
    Fact,
    Facts,
    Paragraph,
    Section,
    Table,
)
from evidencesync.report.captured import captured_facts, lacking_captures
from evidencesync.report.charts import new_and_reused, sizes_by_type, strip_map
from evidencesync.report.custody_pages import custody_section, holding_facts
from evidencesync.report.document import (
    Acquisition,
    Contents,
    Detail,
    DifferenceKind,
    Differences,
    FlaggedEntry,
    Item,
    Judgement,
    NamedSize,
    PathPair,
)
from evidencesync.report.places import evidence_place, shown_path
from evidencesync.report.record_texts import message_text
from evidencesync.report.timestamps import timestamp_text
from evidencesync.report.verdicts import errors_about, mark, place_text, some_text
from evidencesync.report.volumes import ShownItem
from evidencesync.verify.findings import Finding

if TYPE_CHECKING:
    from evidencesync.custody.documents import ManifestFooter, ManifestHeader, Receipt

_ON_READ_ERROR: Final = "on-read-error"
_TECHNICAL: Final = ("chunking", _ON_READ_ERROR)  # options of an acquisition
_IN_TABLE: Final = ("read-back",)  # the table of the three points has it


def exhibit_sections(shown: ShownItem, judgement: Judgement) -> Iterator[Section]:
    """All sections of an item that a file of the report shows."""
    anchor, item = f"item-{shown.number}", shown.item
    yield _overview(anchor, item, judgement) if shown.begins else _continued(anchor, item)
    charted: dict[tuple[NamedSize, ...], int] = {}
    for one in shown.acquisitions:
        name, errors = f"{anchor}-{one.number}", errors_about(judgement, item, one.number)
        charted_in = charted.setdefault(tuple(one.contents.types), one.number)
        blocks = [*_errors(errors, "this acquisition"), *_acquisition(name, item, one, errors, charted_in, judgement)]
        yield Section(f"Acquisition {one.number}", 3, name, blocks)
    if shown.begins:
        yield custody_section(anchor, item, judgement)
    for differences in shown.differences:
        title = f"Differences between acquisitions {differences.earlier} and {differences.later}"
        yield Section(title, 3, f"{anchor}-diff-{differences.later}", list(_differences(differences)))


def _overview(anchor: str, item: Item, judgement: Judgement) -> Section:
    head = "cannot be read" if item.head is None else f"record {item.head.sequence}, SHA-256 {item.head.sha256}"
    blocks: list[AnyBlock] = [*_errors(errors_about(judgement, item, None), "this item as a whole")]
    if item.problem is not None:
        blocks.append(Paragraph(texts.ITEM_PROBLEM.format(problem=message_text(item.problem)), "warning"))
    blocks.append(
        Facts(
            [
                Fact("Case", safe_text(item.case)),
                Fact("Item", safe_text(item.item)),
                *(_detail(one) for one in item.known),
                *holding_facts(item),
                Fact("Folder in the vault", item.folder, exact=True),
                Fact("Acquisitions shown", str(len(item.acquisitions))),
                Fact("Head of its custody chain", head, exact=True),
            ]
        )
    )
    picture = new_and_reused(f"{anchor}-sent", item)
    if picture is not None:
        blocks.append(picture)
    return Section(f"Item {safe_text(item.item, 120)}", 2, anchor, blocks)


def _continued(anchor: str, item: Item) -> Section:
    return Section(f"Item {safe_text(item.item, 120)}, continued", 2, anchor, [Paragraph(texts.CONTINUED, "note")])


def _detail(one: Detail) -> Fact:
    return Fact(labels.label_text(one.name), f"{safe_text(one.value)} (custody record {one.record})")


# --- Acquisitions ------------------------------------------------------------------------------------------------------


def _errors(errors: list[Finding], what: str) -> Iterator[AnyBlock]:
    """What the check found wrong, where it is: the findings themselves stand further in front."""
    if errors:
        places = some_text(place for finding in errors if (place := place_text(finding)))
        sign = mark(errors)
        said = f"{sign} {count_text(len(errors), 'error')} about {what}, see Findings: {places or 'no file'}."
        yield Paragraph(said, "error" if sign == "✗" else "warning")


def _damaged(errors: list[Finding], pair: PathPair) -> list[tuple[int, int]]:
    """Offset and length of each range of a file that is not as it was acquired."""
    path = from_json_fields(pair.path, pair.path_b64)
    return [
        (one.offset, one.length)
        for one in errors
        if one.offset is not None and one.length is not None
        if (place := evidence_place(one)) is not None and place.path == path
    ]


def _acquisition(
    anchor: str, item: Item, one: Acquisition, errors: list[Finding], charted_in: int, judgement: Judgement
) -> Iterator[AnyBlock]:
    """What stands on its page. `charted_in`: the first acquisition with the same sizes by type, whose page has the chart."""
    if one.problem is not None:
        yield Paragraph(f"A document of this acquisition cannot be read: {message_text(one.problem)}.", "warning")
    if one.contents.problem is not None:
        yield Paragraph(f"The manifest cannot be read to its end: {message_text(one.contents.problem)}.", "warning")
    header = _header_facts(one.header, one.footer) if one.header is not None else []
    yield Facts([*_manifest_facts(judgement, item, one), *header], texts.MADE)
    if one.header is not None:
        yield from _filters(one.header, one.contents)
    if one.receipt is not None:
        yield _points(one.receipt)
        yield Facts(list(_transfer_facts(one.receipt, one.header)), texts.SENT_AND_STORED)
    picture = sizes_by_type(f"{anchor}-types", one)
    if picture is not None:
        yield picture if charted_in == one.number else Paragraph(texts.TYPES_AS_IN.format(number=charted_in))
    yield from captured_facts(one.contents)
    yield from _gaps(one)
    for number, file in enumerate(one.maps):
        yield strip_map(f"{anchor}-map-{number}", one.number, file, _damaged(errors, file.file))


def _manifest_facts(judgement: Judgement, item: Item, one: Acquisition) -> Iterator[Fact]:
    yield Fact("Fingerprint for the notebook", one.fingerprint or "cannot be read", exact=True)
    yield Fact("SHA-256 of the manifest", one.contents.manifest_sha256 or "cannot be read", exact=True)
    if one.footer is not None:
        kept = labels.contents_text(one.footer.counts, one.receipt.points.arrival.files) if one.receipt is not None else ""
        counts = labels.entries_text(one.footer.counts, one.footer.flags, one.contents.filtered)
        yield Fact("Entries in the manifest", safe_text("; ".join(filter(None, (counts, kept)))))
        yield Fact("Bytes kept in the vault", bytes_text(one.footer.bytes))
        yield Fact("Gaps at the source", gaps_text(one))
        if (earlier := not_read_again(item, one)) is not None:
            yield Fact("Not read again", earlier)
    yield Fact("Timestamp", timestamp_text(judgement, item, one))


def _header_facts(header: ManifestHeader, footer: ManifestFooter | None) -> Iterator[Fact]:
    examiner, source, method = header.examiner, header.source, header.method
    details = [safe_text(text) for text in (examiner.role, examiner.organisation) if text]
    yield Fact("Examiner", ", ".join([person_text(examiner.name, examiner.principal), *details]))
    yield Fact("Signed with the key", examiner.key, exact=True)
    yield Fact("Source", labels.source_text(header), exact=True)
    system = [source.operating_system, source.file_system or ""]
    yield Fact("System at the source", ", ".join(safe_text(part) for part in system if part))
    for label, value in labels.device_facts_text(source.device or {}):
        yield Fact(f"Device: {label[:1].lower()}{label[1:]}", value)
    yield Fact("Started", time_text(header.started))
    if footer is not None:
        yield Fact("Finished at the source", time_text(footer.finished))
    yield Fact("Direction", labels.DIRECTIONS[header.direction])
    yield Fact("Tool", f"{safe_text(method.tool)} {safe_text(method.version)}")
    yield Fact("Command", shell_text(*method.command_line), exact=True)
    if header.agent is not None:
        yield Fact("Brought to the source's machine", labels.agent_text(header.agent), exact=True)
    chosen = {name: value for name, value in method.options.items() if name not in (*_TECHNICAL, *_IN_TABLE)}
    for label, value in labels.options_text(chosen):
        yield Fact(label, value)
    if header.ssh is not None:
        ssh = header.ssh
        yield Fact("Connection", f"SSH to {safe_text(ssh.user)}@{safe_text(ssh.host)}, port {ssh.port}")
        yield Fact("Host key of the server", ssh.host_key, exact=True)
    difference = clock_difference(header)
    measured = "" if difference is None else f"; {difference}"
    yield Fact("Clock of the acquiring machine", f"shown to its user as UTC{header.clock.utc_offset}{measured}")
    for note in header.notes:
        yield Fact("Note", safe_text(note, 4000))


def technical_facts(one: Acquisition) -> Iterator[tuple[str, str]]:
    """What is mostly the same for all acquisitions, and of use to few readers: it stands in an annex.

    What stands in place of what could not be read is said where there is any.
    """
    header = one.header
    if header is None:
        return
    names = [name for name in _TECHNICAL if name != _ON_READ_ERROR or one.contents.unread_count]
    yield from labels.options_text({name: value for name, value in header.method.options.items() if name in names})
    if header.ssh is not None and header.ssh.algorithms:
        said = ", ".join(f"{safe_text(name)} {safe_text(value)}" for name, value in header.ssh.algorithms.items())
        yield "Algorithms of SSH", said


def _filters(header: ManifestHeader, contents: Contents) -> Iterator[AnyBlock]:
    """The rules, and how much they left out: the names stand in the manifest."""
    if header.method.filters:
        yield Paragraph("Left out, or let in, by these rules (what they left out is not in the vault):", "warning")
        yield Bullets([message_text(rule) for rule in header.method.filters])
        counts = labels.counts_text(contents.filtered)
        yield Paragraph(texts.LEFT_OUT.format(counts=counts) if counts else texts.NOTHING_LEFT_OUT)
    else:
        yield Paragraph("No filter was used: nothing was left out on purpose.")


def _points(receipt: Receipt) -> Table:
    rows = []
    for name in ("source", "arrival", "disk"):
        point = getattr(receipt.points, name)
        digests = labels.digests_text(point.digests)
        what = f"{count_text(point.files, 'file')}, {point.bytes:,} bytes" if point.taken else texts.NOT_TAKEN[name]
        rows.append([texts.POINTS[name], digests or "-", what])
    columns = [Column("Point", "text", 4), Column("Digests", "text", 2), Column("Of", "text", 4)]
    return Table("The three points at which digests were taken", columns, rows)


def _transfer_facts(receipt: Receipt, header: ManifestHeader | None) -> Iterator[Fact]:
    transfer, stored, where = receipt.transfer, receipt.stored, labels.LOOKUPS[receipt.lookup]
    yield Fact("Received and stored", time_text(receipt.finished))
    yield Fact("Received from", safe_text(receipt.received_from, 400))
    travelled = bytes_text(transfer.wire_received_bytes)
    if header is not None and header.digests_taken_at == "arrival":  # the vault's own machine has read the source
        yield Fact("Handed on to the vault", texts.FROM_SOURCE_NOT_STATED.format(size=travelled))
    else:
        yield Fact("Travelled over the link", travelled)
    yield Fact(f"New to {where}, or damaged there", bytes_text(transfer.literal_bytes))
    yield Fact(f"In {where} already, or came before", bytes_text(transfer.reused_bytes))
    yield Fact("Zeros, which never travel", bytes_text(transfer.zero_bytes))
    yield Fact("Duration of the transfer", texts.DURATION.format(duration=duration_text(float(transfer.seconds))))
    yield Fact("Interruptions", texts.INTERRUPTIONS.format(count=transfer.interruptions) if transfer.interruptions else "none")
    ways = (("written", stored.written), ("linked", stored.linked), ("reflinked", stored.reflinked), ("copied", stored.copied))
    said = [f"{count_text(tally.files, 'file')} {way} ({size_text(tally.bytes)})" for way, tally in ways if tally.files]
    yield Fact("Stored", "; ".join(said) or "nothing")


def gaps_text(one: Acquisition) -> str:
    """In words, what of a source an acquisition has not, or has not as it was. What filters left out is no gap."""
    said: dict[str, int] = {}
    if one.footer is not None:
        said.update(one.footer.flags)
        said.update({str(remark): count for remark, count in (one.footer.remarks or {}).items()})
    lacking = lacking_captures(one.contents)
    said["unreadable"] = said.get("unreadable", 0) - len(lacking)
    parts = [f"{count_text(1, 'capture')} that {texts.CAPTURE_LACKS.format(why=why)}" for why in lacking.values()]
    counted = [(labels.FLAGS[what], said.get(what, 0)) for what in labels.GAP_FLAGS]
    parts += [f"{count_text(count, 'entry', 'entries')} {words}" for words, count in counted if count > 0]
    if one.contents.unread_count:
        ranges = count_text(one.contents.unread_count, "range")
        parts.append(f"{ranges} of bytes that could not be read ({bytes_text(one.contents.unread_bytes)})")
    if one.footer is None or one.contents.problem is not None:
        parts.append("not known: a document cannot be read")
    return ", ".join(parts) or texts.NO_GAPS


def not_read_again(item: Item, one: Acquisition) -> str | None:
    """In words, how much of an acquisition is as an earlier one has read it; None where all was read in this one."""
    if one.footer is None or one.receipt is None or one.footer.earlier is None:
        return None
    earlier = one.footer.earlier
    read = next((each.header for each in item.acquisitions if each.number == earlier.oldest), None)
    when = "" if read is None else f"started {time_text(read.started)}"
    return labels.earlier_text(earlier, one.receipt.points.arrival.files, one.number, when)


def _gaps(one: Acquisition) -> Iterator[AnyBlock]:
    """What could not be read, or changed while it was read."""
    contents = one.contents
    if not contents.flagged_count and not contents.unread_count:
        return
    yield Paragraph(texts.GAPS, "warning")
    if contents.flagged:
        lacking = lacking_captures(contents)
        rows = [
            [shown_path(one.file), labels.type_text(one.type), ", ".join(_flag_text(one, flag, lacking) for flag in one.flags)]
            for one in contents.flagged
        ]
        columns = [Column("Path", "exact", 6), Column("Type", "text", 2), Column("Remark", "text", 3)]
        yield Table(f"{count_text(contents.flagged_count, 'entry', 'entries')} with remarks", columns, rows)
    if contents.flagged_count > len(contents.flagged):
        yield Paragraph(f"The first {len(contents.flagged):,} are listed; all are in the manifest.", "warning")
    if contents.unread:
        fills = {"zero": "zeros stand there", "skip": "left out"}
        rows = [
            [
                shown_path(each.file),
                f"{each.range.offset:,}",
                f"{each.range.length:,}",
                f"{_error_text(each.range.errno)}; {fills[each.range.fill]}",
            ]
            for each in contents.unread
        ]
        columns = [
            Column("Path", "exact", 5),
            Column("From byte", "number", 2),
            Column("Bytes", "number", 2),
            Column("Error", "text", 3),
        ]
        caption = (
            f"{count_text(contents.unread_count, 'range')} of bytes that could not be read, {bytes_text(contents.unread_bytes)}"
        )
        yield Table(caption, columns, rows)


def _flag_text(entry: FlaggedEntry, flag: str, lacking: Mapping[PathPair, str]) -> str:
    """Why an entry is not whole. Of a file that could not be read it is said whether the vault has any of it."""
    if flag != "unreadable" or entry.type != "file":
        return labels.FLAGS[flag]
    if entry.file in lacking:
        return texts.CAPTURE_LACKS.format(why=lacking[entry.file])
    return texts.READ_IN_PART if entry.kept else texts.NOT_KEPT


def _error_text(number: int) -> str:
    """An error of the source's system, in words; a number that none has stays one."""
    return f"{os.strerror(number)} ({number})" if number in errno.errorcode else f"error {number}"


# --- Differences between acquisitions -------------------------------------------------------------------------------------------


_COUNTED: Final = {
    "same": "the same",
    "added": "added",
    "removed": "gone",
    "moved": "moved (the same content under another path)",
    "changed": "changed",
    "metadata": "with other attributes alone, such as times",
    "filtered": "left out by a filter in one of them",
    "not-read": "that neither has read whole, so that nobody knows whether they are the same",
}
_NAMED: Final = ("added", "removed", "moved", "changed")
_DIFFERS: Final[dict[DifferenceKind, str]] = {
    "added": "added",
    "removed": "gone",
    "moved": "moved to",
    "content": "with other content",
    "kind": "of another type",
    "unread": "read in one of them only",
}


def _differences(differences: Differences) -> Iterator[AnyBlock]:
    if differences.problem is not None:
        yield Paragraph(f"They could not be compared to the end: {message_text(differences.problem)}.", "warning")
    said = [f"{count:,} {word}" for kind, word in _COUNTED.items() if (count := differences.counts.get(kind))]
    yield Paragraph(f"Entries by path: {', '.join(said) or 'none could be compared'}.")
    if differences.listed:
        rows = [
            [shown_path(one.file), _DIFFERS[one.kind] + (f" {shown_path(one.to)}" if one.to is not None else "")]
            for one in differences.listed
        ]
        yield Table("The first paths of each kind", [Column("Path", "exact", 1), Column("Difference", "exact", 1)], rows)
    left = sum(differences.counts.get(kind, 0) for kind in _NAMED) - len(differences.listed)
    if left:
        yield Paragraph(f"{left:,} more are not listed here: `evidencesync diff` names them, and the manifests have all.", "note")
