from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.errors import UsageError
from evidencesync.source.filters import FilterRules
from evidencesync.source.walker import walk

TREE = [
    "a.log",
    "a.tmp",
    "keep/a.tmp",
    "keep/deep/b.tmp",
    "keep/note.txt",
    "logs/app/1.log",
    "logs/app/2.txt",
    "logs/keep.txt",
    "node/x/y/z.o",
    "sub/logs",
    "x y.txt",
    "ü.txt",
    "[odd]",
    "!bang",
    "#hash",
]


def build(root: Path) -> None:
    for name in TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def kept(root: Path, rules: FilterRules) -> set[str]:
    return {os.fsdecode(found.path) for found in walk(root, rules) if found.flag is None and found.entry_type != "directory"}


def skipped(root: Path, rules: FilterRules) -> list[str]:
    return [os.fsdecode(found.path) for found in walk(root, rules) if found.flag == "skipped"]


def test_without_patterns_nothing_is_asked_or_left_out(tmp_path: Path) -> None:
    build(tmp_path)
    for rules in (FilterRules.none(), FilterRules.from_patterns()):
        assert rules.is_empty
        assert rules.lines() == []
        assert not rules.leaves_out(b"a", is_folder=False)
        assert kept(tmp_path, rules) == set(TREE)


@pytest.mark.parametrize(
    ("excludes", "includes", "left_out"),
    [
        (["*.tmp"], [], ["a.tmp", "keep/a.tmp", "keep/deep/b.tmp"]),
        (["/*.tmp"], [], ["a.tmp"]),
        (["logs"], [], ["logs", "sub/logs"]),
        (["logs/"], [], ["logs"]),
        (["/logs/app"], [], ["logs/app"]),
        (["logs/*.txt"], [], ["logs/keep.txt"]),
        (["node/**/z.o"], [], ["node/x/y/z.o"]),
        (["*.tmp", "!b.tmp"], [], ["a.tmp", "keep/a.tmp"]),
        (["!b.tmp", "*.tmp"], [], ["a.tmp", "keep/a.tmp", "keep/deep/b.tmp"]),
        (["*.tmp"], ["b.tmp"], ["a.tmp", "keep/a.tmp"]),
        (["logs/"], ["logs/keep.txt"], ["logs/app"]),
        (["logs/"], ["logs/app/*.log"], ["logs/app/2.txt", "logs/keep.txt"]),
        (["?.txt"], [], ["logs/app/2.txt", "ü.txt"]),
        ([r"\[odd]", r"\!bang", r"\#hash"], [], ["!bang", "#hash", "[odd]"]),
        (["[!a-z]*"], ["ü*"], ["!bang", "#hash", "[odd]", "logs/app/1.log", "logs/app/2.txt"]),
        (["x y.txt"], [], ["x y.txt"]),
        ([], ["*.log"], []),
    ],
)
def test_what_the_rules_leave_out_is_flagged_and_a_folder_only_once(
    tmp_path: Path, excludes: list[str], includes: list[str], left_out: list[str]
) -> None:
    build(tmp_path)
    rules = FilterRules.from_patterns(excludes, includes)
    assert skipped(tmp_path, rules) == left_out


def test_an_include_finds_what_lies_deep_below_what_is_left_out(tmp_path: Path) -> None:
    build(tmp_path)
    for includes in (["*.log"], ["*.log", "*/"]):
        assert kept(tmp_path, FilterRules.from_patterns(["*"], includes)) == {"a.log", "logs/app/1.log"}
    assert kept(tmp_path, FilterRules.from_patterns(["*"], ["/logs/*/*.txt"])) == {"logs/app/2.txt"}
    assert "node/x" not in skipped(tmp_path, FilterRules.from_patterns(["*"], ["/logs/*/*.txt"]))
    assert kept(tmp_path, FilterRules.from_patterns(["*"], ["**/y/**"])) == {"node/x/y/z.o"}


def test_an_included_folder_is_kept_with_all_that_is_in_it(tmp_path: Path) -> None:
    build(tmp_path)  # git would leave logs/app out again: where the two differ, more is kept
    assert {"logs/app/1.log", "logs/app/2.txt", "logs/keep.txt"} < kept(tmp_path, FilterRules.from_patterns(["*/"], ["logs/"]))


def test_skipped_entries_keep_their_metadata(tmp_path: Path) -> None:
    build(tmp_path)
    for found in walk(tmp_path, FilterRules.from_patterns(["*"])):
        assert found.stat is not None
        assert found.stat.st_ino == (tmp_path / os.fsdecode(found.path)).lstat().st_ino
        assert found.flag == ("skipped" if found.path else None)


