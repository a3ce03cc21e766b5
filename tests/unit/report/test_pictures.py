from __future__ import annotations

import random
import re
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET  # noqa: TID251  # reads only what svg.Canvas wrote

import msgspec
import pytest
import typst

from evidencesync.report.blocks import Picture
from evidencesync.report.charts import WIDTH, custody_timeline, new_and_reused, sizes_by_type, strip_map
from evidencesync.report.document import FileMap, Item, MapRange, NamedSize, PathPair
from evidencesync.report.gather import Gathered, VerdictSource, gather
from evidencesync.report.judging import ReportScope
from evidencesync.report.manifests import count_differences
from evidencesync.report.maps import file_maps
from evidencesync.report.texts import covered, drawable
from evidencesync.verify.audit import audit_vault
from tests.support.bench_of_evidence import make_bench
from tests.support.moments import LONG_AFTER_NS
from tests.support.reported_vault import make_reported_vault

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def gathered(tmp_path_factory: pytest.TempPathFactory) -> Gathered:
    bench = make_reported_vault(tmp_path_factory.mktemp("reported"))
    verdict = audit_vault(bench.vault.layout.root, now_ns=LONG_AFTER_NS)
    return gather(
        bench.vault, ReportScope("2026/11", None, None), VerdictSource(verdict, given=False, trusted=None), now_ns=LONG_AFTER_NS
    )


def pictures(item: Item) -> list[Picture]:
    made = [custody_timeline("a", item), new_and_reused("b", item), sizes_by_type("c", item.acquisitions[1])]
    return [*(picture for picture in made if picture is not None), strip_map("d", 2, item.acquisitions[1].maps[0])]


def test_every_picture_says_in_words_what_it_shows(gathered: Gathered) -> None:
    made = pictures(gathered.report.items[0])
    assert len(made) == 4
    for picture in made:
        root = ET.fromstring(picture.svg)
        assert root.find(f"{SVG}title") is not None
        description = root.find(f"{SVG}desc")
        assert description is not None
        assert description.text == drawable(picture.alternative)
        assert root.get("role") == "img"


def test_pictures_are_told_apart_without_colour_and_ask_for_nothing(gathered: Gathered) -> None:
    for picture in pictures(gathered.report.items[0]):
        assert set(re.findall(r"<(\w+)", picture.svg)) <= {
            *("svg", "title", "desc", "defs", "pattern", "rect", "path", "circle", "line", "text"),
        }
        assert "style=" not in picture.svg
        assert "href" not in picture.svg
        assert "<pattern" in picture.svg


def test_new_is_what_was_new_to_where_the_vault_looked(gathered: Gathered) -> None:
    item = gathered.report.items[0]
    first, *rest = item.acquisitions
    assert first.receipt is not None
    pulled = msgspec.structs.replace(first, receipt=msgspec.structs.replace(first.receipt, lookup="item"))
    for acquisitions, where in ((item.acquisitions, "this case"), ([pulled, *rest], "this item or this case")):
        picture = new_and_reused("b", msgspec.structs.replace(item, acquisitions=acquisitions))
        assert picture is not None
        assert f"new to {where}, or damaged there<" in picture.svg
        assert f"in {where} already<" in picture.svg
        assert "the vault" not in picture.svg + picture.caption


def test_a_strip_map_shows_where_an_image_changed(gathered: Gathered) -> None:
    first, second, third = (one.maps[0] for one in gathered.report.items[0].acquisitions)
    assert first.compared_with is None
    assert [one.kind for one in first.ranges] == ["data", "zero", "data"]
    changed = [one for one in second.ranges if one.kind == "changed"]
    assert any(one.offset <= 1_000_000 and one.offset + one.length >= 1_200_000 for one in changed)
    assert any(one.offset <= 11_000_000 < one.offset + one.length for one in changed)
    assert sum(one.length for one in changed) < 1_000_000
    assert sum(one.length for one in second.ranges) == second.size
    assert [one.kind for one in third.ranges] == ["data", "zero", "data"]


