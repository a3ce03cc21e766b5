"""A report of more acquisitions than one PDF holds is several files, and each acquisition is in one of them."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.cli.app import main
from evidencesync.custody.publickey import PublicKey
from evidencesync.errors import UsageError
from evidencesync.report import texts
from evidencesync.report.volumes import volume_count, volume_names
from tests.support.bench_of_evidence import Bench, make_bench


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = make_bench(tmp_path_factory.mktemp("volumes"))
    for number in range(5):
        (bench.source / f"{number}.txt").write_text(str(number))
        bench.push()
    return bench


@pytest.fixture
def two_in_a_volume(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evidencesync.report.volumes.MAX_PDF_ACQUISITIONS", 2)


def make(bench: Bench, file: Path, *more: str) -> int:
    return main(["report", str(bench.vault.layout.root), "--case", "2026/11", "-o", str(file), "-q", *more])


def text_of(file: Path) -> str:
    return " ".join(subprocess.run(["pdftotext", "-raw", file, "-"], capture_output=True, check=True, text=True).stdout.split())


@pytest.mark.usefixtures("two_in_a_volume")
def test_each_volume_names_the_others_and_the_first_their_digests(
    bench: Bench, tmp_path: Path, capfd: pytest.CaptureFixture[str], require_program: Callable[[str], str]
) -> None:
    require_program("pdftotext")
    assert make(bench, tmp_path / "r.pdf", "--json") == 0
    output = json.loads(capfd.readouterr().out)
    files = [tmp_path / f"r-{number}.pdf" for number in (1, 2, 3)]
    assert sorted(tmp_path.iterdir()) == files
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]
    assert [(one["file"], one["sha256"]) for one in output["volumes"]] == [
        (str(file), digest) for file, digest in zip(files, digests, strict=True)
    ]
    assert (output["file"], output["sha256"]) == (str(files[0]), digests[0])
    said = [text_of(file) for file in files]
    for text in said:
        assert all(file.name in text for file in files)
        assert "PASS" in text
    assert all(digest in said[0].replace(" ", "") for digest in digests[1:])
    for number in range(1, 6):
        assert [f"Acquisition {number} {texts.MADE}" in text for text in said] == [
            (number - 1) // 2 == place for place in range(3)
        ]


@pytest.mark.usefixtures("two_in_a_volume")
def test_each_volume_is_signed_and_one_record_names_the_first(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], require_program: Callable[[str], str]
) -> None:
    bench = make_bench(tmp_path)
    for number in range(3):
        (bench.source / "a.txt").write_text(str(number))
        bench.push()
    key = tmp_path / "ben"
    subprocess.run([require_program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    bench.vault.trust.add(PublicKey.from_line(key.with_suffix(".pub").read_text()), "ben@lab")
    assert make(bench, tmp_path / "r.pdf", "--sign", "--sign-key", str(key), "--examiner", "Ben", "--json") == 0
    output = json.loads(capfd.readouterr().out)
    assert [one["signature"] for one in output["volumes"]] == [str(tmp_path / f"r-{number}.pdf.sig") for number in (1, 2)]
    assert all(Path(one["signature"]).is_file() for one in output["volumes"])
    (file,) = bench.vault.layout.item(bench.name).custody.glob("*-exported.json")
    details = json.loads(file.read_bytes())["details"]
    assert (details["report_sha256"], details["report_volumes"]) == (output["volumes"][0]["sha256"], "2")


@pytest.mark.usefixtures("two_in_a_volume")
def test_a_volume_that_cannot_be_made_leaves_none_and_a_taken_name_is_found_before_anything_is_checked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("it was checked")

    (tmp_path / "r-2.pdf").write_text("mine")
    with monkeypatch.context() as patched:
        patched.setattr("evidencesync.cli.report_command._verify", refuse)
        assert make(bench, tmp_path / "r.pdf") == 2
    assert "r-2.pdf is there already" in capfd.readouterr().err
    made: list[object] = []

    def fail_late(*_: object) -> bytes:
        made.append(1)
        if len(made) == 3:
            raise UsageError("no more")
        return b"%PDF"

    monkeypatch.setattr("evidencesync.report.pdf_report._set", fail_late)
    assert make(bench, tmp_path / "s.pdf") == 2
    assert len(made) == 3
    assert [file.name for file in tmp_path.iterdir()] == ["r-2.pdf"]


@pytest.mark.usefixtures("two_in_a_volume")
def test_volumes_that_have_their_names_go_where_the_first_finds_its_own_taken_meanwhile(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def set_and_take(*_: object) -> bytes:
        (tmp_path / "r-1.pdf").write_text("mine")
        return b"%PDF"

    monkeypatch.setattr("evidencesync.report.pdf_report._set", set_and_take)
    assert make(bench, tmp_path / "r.pdf") == 2
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("r-1.pdf", "mine")]


def test_a_pass_claims_no_digest_that_was_not_checked(bench: Bench, tmp_path: Path) -> None:
    assert make(bench, tmp_path / "r.html") == 0
    text = (tmp_path / "r.html").read_text()
    assert "by BLAKE3" in text
    assert "has the size and the BLAKE3 digest that its signed manifest states." in text
    assert "Not computed again for this verdict: SHA-256." in text


def test_more_acquisitions_than_all_volumes_hold_are_refused_before_anything_is_checked(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("evidencesync.cli.report_command._verify", lambda *_: pytest.fail("it was checked"))
    monkeypatch.setattr("evidencesync.report.volumes.MAX_PDF_ACQUISITIONS", 1)
    monkeypatch.setattr("evidencesync.report.volumes.MAX_PDF_VOLUMES", 4)
    assert make(bench, tmp_path / "r.pdf") == 2
    assert "at most 4 acquisitions, and these are 5" in capfd.readouterr().err


@pytest.mark.parametrize(("acquisitions", "count"), [(0, 1), (1, 1), (40, 1), (41, 2), (80, 2), (4000, 100)])
def test_so_many_acquisitions_make_so_many_files(acquisitions: int, count: int) -> None:
    assert volume_count(acquisitions) == count


def test_the_files_of_one_volume_and_of_many_are_named_so() -> None:
    assert volume_names(Path("a/r.pdf"), 1) == [Path("a/r.pdf")]
    assert volume_names(Path("a/r.x.PDF"), 2) == [Path("a/r.x-1.PDF"), Path("a/r.x-2.PDF")]
