"""The chain's commands: on this machine, over SSH, by several people, over links that are lost; and `verify --record`."""

from __future__ import annotations

import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from evidencesync.acquire import connect
from evidencesync.acquire.custody import Appended, RecordDraft, append_record
from evidencesync.acquire.custody_exchange import CustodyExchange, ShownChain
from evidencesync.errors import EvidenceSyncError, RememberedHeadsError
from evidencesync.exit_codes import ExitCode
from evidencesync.localstate.heads import HeadMemory
from evidencesync.localstate.pending_record import PendingRecord
from evidencesync.vault.item import lock_item
from evidencesync.verify.audit import audit_vault
from tests.integration.cli_program import ITEM, Done, Lab, far_program, schema_errors
from tests.support.bench_of_evidence import Bench, copy_of, make_bench, new_signer
from tests.support.custody_client import chain_of, custody_request, state
from tests.support.cut_links import CutLink
from tests.support.patience import PATIENCE_SECONDS

if TYPE_CHECKING:
    from tests.integration.conftest import Sshd


@pytest.fixture(scope="module")
def laboratory(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A laboratory with two examiners and one acquisition."""
    made = Lab.make(tmp_path_factory.mktemp("laboratory"))
    made.make_key("ben")
    assert made.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab").code == 0
    made.write("notes.txt", b"hello")
    return made


@pytest.fixture
def lab(laboratory: Lab, tmp_path: Path) -> Lab:
    return laboratory.copy(tmp_path)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    made = make_bench(tmp_path_factory.mktemp("template"))
    (made.source / "small").write_bytes(b"evidence")
    made.push()
    return made


@pytest.fixture
def bench(template: Bench, tmp_path: Path) -> Bench:
    return copy_of(template, tmp_path)


def custody(lab: Lab, name: str, *arguments: str, key: str = "ana", vault: str = "vault") -> Done:
    return lab.run("custody", name, vault, *ITEM, "--sign-key", key, "--json", *arguments)


def test_an_item_goes_from_hand_to_hand(lab: Lab) -> None:
    (lab.folder / "laptop.toml").write_text('[case]\nlegal_authority = "Warrant 12/24"\n[item]\nmake = "Del"\nmodel = "X1"\n')
    assert lab.push("--case-file", "laptop.toml", "--detail", "serial_number=7XK2").code == 0
    noted = custody(lab, "note", "--text", "screws missing", "--detail", "asset tag=A-1", "--acquisition", "1")
    assert noted.code == 0, noted
    assert schema_errors(noted.document, "custody-append-output") == []
    assert noted.document["record"]["details"] == {"text": "screws missing", "asset tag": "A-1"}
    assert (noted.document["record"]["sequence"], noted.document["record"]["acquisition"]) == (3, 1)
    assert noted.document["sha256"] == noted.document["chain_head_sha256"]
    assert custody(lab, "correct", "--record", "1", "--detail", "make=Dell", "--detail", "model=").code == 0
    assert custody(lab, "hand-over", "--to", "ben@lab", "--reason", "analysis", "--mechanism", "courier").code == 0
    assert custody(lab, "accept", key="ana").code == 32
    accepted = custody(lab, "accept", "--condition", "seal intact", "--seal-number", "4711", key="ben")
    assert accepted.document["record"]["details"] == {"record": "5", "condition": "seal intact", "seal_number": "4711"}
    passed_over = custody(lab, "hand-over", "--to", "the court", "--outside")
    assert (passed_over.code, "--in-place-of ben@lab" in passed_over.error["hint"]) == (2, True)
    assert custody(lab, "seal", "--reason", "case closed", key="ben").code == 0
    shown = lab.run("custody", "show", "vault", *ITEM, "--json")  # no key is needed here
    assert shown.code == 0, shown
    assert schema_errors(shown.document, "custody-show-output") == []
    document = shown.document
    assert {(one["name"], one["value"], one["record"]) for one in document["known"]} == {
        ("legal_authority", "Warrant 12/24", 1),
        ("make", "Dell", 4),
        ("serial_number", "7XK2", 1),
        ("seal_number", "4711", 6),
        ("asset tag", "A-1", 3),
    }
    assert (document["held_by"], document["open_hand_over"], document["sealed"], document["problems"]) == (
        "ben@lab",
        None,
        True,
        [],
    )
    assert [one["record"]["type"] for one in document["custody"]] == [
        "acquired",
        "received",
        "noted",
        "corrected",
        "handed-over",
        "accepted",
        "sealed",
    ]
    table = lab.run("custody", "show", "vault", *ITEM).out
    assert table.startswith("2024-017 / LAPTOP-1   (times are UTC)\n")
    assert "held by       ben@lab" in table
    assert "0006  " in table
    assert "  detail        asset tag: A-1  (record 3)" in table
    assert "whether their keys are trusted, only `evidencesync verify` says" in table
    refused = lab.push("--json")
    assert (refused.code, refused.error["slug"]) == (11, "sealed")
    assert custody(lab, "note", "--text", "still").code == 0
    assert lab.run("verify", "vault").code == 0


def test_what_makes_no_sense_has_its_own_code_and_a_hint(lab: Lab) -> None:
    assert custody(lab, "note", "--text", "x").code == 10  # no item yet
    assert lab.push().code == 0
    before = sorted((lab.folder / "vault").rglob("*.json"))
    lab.make_key("eve")
    cases: list[tuple[int, Done]] = [
        (2, custody(lab, "note")),
        (2, custody(lab, "note", "--text", "a\x1bb")),
        (2, custody(lab, "note", "--detail", "make")),
        (2, custody(lab, "note", "--detail", "record=1")),
        (2, custody(lab, "correct", "--record", "1")),
        (10, custody(lab, "correct", "--record", "9", "--text", "x")),
        (10, custody(lab, "note", "--text", "x", "--acquisition", "2")),
        (10, custody(lab, "accept")),
        (10, custody(lab, "accept", "--record", "1")),
        (32, custody(lab, "hand-over", "--to", "ana@lab")),
        (32, custody(lab, "note", "--text", "x", key="eve")),
        (12, custody(lab, "note", "--text", "x", key="nobody")),
        (10, custody(lab, "note", "--text", "x", vault="nowhere")),
        (10, lab.run("custody", "show", "vault", "--case", "2024-017", "--item", "E9", "--json")),
    ]
    for code, done in cases:
        assert done.code == code, done
        assert schema_errors(done.document, "error-output") == []
        assert done.error["hint"], done
    assert sorted((lab.folder / "vault").rglob("*.json")) == before


def test_a_broken_chain_is_neither_shown_as_one_nor_added_to(lab: Lab) -> None:
    assert lab.push().code == 0
    assert custody(lab, "note", "--text", "x").code == 0
    file = lab.acquisition().parents[1] / "custody" / "0003-noted.json"
    file.chmod(0o644)
    file.write_bytes(file.read_bytes().replace(b'"x"', b'"y"'))
    assert lab.run("custody", "show", "vault", *ITEM, "--json").code == 32
    file.write_bytes(b"{}")
    assert lab.run("custody", "show", "vault", *ITEM, "--json").code in (32, 34)
    assert custody(lab, "note", "--text", "more").code in (32, 34)


def _far(lab: Lab, sshd: Sshd, *, forced: bool) -> tuple[str, tuple[str, ...]]:
    """The vault's address over SSH, and the options that reach it."""
    remote = far_program()
    options = ("-i", str(sshd.identity), "-p", str(sshd.port), "-F", "none", "--known-hosts", str(sshd.known_hosts))
    if not forced:
        return f"{sshd.user}@127.0.0.1:{lab.folder}/vault", (*options, "--remote-command", remote)
    login = lab.make_key("login")
    serve = f"{remote} serve --vault {shlex.quote(str(lab.folder / 'vault'))}".replace("\\", "\\\\").replace('"', '\\"')
    with sshd.authorized_keys.open("a") as lines:
        lines.write(f'restrict,command="{serve}" {login.with_suffix(".pub").read_text()}')
    return f"{sshd.user}@127.0.0.1:/", ("-i", str(login), *options[2:])


@pytest.mark.parametrize("forced", [False, True], ids=["by command", "forced command"])
def test_the_chain_is_shown_and_added_to_over_ssh(lab: Lab, sshd: Sshd, forced: bool) -> None:
    assert lab.push().code == 0
    vault, options = _far(lab, sshd, forced=forced)
    handed = custody(lab, "hand-over", "--to", "ben@lab", *options, vault=vault)
    assert handed.code == 0, handed
    accepted = custody(lab, "accept", "--condition", "good", *options, vault=vault, key="ben")
    assert accepted.code == 0, accepted
    shown = custody(lab, "show", *options, vault=vault, key="ben")
    assert shown.code == 0, shown
    here = lab.run("custody", "show", "vault", *ITEM, "--json")
    assert shown.document == here.document
    assert shown.document["chain_head_sha256"] == accepted.document["chain_head_sha256"]
    assert lab.run("verify", "vault", "--expect-head", accepted.document["chain_head_sha256"]).code == 0
    lab.make_key("eve")
    assert custody(lab, "show", *options, vault=vault, key="eve").code == 32
    assert custody(lab, "seal", *options, vault=vault).code == 0
    assert custody(lab, "seal", *options, vault=vault).code == 11


def add_note_and_die_before_it_is_stated(lab: Lab) -> tuple[str, ...]:
    """Runs a command whose record is added, and whose process is killed before the vault states the head. Gives its words."""
    killed = (
        "import os, signal, sys\n"
        "import evidencesync.ingest.custody as serving\n"
        "serving.state_head = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "from evidencesync.cli.app import main\n"
        "main()\n"
    )
    note = ("custody", "note", "vault", *ITEM, "--sign-key", "ben", "--text", "seen")
    done = subprocess.run([sys.executable, "-c", killed, *note], cwd=lab.folder, env=lab.environment, check=False)
    assert done.returncode == -signal.SIGKILL
    return note


def test_what_a_crash_kept_from_being_stated_outlives_its_signers_key(lab: Lab) -> None:
    """A note whose process was killed before the vault stated the item's head; then the key is retired, much later."""
    assert lab.push().code == 0
    add_note_and_die_before_it_is_stated(lab)
    assert len(lab.run("custody", "show", "vault", *ITEM, "--json").document["custody"]) == 3
    retired = lab.run("trust", "retire", "vault", "ben@lab", "--json").document
    own = sorted(file.name for file in (lab.folder / "vault" / "custody").glob("*.json"))
    assert own[-2:] == ["0004-heads.json", "0005-trust-changed.json"], "stated while the key was trusted"
    assert retired["changes"][0]["record"] == 5
    assert lab.run("verify", "vault").code == 0


def test_what_a_crash_kept_from_being_stated_is_stated_when_the_command_is_run_again(lab: Lab) -> None:
    """And the note is added once: then the vault's own chain tells of it, as of every record that somebody knows to be there."""
    assert lab.push().code == 0
    note = add_note_and_die_before_it_is_stated(lab)

    def own() -> list[str]:
        return sorted(file.name for file in (lab.folder / "vault" / "custody").glob("*.json"))

    before = own()
    again = lab.run(*note)
    assert again.code == 0, again
    assert "was in the chain already" in again.err
    assert len(lab.run("custody", "show", "vault", *ITEM, "--json").document["custody"]) == 3
    assert [name[5:] for name in own()[len(before) :]] == ["heads.json"]
    assert lab.run("verify", "vault").code == 0


def test_nobody_signs_upon_a_history_that_was_put_back(lab: Lab) -> None:
    """Else there would be two records with one number and one examiner's signature."""
    vault, backup = lab.folder / "vault", lab.folder / "backup"
    assert lab.push().code == 0
    shutil.copytree(vault, backup, symlinks=True)
    assert custody(lab, "note", "--text", "one").code == 0
    shutil.rmtree(vault)
    shutil.copytree(backup, vault, symlinks=True)
    refused = custody(lab, "note", "--text", "two")
    assert (refused.code, refused.error["slug"]) == (34, "rolled-back")
    assert "forget-head" in refused.error["hint"]
    elsewhere = lab.run(
        "custody", "note", "vault", *ITEM, "--sign-key", "ben", "--text", "x", env={"EVIDENCESYNC_STATE": str(lab.folder / "new")}
    )
    assert elsewhere.code == 0, "a machine that has seen nothing believes what it is shown"
    forked = custody(lab, "seal")
    assert (forked.code, forked.error["slug"]) == (34, "forked")
    vault_id = lab.run("receipts", "list", "--json").document["heads"][0]["vault_id"]
    assert lab.run("receipts", "forget-head", vault_id, "--yes").code == 0
    assert custody(lab, "note", "--text", "two").code == 0


def test_where_no_head_can_be_remembered_nothing_is_signed(lab: Lab) -> None:
    assert lab.push().code == 0
    note = ("custody", "note", "vault", *ITEM, "--sign-key", "ana", "--text", "x", "--json")
    fresh = lab.folder / "fresh"
    fresh.mkdir(mode=0o500)
    for place, unprivileged in ((lab.write("file", b""), False), (fresh, True)):
        noted = lab.run(*note, env={"EVIDENCESYNC_STATE": str(place)}, unprivileged=unprivileged)
        assert (noted.code, noted.error["slug"]) == (2, "remembered-heads"), noted
    shown = lab.run("custody", "show", "vault", *ITEM, "--json").document
    assert len(shown["custody"]) == 2


@pytest.mark.parametrize(
    "words",
    [
        ("trust", "add", "vault", "eve.pub", "--principal", "eve@lab"),
        ("trust", "retire", "vault", "ana@lab"),
        ("trust", "revoke", "vault", "ana@lab"),
        ("reindex", "vault"),
        ("vault", "writer", "vault", "--take"),
    ],
)
def test_where_no_head_can_be_remembered_the_vault_states_nothing(words: tuple[str, ...], lab: Lab) -> None:
    """As for custody records: that the memory cannot be written to is known before a record is added, and not after."""
    lab.make_key("eve")
    before = sorted((lab.folder / "vault" / "custody").iterdir())
    done = lab.run(*words, "--json", env={"EVIDENCESYNC_STATE": str(lab.write("file", b""))})
    assert (done.code, done.error["slug"]) == (2, "remembered-heads"), done
    assert sorted((lab.folder / "vault" / "custody").iterdir()) == before


def test_a_vault_that_was_put_back_gets_no_other_writer(lab: Lab) -> None:
    """The record would be added to a history that ends too early."""
    shutil.copytree(lab.folder / "vault", lab.folder / "before", symlinks=True)
    assert lab.push().code == 0
    shutil.rmtree(lab.folder / "vault")
    (lab.folder / "before").rename(lab.folder / "vault")
    done = lab.run("vault", "writer", "vault", "--take", "--json")
    assert (done.code, done.error["slug"]) == (34, "rolled-back"), done


def test_a_head_that_could_not_be_remembered_in_the_end_is_a_warning_and_not_another_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RememberedHeadsError("the disk is full")

    monkeypatch.setattr(HeadMemory, "remember", fail)
    appended = state(bench, "noted", {"text": "once"})
    assert (appended.record.record.sequence, appended.unremembered) == (3, "the disk is full")


def test_a_change_of_trust_names_its_own_record(lab: Lab) -> None:
    assert lab.push().code == 0
    lab.make_key("eve")
    added = lab.run("trust", "add", "vault", "eve.pub", "--principal", "eve@lab", "--json").document
    revoked = lab.run("trust", "revoke", "vault", "eve@lab", "--json").document
    own = {int(file.name[:4]): file.name for file in (lab.folder / "vault" / "custody").glob("*.json")}
    for changed in (added, revoked):
        assert own[changed["changes"][0]["record"]].endswith("trust-changed.json")


# --- At the same time, and over bad links ------------------------------------------------------------------------------


def test_people_who_add_at_the_same_time_all_get_their_word(bench: Bench) -> None:
    found: list[int] = []
    errors: list[EvidenceSyncError] = []

    def work(who: int) -> None:
        try:
            found.extend(state(bench, "noted", {"text": f"{who}-{count}"}).record.record.sequence for count in range(3))
        except EvidenceSyncError as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_SECONDS)
    assert errors == []
    assert sorted(found) == list(range(3, 15))
    texts = [one.record.details.get("text") for one in chain_of(bench).records[2:]]
    assert sorted(str(text) for text in texts) == sorted(f"{who}-{count}" for who in range(4) for count in range(3))
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


