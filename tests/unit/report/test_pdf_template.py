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


@pytest.mark.parametrize("above", range(0, 160, 16))
def test_a_table_that_goes_on_has_two_rows_below_its_heading(tmp_path: Path, above: int) -> None:
    rules = "\n".join(map(definition, ("ended", "room", "whole")))
    page = "#set page(width: 200pt, height: 170pt, margin: 5pt)\n#set text(size: 8pt)\n#set table(inset: 3pt)\n"
    rows = "range(20).map(n => ([#n], context [#metadata(here().page()) <said>]))"
    table = f"table(columns: 2, table.header[No.][Page], ..ended({rows}))"
    pages = asked(tmp_path, f"{rules}\n{page}#v({above}pt)\n#whole({table}, 1000)")
    assert len(pages) == 20
    assert all(pages.count(number) >= 2 for number in pages)


def test_a_row_is_cut_only_where_a_text_of_it_may_not_fit_a_page_and_then_as_a_whole(tmp_path: Path) -> None:
    rows = [(400, 20, "false"), (5000, 20, "true"), (20, 600, "true")]
    asks = "".join(f'#metadata(cut(("x" * {a}, "y" * {b}), (8, 4))) <said>' for a, b, _ in rows)
    assert asked(tmp_path, f"{definition('cut')}\n{asks}") == [each == "true" for _, _, each in rows]
