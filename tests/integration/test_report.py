"""`report` as a user runs it: three forms of one document, judged by a browser, by poppler's tools and by the schema."""

from __future__ import annotations

import contextlib
import hashlib
import html
import io
import json
import os
import re
import subprocess
import unicodedata
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from evidencesync.cli.app import main
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import make_grant
from evidencesync.evidence.display import safe_text
from evidencesync.report import texts
from evidencesync.report.texts import drawable
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import ListedNames
from evidencesync.vault.key_change import change_key
from tests.integration.cli_program import schema_errors
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.support.browser import Browser, opened_browser
from tests.support.reported_vault import HOSTILE_NAMES, damage, make_reported_vault

CASE = ("--case", "2026/11")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make_reported_vault(tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def verified(whole: Bench) -> str:
    """What verify says of it."""
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as said:
        assert main(["verify", str(whole.vault.layout.root), "--json"]) == 0
        said.seek(0)
        return said.read()


@pytest.fixture
def verdict(verified: str, tmp_path: Path) -> str:
    file = tmp_path / "verdict.json"
    file.write_text(verified)
    return str(file)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Browser]:
    program = require_program("chromium")
    with opened_browser(program, tmp_path_factory.mktemp("browser")) as browser:
        yield browser


def days_after(verdict: str | Path, days: int) -> tuple[str, str]:
    """The option for a report that is made so long after its verdict, whatever today's date is."""
    checked = datetime.fromisoformat(json.loads(Path(verdict).read_text())["checked_at"])
    return "--time", (checked.replace(microsecond=0) + timedelta(days=days)).isoformat().replace("+00:00", "Z")


def make(bench: Bench, file: Path, *more: str) -> int:
    return main(["report", str(bench.vault.layout.root), *CASE, "-o", str(file), "-q", *more])


def run(*command: str | Path) -> str:
    """What a program prints. It has nothing to complain of."""
    done = subprocess.run([*command], capture_output=True, check=True, text=True, errors="strict")
    assert done.stderr == "", done.stderr
    return done.stdout