def test_the_map_is_of_the_file_that_changed_or_is_damaged_and_not_of_a_larger_one_that_was_moved(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    source = random.Random(5)
    sizes = {"a.img": 3 << 20, "b.img": 2 << 20, "c.img": 5 << 18}
    for name, size in sizes.items():
        (bench.source / name).write_bytes(source.randbytes(size))
    bench.push()
    (bench.source / "a.img").rename(bench.source / "moved.img")
    (bench.source / "b.img").write_bytes(source.randbytes(2 << 20))
    bench.push()
    item = bench.vault.item(bench.name).layout

    def shown(number: int, *damaged: bytes) -> str | None:
        (one,) = file_maps(item, number, damaged)
        return one.file.path

    assert (shown(1), shown(2), shown(2, b"c.img")) == ("a.img", "b.img", "c.img")


def test_one_unreadable_sector_of_a_huge_disk_is_seen() -> None:
    size = 4 << 40
    ranges = [MapRange("data", 0, size // 2), MapRange("unreadable", size // 2, 512)]
    ranges.append(MapRange("data", size // 2 + 512, size - size // 2 - 512))
    file = FileMap(
        PathPair("disk.img", None),
        size,
        None,
        ranges,
        [NamedSize(kind, 1, 512) for kind in ("data", "zero", "changed", "unreadable")],
    )
    assert strip_map("m", 1, file).svg.count("url(#m-cross)") == 2  # the legend, and the cell


def test_differences_are_those_between_the_two_manifests(gathered: Gathered) -> None:
    (layout,) = gathered.layouts
    second = count_differences(layout, 1, 2)
    assert {(one.file.path, one.kind) for one in second.listed} == {
        ("disk.img", "content"),
        ("logs/day-00.log", "removed"),
        ("logs/day-40.log", "added"),
    }
    third = count_differences(layout, 2, 3)
    assert (third.counts["filtered"], third.listed) == (10, [])
    backwards = count_differences(layout, 2, 1)
    assert backwards.counts == {**second.counts, "added": 1, "removed": 1}


def test_a_case_has_many_records_and_the_time_line_stays_as_wide(gathered: Gathered) -> None:
    item = gathered.report.items[0]
    many = msgspec.structs.replace(item, custody=item.custody * 50)
    picture = custody_timeline("t", many)
    assert len(many.custody) == 300
    assert "273 more" in picture.svg
    assert picture.svg.count("font-weight") == 27


def test_thirteen_records_are_all_on_the_time_line_and_no_words_lie_over_others(gathered: Gathered) -> None:
    item = gathered.report.items[0]
    picture = custody_timeline("t", msgspec.structs.replace(item, custody=(item.custody * 3)[:13]))
    assert " more" not in picture.svg
    places = [(one.get("x"), one.get("y")) for one in ET.fromstring(picture.svg).iter(f"{SVG}text") if one.get("font-weight")]
    assert len(set(places)) == 13
    rows = {y for _, y in places}
    assert len(rows) == 2
    for row in rows:
        across = sorted(float(x or 0) for x, y in places if y == row)
        assert min(b - a for a, b in pairwise(across)) > 100  # "12 handed-over" takes 95


def test_a_gap_in_the_time_line_has_a_box_as_wide_as_its_words(gathered: Gathered) -> None:
    item = gathered.report.items[0]
    root = ET.fromstring(custody_timeline("t", msgspec.structs.replace(item, custody=item.custody * 2000)).svg)
    (words,) = (one.text or "" for one in root.iter(f"{SVG}text") if (one.text or "").endswith(" more"))
    (box,) = (one for one in root.iter(f"{SVG}rect") if one.get("height") == "22.00")
    assert float(box.get("width") or 0) > 6.5 * len(words)


def test_a_map_speaks_of_changes_only_where_it_shows_some(gathered: Gathered) -> None:
    second, third = (one.maps[0] for one in gathered.report.items[0].acquisitions[1:])
    assert third.compared_with == 2
    for number, file, is_changed in ((2, second, True), (3, third, False)):
        picture = strip_map("m", number, file)
        assert ("changed" in picture.caption + picture.alternative) is is_changed
        assert (">changed<" in picture.svg) is is_changed


def test_a_damaged_range_stands_on_the_map_as_wide_as_it_is_with_its_first_and_last_byte() -> None:
    file = FileMap(PathPair("disk.img", None), 1 << 20, None, [MapRange("data", 0, 1 << 20)], [NamedSize("data", 1, 1 << 20)])
    near = [(1000 * number, 10) for number in range(30)]
    picture = strip_map("m", 1, file, [(512 << 10, 256 << 10), *near])
    widths = [
        float(one.get("width") or 0) for one in ET.fromstring(picture.svg).iter(f"{SVG}rect") if one.get("height") == "5.00"
    ]
    assert max(widths) == pytest.approx(176)  # a quarter of the strip
    assert min(widths) == 2
    assert ">bytes 524,288 to 786,431<" in picture.svg
    assert "NOT as it was acquired within bytes 524,288 to 786,431" in picture.alternative
    assert 2 <= picture.svg.count(">bytes ") <= 8  # those near each other have no room


def test_every_character_that_is_shown_as_it_is_has_a_glyph(tmp_path: Path) -> None:
    """In PDF/A, a single one that no font has refuses the document."""
    template = """
    #set document(title: "t", date: datetime(year: 2026, month: 1, day: 2))
    #set text(font: ("Libertinus Serif", "DejaVu Sans Mono", "New Computer Modern"))
    #for c in json(bytes(sys.inputs.data)) [#c \\ ]
    """
    compiler = typst.Compiler(ignore_system_fonts=True)
    data = msgspec.json.encode(covered()).decode()
    assert compiler.compile(input=template.encode(), format="pdf", sys_inputs={"data": data}, pdf_standards=["a-3b"])


@pytest.mark.parametrize(
    "text", ["送金", "تقرير", "קובץ", "😀", "\u202e", "\x1b", "\ufeff", "\ue000", "\U000e0041", "\U0010ffff", "\n"]
)
def test_what_no_font_has_is_shown_as_its_number(text: str) -> None:
    shown = drawable(f"a{text}b")
    assert shown.isascii()
    assert shown == "a" + "".join(f"\\u{{{ord(character):x}}}" for character in text) + "b"


def test_the_words_beside_the_longest_bar_have_room(gathered: Gathered) -> None:
    item = gathered.report.items[0]
    (one, *_) = item.acquisitions
    assert one.receipt is not None
    transfer = msgspec.structs.replace(one.receipt.transfer, literal_bytes=999, reused_bytes=999_900_000, zero_bytes=0)
    types = [NamedSize("e01", 12_345_678, 999_900_000), NamedSize("", 1, 1)]
    large = msgspec.structs.replace(
        one,
        receipt=msgspec.structs.replace(one.receipt, transfer=transfer),
        contents=msgspec.structs.replace(one.contents, types=types),
    )
    drawn = [new_and_reused("a", msgspec.structs.replace(item, acquisitions=[large])), sizes_by_type("b", large)]
    for picture in drawn:
        assert picture is not None
        for text in ET.fromstring(picture.svg).iter(f"{SVG}text"):
            wide = 0.62 * float(text.get("font-size", "0")) * len(text.text or "")
            assert text.get("text-anchor") == "end" or float(text.get("x", "0")) + wide <= WIDTH
