"""What a comparison of a folder with a manifest says."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Literal

from evidencesync.errors import ExitCode, most_severe

Group = Literal["files", "others"]
"""`others` are folders, symbolic links, FIFOs, sockets and devices."""


class Category(StrEnum):
    """What becomes of an entry of the manifest or of the folder. Each regular file that is found gets exactly one.

    `modified`: the name is there with other content, as another kind, or (a link, a device) leading elsewhere. `moved`:
    listed content under another name, while its own name is gone or has other content. `duplicated`: a further copy of
    listed content under a name that is not listed. `missing`, `new`: what is left over on either side. `unreadable`: it,
    or the folder it should be in, cannot be read, or could not be at the source. `not-compared`: a filter left it out when
    the manifest was made; or it was listed without content, and is not there. `metadata`: the same but for mode, owner,
    time, links or attributes.
    """

    MATCHED = "matched"
    MODIFIED = "modified"
    MOVED = "moved"
    DUPLICATED = "duplicated"
    MISSING = "missing"
    NEW = "new"
    UNREADABLE = "unreadable"
    NOT_COMPARED = "not-compared"
    METADATA = "metadata"


_CODES: Final = {
    Category.MODIFIED: ExitCode.DIGEST,
    Category.METADATA: ExitCode.DIGEST,
    Category.MOVED: ExitCode.MISSING_OR_EXTRA,
    Category.DUPLICATED: ExitCode.MISSING_OR_EXTRA,
    Category.MISSING: ExitCode.MISSING_OR_EXTRA,
    Category.NEW: ExitCode.MISSING_OR_EXTRA,
    Category.UNREADABLE: ExitCode.GAPS,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it is listed.

    `path` is where it was found, or should be. `listed` is a name under which the manifest lists the content that was
    found: of what was moved or copied its old name. `detail` is for people, and safe to show.
    """

    category: Category
    group: Group
    path: bytes
    listed: bytes | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ManifestFacts:
    """Which manifest a folder was compared with. Without a `signer` nobody vouches for it: it was not verified.

    `over_sftp`: nobody told its maker of attributes, nor of times below a second.
    """

    sha256: str
    case: str
    item: str
    acquisition: int
    examiner: str
    signer: str | None
    key: str | None
    over_sftp: bool = False


@dataclass(slots=True)
class Compared:
    """The outcome. `listed` and `found` are regular files; `bytes` those that were hashed; `left_out` differences not kept.

    `metadata` counts differences by what differs, among entries that are the same otherwise; None where metadata means
    nothing, because the folder is an acquisition's `data/`. `judged`: those differences count as such. In `changed_folders`
    names came or went after they were listed, so that it is not known in full what is in them.
    """

    facts: ManifestFacts
    is_data: bool
    judged: bool
    listed: int = 0
    found: int = 0
    bytes: int = 0
    files: Counter[Category] = field(default_factory=Counter)
    others: Counter[Category] = field(default_factory=Counter)
    absent_by_design: int = 0
    changed_folders: int = 0
    metadata: Counter[str] | None = None
    differences: list[Difference] = field(default_factory=list)
    left_out: int = 0

    def counts(self, group: Group) -> Counter[Category]:
        """The counts of one group."""
        return self.files if group == "files" else self.others

    @property
    def exit_code(self) -> ExitCode:
        """The most severe of all differences. Of metadata only where it is judged."""
        met = {category for counts in (self.files, self.others) for category, count in counts.items() if count}
        if not self.judged:
            met.discard(Category.METADATA)
        codes = {_CODES.get(category, ExitCode.COMPLETE) for category in met}
        return most_severe(codes | {ExitCode.SOURCE_CHANGED} if self.changed_folders else codes)