def test_who_composes_on_a_chain_that_has_grown_is_asked_again(bench: Bench) -> None:
    ben = new_signer()
    bench.vault.trust.add(ben.public_key, "ben@lab")
    state(bench, "handed-over", {"to": "ben@lab"})
    asked: list[int] = []

    def compose(chain: ShownChain) -> RecordDraft:
        asked.append(len(chain.records))
        if len(asked) == 1:
            state(bench, "noted", {"text": "in between"})
        return RecordDraft("accepted", {"record": "3"})

    appended = append_record(lambda: bench.serve()[0], custody_request(bench, ben), compose)
    assert (asked, appended.record.record.sequence) == ([3, 4], 5)


def test_an_item_that_somebody_transfers_into_is_locked(bench: Bench) -> None:
    with lock_item(bench.vault.item(bench.name)), pytest.raises(EvidenceSyncError) as refused:
        state(bench, "noted", {"text": "x"})
    assert refused.value.exit_code is ExitCode.LOCKED


@pytest.mark.parametrize("direction", ["sent", "received"])
def test_a_record_is_appended_once_wherever_the_link_is_lost(
    bench: Bench, direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after each of many numbers of bytes; the next link is whole."""
    monkeypatch.setattr(connect, "FIRST_PAUSE", 0.01)
    whole, thread = bench.serve()
    append_record(lambda: whole, custody_request(bench), lambda _: RecordDraft("noted", {"text": "measured"}))
    thread.join(PATIENCE_SECONDS)
    total = whole.wire_sent if direction == "sent" else whole.wire_received
    draft = RecordDraft("noted", {"text": "once"})
    cuts = [*range(0, total, total // 12), total - 1]
    for number, at in enumerate(cuts):
        links: list[int] = []

        def reach(at: int = at, links: list[int] = links) -> Any:
            links.append(1)
            link = bench.serve()[0]
            cut = CutLink(link, sent=at) if direction == "sent" else CutLink(link, received=at)
            return cut if len(links) == 1 else link

        appended = append_record(reach, custody_request(bench, retries=2), lambda _: draft)
        assert appended.record.record.sequence == 4 + number
    records = chain_of(bench).records
    assert [one.record.details["text"] for one in records[3:]] == ["once"] * len(cuts)
    assert audit_vault(bench.vault.layout.root, now_ns=time.time_ns()).verdict == "pass"


@pytest.mark.parametrize("when", ["before it was handed in", "after it was handed in"])
def test_a_command_that_was_killed_and_is_run_again_adds_one_record(
    when: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = CustodyExchange.append

    def killed(self: CustodyExchange, document: bytes, signature: bytes) -> None:
        if when.startswith("after"):
            really(self, document, signature)
        raise KeyboardInterrupt

    def run(text: str) -> Appended:
        draft = RecordDraft("noted", {"text": text})
        return append_record(lambda: bench.serve()[0], custody_request(bench), lambda _: draft, statement=text)

    before = len(chain_of(bench).records)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CustodyExchange, "append", killed)
        run("seen")
    again = run("seen")
    assert again.is_earlier == when.startswith("after")
    assert len(chain_of(bench).records) == before + 1
    assert not run("seen").is_earlier  # who knows that it is there, and says it once more, means it
    assert len(chain_of(bench).records) == before + 2
    assert list((bench.source.parent / "seen" / "begun").iterdir()) == []


def test_another_command_after_one_that_was_killed_adds_its_own_record(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    really = CustodyExchange.append

    def killed(self: CustodyExchange, document: bytes, signature: bytes) -> None:
        really(self, document, signature)
        raise KeyboardInterrupt

    def run(text: str) -> Appended:
        draft = RecordDraft("noted", {"text": text})
        return append_record(lambda: bench.serve()[0], custody_request(bench), lambda _: draft, statement=text)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(CustodyExchange, "append", killed)
        run("a")
    other = run("b")
    assert not other.is_earlier
    assert other.record.record.details == {"text": "b"}


@pytest.mark.parametrize("content", [b"", b"{}", b"x" * 20_000, b'{"statement": 1, "records": []}'])
def test_what_nobody_has_written_of_a_begun_record_tells_nothing(content: bytes, tmp_path: Path) -> None:
    begun = PendingRecord(tmp_path, ["vault", "case", "item", "key"], "seen")
    begun.keep(["a" * 64])
    assert begun.records() == ["a" * 64]
    (file,) = (tmp_path / "begun").iterdir()
    file.write_bytes(content)
    assert begun.records() == []
    begun.end()
    begun.end()
    assert begun.records() == []


def test_a_link_that_cannot_be_made_again_says_what_is_not_known(bench: Bench) -> None:
    def reach() -> Any:
        return CutLink(bench.serve()[0], received=10)

    with pytest.raises(EvidenceSyncError) as lost:
        append_record(reach, custody_request(bench, retries=1), lambda _: RecordDraft("noted", {"text": "x"}))
    assert lost.value.exit_code is ExitCode.LINK_LOST


def test_a_chain_longer_than_a_message_is_read_whole(bench: Bench) -> None:
    for number in range(6):
        state(bench, "noted", {f"n{at}": str(number) * 8000 for at in range(30)})
    chain = chain_of(bench)
    assert len(chain.records) == 8
    assert sum(len(value) for one in chain.records for value in one.record.details.values()) > 1_400_000


# --- verify --record ---------------------------------------------------------------------------------------------------


def test_a_verdict_is_recorded_in_the_chain_of_what_was_verified(lab: Lab) -> None:
    assert lab.push().code == 0
    assert lab.run("push", "evidence", "vault", "--case", "2024-017", "--item", "DISK", "--sign-key", "ana").code == 0
    before = lab.run("verify", "vault", "--json").document
    done = lab.run("verify", "vault", *ITEM, "--all-digests", "--record", "-i", "ana", "--examiner", "Ana", "--json")
    assert done.code == 0, done
    assert schema_errors(done.document, "verify-record-output") == []
    assert done.document["recorded"] == [
        {
            "case": "2024-017",
            "item": "LAPTOP-1",
            "verdict": "pass",
            "exit_code": 0,
            "record": 3,
            "problem": None,
            "problem_code": None,
        }
    ]
    record = lab.run("custody", "show", "vault", *ITEM, "--json").document["custody"][2]["record"]
    head = next(one for one in before["heads"] if one["item"] == "LAPTOP-1")
    details = record["details"]
    assert (record["type"], record["actor"]["name"]) == ("verified", "Ana")
    assert (details["verdict"], details["exit_code"], details["scope"], details["digests"]) == (
        "pass",
        "0",
        "item",
        "blake3, sha256",
    )
    assert (details["files"], details["acquisitions"], details["errors"]) == ("1", "1", "0")
    assert details["chain_head"] == f"2 {head['sha256']}"
    assert details["tool"].startswith("evidencesync ")
    assert lab.run("verify", "vault", "--record", "-i", "ana").code == 0
    assert len(lab.run("custody", "show", "vault", "--case", "2024-017", "--item", "DISK", "--json").document["custody"]) == 3
    assert lab.run("verify", "vault").code == 0


def test_a_failed_verification_is_recorded_as_failed_and_stays_failed(lab: Lab) -> None:
    assert lab.push().code == 0
    assert lab.run("push", "evidence", "vault", "--case", "2024-017", "--item", "DISK", "--sign-key", "ana").code == 0
    stored = lab.acquisition() / "data" / "notes.txt"
    stored.chmod(0o644)
    stored.write_bytes(b"jello")
    stored.chmod(0o444)
    done = lab.run("verify", "vault", "--record", "-i", "ana", "--json")
    assert done.code == 30, done
    assert {(one["item"], one["verdict"], one["exit_code"]) for one in done.document["recorded"]} == {
        ("DISK", "pass", 0),
        ("LAPTOP-1", "fail", 30),
    }
    details = lab.run("custody", "show", "vault", *ITEM, "--json").document["custody"][2]["record"]["details"]
    assert (details["verdict"], details["exit_code"], details["errors"]) == ("fail", "30", "1")


def test_a_verdict_that_cannot_be_recorded_is_no_pass(lab: Lab) -> None:
    assert lab.push().code == 0
    lab.make_key("eve")
    may = ("--may", "custody", "--case", "2025-*")
    assert lab.run("trust", "add", "vault", "eve.pub", "--principal", "eve@lab", *may).code == 0
    done = lab.run("verify", "vault", "--record", "-i", "eve", "--json")
    assert (done.code, done.document["verdict"]) == (32, "pass")
    assert done.document["recorded"][0]["record"] is None
    assert done.document["recorded"][0]["problem"]["slug"] == "not-allowed"
    assert lab.run("verify", "vault", "--record", "-i", "nobody", "--json").code == 12
    (lab.acquisition() / "receipt.json").unlink()
    worse = lab.run("verify", "vault", "--record", "-i", "eve", "--json")
    assert worse.code == 32
    recorded = lab.run("verify", "vault", "--record", "-i", "ana", "--json")
    assert (recorded.code, recorded.document["recorded"][0]["record"]) == (31, 3)


def test_a_key_that_can_record_nothing_is_refused_before_anything_is_verified(lab: Lab) -> None:
    assert lab.push().code == 0
    lab.make_key("eve")
    (lab.acquisition() / "receipt.json").unlink()
    for part in ((), ITEM):
        refused = lab.run("verify", "vault", *part, "--record", "-i", "eve", "--json")
        error = refused.document["error"]
        assert (refused.code, error["slug"]) == (32, "untrusted-signer")
        assert "Without --record" in error["hint"]


def test_without_record_verify_writes_nothing(lab: Lab) -> None:
    assert lab.push().code == 0

    def tree() -> list[tuple[str, int]]:
        return sorted((str(path), path.lstat().st_mtime_ns) for path in (lab.folder / "vault").rglob("*"))

    before = tree()
    assert lab.run("verify", "vault").code == 0
    assert tree() == before


def test_no_detail_is_shown_as_if_the_chain_said_it(lab: Lab) -> None:
    """An examiner names details as he likes, and so also `held by` and `sealed`."""
    lab.write("a", b"x")
    assert lab.push("--detail", "held by=eve@lab", "--detail", "sealed=yes: no more acquisitions").code == 0
    lines = lab.run("custody", "show", "vault", *ITEM).out.splitlines()
    assert [line for line in lines if line.startswith("  held by ")] == []
    assert [line for line in lines if line.startswith("  sealed ")] == ["  sealed        no"]
    assert "  detail        held by: eve@lab  (record 1)" in lines
