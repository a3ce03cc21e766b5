"""Whether what was asked for leaves anything of a source: an acquisition of nothing is more often a mistake than evidence."""

from __future__ import annotations

from evidencesync.custody.tally import ManifestTally
from evidencesync.errors import NothingLeftError
from evidencesync.evidence.number_format import count_text
from evidencesync.source.filters import FilterRules


def leaves_nothing(rules: FilterRules, tally: ManifestTally, listed_folders: int = 0) -> bool:
    """Whether filters or a list have left no file, link or special file of a source. Folders alone are nothing.

    A source in which nothing was left out is not asked: an empty folder is evidence, too. A folder that a list names, and that is
    there, is what was wanted, whatever is in it.
    """
    if rules.takes_everything or tally.taken:
        return False
    is_filtered = not rules.is_empty and "skipped" in tally.flags
    return is_filtered or (rules.listed is not None and not listed_folders)


def refuse_nothing(rules: FilterRules, tally: ManifestTally, listed_folders: int = 0) -> None:
    """Raises NothingLeftError where filters or a list have left nothing."""
    if not leaves_nothing(rules, tally, listed_folders):
        return
    left_out = tally.flags.get("skipped", 0)
    if rules.listed is not None and (rules.is_empty or not left_out):
        raise NothingLeftError(
            f"nothing that the list of files names is in the source ({count_text(rules.listed.count, 'name')})",
            hint=rules.listed.hint,
        )
    raise NothingLeftError(
        f"the filters leave nothing of the source but folders (left out: {left_out})",
        hint="See what they mean with --dry-run. To acquire nothing on purpose, add --allow-empty.",
    )