def test_a_single_file_can_be_left_out_too(tmp_path: Path) -> None:
    (tmp_path / "a.tmp").write_bytes(b"")
    assert [found.flag for found in walk(tmp_path / "a.tmp", FilterRules.from_patterns(["*.tmp"]))] == [None, "skipped"]


def test_names_with_line_breaks_are_matched_exactly() -> None:
    rules = FilterRules.from_patterns(["*.tmp", "a\nb", "deep/**/x"])
    assert not rules.leaves_out(b"a.tmp\n", is_folder=False)
    assert rules.leaves_out(b"\n.tmp", is_folder=False)
    assert rules.leaves_out(b"a\nb", is_folder=False)
    assert rules.leaves_out(b"deep/\n/\n\n/x", is_folder=False)
    assert FilterRules.from_patterns(["*"]).leaves_out(b"\n", is_folder=False)


def test_names_that_are_not_utf8_can_be_named() -> None:
    rules = FilterRules.from_patterns([os.fsdecode(b"\xff*"), "?.bin"])
    assert rules.leaves_out(b"\xff\xfe.txt", is_folder=False)
    assert rules.leaves_out(b"d/\xfe.bin", is_folder=False)
    assert rules.leaves_out("ü.bin".encode(), is_folder=False)  # one character, two bytes
    assert not rules.leaves_out(b"\xfe\xff.txt", is_folder=False)


@pytest.mark.parametrize("pattern", ["", " ", "/", "# comment", "!", "a[b", "end\\", "[z-a]", "[[:digit:]]*"])
def test_a_pattern_that_could_never_match_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        FilterRules.from_patterns(excludes=["*.log", pattern])


def test_an_include_is_never_a_double_negation() -> None:
    with pytest.raises(UsageError, match="may not begin with"):
        FilterRules.from_patterns(includes=["!a"])


def test_the_header_states_the_rules_without_control_characters() -> None:
    rules = FilterRules.from_patterns(["*.tmp", os.fsdecode(b"\x1b\xff\n")], ["keep.tmp"])
    assert rules.lines() == ["exclude *.tmp", r"exclude \x1b\xff\x0a", "include keep.tmp"]


@pytest.mark.parametrize(
    "patterns",
    [
        ["*.tmp"],
        ["logs"],
        ["logs/"],
        ["/logs/app"],
        ["logs/*.txt"],
        ["**/y"],
        ["node/**"],
        ["*.t[mx][pt]"],
        ["x y.txt", "keep/*/"],
        ["*.tmp", "!a.tmp", "keep/a.tmp"],
        ["*/", "!logs/", "!logs/keep.txt", "app/"],
        [r"\#hash", r"\!bang", "[[]odd]"],
    ],
)
def test_excludes_mean_what_git_says_they_mean(
    tmp_path: Path, patterns: list[str], require_program: Callable[[str], str]
) -> None:
    git = require_program("git")
    build(tmp_path)
    files = sorted(kept(tmp_path, FilterRules.none()))
    with_rules = kept(tmp_path, FilterRules.from_patterns(patterns))
    subprocess.run([git, "init", "-q", tmp_path], check=True)
    (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
    asked = subprocess.run(
        [git, "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"],
        input="\0".join(files).encode(),
        capture_output=True,
        check=False,
    )
    assert asked.returncode in {0, 1}, asked.stderr  # 1: none is ignored
    ignored = set(asked.stdout.decode().split("\0")) - {""}
    assert with_rules == set(files) - ignored


PATTERNS = st.lists(
    st.from_regex(r"!?/?(\*\*/)?[ab*?]{1,3}(/[ab*?]{1,2}){0,2}(/\*\*)?/?", fullmatch=True).filter(lambda text: text != "!/"),
    min_size=1,
    max_size=4,
)
INCLUDES = st.lists(st.from_regex(r"/?(\*\*/)?[ab*?]{1,3}(/[ab*?]{1,2}){0,2}/?", fullmatch=True), max_size=3)
SMALL_TREE = [
    "/".join(parts)
    for parts in [("a",), ("b", "a"), ("ab", "a"), ("ab", "b", "a"), ("bb", "a", "ab", "b"), ("ba", "b"), ("aa", "aa", "aa")]
]


@pytest.mark.slow
@given(excludes=PATTERNS, includes=INCLUDES)
def test_no_file_that_the_rules_keep_is_lost_below_a_skipped_folder(
    tmp_path_factory: pytest.TempPathFactory, excludes: list[str], includes: list[str]
) -> None:
    root = tmp_path_factory.getbasetemp() / "small-tree"
    for name in SMALL_TREE:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    rules = FilterRules.from_patterns(excludes, includes)
    expected = {name for name in SMALL_TREE if not rules.leaves_out(name.encode(), is_folder=False)}
    assert kept(root, rules) == expected
