"""The sentences of a report, for HTML, PDF and tests, and the characters that its fonts can show."""

from __future__ import annotations

import re
from typing import Final

from evidencesync.evidence.number_format import count_text
from evidencesync.report.document import State
from evidencesync.report.fonts import Font

WORDS: Final[dict[State, tuple[str, str]]] = {
    "pass": ("✓", "PASS"),
    "fail": ("✗", "FAIL"),
    "incomplete": ("?", "INCOMPLETE"),
    "not-verified": ("?", "NOT VERIFIED"),
}
SENTENCES: Final[dict[State, str]] = {
    "pass": "Everything that was checked is as it was acquired and signed.",
    "fail": "Something is not as it was acquired, or not as it was signed. The findings say what, and where.",
    "incomplete": "Something could not be checked, so nothing is claimed of it. The findings say what.",
    "not-verified": "The verdict that was handed in is not about the present state of what this report shows.",
}
MEANS: Final[dict[State, list[str]]] = {
    "pass": [
        "Every manifest, receipt and custody record has a good signature, by a key that was trusted for it at the time.",
        "Of what was checked, no acquisition, file or custody record is missing up to the chain heads named below.",
    ],
    "fail": [
        "At least one check failed. What it means for the evidence stands beside each finding.",
        (
            "What was checked, and no finding names, is as it was acquired. A finding also says where something could not be "
            "checked, or where there are more findings than are listed."
        ),
    ],
    "incomplete": [
        "Nothing that was checked is wrong, but not all could be checked.",
        "Run the check again once the cause is removed; until then the verdict is open.",
    ],
    "not-verified": [
        "This report tells what the vault's documents state. Whether it is true was not checked.",
        "Make the report again without --verdict: then everything is checked first.",
    ],
}
DIGESTS_CHECKED: Final = (
    "Every stored file that was checked has the size and the {digests} digest that its signed manifest states."
)
NO_DIGEST_CHECKED: Final = "No digest of a stored file was computed."
DIGESTS_NOT_CHECKED: Final = (
    "Not computed again for this verdict: {digests}. The report shows them as the manifests state them. To check them, too: "
    "verify with --all-digests."
)
MEANS_NOT: Final[list[str]] = [
    "The verdict says nothing about what happened to the evidence before it was acquired.",
    "It says nothing about what the files contain, or whether that is true.",
    (
        "What people and machines have stated (names, notes, descriptions, times, commands) is shown as it stands in the "
        "documents. A check can find that it was changed since, not whether it is true."
    ),
    "Whether evidence is admitted, and what it weighs, is for the court to decide.",
]
NOT_COMPLETE: Final = (
    "{some} of {all}: not complete, because something could not be read at the source, or changed while it was read. See Gaps at "
    "the source."
)
NOT_KNOWN_WHETHER: Final = "{some} of {all}: not known whether complete, because a manifest cannot be read. See Findings."
ITEM_PROBLEM: Final = "Not all documents of this item are there, or can be read: {problem}. What is there is shown."
FILTERS_NOT_KNOWN: Final = "of {acquisitions} it is not known, because a manifest cannot be read"
MARKS: Final = ("✗ ", "? ", "! ")
WHOLE_ITEM: Final = "the item as a whole: its custody records and its folders"
WHOLE_VAULT: Final = "the vault as a whole"
LEFT_SOME_OUT: Final = "{some} of {all}: filtered, so that something may have been left out on purpose. See Left out by filters."
BY_VAULT: Final = (
    "The evidence was read by the vault itself, at {address} ({tool}), which signed what it found with its key {key}: what is "
    "said of stored files is its word. "
)
DOCUMENTS_HERE: Final = "Its documents were fetched, and checked by who made the verdict."
DOCUMENTS_THERE: Final = "Its documents, too, were checked by the vault itself."
OLD_VERDICT: Final = "The verdict was handed in as a file and not checked again: what happened to bytes since is not known."
OWN_LIST: Final = (
    "Who is trusted is stated by the vault itself. Whoever doubts the vault checks with a list of their own: see How to verify."
)
ROLES: Final = (
    "What a key may do is the vault's own rule, by records that the vault's key has signed. What was signed before a change is "
    "judged by what the key might do then."
)
OUTSIDE_LIST: Final = "Who is trusted was stated by a list from outside the vault."

