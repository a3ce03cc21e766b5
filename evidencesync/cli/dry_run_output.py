"""What `push --dry-run` prints."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, Literal

from evidencesync.cli.number_format import kinds_text
from evidencesync.cli.outputs import FlaggedPath, Output
from evidencesync.cli.summary import alike_lines, empty_lines, flagged_lines, own_lines
from evidencesync.custody.wholeness import SourceState
from evidencesync.evidence.entry import Count, Remark
from evidencesync.evidence.number_format import count_text, size_text
from evidencesync.evidence.path import to_json_fields

if TYPE_CHECKING:
    from evidencesync.acquire.dry_run import DryRun
    from evidencesync.evidence.identity import ItemName
    from evidencesync.source.filters import FilterRules
    from evidencesync.vault.alike import AlikeNumbers

_REST: Final = "--json names the first 1,000 of each kind"


class DryRunOutput(Output, frozen=True):
    """What a push would take of a source. `files` and `bytes` are what would be read, by the sizes that the files state.

    `entries` counts all by type, `flags` by flag; `listed_not_there` are names of a list that are not there,
    folders on the way to them included. `flagged` is cut after 1000 paths. `filters` are the rules as a manifest
    would state them, and `left_out` counts what each of them leaves out (a folder with all that is in it as one).
    `alike_*`: as for a push, where the vault lies on this machine. `checked` and `not_checked` say how far this can be relied on.
    """

    case: str
    item: str
    dry_run: Literal[True]
    verdict: Literal["complete", "gaps"]
    files: Count
    bytes: Count
    entries: dict[str, Count]
    flags: dict[str, Count]
    listed_not_there: Count
    remarks: dict[Remark, Count]
    flagged: list[FlaggedPath]
    filters: list[str]
    left_out: dict[str, Count]
    alike_items: list[str]
    alike_cases: list[str]
    checked: list[str]
    not_checked: list[str]


_CHECKED: Final = ["names, types and sizes of everything in the source", "permissions to read it, as the system states them"]
_NOT_CHECKED: Final = [
    "the content: none of it was read, so nothing is known of bad sectors, or of changes while it is read",
    "the vault: it was not asked what it has, so what would travel may be much less; nor whether it would let you in",
]


def dry_run_output(name: ItemName, rules: FilterRules, seen: DryRun, alike: AlikeNumbers) -> DryRunOutput:
    """The survey as a document. `alike`: numbers of the vault that a new item may be mistaken for."""
    tally, entries = seen.tally, seen.tally.manifest
    gaps = SourceState.of(entries.flags, entries.remarks).verdict == "gaps"
    return DryRunOutput(
        case=name.case.text,
        item=name.item.text,
        dry_run=True,
        verdict="gaps" if gaps else "complete",
        files=seen.files,
        bytes=seen.size,
        entries=entries.counts,
        flags=entries.flags,
        listed_not_there=tally.not_there_count,
        remarks=entries.remarks,
        flagged=[FlaggedPath(flag, *to_json_fields(path)) for path, flag in tally.flagged],
        filters=rules.lines(),
        left_out=dict(seen.left_out),
        alike_items=alike.items,
        alike_cases=alike.cases,
        checked=_CHECKED,
        not_checked=_NOT_CHECKED,
    )


def dry_run_lines(
    name: ItemName, rules: FilterRules, output: DryRunOutput, seen: DryRun, *, everything: bool = False
) -> Iterator[str]:
    """The survey for people; with `everything` what filters leave out is named."""
    yield f"{name}: DRY RUN, nothing was sent and nothing written"
    yield f"  would read   {count_text(output.files, 'file')}, {size_text(output.bytes)}"
    yield f"  entries      {kinds_text(output.entries, output.flags)}"
    for line in output.filters:
        yield f"  filter       {line}{_effect(line, seen.left_out)}"
    yield from alike_lines(name, output.alike_items, output.alike_cases)
    yield from own_lines(rules)
    yield from empty_lines(seen.tally.manifest)
    yield from flagged_lines(seen.tally, rules, left_out=everything, rest=_REST)
    for line in output.checked:
        yield f"  checked      {line}"
    for line in output.not_checked:
        yield f"  NOT checked  {line}"


def _effect(line: str, left_out: Mapping[str, int]) -> str:
    """What a rule leaves out, where it could leave out something: a pattern that matches nothing may be mistyped."""
    if line in left_out:
        return f": leaves out {count_text(left_out[line], 'entry', 'entries')}"
    return ": leaves out nothing" if line.startswith("exclude ") and not line.startswith("exclude !") else ""
