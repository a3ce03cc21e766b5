"""Where the PDF's template lets a long word, and a table, go on in the next line or on the next page."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

import msgspec
import pytest

TEMPLATE = resources.files("evidencesync.report").joinpath("templates", "report.typ").read_text()


def definition(name: str) -> str:
    """A definition of the template, as it stands there."""
    found = re.search(rf"^#let {name}\b.*?(?=^#|^//|\Z)", TEMPLATE, re.MULTILINE | re.DOTALL)
    assert found is not None
    return found[0]


def asked(tmp_path: Path, text: str) -> list[object]:
    """What a document of typst says of itself in its label `said`."""
    typst = pytest.importorskip("typst")
    file = tmp_path / "asked.typ"
    file.write_text(text)
    return [each["value"] for each in msgspec.json.decode(typst.query(str(file), "<said>"))]


@pytest.mark.parametrize(
    ("word", "pieces"),
    [
        ("vault.lab:/usr/share/common-licenses", ["vault.lab:/usr/", "share/common-", "licenses"]),
        ("127.0.0.1:/tmp", ["127.0.0.1:/tmp"]),
        ("0123456789abcdef0123456789abcdef", ["0123456789abcdef", "0123456789abcdef"]),
        ("証拠ファイル保管", ["証拠ファイ", "ル保管"]),
    ],
)
def test_a_long_word_breaks_between_its_parts(tmp_path: Path, word: str, pieces: list[str]) -> None:
    rules = "".join(map(definition, ("together", "parts", "pieces")))
    assert asked(tmp_path, f"{rules}\n#metadata(pieces({msgspec.json.encode(word).decode()})) <said>") == [pieces]


@pytest.mark.parametrize("height", range(40, 120, 7))
def test_the_last_row_of_a_table_is_not_alone_on_a_page(tmp_path: Path, height: int) -> None:
    rows = "range(8).map(n => ([#n], context [#metadata(here().page()) <said>]))"
    page = f"#set page(width: 200pt, height: {height}pt, margin: 5pt)\n"
    pages = asked(tmp_path, f"{definition('ended')}\n{page}#table(columns: 2, ..ended({rows}))")
    assert len(pages) == 8
    assert pages[-1] == pages[-2]
