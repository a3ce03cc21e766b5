"""Names use standard words, and the glossary explains words that are in use."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "evidencesync"
GLOSSARY = ROOT / "docs" / "glossary.md"

# Private pictures that once stood in names. A reader cannot look them up: the standard word is the one to use.
PRIVATE_WORDS = frozenset(
    """
    acquiring carriage carrier conclusion conversation course door dress dresser elsewhere everywhere eyes feed feeding
    figures filing greet greeting hear heard keeper keeping knock meet moment objection objections offering outlet
    overhear overheard pace papers reach say settle shelf shield shore story supply takeover tell vouch vouches vouching
    witness
    """.split()
)


def words_of(name: str) -> set[str]:
    """The words of a name in snake_case or CamelCase, in lower case."""
    return {word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", name)}


def names_in(source: str) -> Iterator[str]:
    """The names of all classes and functions."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            yield node.name


def private_names(module: str, source: str) -> list[str]:
    return [name for name in (module, *names_in(source)) if words_of(name) & PRIVATE_WORDS]


def test_no_module_class_or_function_has_a_private_word_in_its_name() -> None:
    found = {
        str(file.relative_to(PACKAGE)): names
        for file in sorted(PACKAGE.rglob("*.py"))
        if (names := private_names(file.stem, file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("session_door", ""),
        ("session", "class DoorKeeper: ..."),
        ("session", "class A:\n    def _tell(self): ..."),
        ("session", "def f():\n    async def overhear_page(): ..."),
    ],
)
def test_a_private_word_is_found_wherever_it_stands(module: str, source: str) -> None:
    assert private_names(module, source)


def glossary_terms() -> list[str]:
    return re.findall(r"\*\*(.+?)\*\*", GLOSSARY.read_text(encoding="utf-8"))


@cache
def texts() -> str:
    """The package and all pages but the glossary and the list of changes, in lower case; `_` is a space."""
    files = [*PACKAGE.rglob("*.py"), *(page for page in (ROOT / "docs").glob("*.md") if page != GLOSSARY), ROOT / "README.md"]
    return " ".join("\n".join(file.read_text(encoding="utf-8") for file in files).lower().replace("_", " ").split())


@pytest.mark.parametrize("term", glossary_terms())
def test_a_term_of_the_glossary_is_used_in_the_code_or_in_a_page(term: str) -> None:
    assert re.search(rf"\b{re.escape(term.lower())}", texts())


def test_the_glossary_explains_each_term_once() -> None:
    terms = glossary_terms()
    assert len(terms) == len(set(terms)) > 50
