"""Drafts a certificate for a court, as a file for a word processor (RTF): what was verified is filled in, all else is blank.

It is never signed here, and states nothing about the person who will sign it: the examiner of an acquisition may be another one.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from typing import Final, Literal

from evidencesync.custody.labels import agent_text, device_facts_text, digests_text, label_text, source_text
from evidencesync.evidence.display import person_text, safe_text, shell_text
from evidencesync.evidence.number_format import count_text, size_text, time_text
from evidencesync.report.blocks import Sink
from evidencesync.report.document import Acquisition, Item, Judgement, Report
from evidencesync.report.exhibits import gaps_text, not_read_again
from evidencesync.report.places import shown_path
from evidencesync.report.texts import WORDS
from evidencesync.report.timestamps import is_checked, timestamp_text
from evidencesync.report.verdicts import digests_left

Kind = Literal["certificate", "statement"]
_TITLE: Final = rb"\pard\qc\sb240\sa120\b\fs28 %s\b0\par" + b"\n"
_HEADING: Final = rb"\pard\keepn\sb200\sa80\b\fs22 %s\b0\par" + b"\n"
_TEXT: Final = rb"\pard\sa100\fs22 %s\par" + b"\n"
_NOTE: Final = rb"\pard\brdrb\brdrl\brdrr\brdrt\brdrs\sa160\i\fs20 %s\i0\par" + b"\n"
_FACT: Final = rb"\pard\li360\sa40\fs20 %s: %s\par" + b"\n"
_FORMS: Final = {"= ": _TITLE, "! ": _NOTE, "# ": _HEADING}
_HEAD: Final = (
    rb"{\rtf1\ansi\uc1\deff0{\fonttbl{\f0\froman Times New Roman;}}\paperw11906\paperh16838\margl1417\margr1417" + b"\n"
)

BLANK: Final = "______________________________"
DRAFT: Final = (
    "DRAFT, NOT SIGNED. A program has filled in facts from signed documents that it had verified, and nothing else. The "
    "person who signs, and counsel, complete every blank, and check and correct every statement. It is no legal advice, "
    "and no claim that a court will accept it. Delete this paragraph last."
)
COPYING: Final = (
    "The data was copied from the devices, storage media or files that the schedule names, with the tool and by the "
    "command that it names for each acquisition. For every file that was read, digests were computed, by the methods and at "
    "the moment that it names. A digest is a number that is computed from all bytes of a file; no two different files with the "
    "same SHA-256 are known. The digests of all files of an acquisition stand in one list, which the person who acquired "
    "them signed. The schedule names the SHA-256 of each list."
)
PASSED: Final = (
    "The verification that began on {moment} with {tool} covered {checked}. Every stored file had the size and the "
    "{digests} digest that its signed list states. Every list, receipt and custody record had a good signature, by a key"
    " that was trusted for it at the time, as {trust} said."
)
NOT_COMPUTED: Final = (
    " The lists also state {digests} digests: this verification did not compute them again, so nothing is certified of them here."
)
NOT_PASSED: Final = (
    "The verification that began on {moment} did NOT pass: its result is {word}. No fact that rests on it is filled in: "
    "see the report and its findings. What was verified, when, how, and with what result: {blank}"
)
NOT_COPYING: Final = "What was copied, when, how, and which digests were computed: {blank}"
_NAMED: Final = 20  # entries of one acquisition that are not whole
ALL_NAMES: Final = "All names and the reasons stand in the list of all files, whose SHA-256 is below."
EXCEPTIONS: Final = (
    "The schedule counts what could not be read at a source, and what changed while it was read, names the first of it, and "
    "says by which rules filters left something out. The list of all files has every name. Bytes in place of what could not be "
    "read are not evidence."
)
SCHEDULE: Final = (
    "From the signed documents of each acquisition, which were verified. Names, times and facts of devices are as stated there."
)
SCHEDULE_BLANK: Final = "Left blank, because the verification did not pass."
_LABELS: Final = (
    "Source",
    "Acquired by",
    "Organisation",
    "Started",
    "Received and stored",
    "Trusted timestamp",
    "Tool",
    "Command",
    "Digests taken",
    "Contents",
    "Not read, or not whole",
    "Left out by filters",
    "SHA-256 of the list of all files and their digests",
)


def write_certificate(report: Report, kind: Kind, out: Sink) -> None:
    """Writes the draft. Raises OSError."""
    text = resources.files("evidencesync.report").joinpath("templates", f"{kind}.txt").read_text("utf-8")
    copying = COPYING if _is_verified(report) else NOT_COPYING.format(blank=BLANK)
    filled = {"draft": DRAFT, "blank": BLANK, "copying": copying, "exceptions": EXCEPTIONS, "verification": _checked(report)}
    out.write(_HEAD)
    for paragraph in text.split("\n\n"):
        form, words = _FORMS.get(paragraph[:2], _TEXT), " ".join(paragraph.split())
        out.write(form % _rtf((words if form is _TEXT else words[2:]).format(**filled)))
    out.write(_HEADING % _rtf("Schedule: sources and copies"))
    out.write(_TEXT % _rtf(f"Case number of the examiners: {safe_text(report.case, 400)}"))
    out.write(_TEXT % _rtf(SCHEDULE if _is_verified(report) else SCHEDULE_BLANK))
    for item in report.items:
        for one in item.acquisitions:
            out.write(_HEADING % _rtf(f"Item {safe_text(item.item, 200)}, acquisition {one.number}"))
            for label, value in _facts(report, item, one):
                out.write(_FACT % (_rtf(label), _rtf(value)))
    out.write(b"}\n")


def _is_verified(report: Report) -> bool:
    return report.judgement.state == "pass"


def _checked(report: Report) -> str:
    """What was verified, when, and with what result: in these words only where all of it passed."""
    judgement = report.judgement
    moment = f"{judgement.checked_at[:10]} {judgement.checked_at[11:19]} UTC"
    if not _is_verified(report):
        return NOT_PASSED.format(word=WORDS[judgement.state][1], moment=moment, blank=BLANK)
    checked = judgement.checked
    parts = [
        count_text(checked.acquisitions, "acquisition"),
        count_text(checked.files, "file"),
        size_text(checked.bytes),
        count_text(checked.records, "custody record"),
    ]
    digests = digests_text(judgement.digests).replace(", ", " and ")
    trust = "a list from outside the vault" if judgement.trust == "outside" else "the vault's own lists"
    passed = PASSED.format(moment=moment, tool=report.tool, checked=", ".join(parts), digests=digests, trust=trust)
    left = digests_left(report)
    return passed + (NOT_COMPUTED.format(digests=digests_text(left)) if left else "")


def _facts(report: Report, item: Item, one: Acquisition) -> Iterator[tuple[str, str]]:
    """Facts from signed documents that were verified. A blank for each where they were not, or where a document has none."""
    known = dict(_known(report.judgement, item, one)) if _is_verified(report) and one.problem is None else {}
    for label in _LABELS:
        yield label, known.pop(label, "") or BLANK
    yield from known.items()


def _known(judgement: Judgement, item: Item, one: Acquisition) -> Iterator[tuple[str, str]]:
    header, footer, receipt = one.header, one.footer, one.receipt
    if header is None or footer is None or receipt is None:
        return
    yield "Source", source_text(header, 400, 2000)
    yield "Acquired by", person_text(header.examiner.name, header.examiner.principal, 200, 200)
    yield "Organisation", safe_text(header.examiner.organisation or "", 400)
    yield "Started", time_text(header.started)
    yield "Received and stored", time_text(receipt.finished)
    if not one.timestamped or is_checked(judgement, item, one.number):  # what nobody has checked is no fact
        yield "Trusted timestamp", timestamp_text(judgement, item, one)
    yield "Tool", f"{safe_text(header.method.tool, 200)} {safe_text(header.method.version, 200)}"
    yield "Command", shell_text(*header.method.command_line)
    if header.agent is not None:
        yield "Brought to the source's machine", agent_text(header.agent)
    where = {"source": "at the source, while it was read", "arrival": "on arrival, for nothing ran at the source"}
    yield "Digests taken", f"{digests_text(header.method.digests)}, {where[header.digests_taken_at]}"
    yield "Contents", f"{count_text(receipt.points.arrival.files, 'file')}, {footer.bytes:,} bytes"
    yield "Not read, or not whole", gaps_text(one) + _names(one)
    if (earlier := not_read_again(item, one)) is not None:
        yield "Not read again", earlier
    yield "Left out by filters", "; ".join(safe_text(rule, 400) for rule in header.method.filters) or "nothing: no filter was set"
    yield "SHA-256 of the list of all files and their digests", one.contents.manifest_sha256 or ""
    for label, value in device_facts_text(header.source.device or {}):
        yield f"Device: {label[:1].lower()}{label[1:]}", value
    for detail in item.known:
        yield f"As stated in custody record {detail.record}, {label_text(detail.name)}", safe_text(detail.value, 1000)


def _names(one: Acquisition) -> str:
    """The first entries that are not whole, how many more there are, and where all stand; empty without any."""
    contents = one.contents
    paths = dict.fromkeys([*(each.file for each in contents.flagged), *(each.file for each in contents.unread)])
    if not paths:
        return ""
    left = max(contents.flagged_count, len(paths)) - _NAMED
    more = f"; and {left:,} more" if left > 0 else ""
    return f": {'; '.join(shown_path(path, 400) for path in list(paths)[:_NAMED])}{more}. {ALL_NAMES}"


def _rtf(text: str) -> bytes:
    r"""Text for RTF: its own characters escaped, and what is beyond ASCII as `\uN`, in units of UTF-16."""
    return b"".join(map(_rtf_character, text))


def _rtf_character(character: str) -> bytes:
    if character in "\\{}":
        return b"\\" + character.encode()
    if " " <= character <= "~":
        return character.encode()
    units = character.encode("utf-16-le", "replace")
    codes = (int.from_bytes(units[place : place + 2], "little", signed=True) for place in range(0, len(units), 2))
    return b"".join(b"\\u%d?" % code for code in codes)