POINTS: Final = {
    "source": "At the source, while it was read",
    "arrival": "On arrival, as it was put together",
    "disk": "From the vault's disk, read back",
}
MADE: Final = "What was acquired, how, and by whom"
SENT_AND_STORED: Final = "How it was received and stored, by the vault's receipt"
FROM_SOURCE_NOT_STATED: Final = "{size}; how much came from the source's machine, the receipt does not state"
CAPTURE_LACKS: Final = "did not come whole: {why}"
DURATION: Final = "{duration}, by the vault: from when it admitted the sender until it signed, with storing and reading back"
INTERRUPTIONS: Final = "{count:,}: links that were lost, and earlier attempts that were gone on from"
NOT_TAKEN: Final = {
    "source": "not taken: nothing of evidencesync ran there, and digests were taken on arrival",
    "arrival": "not taken",
    "disk": "not taken: SHA-256 is then the statement of the source alone",
}

AUTHORITY_CHECKED: Final = "its authority was checked: it leads to a root certificate that was given"
AUTHORITY_BY_VAULT: Final = "its authority was checked by the vault alone"
AUTHORITY_NO_ROOT: Final = "authority NOT CHECKED (no --tsa-root): anybody can make a timestamp with any name and time"
AUTHORITY_NOT_CHECKED: Final = "authority NOT CHECKED"
TIMESTAMP_WRONG: Final = "{mark} not a good timestamp: see Findings"

NO_GAPS: Final = "none: all that was to be read was read whole, and nothing changed while it was read"
NOT_FILTERED: Final = "nothing: there were no filters"
FILTERED: Final = "{what}; filters were set for {acquisitions}, whose pages have the rules"
LEFT_OUT: Final = (
    "They left out {counts}, as far as that was met: what lies in a folder that was left out was not looked at, nor counted. "
    "The names stand in the manifest, with the remark skipped."
)
NOTHING_LEFT_OUT: Final = "No entry is marked as left out."
TYPES_AS_IN: Final = "Bytes by the ending of the files' names: as in acquisition {number}."
WHOLE_ELSEWHERE: Final = " The same content is whole in acquisition {number}{there}."
WRONG_FILE: Final = "✗ not as it was acquired: see Findings"
NOT_CHECKED_FILE: Final = "? not checked: see Findings"
READ_IN_PART: Final = "could only be read in part"
CAPTURED: Final = "Read once, as it came, from standard input or a command's output. It cannot be read again at the source."
NOT_KEPT: Final = "could not be read: the vault has no content of it"
GAPS: Final = "What could not be read is recorded as such: bytes that stand in its place are not evidence."
FILES_IN_PDF: Final = "The first {shown:,} of {total:,} are shown. The full list is manifest.jsonl, whose SHA-256 is {digest}."
EVERY_RECORD: Final = "Every record of the chain, and whose key signed it (keys are cut here, and whole under Signers and trust)"
ROWS_LEFT_OUT: Final = "{left:,} more rows stand in the HTML report and in the JSON report"
ALL_FILES_IN_PDF: Final = "{all}. The full list with all metadata is manifest.jsonl, whose SHA-256 is {digest}."
FILES_IN_HTML: Final = "{all}; the full list with all metadata is manifest.jsonl, whose SHA-256 is {digest}."
NOT_IN_PRINT: Final = "a print shows no more; all are in this file, where a browser shows them page by page"
NO_FILES: Final = (
    "The names of all files stand in the manifests, which are attached to this file unless the last page says otherwise. The "
    "SHA-256 of each stands at its acquisition. A report made with --files shows the lists, and so does an HTML report."
)
VOLUME: Final = "{number} of {total}. The verdict and the figures below are of all volumes; the table is of this one."
VOLUMES: Final = (
    "This report has more acquisitions than one PDF holds, and is one document in several files. Volume 1 was written last: it "
    "names the digests of the others, so that whoever has volume 1 can tell whether the others belong to it. The findings, "
    "whom the report trusts, and its limits stand in volume 1 alone."
)
DIGEST_ELSEWHERE: Final = "SHA-256: see volume 1"
CONTINUED: Final = "What is known of this item, and its custody, stand in the volume in which the item begins."
CONTENTS: Final = "Contents"
ATTACHED_HEADING: Final = "About this file"
FONTS: Final = "Fonts of the machine that made this file, beside those that every report has: {families}."
NOT_SHAPED: Final = (
    "Names are set from left to right as a whole, Arabic and Hebrew words in them from right to left, with letters that join. "
    "A name that goes from right to left and back may be read in more than one order. Chinese, Japanese and Korean share one "
    "font: some characters have the form that is usual in China. The exact bytes stand in the manifest."
)
NO_GLYPHS: Final = (
    "{count:,} different characters are shown by their numbers, as \\u{{N}}, because no font of that machine has them. "
    "The Debian packages fonts-noto-core and fonts-noto-cjk have most."
)
ALL_GLYPHS: Final = "Each character that may be shown is shown as it is."
ATTACHED: Final = "{count:,} documents are attached as they lie in the vault: manifests, receipts, custody records, signatures."
NOT_ATTACHED: Final = "NOT attached, because too large for this file, missing or not readable: {count:,}. See the vault: {names}"

