"""`report`, `export` and `timestamp` of a vault behind a forced command: made here, of its documents and of its verdict."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli_program import ITEM, Lab, schema_errors
from tests.integration.test_custody import _far
from tests.integration.test_verifying_from_afar import damaged, unlisted

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd

_CASE = ITEM[:2]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.write("notes.txt", b"hello")
    made.write("image.dd", bytes(range(256)) * 2000)
    assert made.push().code == 0
    made.write("notes.txt", b"again")
    assert made.push().code == 0
    return made


@pytest.fixture
def lab(template: Lab, tmp_path: Path) -> Lab:
    return template.copy(tmp_path)


def report_of(lab: Lab, vault: str, name: str, *options: str) -> tuple[int, dict[str, object]]:
    done = lab.run("report", vault, *_CASE, "-o", name, *options)
    return done.code, json.loads((lab.folder / name).read_text())


def test_a_report_from_afar_says_what_one_there_says_and_who_has_read_the_evidence(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    code, here = report_of(lab, "vault", "here.json")
    far_code, afar = report_of(lab, far, "afar.json", "--sign-key", "ana", *options)
    assert (code, far_code) == (0, 0)
    assert schema_errors(afar, "report") == []
    by = afar["judgement"]["by_vault"]  # type: ignore[index]
    assert (by["verdict"], by["documents"]) == ("pass", "pass")
    assert here["judgement"]["by_vault"] is None  # type: ignore[index]
    for part in ("vault", "trust", "files", "case"):
        assert afar[part] == here[part]
    for one in (here, afar):  # pictures that are made of rows of chunks, which stay there
        for item in one["items"]:  # type: ignore[attr-defined]
            for acquisition in item["acquisitions"]:
                acquisition["maps"] = []
    assert afar["items"] == here["items"]
    for part in ("state", "checked", "digests", "heads", "findings", "trust"):
        assert afar["judgement"][part] == here["judgement"][part]  # type: ignore[index]


def test_people_read_on_page_one_who_has_read_the_evidence(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    part = ("--item", ITEM[3], "--acquisition", "2")
    done = lab.run("report", far, *_CASE, *part, "-o", "afar.html", "--sign-key", "ana", *options)
    assert done.code == 0, done
    page = (lab.folder / "afar.html").read_text()
    assert f"The evidence was read by the vault itself, at {far}" in page
    assert "Its documents were fetched, and checked by who made the verdict." in page


@pytest.mark.parametrize(("spoil", "code"), [(damaged, 30), (unlisted, 31)])
def test_a_report_from_afar_of_what_is_wrong_says_so(lab: Lab, sshd: Sshd, spoil: object, code: int) -> None:
    spoil(lab)  # type: ignore[operator]
    far, options = _far(lab, sshd, forced=True)
    found, report = report_of(lab, far, "afar.json", "--sign-key", "ana", *options)
    assert (found, report["judgement"]["state"]) == (code, "fail")  # type: ignore[index]


def test_a_report_is_signed_and_recorded_over_the_same_way(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    signing = ("--sign", "--examiner", "Ana", "--sign-key", "ana")
    done = lab.run("report", far, *_CASE, "-o", "afar.html", *signing, "--json", *options)
    assert done.code == 0, done
    assert [one["record"] for one in done.document["recorded"]] == [5]
    assert (lab.folder / "afar.html.sig").is_file()
    assert lab.run("verify", "vault").code == 0


def test_a_report_of_an_earlier_verdict_from_afar_says_whose_it_is(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    said = lab.run("verify", far, "--json", "--sign-key", "ana", *options)
    (lab.folder / "said.json").write_text(said.out)
    code, report = report_of(lab, far, "afar.json", "--verdict", "said.json", "--sign-key", "ana", *options)
    assert (code, report["judgement"]["state"]) == (0, "pass")  # type: ignore[index]
    assert report["judgement"]["by_vault"]["documents"] is None  # type: ignore[index]
    (lab.folder / "forged.json").write_text(said.out.replace('"address":"', '"address":"\\u202e'))
    refused = lab.run("report", far, *_CASE, "-o", "no.json", "--verdict", "forged.json", "--sign-key", "ana", *options)
    assert refused.code == 2


def test_lists_are_exported_from_afar_and_a_draft_is_refused_with_what_to_type(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    for form in ("hashdeep", "case-uco"):
        wanted = (*ITEM, "--format", form, "--acquisition", "1")
        assert lab.run("export", "vault", f"here.{form}", *wanted).code == 0
        record = ("--record", "--examiner", "Ana") if form == "hashdeep" else ()
        done = lab.run("export", far, f"afar.{form}", *wanted, *record, "--sign-key", "ana", *options)
        assert done.code == 0, done
        assert "; read by the vault at " in done.out
        assert (lab.folder / f"afar.{form}").read_bytes() == (lab.folder / f"here.{form}").read_bytes()
    assert next((lab.folder / "vault").glob("cases/*/*/custody/0005-exported.json")).is_file()
    draft = lab.run("report", far, *_CASE, "--format", "statement", "-o", "draft.rtf", *options)
    assert (draft.code, "works where the vault lies" in draft.err) == (2, True)


def test_damaged_evidence_is_not_exported_from_afar(lab: Lab, sshd: Sshd) -> None:
    damaged(lab)
    far, options = _far(lab, sshd, forced=True)
    wanted = (*ITEM, "--format", "hashdeep", "--acquisition", "1")
    done = lab.run("export", far, "afar.txt", *wanted, "--sign-key", "ana", *options)
    assert (done.code, "NOTHING WAS EXPORTED" in done.out, (lab.folder / "afar.txt").exists()) == (30, True, False)


def test_a_timestamp_is_requested_and_shown_from_afar(lab: Lab, sshd: Sshd) -> None:
    far, options = _far(lab, sshd, forced=True)
    reading = ("--json", "--sign-key", "ana", *options)
    asked = lab.run("timestamp", "request", far, *ITEM, "-o", "afar.tsq", *reading)
    assert asked.code == 0, asked
    here = lab.run("timestamp", "request", "vault", *ITEM, "-o", "here.tsq", "--json")
    assert asked.document["imprint"] == here.document["imprint"]
    shown = lab.run("timestamp", "show", far, *ITEM, *reading)
    assert (shown.code, shown.document) == (0, lab.run("timestamp", "show", "vault", *ITEM, "--json").document)
