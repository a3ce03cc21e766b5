"""Pairs of --exclude and --include over one small tree: what is taken, and where git and rsync answer the same."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.source.filters import FilterRules, parse_pattern
from evidencesync.source.walker import walk

TREE = (
    ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep.txt other/keep/d.log".split()
)

# Excludes, includes, what is taken; and who answers the same: g (git, with the includes as last lines that begin with `!`), r
# (rsync, which takes the first rule that matches: the includes first, then the excludes from the last to the first).
PAIRS = [
    ("*", "", "", "gr"),
    ("*.txt", "", ".hidden b.log keep/b.log other/keep/d.log", "gr"),
    ("*.log *.txt", "", ".hidden", "gr"),
    (
        "/*.txt",
        "",
        ".hidden b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    ("keep", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep.txt", "gr"),
    ("keep/", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep.txt", "gr"),
    ("/keep", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep/d.log other/keep.txt", "gr"),
    ("/keep/", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep/d.log other/keep.txt", "gr"),
    ("keep/*", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep/d.log other/keep.txt", "g"),
    ("keep/**", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep/d.log other/keep.txt", "g"),
    ("**/keep", "", ".hidden a.txt b.log deep/x/y/z.txt other/a.txt other/keep.txt", "gr"),
    (
        "**/sub/c.txt",
        "",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    (
        "deep/**/z.txt",
        "",
        ".hidden a.txt b.log keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    (
        "deep/*/z.txt",
        "",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    ("other/*.txt", "", ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log", "gr"),
    ("sub", "", ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log other/a.txt other/keep/d.log other/keep.txt", "gr"),
    ("*/", "", ".hidden a.txt b.log", "gr"),
    ("/*/", "", ".hidden a.txt b.log", "gr"),
    ("?.txt", "", ".hidden b.log keep/b.log other/keep/d.log other/keep.txt", "gr"),
    ("[ab].*", "", ".hidden deep/x/y/z.txt keep/sub/c.txt other/keep/d.log other/keep.txt", "gr"),
    ("[!a].txt", "", ".hidden a.txt b.log keep/a.txt keep/b.log other/a.txt other/keep/d.log other/keep.txt", "gr"),
    (
        ".*",
        "",
        "a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    (
        "keep.txt",
        "",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log",
        "gr",
    ),
    (
        "x/y",
        "",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "g",
    ),
    (
        "/deep/x/y",
        "",
        ".hidden a.txt b.log keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    ("* !keep/", "", "", "gr"),
    ("* !*/ !*.txt", "", "a.txt deep/x/y/z.txt keep/a.txt keep/sub/c.txt other/a.txt other/keep.txt", "gr"),
    ("*.txt !a.txt", "", ".hidden a.txt b.log keep/a.txt keep/b.log other/a.txt other/keep/d.log", "gr"),
    ("!a.txt *.txt", "", ".hidden b.log keep/b.log other/keep/d.log", "gr"),
    ("/* !/keep", "", "keep/a.txt keep/b.log keep/sub/c.txt", "gr"),
    ("keep/ !keep/a.txt", "", ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt other/a.txt other/keep.txt", ""),
    ("*.txt !/a.txt", "", ".hidden a.txt b.log keep/b.log other/keep/d.log", "gr"),
    ("*", "keep/", "keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log", ""),
    ("*.txt", "keep/", ".hidden b.log keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log", ""),
    ("*", "/keep/", "keep/a.txt keep/b.log keep/sub/c.txt", ""),
    ("*", "keep", "keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log", ""),
    ("*", "*.txt", "a.txt deep/x/y/z.txt keep/a.txt keep/sub/c.txt other/a.txt other/keep.txt", ""),
    ("*", "*.log", "b.log keep/b.log other/keep/d.log", ""),
    ("*", "a.txt", "a.txt keep/a.txt other/a.txt", ""),
    ("*", "/a.txt", "a.txt", "gr"),
    ("*", "keep/a.txt", "keep/a.txt", ""),
    ("*", "keep/*", "keep/a.txt keep/b.log keep/sub/c.txt", ""),
    ("*", "keep/**", "keep/a.txt keep/b.log keep/sub/c.txt", ""),
    ("*", "**/sub", "keep/sub/c.txt", ""),
    ("*", "sub/", "keep/sub/c.txt", ""),
    ("*", "other/keep/", "other/keep/d.log", ""),
    ("*", "*/", "", "gr"),
    ("*", "*/ *.txt", "a.txt deep/x/y/z.txt keep/a.txt keep/sub/c.txt other/a.txt other/keep.txt", "gr"),
    ("*", "/*/", "deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt", ""),
    ("keep/", "keep/a.txt", ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt other/a.txt other/keep.txt", ""),
    ("keep/", "*.log", ".hidden a.txt b.log deep/x/y/z.txt keep/b.log other/a.txt other/keep/d.log other/keep.txt", ""),
    ("keep", "sub/", ".hidden a.txt b.log deep/x/y/z.txt keep/sub/c.txt other/a.txt other/keep.txt", ""),
    ("/keep", "c.txt", ".hidden a.txt b.log deep/x/y/z.txt keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt", ""),
    ("*.txt", "a.txt", ".hidden a.txt b.log keep/a.txt keep/b.log other/a.txt other/keep/d.log", "gr"),
    ("*.txt", "/a.txt", ".hidden a.txt b.log keep/b.log other/keep/d.log", "gr"),
    ("*.txt", "keep/a.txt", ".hidden b.log keep/a.txt keep/b.log other/keep/d.log", "gr"),
    ("*.txt", "other", ".hidden b.log keep/b.log other/a.txt other/keep/d.log other/keep.txt", ""),
    ("*/", "other/", ".hidden a.txt b.log other/a.txt other/keep/d.log other/keep.txt", ""),
    ("* !b.log", "a.txt", "a.txt b.log keep/a.txt keep/b.log other/a.txt", ""),
    ("**", "deep/x", "deep/x/y/z.txt", ""),
    ("other/ *.log", "other/keep/d.log", ".hidden a.txt deep/x/y/z.txt keep/a.txt keep/sub/c.txt other/keep/d.log", ""),
    (
        "/other/*",
        "/other/keep/",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log",
        "gr",
    ),
    (
        "",
        "keep",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "gr",
    ),
    (
        "deep/",
        "z.txt",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "",
    ),
    (
        "deep/x/",
        "deep/*/y/",
        ".hidden a.txt b.log deep/x/y/z.txt keep/a.txt keep/b.log keep/sub/c.txt other/a.txt other/keep/d.log other/keep.txt",
        "",
    ),
    ("*", "[k]eep/", "keep/a.txt keep/b.log keep/sub/c.txt other/keep/d.log", ""),
]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("pairs") / "tree"
    for name in TREE:
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_bytes(b"")
    return made


def taken(root: Path, excludes: str, includes: str) -> set[str]:
    rules = FilterRules.from_patterns(excludes.split(), includes.split())
    return {os.fsdecode(found.path) for found in walk(root, rules) if found.flag is None and found.entry_type != "directory"}


def test_the_table_has_no_pair_twice() -> None:
    assert len({pair[:2] for pair in PAIRS}) == len(PAIRS) >= 60


@pytest.mark.parametrize(("excludes", "includes", "expected", "_"), PAIRS)
def test_what_a_pair_takes(root: Path, excludes: str, includes: str, expected: str, _: str) -> None:
    assert taken(root, excludes, includes) == set(expected.split())


def test_git_answers_as_the_table_says_and_keeps_nothing_more(
    root: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    git = require_program("git")
    subprocess.run([git, "init", "-q", tmp_path], check=True)
    for excludes, includes, expected, same in PAIRS:
        lines = [*excludes.split(), *(f"!{pattern}" for pattern in includes.split())]
        (tmp_path / ".gitignore").write_text("\n".join(lines) + "\n")
        asked = subprocess.run(
            [git, "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"],
            input="\0".join(TREE).encode(),
            capture_output=True,
            check=False,
        )
        assert asked.returncode in {0, 1}, asked.stderr  # 1: none is ignored
        kept = set(TREE) - set(asked.stdout.decode().split("\0"))
        assert ("g" in same) == (kept == set(expected.split())), (excludes, includes, kept)
        assert kept <= set(expected.split()), (excludes, includes)


def test_git_leaves_out_the_same_by_excludes_of_any_shape(
    root: Path, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    git = require_program("git")
    subprocess.run([git, "init", "-q", tmp_path], check=True)
    chance = random.Random(11)
    parts = ["a", "*", "?", "*.txt", "keep", "k*p", "**", "x", "deep", "[a-k]*", "[!d]*", "other", "sub", "y"]
    for _ in range(150):
        patterns = []
        for _ in range(chance.randint(1, 3)):
            body = "/".join(chance.choice(parts) for _ in range(chance.randint(1, 3)))
            patterns.append(chance.choice(["", "", "/"]) + body + chance.choice(["", "", "/"]))
        (tmp_path / ".gitignore").write_text("\n".join(patterns) + "\n")
        asked = subprocess.run(
            [git, "-C", tmp_path, "check-ignore", "--no-index", "-z", "--stdin"],
            input="\0".join(TREE).encode(),
            capture_output=True,
            check=False,
        )
        kept = set(TREE) - set(asked.stdout.decode().split("\0"))
        assert taken(root, " ".join(patterns), "") == kept, patterns


@pytest.mark.slow
def test_rsync_answers_as_the_table_says(root: Path, tmp_path: Path, require_program: Callable[[str], str]) -> None:
    rsync = require_program("rsync")
    for excludes, includes, expected, same in PAIRS:
        rules = [f"+ {pattern}" for pattern in includes.split()]
        rules += [f"+ {text[1:]}" if text.startswith("!") else f"- {text}" for text in reversed(excludes.split())]
        options = [option for rule in rules for option in ("--filter", rule)]
        done = subprocess.run(
            [rsync, "-rn", "--out-format=%n", *options, f"{root}/", f"{tmp_path}/none/"],
            capture_output=True,
            text=True,
            check=True,
        )
        copied = {name for name in done.stdout.splitlines() if name and not name.endswith("/")}
        assert ("r" in same) == (copied == set(expected.split())), (excludes, includes, copied)


def test_an_include_keeps_a_folder_with_all_that_is_in_it_however_deep(tmp_path: Path) -> None:
    deep = "keep/" + "/".join("d" * 700)  # far more folders than are remembered, and than calls may be nested
    rules = FilterRules.from_patterns(["*"], ["keep/"])
    assert not rules.leaves_out(f"{deep}/x.txt".encode(), is_folder=False)
    assert rules.leaves_out(f"other/{deep[5:]}/x.txt".encode(), is_folder=False)
    assert not rules.leaves_out(f"other/{deep}/x.txt".encode(), is_folder=False)


@pytest.mark.parametrize("pattern", ["*/", "**/", "/**/", "**/*/"])
def test_an_include_of_every_folder_names_none_in_particular(root: Path, pattern: str) -> None:
    assert taken(root, "*", pattern) == set()
    assert taken(root, "*", f"{pattern} *.log") == {"b.log", "keep/b.log", "other/keep/d.log"}


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("a\\ ", ["a "], ["a", "a\\ "]),
        ("a  ", ["a"], ["a ", "a  "]),
        (r"\*", ["*"], ["a"]),
        ("[]a]", ["]", "a"], ["b"]),
        ("[!]a]", ["b"], ["]", "a"]),
        ("[^a-c]", ["d", "-"], ["a", "b", "c"]),
        (r"[\]]", ["]"], ["\\"]),
        ("[a-]", ["a", "-"], ["b"]),
        ("[--0]", ["-", ".", "0"], ["1"]),
        ("[[a&&b]", ["[", "a", "&", "b"], ["c"]),
        ("a**b", ["ab", "axxb"], ["a/b"]),
        ("x/a**b", ["x/ab"], ["x/a/b", "x/a/c/b"]),
        ("x[!a]y", ["xby"], ["x/y"]),
        ("x/**/y", ["x/y", "x/a/y", "x/a/b/y"], ["xy", "a/x/y"]),
        ("(a|b)+$", ["(a|b)+$"], ["a", "ab"]),
        ("a.b", ["a.b"], ["axb"]),
        ("*", ["\n", "a\n"], []),
    ],
)
def test_what_one_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    read = parse_pattern(pattern)
    assert [name for name in [*matching, *others] if read.matches(name, is_folder=False)] == matching