GLOSSARY_CAPTION: Final = "What they mean in this report"
GLOSSARY: Final[list[tuple[str, str]]] = [
    ("acquisition", "One completed transfer of an item into the vault. It is numbered and never changed."),
    ("case, item", "The case number, and the exhibit number within it."),
    (
        "chain head",
        "The digest of the last custody record. Who has it from an independent place can tell if records are missing.",
    ),
    ("custody record", "A numbered, signed statement about an item. Each names the digest of the one before it."),
    ("digest", "A number computed from bytes. If one bit changes, it becomes another. Here: BLAKE3 and SHA-256."),
    ("finding", "One result of a check. An error fails the verdict or leaves it open; a warning or an information does not."),
    ("fingerprint for the notebook", "The first 20 digits of the manifest's SHA-256: short enough to be written down by hand."),
    ("manifest", "The signed list of all that was seen at the source, with digests, sizes, times and owners."),
    ("receipt", "The vault's signed statement of what it holds on its disk."),
    ("source", "The folder, file or disk that was read."),
    (
        "started, finished, received",
        (
            "When an acquisition began at the source, when all was read there, and when the vault had stored it and signed for "
            "it. A custody record has the time at which it was written."
        ),
    ),
    ("vault", "The folder that keeps evidence. It has a key of its own, with which it signs receipts and records."),
]
LIMITS: Final[list[str]] = [
    (
        "A chain of records cannot show that its end was cut off. Compare the chain heads with one that was kept elsewhere: "
        "a receipt, a notebook, an earlier report."
    ),
    "Times are those of the clocks of the machines that wrote them, unless a timestamp is named whose authority was checked.",
    "A signature shows that a key was used, not who used it.",
    "Strip maps are made from the recipes that were stored with an acquisition. They show where to look; they prove nothing.",
    "File types are told by the ending of a name, and by nothing else.",
    (
        "Names are shown safely: control and invisible characters, marks beyond the 16th on a letter, and characters that no "
        "font of this document has, appear as \\xNN, \\uNNNN or \\u{N}, a backslash as two."
    ),
]
VERIFY_INTRO: Final = (
    "With bash, ssh-keygen, sha256sum and b3sum alone, in the vault's folder. Two files must come from you, not from the vault; "
    "write their full paths where my_signers and revoked stand. my_signers has one line for each examiner's key, and one for the "
    "vault's: they stand below, each under the fingerprint of its key. The second word of the owner's .pub file takes the place "
    "of KEY. revoked has one line for each key that counts for nothing; it may be empty. Compare the keys with their owners, "
    "over another channel."
)
VERIFY_SIGNERS: Final = "The lines of my_signers:"
VERIFY_WHICH: Final = "For one acquisition after the other, type its line:"
VERIFY_STEPS: Final = "and after it these steps:"
VERIFY_REST: Final = (
    "Each of the two lines by ssh-keygen begins with Good. The digests that the last step prints must be those in receipt.json."
)
VERIFY_REPORT_SIGNER: Final = "This report is signed, too. my_signers needs the line of its signer:"
VERIFY_REPORT: Final = "Its signature lies beside it. In the folder of both, this prints a line that begins with Good:"
WHAT_TO_DO: Final = "For whoever keeps the vault, or has it checked. In commands, VAULT is the vault's folder:"


