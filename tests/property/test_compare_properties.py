"""`compare` against a naive oracle, and against hashdeep where the two mean the same: random trees, and what becomes of them."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evidencesync.compare.folder import CompareRequest, compare_folder
from evidencesync.compare.store import Category, Compared
from evidencesync.verify.context import VerifyProgress
from tests.support.manifest_of_a_folder import write_manifest
from tests.support.soak import often

Tree = dict[str, bytes]
NAMES: Final = ("a", "b", "c", "d", "a-b", "x/a", "x/b", "x/y/a", "x-y", "z")
CONTENTS: Final = st.sampled_from([b"", b"one", b"two", b"six", b"three"])
EDITS: Final = st.tuples(
    st.sampled_from(["write", "move", "copy", "remove"]), st.sampled_from(NAMES), st.sampled_from(NAMES), CONTENTS
)


def edited(tree: Tree, edits: list[tuple[str, str, str, bytes]]) -> Tree:
    """The tree after some things happened to it."""
    after = dict(tree)
    for what, name, other, content in edits:
        if what == "write":
            after[name] = content
        elif name in after:
            if what == "remove":
                del after[name]
            elif what == "copy":
                after[other] = after[name]
            else:
                after[other] = after.pop(name)
    return after


def write_tree(folder: Path, tree: Tree) -> None:
    folder.mkdir()
    for name, content in tree.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def compared(folder: Path, before: Tree, after: Tree) -> Compared:
    write_tree(folder / "before", before)
    write_tree(folder / "after", after)
    manifest = write_manifest(folder / "manifest.jsonl", folder / "before")
    return compare_folder(CompareRequest(manifest, folder / "after"), VerifyProgress(), 0)


def expected_counts(before: Tree, after: Tree) -> Counter[Category]:
    """What should be said, as plainly as it can be put: by whole trees in memory, one content after the other."""
    counts: Counter[Category] = Counter()
    lost: dict[bytes, list[str]] = defaultdict(list)
    for name, content in before.items():
        if name not in after:
            lost[content].append(name)
        elif after[name] == content:
            counts[Category.MATCHED] += 1
        else:
            counts[Category.MODIFIED] += 1
    gone = {content: len(names) for content, names in lost.items()}
    replaced = Counter(content for name, content in before.items() if name in after and after[name] != content)
    turned_up = Counter(content for name, content in after.items() if name not in before)
    for content in {*gone, *turned_up}:
        there, missing = turned_up[content], gone.get(content, 0)
        can_move = 0 if not content else min(there, missing + replaced[content])
        counts[Category.MOVED] += can_move
        counts[Category.MISSING] += missing - min(can_move, missing)
        left = there - can_move
        is_listed = content and content in before.values()
        counts[Category.DUPLICATED if is_listed else Category.NEW] += left
    return +counts


@settings(max_examples=often(40, 2400))
@given(before=st.dictionaries(st.sampled_from(NAMES), CONTENTS), edits=st.lists(EDITS, max_size=8))
def test_random_edits_are_called_what_an_oracle_calls_them(before: Tree, edits: list[tuple[str, str, str, bytes]]) -> None:
    after = edited(before, edits)
    with tempfile.TemporaryDirectory() as folder:
        outcome = compared(Path(folder), before, after)
    assert +outcome.files - Counter({Category.METADATA: outcome.files[Category.METADATA]}) == expected_counts(before, after)
    assert (outcome.listed, outcome.found) == (len(before), len(after))
    for one in outcome.differences:
        path, listed = one.path.decode(), None if one.listed is None else one.listed.decode()
        if one.group == "files" and one.category in (Category.MOVED, Category.DUPLICATED):
            assert listed is not None
            assert before[listed] == after[path]
            assert path not in before
        if one.group == "files" and one.category is Category.MOVED:
            assert after.get(listed or "") != after[path]
        if one.category is Category.MODIFIED and listed is not None:
            assert before[listed] == after[path]
    moved_from = [one.listed for one in outcome.differences if one.category is Category.MOVED]
    assert len(moved_from) == len(set(moved_from))  # a name is left once


@settings(max_examples=often(15, 500))
@given(before=st.sets(st.sampled_from(NAMES), min_size=1), edits=st.lists(EDITS, max_size=6))
def test_the_counts_are_those_of_hashdeep_where_no_two_files_are_equal(
    before: set[str], edits: list[tuple[str, str, str, bytes]], hashdeep: str
) -> None:
    """With equal files the two differ on purpose: hashdeep has no word for a copy, and an empty file can move."""
    known = {name: b"content of " + name.encode() for name in before}
    after = edited(known, [(what, name, other, content + b"!") for what, name, other, content in edits if what != "copy"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        outcome = compared(folder, known, after)
        list_of_known = subprocess.run([hashdeep, "-rl", "."], cwd=folder / "before", capture_output=True, check=True)
        (folder / "known.txt").write_bytes(list_of_known.stdout)
        audit = [hashdeep, "-rl", "-a", "-vv", "-k", str(folder / "known.txt"), "."]
        said = subprocess.run(audit, cwd=folder / "after", capture_output=True, check=False, text=True).stdout
    theirs = {what.strip(): int(count) for what, count in re.findall(r"^\s*([A-Z][a-z ]+): (\d+)$", said, re.MULTILINE)}
    files = outcome.files
    known_again = sum(one.category is Category.MODIFIED and one.listed is not None for one in outcome.differences)
    away = {one.listed for one in outcome.differences if one.listed is not None}
    lost = {
        one.path for one in outcome.differences if one.category in (Category.MODIFIED, Category.MISSING) and one.group == "files"
    }
    assert theirs["Files matched"] == files[Category.MATCHED]
    assert theirs["Files moved"] == files[Category.MOVED] + files[Category.DUPLICATED] + known_again
    assert theirs["New files found"] == files[Category.NEW] + files[Category.MODIFIED] - known_again
    assert theirs["Known files not found"] == len(lost - away)


@pytest.fixture(scope="module")
def hashdeep(require_program: Callable[[str], str]) -> str:
    return require_program("hashdeep")
