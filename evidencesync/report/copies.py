"""Finds where else the content of a damaged file is whole: in another acquisition of the same item, by the same check."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from evidencesync.errors import EvidenceSyncError
from evidencesync.evidence.entry import Entry
from evidencesync.report.document import PathPair, WholeCopy
from evidencesync.report.manifests import path_pair
from evidencesync.report.places import acquisition_folder, evidence_place, nearest
from evidencesync.vault.catalog import read_published
from evidencesync.vault.layout import ItemLayout
from evidencesync.verify.findings import Verdict


def whole_copies(layout: ItemLayout, folder: str, checked: list[int], verdict: Verdict) -> dict[int, list[WholeCopy]]:
    """For each acquisition its damaged files whose content another one has whole: the next later one, else the last before it.

    `checked`: the acquisitions that the verdict is about, each with its content. Of one about whose documents there is an error,
    and where not all findings are listed, nothing is claimed. Raises nothing.
    """
    damaged = {number: damaged_paths(folder, number, verdict) for number in checked}
    if not any(damaged.values()) or "blake3" not in verdict.digests or any(one.slug == "not-listed" for one in verdict.findings):
        return {}
    sound = [number for number in checked if not _has_other_errors(number, verdict)]
    wanted = {number: dict(_contents(layout, number, damaged[number])) for number in checked if damaged[number]}
    digests = {blake3 for contents in wanted.values() for blake3 in contents.values()}
    found = _find(layout, sound, digests, damaged)
    return {
        number: [
            WholeCopy(path_pair(raw), *copy)
            for raw, blake3 in sorted(contents.items())
            if (copy := _nearest(number, found.get(blake3, {}))) is not None
        ]
        for number, contents in wanted.items()
    }


def damaged_paths(folder: str, number: int, verdict: Verdict) -> set[bytes]:
    """The paths of the evidence of an acquisition that errors are about."""
    places = [place for one in verdict.findings if one.severity == "error" and (place := evidence_place(one)) is not None]
    return {place.path for place in places if place.folder == acquisition_folder(folder, number)}


def _has_other_errors(number: int, verdict: Verdict) -> bool:
    """Whether there is an error about an acquisition, of any item, that is not about one file of its evidence."""
    return any(one.severity == "error" and one.acquisition == number and evidence_place(one) is None for one in verdict.findings)


def _contents(layout: ItemLayout, number: int, paths: set[bytes] | None = None) -> Iterator[tuple[bytes, str]]:
    """Paths and digests of the contents of a manifest, as far as it can be read."""
    try:
        for raw, line in read_published(layout, number):
            if isinstance(line, Entry) and line.blake3 is not None and (paths is None or raw in paths):
                yield raw, line.blake3
    except EvidenceSyncError:
        return


def _find(
    layout: ItemLayout, sound: list[int], digests: set[str], damaged: Mapping[int, set[bytes]]
) -> dict[str, dict[int, PathPair]]:
    """By digest, in which acquisitions there is a whole file with this content, and the first such file."""
    found: dict[str, dict[int, PathPair]] = {}
    for number in sound if digests else ():
        wrong = dict.fromkeys(damaged[number], True)
        for raw, blake3 in _contents(layout, number):
            if blake3 in digests and not nearest(wrong, raw):
                found.setdefault(blake3, {}).setdefault(number, path_pair(raw))
    return found


def _nearest(number: int, found: Mapping[int, PathPair]) -> tuple[int, PathPair] | None:
    """The next acquisition after `number` that is among the found ones, else the last one before it, else itself."""
    later, earlier = [one for one in found if one > number], [one for one in found if one <= number]
    chosen = min(later) if later else max(earlier, default=0)
    return (chosen, found[chosen]) if chosen else None