# Found by setting each character in PDF/A with typst 0.15; a test sets all of them again. Left out: scripts that are written
# from right to left, for they would reorder what stands beside them.
_COVERED: Final = """
0020-007E
00A1-00AC 00AE-0377 037A-037F 0384-038A 038C 038E-03A1 03A3-0487 048A-04FF 0510-0513 051A-051D 1D00-1F15
1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FC4 1FC6-1FD3 1FD6-1FDB
1FDD-1FEF 1FF2-1FF4 1FF6-1FFE 2010-2027 2030-2040 2042 2044-2052 2054-205E 2070-2071 2074-208E 2090-209C
20A0-20C0 20D0-20DC 20E1 20E5-20F0 2100-211E 2120 2122 2124 2126-2151 2153-2184 2189 2190-23FF 2422-2423
2460-262F 2638-268B 2690-269C 26A0-26A7 26AA-26B2 2701-2704 2706-2709 270C-2727 2729-274B 274D 274F-2752 2756
2758-275E 2761-277F 2794 2798-27AF 27B1-2B73 FB00-FB06
"""


def _character_class() -> str:
    parts = [part.partition("-") for part in _COVERED.split()]
    return "".join(f"\\U{int(first, 16):08x}-\\U{int(last or first, 16):08x}" for first, _, last in parts)


_BEYOND_ASCII: Final = re.compile("[^ -~]")
_REFUSED: Final = re.compile(f"[^{_character_class()}]")


def covered() -> list[str]:
    """Every character that is shown as it is."""
    parts = [part.partition("-") for part in _COVERED.split()]
    return [chr(code) for first, _, last in parts for code in range(int(first, 16), int(last or first, 16) + 1)]


def every_entry(total: int) -> str:
    """Says that a list has all of so many entries."""
    return "The only entry" if total == 1 else f"All {count_text(total, 'entry', 'entries')}"


def drawable(text: str) -> str:
    r"""`text` with each character that no font has as `\u{HEX}`. Text that is safe to show has no single backslash of its own."""
    return text if text.isascii() and text.isprintable() else _REFUSED.sub(_number, text)


class Glyphs:
    """Shows texts by the fonts of one PDF, and keeps which characters none of them has.

    `fonts` are those beside the PDF's own; None is for own fonts of which nothing is known, and shows printable ASCII alone.
    """

    def __init__(self, fonts: list[Font] | None) -> None:
        self.is_plain = fonts is None
        self.missing: set[str] = set()
        self._fonts = fonts or []
        self._more: frozenset[str] = frozenset().union(*(font.characters for font in self._fonts))
        self._used: set[str] = set()

    @property
    def families(self) -> list[str]:
        """The fonts that what was shown so far needs, beside the PDF's own."""
        return [font.family for font in self._fonts if not self._used.isdisjoint(font.characters)]

    def __call__(self, text: str) -> str:
        """The text, with a number for each character that no font has."""
        if text.isascii() and text.isprintable():
            return text
        return (_BEYOND_ASCII if self.is_plain else _REFUSED).sub(self._shown, text)

    def _shown(self, match: re.Match[str]) -> str:
        if match[0] in self._more:
            self._used.add(match[0])
            return match[0]
        self.missing.add(match[0])
        return _number(match)


def plain(text: str) -> str:
    r"""`text` with each character beyond printable ASCII as `\u{HEX}`: what every font has."""
    return _BEYOND_ASCII.sub(_number, text)


def _number(match: re.Match[str]) -> str:
    return f"\\u{{{ord(match[0]):x}}}"