# --- The file and the verdict ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["html", "pdf", "json"])
def test_a_good_case_passes_and_what_is_printed_is_about_the_file(
    whole: Bench, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"r.{kind}"
    assert make(whole, file, "--json") == 0
    output = json.loads(capfd.readouterr().out)
    assert schema_errors(output, "report-output") == []
    assert (output["state"], output["format"], output["bytes"]) == ("pass", kind, file.stat().st_size)
    assert run("sha256sum", file).split()[0] == output["sha256"]
    assert [name.name for name in tmp_path.iterdir()] == [file.name]


def test_no_page_break_leaves_a_page_nearly_empty(whole: Bench, tmp_path: Path, verdict: str) -> None:
    assert make(whole, tmp_path / "r.pdf", "--verdict", verdict, *days_after(verdict, 1)) == 0
    pages = [text for text in run("pdftotext", "-raw", tmp_path / "r.pdf", "-").split("\f") if text.strip()]
    assert re.search(r"Findings, the gravest first[^\f]*Folder in the vault", pages[1])
    assert all(len(page) > 400 for page in pages[:-1])


@pytest.mark.parametrize("more", [("--acquisition", "1", "--item", "E1"), ("--files",)])
def test_pages_are_counted_and_the_contents_name_the_page_of_each_heading(
    whole: Bench, tmp_path: Path, more: tuple[str, ...]
) -> None:
    assert make(whole, tmp_path / "r.pdf", *more) == 0
    pages = run("pdftotext", "-layout", tmp_path / "r.pdf", "-").split("\f")[:-1]
    assert all(f"page {number} of {len(pages)}" in text for number, text in enumerate(pages, 1))
    named = re.findall(r"([A-Z][A-Za-z0-9 ]+?) +\.[.\u2060 ]{9,}(\d+)", "".join(pages[:2]))  # in two columns
    assert {"Findings", "Custody", "Limits"} < {title for title, _ in named}
    assert [(title, page) for title, page in named if title not in pages[int(page) - 1]] == []


def test_the_terminal_and_page_one_count_the_findings_alike(
    whole: Bench, tmp_path: Path, verdict: str, capfd: pytest.CaptureFixture[str]
) -> None:
    command = ["report", str(whole.vault.layout.root), *CASE, "-o", str(tmp_path / "r.html"), "--verdict", verdict]
    assert main(command) == 0
    assert "PASS (findings: 1 for information; checked" in " ".join(capfd.readouterr().out.split())
    assert "<dt>Findings</dt><dd><bdi>1 for information; no error, no warning</bdi>" in (tmp_path / "r.html").read_text()


def test_damage_fails_with_the_code_of_verify_and_stands_on_page_one(tmp_path: Path) -> None:
    bench = make_reported_vault(tmp_path)
    damage(bench, 2, "disk.img", 1_100_000)
    assert make(bench, tmp_path / "r.pdf") == make(bench, tmp_path / "r.html") == make(bench, tmp_path / "r.json") == 30
    page = run("pdftotext", "-l", "1", tmp_path / "r.pdf", "-")
    assert "✗ FAIL" in page
    assert "PASS" not in page
    assert "The errors are about 2 acquisitions (item E1, acquisitions 2 and 3)." in " ".join(page.split())
    written = (tmp_path / "r.html").read_text()
    assert '<div class="verdict fail">' in written
    assert re.search(r"<desc[^>]*>(12.6 MB: [^<]* NOT as it was acquired within bytes [^<]*)</desc>", written)
    assert len(re.findall(r"<figcaption><bdi>[^<]*NOT as it was acquired at the crosses", written)) == 2
    where = "evidence: disk.img, within bytes [0-9,]+ to [0-9,]+"
    assert re.search(rf'<p class="error">✗ \d+ errors? about this acquisition, see Findings: {where}', written)
    assert "about this acquisition, see Findings" in run("pdftotext", tmp_path / "r.pdf", "-")
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["judgement"]["state"] == "fail"
    assert any(finding["slug"] == "file-damaged" for finding in report["judgement"]["findings"])


def test_what_was_left_out_stands_on_page_one_beside_the_pass(whole: Bench, tmp_path: Path) -> None:
    assert make(whole, tmp_path / "r.pdf") == 0
    page = " ".join(run("pdftotext", "-l", "1", tmp_path / "r.pdf", "-").split())
    assert "PASS" in page
    assert "10 entries; filters were set for 1 acquisition" in page
    assert make(whole, tmp_path / "1.pdf", "--item", "E1", "--acquisition", "1") == 0
    assert texts.NO_GAPS in " ".join(run("pdftotext", "-l", "1", tmp_path / "1.pdf", "-").split())


def test_the_gaps_of_each_acquisition_are_said_in_words(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.push(rules=FilterRules.from_patterns([], listed=ListedNames.parse(b"a.txt\ngone.txt\n", b"\n")))
    assert make(bench, tmp_path / "r.pdf") == make(bench, tmp_path / "r.html") == 0
    page = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", (tmp_path / "r.html").read_text())).split())
    pdf = " ".join(run("pdftotext", "-raw", tmp_path / "r.pdf", "-").split())
    for text in (page, pdf):
        assert "Gaps at the source item E1, acquisition 2: 1 entry not there when it was read" in text
        assert f"Gaps at the source {texts.NO_GAPS}" in text
        assert "gone.txt file not there when it was read" in text


def test_an_old_verdict_is_said_to_be_one_and_a_stale_one_is_no_pass(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bench = make_reported_vault(tmp_path)
    assert main(["verify", str(bench.vault.layout.root), "--json"]) == 0
    verdict = tmp_path / "verdict.json"
    verdict.write_text(capfd.readouterr().out)
    assert make(bench, tmp_path / "old.pdf", "--verdict", str(verdict), *days_after(verdict, 1500)) == 0
    page = " ".join(run("pdftotext", "-l", "1", tmp_path / "old.pdf", "-").split())
    assert "PASS" in page
    assert texts.OLD_VERDICT in page
    assert re.search(r"1,?(499|500) days before", page)
    bench.push()
    assert make(bench, tmp_path / "stale.pdf", "--verdict", str(verdict)) == 3
    page = run("pdftotext", "-l", "1", tmp_path / "stale.pdf", "-")
    assert "NOT VERIFIED" in page
    assert "PASS" not in page


def test_nothing_is_replaced_and_nothing_is_written_into_a_vault(
    whole: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "r.json"
    taken.write_text("mine")
    assert make(whole, taken) == 2
    assert taken.read_text() == "mine"
    assert make(whole, whole.vault.layout.root / "r.json") == 2
    assert make(whole, whole.vault.layout.cases / "r.html") == 2
    assert make(whole, tmp_path / "r.docx") == 2
    assert main(["report", str(whole.vault.layout.root), "--case", "another", "-o", str(tmp_path / "x.json"), "-q"]) == 10
    assert make(whole, tmp_path / "y.json", "--item", "E1", "--acquisition", "9") == 10
    assert sorted(file.name for file in tmp_path.iterdir()) == ["r.json"]


def test_without_typst_it_is_said_what_to_install(
    whole: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "typst", None)
    assert make(whole, tmp_path / "r.pdf") == 2
    assert "a PDF needs the package typst" in capfd.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_who_may_do_what_and_since_when_stands_in_every_format(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    ben, eve = new_signer().public_key, new_signer().public_key
    bench.vault.trust.add(ben, "ben@lab")
    bench.vault.trust.change(ben, make_grant(("read", "verify"), ("2026/*",), "2031-12-31"))
    bench.vault.trust.add(eve, "eve@lab")
    bench.vault.trust.revoke(eve)
    assert make(bench, tmp_path / "r.json") == make(bench, tmp_path / "r.html") == make(bench, tmp_path / "r.pdf") == 0
    report = json.loads((tmp_path / "r.json").read_text())
    assert schema_errors(report, "report") == []
    told = {signer["principals"][0]: signer for signer in report["trust"]["signers"]}
    assert {name: [one["action"] for one in signer["changes"]] for name, signer in told.items()} == {
        "vault": ["made"],
        "ana@lab": ["made"],
        "ben@lab": ["added", "changed"],
        "eve@lab": ["added", "revoked"],
    }
    assert (told["ben@lab"]["may"], told["ben@lab"]["cases"], told["ben@lab"]["until"]) == (
        ["read", "verify"],
        ["2026/*"],
        "2031-12-31",
    )
    assert (told["vault"]["may"], told["ana@lab"]["may"]) == (None, ["acquire", "custody", "read", "verify"])
    assert (told["ana@lab"]["cases"], told["ana@lab"]["until"], told["eve@lab"]["revoked"]) == (None, None, True)
    page = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", (tmp_path / "r.html").read_text())).split())
    assert re.search(r"Who may do what .* read, verify\W+2026/\*\W+2031-12-31\W+added 20\d\d-\d\d-\d\d [\d:]{8}; changed", page)
    pdf = " ".join(run("pdftotext", tmp_path / "r.pdf", "-").split())
    for words in ("Who may do what", "2026/*", "2031-12-31", "from the vault's making on"):
        assert words in pdf or words.replace("'", "’") in pdf, words


def test_each_key_of_the_vault_has_its_time(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    keys = [bench.vault.keys.current]
    for _ in range(2):
        keys.append(change_key(bench.vault, keys[-1]).change.key)
    assert make(bench, tmp_path / "r.json") == make(bench, tmp_path / "r.html") == 0
    signers = json.loads((tmp_path / "r.json").read_text())["trust"]["signers"]
    told = {signer["key"]: [one["action"] for one in signer["changes"]] for signer in signers}
    assert [told[key] for key in keys] == [["made", "key-ended"], ["key-begun", "key-ended"], ["key-begun"]]
    page = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", (tmp_path / "r.html").read_text())).split())
    assert page.count("nothing any more: the vault has given it up") == 2
    assert page.count("sign receipts, and the vault's own records") == 1


def test_roles_that_cannot_be_told_are_said_to_be_so(tmp_path: Path) -> None:
    """A record of the vault's own chain that is damaged: verify says so, and the table is not made of the rest."""
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    bench.vault.trust.add(new_signer().public_key, "ben@lab")
    record = next((bench.vault.layout.root / "custody").glob("*-trust-changed.json"))
    record.chmod(0o644)
    record.write_bytes(record.read_bytes().replace(b"ben@lab", b"bob@lab"))
    assert make(bench, tmp_path / "r.json") != 0
    trust = json.loads((tmp_path / "r.json").read_text())["trust"]
    assert trust["roles_problem"] is not None or trust["problem"] is not None
    assert all(signer["may"] is None and signer["changes"] == [] for signer in trust["signers"])


# --- JSON --------------------------------------------------------------------------------------------------------------


def test_the_json_is_the_model_with_every_entry_of_every_manifest(whole: Bench, tmp_path: Path) -> None:
    assert make(whole, tmp_path / "r.json") == 0
    report = json.loads((tmp_path / "r.json").read_bytes())
    assert schema_errors(report, "report") == []
    assert list(report)[-3:] == ["items", "trust", "files"]
    for files in report["files"]:
        lines = (whole.acquisition(files["acquisition"]) / "manifest.jsonl").read_text().splitlines()
        assert files["entries"] == [json.loads(line) for line in lines[1:-1]]


def test_a_part_of_a_case_is_all_that_its_report_shows(whole: Bench, tmp_path: Path) -> None:
    assert make(whole, tmp_path / "r.json", "--item", "E1", "--acquisition", "2", "--all-digests") == 0
    report = json.loads((tmp_path / "r.json").read_bytes())
    assert [one["number"] for one in report["items"][0]["acquisitions"]] == [2]
    assert [one["acquisition"] for one in report["files"]] == [2]
    assert report["judgement"]["digests"] == ["blake3", "sha256"]


# --- PDF ---------------------------------------------------------------------------------------------------------------


def test_the_pdf_is_for_archives_and_carries_the_documents_themselves(whole: Bench, tmp_path: Path, verdict: str) -> None:
    file = tmp_path / "r.pdf"
    assert make(whole, file, "--verdict", verdict, *days_after(verdict, 1)) == 0
    info = run("pdfinfo", file)
    assert re.search(r"Tagged: +yes", info)
    metadata = run("pdfinfo", "-meta", file)
    assert "<pdfaid:part>3</pdfaid:part>" in metadata
    assert "<pdfaid:conformance>B</pdfaid:conformance>" in metadata
    assert not re.search(r"(?m) no +(yes|no) +(yes|no) +\d+ +\d+ *$", run("pdffonts", file))  # every font is in the file
    folder = tmp_path / "attached"
    folder.mkdir()
    run("pdfdetach", "-saveall", "-o", folder, file)
    for number in (1, 2, 3):
        for name in ("manifest.jsonl", "manifest.jsonl.sig", "receipt.json", "receipt.json.sig"):
            assert (folder / f"E1_{number:04}_{name}").read_bytes() == (whole.acquisition(number) / name).read_bytes()
    custody = whole.vault.layout.item(whole.name).custody
    assert {name.name.removeprefix("E1_custody_") for name in folder.glob("E1_custody_*")} == set(os.listdir(custody))


def test_what_is_too_large_to_be_attached_is_named(
    whole: Bench, tmp_path: Path, verdict: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evidencesync.report.pdf_report.MAX_PDF_ATTACHMENTS", 3000)
    file = tmp_path / "r.pdf"
    assert make(whole, file, "--verdict", verdict, *days_after(verdict, 1)) == 0
    text = run("pdftotext", file, "-")
    assert "NOT attached" in text
    assert "E1/0003/manifest.jsonl" in text


def test_the_same_report_is_the_same_bytes(whole: Bench, tmp_path: Path, verdict: str) -> None:
    for kind in ("pdf", "html", "json"):
        one, two = tmp_path / f"1.{kind}", tmp_path / f"2.{kind}"
        assert (
            make(whole, one, "--verdict", verdict, *days_after(verdict, 1))
            == make(whole, two, "--verdict", verdict, *days_after(verdict, 1))
            == 0
        )
        assert one.read_bytes() == two.read_bytes()


def test_a_pdf_lists_files_only_where_that_is_asked_for(whole: Bench, tmp_path: Path, verdict: str) -> None:
    for name, more in (("short", []), ("long", ["--files"])):
        assert make(whole, tmp_path / f"{name}.pdf", "--verdict", verdict, *more) == 0
    short, long = (run("pdftotext", "-raw", tmp_path / f"{name}.pdf", "-") for name in ("short", "long"))
    assert "logs/day-33.log" in long
    assert "logs/day-" not in short.replace("logs/day-1*", "").replace("logs/day-00.log", "").replace("logs/day-40.log", "")
    assert "They left out 10 files" in short
    manifest = hashlib.sha256((whole.acquisition(1) / "manifest.jsonl").read_bytes()).hexdigest()
    assert [text.replace("\n", "").count(manifest) for text in (short, long)] == [1, 2]


def test_hostile_names_are_text_in_a_pdf(whole: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.report.fonts.FOLDERS", ())
    assert make(whole, tmp_path / "r.pdf", "--files") == 0
    text = run("pdftotext", "-raw", tmp_path / "r.pdf", "-")
    together = re.sub(r"\s", "", text)  # breaks have no characters of their own: what is copied is what was shown
    assert "\u200b" not in text
    for name in HOSTILE_NAMES:
        shown = drawable(safe_text(b"odd names/" + name.replace(b"/", b"_")))
        assert re.sub(r"\s", "", shown) in together, shown
    assert not re.search("[\x00-\x08\x0b\x0e-\x1f\u202a-\u202e\u2066-\u2069]", text)


@pytest.mark.parametrize("found", [True, False])
def test_names_in_other_scripts_are_readable_where_a_font_has_them_and_else_it_is_said(
    whole: Bench, tmp_path: Path, require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, *, found: bool
) -> None:
    for font in ("opentype/noto/NotoSansCJK-Regular.ttc", "truetype/noto/NotoSansArabic-Regular.ttf"):
        require_program(f"/usr/share/fonts/{font}")
    if not found:
        monkeypatch.setattr("evidencesync.report.fonts.FOLDERS", ())
    assert make(whole, tmp_path / "r.pdf", "--files") == 0
    text = run("pdftotext", "-raw", tmp_path / "r.pdf", "-").replace("\u200b", "")
    assert ("Überweisung – 送金.txt" in text) is found
    assert ("Überweisung – \\u{9001}\\u{91d1}.txt" in text) is not found
    assert (set("تقرير") <= set(unicodedata.normalize("NFKC", text))) is found
    assert (set("हिन्दीไทย한국어") <= set(text)) is found
    assert "\\u{1f600} emoji" in text
    words = re.findall(
        r'<word xMin="([^"]+)" .* xMax="([^"]+)" [^>]*>[^<]*[بﺐﺑﺒ]{2}', run("pdftotext", "-bbox", tmp_path / "r.pdf", "-")
    )
    assert bool(words) is found
    assert all(float(last) - float(first) < 200 for first, last in words)  # no name covers what stands beside it
    characters = {one for name in HOSTILE_NAMES for one in safe_text(name)}
    missing = 3 if found else sum(drawable(one) != one for one in characters)
    assert f"{missing} different characters are shown by their numbers" in " ".join(text.split())


def test_letters_with_very_many_marks_are_text_in_a_pdf_that_poppler_reads_without_complaint(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    name = f"Z{100 * chr(0x335)}.txt"
    (bench.source / name).write_text("x")
    bench.push()
    assert make(bench, tmp_path / "r.pdf", "--files") == 0
    text = run("pdftotext", "-raw", tmp_path / "r.pdf", "-")
    assert safe_text(name) in re.sub(r"\s", "", text)


def test_a_typst_with_other_fonts_still_makes_the_report(whole: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.report.texts._REFUSED", re.compile("(?!)"))  # as if the fonts had everything
    assert make(whole, tmp_path / "r.pdf", "--files") == 0
    assert "\\u{dc}berweisung" in run("pdftotext", "-raw", tmp_path / "r.pdf", "-").replace("\u200b", "")
    assert "PASS" in run("pdftotext", "-l", "1", tmp_path / "r.pdf", "-")


# --- HTML --------------------------------------------------------------------------------------------------------------


def type_in(browser: Browser, table: int, text: str) -> None:
    browser.evaluate(
        f"(() => {{ const i = document.querySelectorAll('section.files input')[{table}]; i.value = {json.dumps(text)};"
        "i.dispatchEvent(new Event('input')); })()"
    )


def paths(browser: Browser, table: int) -> list[str]:
    found: list[str] = browser.evaluate(
        f"[...document.querySelectorAll('section.files')[{table}].querySelectorAll('tbody td:first-child')]"
        ".map(cell => cell.textContent)"
    )
    return found


def test_a_page_searches_sorts_and_pages_without_asking_for_anything(whole: Bench, tmp_path: Path, browser: Browser) -> None:
    assert make(whole, tmp_path / "r.html") == 0
    browser.open(tmp_path / "r.html")
    browser.wait_for("document.querySelectorAll('section.files form:not([hidden])').length === 3")
    type_in(browser, 0, "DAY-3")
    browser.wait_for("document.querySelector('section.files output').textContent === '10 found'")
    assert paths(browser, 0) == [f"logs/day-{number}.log" for number in range(30, 40)]
    for _ in range(2):
        browser.evaluate("document.querySelectorAll('section.files th button')[2].click()")
    browser.wait_for("document.querySelector('section.files th[aria-sort=descending]') !== null")
    browser.wait_for("document.querySelector('section.files tbody td').textContent === 'logs/day-39.log'")
    type_in(browser, 0, "no such thing")
    browser.wait_for("document.querySelector('section.files output').textContent === '0 found'")
    assert paths(browser, 0) == []
    assert browser.messages == []
    assert browser.requests == [(tmp_path / "r.html").as_uri()]


def test_on_a_small_screen_a_row_of_a_table_is_a_card_that_names_its_columns(
    whole: Bench, tmp_path: Path, verdict: str, browser: Browser
) -> None:
    assert make(whole, tmp_path / "r.html", "--verdict", verdict, *days_after(verdict, 1)) == 0
    rules = browser_rules(tmp_path / "r.html")
    assert "td::before { content: attr(data-title);" in rules
    assert "th[data-title]::before { content: attr(data-title); }" in rules
    browser.open(tmp_path / "r.html")
    browser.wait_for("document.querySelectorAll('section.files th[data-title]').length === 18")
    assert browser.evaluate("document.querySelectorAll('td:not([data-title])').length") == 0


def browser_rules(page: Path) -> str:
    return page.read_text().partition("<style>")[2].partition("</style>")[0]


def test_hostile_names_are_text_in_a_page(whole: Bench, tmp_path: Path, browser: Browser) -> None:
    assert make(whole, tmp_path / "r.html") == 0
    browser.open(tmp_path / "r.html")
    browser.wait_for("document.querySelectorAll('section.files form:not([hidden])').length === 3")
    shown = paths(browser, 0)
    for name in HOSTILE_NAMES:
        assert safe_text(b"odd names/" + name.replace(b"/", b"_")) in shown
    assert browser.evaluate("document.title") == "Case 2026/11: PASS"
    assert (
        browser.evaluate("document.querySelectorAll('img, iframe, object, embed, link, [onload], [onerror], [style]').length")
        == 0
    )
    assert browser.evaluate("document.querySelectorAll('script:not(.rows)').length") == 1
    assert (browser.messages, len(browser.requests)) == ([], 1)


def test_the_policy_stops_what_is_not_ours(whole: Bench, tmp_path: Path, browser: Browser) -> None:
    """Even a page into which somebody put a script, a style and a picture runs and fetches none of it."""
    assert make(whole, tmp_path / "r.html") == 0
    bad = "<script>document.title='owned'</script><style>h1{color:red}</style>"
    bad += "<img src='http://192.0.2.1/x.png' onerror='document.title=1'>"
    (tmp_path / "bad.html").write_text((tmp_path / "r.html").read_text().replace("</main>", f"{bad}</main>"))
    browser.open(tmp_path / "bad.html")
    assert browser.evaluate("document.title") == "Case 2026/11: PASS"
    assert browser.evaluate("getComputedStyle(document.querySelector('h1')).color") != "rgb(255, 0, 0)"
    assert any("Content Security Policy" in message for message in browser.messages)


def test_a_page_can_be_used_with_a_keyboard_and_a_screen_reader(whole: Bench, tmp_path: Path, browser: Browser) -> None:
    assert make(whole, tmp_path / "r.html") == 0
    browser.open(tmp_path / "r.html")
    browser.wait_for("document.querySelectorAll('section.files form:not([hidden])').length === 3")

    def count(selector: str) -> int:
        found: int = browser.evaluate(f"document.querySelectorAll({json.dumps(selector)}).length")
        return found

    assert browser.evaluate("document.documentElement.lang") == "en"
    assert (count("main"), count("h1"), count("nav[aria-label]"), count("a.skip[href='#main']")) == (1, 1, 1, 1)
    assert count("table") == count("table > caption")
    assert count("th") == count("th[scope=col]")
    assert count("svg") == count("svg[role=img][aria-labelledby]") > 5
    labels = "[...document.querySelectorAll('[aria-labelledby]')].flatMap(e => e.getAttribute('aria-labelledby').split(' '))"
    assert browser.evaluate(f"{labels}.every(id => document.getElementById(id))")
    assert browser.evaluate(
        "new Set([...document.querySelectorAll('[id]')].map(e => e.id)).size === document.querySelectorAll('[id]').length"
    )
    assert browser.evaluate("[...document.querySelectorAll('input')].every(e => e.labels.length === 1)")
    assert browser.evaluate("[...document.querySelectorAll('nav a')].every(a => document.getElementById(a.hash.slice(1)))")


def test_the_page_and_the_pdf_say_the_same_in_the_same_order(whole: Bench, tmp_path: Path, verdict: str) -> None:
    for kind in ("html", "pdf"):
        assert make(whole, tmp_path / f"r.{kind}", "--files", "--verdict", verdict, *days_after(verdict, 1)) == 0
    page = (tmp_path / "r.html").read_text()
    headings = [html.unescape(text) for text in re.findall(r'<h[23] id="[^"]*"><bdi>([^<]*)</bdi>', page)]
    pdf = " ".join(run("pdftotext", "-raw", tmp_path / "r.pdf", "-").split())
    at = pdf.index("Findings, the gravest first")
    for heading in headings[1:]:
        at = pdf.index(drawable(heading), at)
    visible = " ".join(html.unescape(re.sub(r"<[^>]*>", " ", page)).split())
    for words in (texts.SENTENCES["pass"], texts.OLD_VERDICT, *texts.MEANS["pass"], *texts.MEANS_NOT, *texts.LIMITS):
        assert words in visible
        assert words in pdf or words.replace("\\", "") in pdf.replace("\\", ""), words


def trusted_lines(bench: Bench) -> list[str]:
    lines = (bench.vault.layout.root / "trusted_signers").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_what_the_report_tells_an_expert_to_type_works(
    whole: Bench, tmp_path: Path, verdict: str, require_program: Callable[[str], str]
) -> None:
    for program in ("ssh-keygen", "sha256sum"):
        require_program(program)
    assert make(whole, tmp_path / "r.html", "--verdict", verdict) == 0
    blocks = re.findall(r"<pre tabindex=\"0\"><code>(.*?)</code></pre>", (tmp_path / "r.html").read_text(), re.DOTALL)
    signers, which, steps = ([line for line in html.unescape(block).splitlines() if line] for block in blocks)
    assert len(which) == 3
    (tmp_path / "revoked").touch()
    steps = [line for line in steps if "b3sum" not in line]
    keys = [PublicKey.from_line(line[line.index("ssh-") :]) for line in trusted_lines(whole)]
    by_key = {f"# {key.fingerprint}": key.line().split()[1] for key in keys}
    filled = [line.removesuffix("KEY") + by_key[above] for above, line in zip(signers[::2], signers[1::2], strict=True)]
    assert len(filled) == 2
    (tmp_path / "my_signers").write_text("\n".join(filled) + "\n")
    script = "\n".join(steps).replace("my_signers", str(tmp_path / "my_signers"))
    script = script.replace("-r revoked", f"-r {tmp_path / 'revoked'}")
    for number, line in enumerate(which, 1):
        done: Any = subprocess.run(
            ["bash", "-c", f"set -e\n{line}\n{script}"], cwd=whole.vault.layout.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("Good") == 2
        receipt = json.loads((whole.acquisition(number) / "receipt.json").read_text())
        printed = dict(reversed(row.split()) for row in done.stdout.splitlines() if not row.startswith("Good"))
        assert printed["acquired.json"] == receipt["acquired_sha256"]
        assert printed["manifest.jsonl"] == receipt["manifest_sha256"]


def test_a_signed_report_is_recorded_and_ssh_keygen_checks_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], require_program: Callable[[str], str]
) -> None:
    require_program("ssh-keygen")
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    key = tmp_path / "ben"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    public = key.with_suffix(".pub").read_text()
    bench.vault.trust.add(PublicKey.from_line(public), "ben@lab")
    file = tmp_path / "r.pdf"
    assert make(bench, file, "--sign", "--sign-key", str(key), "--examiner", "Ben", "--json") == 0
    output = json.loads(capfd.readouterr().out)
    assert schema_errors(output, "report-output") == []
    assert "Report signed by Ben, with the key SHA256:" in " ".join(run("pdftotext", "-layout", "-l", "1", file, "-").split())
    said = [line.strip() for line in run("pdftotext", "-layout", file, "-").splitlines()]
    signer = next(line for line in said if line.startswith("ben@lab namespaces="))
    (tmp_path / "my_signers").write_text(signer.removesuffix("KEY") + public.split()[1])
    (tmp_path / "revoked").touch()
    typed = "\n".join(line for line in said if line.startswith("R=") or '-s "$R.sig"' in line)
    answer = subprocess.run(["bash", "-c", typed], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert answer.stdout.startswith('Good "report@evidencesync" signature for ben@lab'), (typed, answer.stderr)
    signers = tmp_path / "signers"
    signers.write_text(f"ben@lab {public}")
    command = ["ssh-keygen", "-Y", "verify", "-f", str(signers), "-I", "ben@lab", "-n", "report@evidencesync"]
    done = subprocess.run([*command, "-s", f"{file}.sig"], input=file.read_bytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    (recorded,) = output["recorded"]
    assert recorded == {"case": "2026/11", "item": "E1", "record": 3, "problem": None, "problem_code": None}
    record = bench.vault.layout.item(bench.name).custody / "0003-exported.json"
    assert json.loads(record.read_bytes())["details"]["report_sha256"] == output["sha256"]
    assert main(["verify", str(bench.vault.layout.root), "-q"]) == 0
    assert make(bench, tmp_path / "next.json") == make(bench, tmp_path / "next.pdf") == 0
    text = run("pdftotext", "-raw", tmp_path / "next.pdf", "-")
    assert output["sha256"] not in text  # a narrow column breaks it, or it would cover the next one
    assert output["sha256"] in text.replace("\n", "")
    steps = json.loads((tmp_path / "next.json").read_bytes())["items"][0]["custody"]
    assert [(step["record"]["type"], step["signature"]) for step in steps][-1] == ("exported", "good")


def test_a_key_that_the_vault_does_not_trust_is_refused_before_anything_is_checked_or_written(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], require_program: Callable[[str], str]
) -> None:
    require_program("ssh-keygen")
    bench = make_bench(tmp_path)
    (bench.source / "a.txt").write_text("a")
    bench.push()
    key = tmp_path / "eve"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    code = make(bench, tmp_path / "r.json", "--sign", "--sign-key", str(key), "--examiner", "Eve", "--json")
    error = json.loads(capfd.readouterr().out)["error"]
    assert (code, error["slug"]) == (32, "untrusted-signer")
    assert "trust add" in error["hint"]
    assert [name for name in os.listdir(tmp_path) if name.startswith("r.json")] == []
    assert max(os.listdir(bench.vault.layout.item(bench.name).custody)) == "0002-received.json.sig"
