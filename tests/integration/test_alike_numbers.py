"""A new case or item whose number is another spelling of one that is there is said, before and after: it cannot be taken back."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from evidencesync.acquire.push import push as push_over
from evidencesync.cli.console import Console
from evidencesync.connection.progress import Progress
from evidencesync.evidence.identity import ItemName, Title, folder_name, likeness
from evidencesync.exit_codes import ExitCode
from evidencesync.limits import MAX_ALIKE
from evidencesync.protocol import failures
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import ALIKE_VERSION, VERSIONS, Alive
from evidencesync.vault.alike import find_alike
from tests.integration.cli_program import Done, Lab, schema_errors
from tests.support.bench_of_evidence import make_bench
from tests.support.every_command import run_in_process
from tests.support.patience import PATIENCE_SECONDS


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A vault with one case, one item of which has a number that makes a folder name of its own."""
    made = Lab.make(tmp_path_factory.mktemp("alike"))
    made.write("a", b"a")
    for item in ("LAPTOP-1", "Disk 1"):
        assert push(made, item).code == 0
    return made


def push(lab: Lab, item: str, *more: str, case: str = "2024-017") -> Done:
    return lab.run("push", "evidence", "vault", "--case", case, "--item", item, "--sign-key", "ana", *more)


@pytest.mark.parametrize("title", ["laptop-1", "Laptop_01", "laptop 1", "LAPTOP1", "\uff2c\uff21\uff30\uff34\uff2f\uff30-1"])
def test_another_spelling_has_the_same_likeness(title: str) -> None:
    assert likeness(title) == likeness("LAPTOP-1")


def test_a_letter_that_looks_like_a_digit_counts_as_one_beside_another() -> None:
    assert likeness("2024-O17") == likeness("2024-017") == likeness("2O24-0l7")
    assert likeness("LAPTOP-I7") == likeness("laptop 17") != likeness("laptopi7")
    assert likeness("DISK-O") != likeness("DISK-0")


@pytest.mark.parametrize("title", ["LAPTOP-2", "LAPTOP-10", "LAPTOP-1-1", "LAPTOP", "L\u00c4PTOP-1"])
def test_another_number_has_another_one(title: str) -> None:
    assert likeness(title) != likeness("LAPTOP-1")
    assert likeness("1-11") != likeness("11-1") != likeness("111")


@pytest.mark.parametrize(("item", "there"), [("laptop-01", "LAPTOP-1"), ("disk-1", "Disk 1")])
def test_a_dry_run_and_a_first_push_name_the_item_that_may_be_meant(lab: Lab, item: str, there: str) -> None:
    note = f"  note         new item {item}; the case has {there}, too"
    assert note in push(lab, item, "--dry-run").out.splitlines()
    dry = push(lab, item, "--dry-run", "--json").document
    assert (dry["alike_items"], dry["alike_cases"], schema_errors(dry, "push-dry-run-output")) == ([there], [], [])
    assert note in push(lab, item, "--quiet").out.splitlines()
    again = push(lab, item)
    assert (again.code, "note  " in again.out) == (0, False)
    assert push(lab, item, "--json").document["alike_items"] == []


def test_a_new_case_names_the_case_that_may_be_meant_and_an_item_of_it_none(lab: Lab) -> None:
    done = push(lab, "LAPTOP-1", "--json", case="2024/17")
    assert (done.code, done.document["alike_cases"], done.document["alike_items"]) == (0, ["2024-017"], [])
    assert schema_errors(done.document, "push-output") == []
    assert push(lab, "PHONE", "--json", case="2024/17").document["alike_cases"] == []
    assert "note  " not in push(lab, "PHONE-2").out


def test_what_is_told_is_bounded_and_what_cannot_be_read_is_left_out(tmp_path: Path) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    case = Title("C")
    for number in range(MAX_ALIKE + 2):
        bench.push(name=ItemName(case, Title(f"A{'-' * number}1")))
    wanted = ItemName(case, Title("a/1"))
    assert len(find_alike(bench.vault.layout, wanted).items) == MAX_ALIKE
    for number in range(MAX_ALIKE + 2):
        custody = bench.vault.layout.case("C") / folder_name(f"A{'-' * number}1") / "custody"
        for record in custody.glob("*.json"):
            record.write_bytes(b"no record")
    assert find_alike(bench.vault.layout, wanted).items == []


def test_a_sender_of_an_earlier_version_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.push(name=ItemName(Title("C"), Title("A-1")))
    told = bench.push(name=ItemName(Title("C"), Title("a-1")))
    assert told.alike is not None
    assert told.alike.items == ["A-1"]
    monkeypatch.setattr(failures, "VERSIONS", tuple(version for version in VERSIONS if version < ALIKE_VERSION))
    assert bench.push(name=ItemName(Title("C"), Title("a_1"))).alike is None


@pytest.fixture
def at_a_terminal(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """In the laboratory's folder, with a person who can be asked. Returns where a test puts the questions."""
    monkeypatch.chdir(lab.folder)
    for name, value in lab.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(Console, "can_ask", True)
    return []


def typed(item: str, *more: str) -> list[str]:
    return ["push", "evidence", "vault", "--case", "2024-017", "--item", item, "--sign-key", "ana", *more]


@pytest.mark.parametrize("answer", [True, False])
def test_a_person_is_asked_before_anything_is_sent(
    answer: bool,
    lab: Lab,
    at_a_terminal: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    there = f"SERVER-{2 - answer}"
    item = there.lower()
    assert push(lab, there).code == 0
    vault = lab.folder / "vault"

    def ask(_console: Console, question: str) -> bool:
        at_a_terminal.append(question)
        return answer

    monkeypatch.setattr(Console, "ask", ask)
    code = run_in_process(typed(item))
    assert at_a_terminal == [f"This makes a new item {item}; the case has {there}. Is a new one meant?"]
    assert code == (ExitCode.COMPLETE if answer else ExitCode.INTERRUPTED)
    assert (vault / "cases" / "2024-017" / item / "acquisitions" / "0001").exists() is answer
    assert [*vault.glob("incoming/*"), *vault.glob("cases/*/*/incoming/*")] == []
    said = capfd.readouterr().err
    assert (f"Nothing was sent. Did you mean --item {there}?" in said) is not answer
    assert run_in_process(typed(f"{there}_", "--yes")) == 0
    assert len(at_a_terminal) == 1


def test_a_script_is_told_before_and_is_not_asked(lab: Lab) -> None:
    assert "note: new item lap-top-1; the case has " in push(lab, "lap-top-1").err
    assert "note: " not in push(lab, "lap-top-1").err


def test_a_person_who_takes_long_is_waited_for(tmp_path: Path) -> None:
    """The vault's end hears keep-alives while the question stands: it would take the sender for gone."""
    bench = make_bench(tmp_path)
    (bench.source / "a").write_bytes(b"a")
    bench.push(name=ItemName(Title("C"), Title("A-1")))
    link, thread = bench.serve()
    said: list[bytes] = []
    enough = threading.Event()
    write = link.write

    def note(data: bytes) -> None:
        said.append(bytes(data))
        if said.count(frame_of(Alive())) > 2:
            enough.set()
        write(data)

    link.write = note  # type: ignore[method-assign]
    progress = Progress(about_new_item=lambda _alike: None if enough.wait(PATIENCE_SECONDS) else pytest.fail("it was silent"))
    request = bench.request(name=ItemName(Title("C"), Title("a-1")), timeout_seconds=0.4)
    assert push_over(link, request, progress).acquisition == 1
    thread.join(PATIENCE_SECONDS)
