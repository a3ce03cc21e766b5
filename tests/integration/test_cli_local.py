"""The whole command line with a vault on this machine: what it prints, what it returns, and what it leaves behind."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from pathlib import Path

import pytest

from evidencesync.limits import RACY_SECONDS
from tests.integration.cli_program import ITEM, Lab, schema_errors

EVIL = b"bad\x1b[31m\xff[bold]name"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    made.write("notes.txt", b"hello")
    made.write("folder/image", os.urandom(700_000))
    return made


def test_from_nothing_to_a_verified_vault_and_a_found_bit_flip(lab: Lab) -> None:
    first = lab.push("--examiner", "Ana Example", "--organisation", "Lab", "--note", "seized 09:40")
    assert (first.code, first.err) == (0, "")
    assert "2024-017 / LAPTOP-1, acquisition 1: published, complete" in first.out
    lab.write("notes.txt", b"hello again")
    second = lab.push("--json", "--receipts", "kept").document
    assert schema_errors(second, "push-output") == []
    assert (second["acquisition"], second["files"], second["verdict"], second["read_back"]) == (2, 2, "complete", True)
    assert second["reused_bytes"] == 700_000
    assert second["literal_bytes"] == len(b"hello again")
    kept = lab.folder / "kept" / "2024-017-LAPTOP-1-0002"
    assert {file.name for file in kept.iterdir()} == {
        "manifest.jsonl",
        "manifest.jsonl.sig",
        "custody",
        "vault-custody",
        *(name + end for name in ("acquired.json", "receipt.json", "received.json") for end in ("", ".sig")),
    }
    files = [file for file in kept.iterdir() if file.is_file()]
    assert all(file.read_bytes() == (lab.acquisition(2) / file.name).read_bytes() for file in files)

    passed = lab.run("verify", "vault", "--expect-head", second["chain_head_sha256"], "--all-digests", "--json")
    assert (passed.code, passed.document["verdict"]) == (0, "pass")
    assert schema_errors(passed.document, "verify-output") == []
    assert lab.run("verify", "vault", "--expect-head", "0" * 64).code == 34

    victim = lab.acquisition(2) / "data" / "folder" / "image"
    victim.chmod(0o600)
    with victim.open("r+b") as file:
        file.seek(350_000)
        byte = file.read(1)[0]
        file.seek(350_000)
        file.write(bytes([byte ^ 1]))
    victim.chmod(0o444)
    failed = lab.run("verify", "vault", "--json")
    assert (failed.code, failed.document["verdict"]) == (30, "fail")
    assert schema_errors(failed.document, "verify-output") == []
    damage = [finding for finding in failed.document["findings"] if finding["slug"] == "file-damaged"]
    assert damage
    assert all(found["path"].endswith("data/folder/image") for found in damage)
    assert all(found["offset"] <= 350_000 < found["offset"] + found["length"] for found in damage)
    for_people = lab.run("verify", "vault", "--case", "2024-017", "--item", "LAPTOP-1", "--acquisition", "2")
    assert for_people.code == 30
    assert for_people.out.endswith("verdict: FAIL\n")
    assert "error: [7 file-damaged]" in for_people.out


def test_what_is_there_can_be_listed_and_shown(lab: Lab) -> None:
    assert lab.run("list", "vault").out.endswith("  nothing yet\n")
    pushed = lab.push("--json", "--examiner", "Ana Example", "--exclude", "*.txt", "--note", "n1", "--note", "n2").document
    listed = lab.run("list", "vault", "--json").document
    assert schema_errors(listed, "list-output") == []
    item = listed["items"][0]
    assert (item["case"], item["item"], item["records"]) == ("2024-017", "LAPTOP-1", 2)
    assert item["chain_head_sha256"] == pushed["chain_head_sha256"]
    assert item["acquisitions"][0]["fingerprint"] == pushed["fingerprint"]
    shown = lab.run("show", "vault", *ITEM, "--json").document
    assert schema_errors(shown, "show-output") == []
    assert shown["header"]["examiner"]["name"] == "Ana Example"
    assert shown["header"]["notes"] == ["n1", "n2"]
    assert shown["footer"]["flags"] == {"skipped": 1}
    assert [one["record"]["type"] for one in shown["custody"]] == ["acquired", "received"]
    assert shown["chain_head_sha256"] == pushed["chain_head_sha256"]
    text = lab.run("show", "vault", *ITEM, "--acquisition", "1").out
    assert pushed["fingerprint"] in text
    assert "by Ana Example (ana@lab)" in text  # the name is free text; what the vault trusts is the principal
    assert "by Ana Example (" in text
    assert all(line.endswith(", by vault") for line in text.splitlines() if "received" in line and ", by " in line), text
    assert "vault (vault)" not in text + lab.run("custody", "show", "vault", *ITEM).out
    assert lab.run("show", "vault", *ITEM, "--acquisition", "2").code == 10
    assert lab.run("show", "vault", "--case", "2024-017", "--item", "OTHER").code == 10


def test_a_damaged_item_does_not_hide_the_others_from_a_list(lab: Lab) -> None:
    assert lab.push().code == 0
    assert lab.run("push", "evidence", "vault", "--case", "2024-017", "--item", "B", "--sign-key", "ana").code == 0
    receipt = lab.acquisition() / "receipt.json"
    receipt.chmod(0o600)
    receipt.write_bytes(b"{}")
    listed = lab.run("list", "vault", "--json")
    assert listed.code == 32
    assert schema_errors(listed.document, "list-output") == []
    problems = [item["acquisitions"][0]["problem"] for item in listed.document["items"]]
    assert [problem is None for problem in problems] == [True, False]
    assert "CANNOT BE READ" in lab.run("list", "vault").out


def test_the_manifest_records_how_it_was_made(lab: Lab) -> None:
    assert lab.push(b"--note", "Zürich".encode(), b"--exclude", b"no-such-\xff").code == 0
    header = lab.header()
    assert header["method"]["command_line"][1:] == [
        "push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--note", "Zürich", "--exclude", r"no-such-\xff",
    ]  # fmt: skip
    assert len(header["session"]) == 32


def test_the_examiner_comes_from_the_option_then_the_environment_then_the_file_then_the_login(lab: Lab) -> None:
    settings = lab.folder / "home" / ".config" / "evidencesync" / "config.toml"
    named = lab.folder / "named.toml"
    named.write_text('examiner = "Named"\n')

    def examiner(*arguments: str, env: dict[str, str] | None = None) -> str:
        done = lab.push(*arguments, "--json", env=env)
        assert done.code == 0, done
        name: str = lab.header(done.document["acquisition"])["examiner"]["name"]
        return name

    login = examiner()
    settings.parent.mkdir(parents=True)
    settings.write_text('examiner = "Filed"\nsign-key = "none"\n')
    environment = {"EVIDENCESYNC_EXAMINER": "Surrounded"}
    assert login not in {"Filed", "Named", "Surrounded"}
    assert examiner() == "Filed"
    assert examiner("--config", str(named)) == "Named"
    assert examiner("--config", str(named), env=environment) == "Surrounded"
    assert examiner("--examiner", "Typed", env=environment) == "Typed"
    assert examiner("--config", "none") == login


def test_settings_among_evidence_or_with_an_unknown_key_are_2(lab: Lab) -> None:
    inside = lab.write("config.toml", b"")
    refused = lab.push("--config", str(inside), "--json")
    assert (refused.code, refused.error["slug"]) == (2, "configuration")
    (lab.folder / "other.toml").write_text("examinr = 'x'\n")
    refused = lab.push("--config", "other.toml", "--json")
    assert (refused.code, "examinr" in refused.error["message"]) == (2, True)
    assert not lab.acquisition().exists()


PUSH = ("push", "evidence", "vault", *ITEM, "--sign-key", "ana")
BAD_INPUT = [
    ("a source that is not there", ("push", "nowhere", "vault", *ITEM, "--sign-key", "ana"), 2, "source-not-found"),
    ("a vault that is not there", ("push", "evidence", "nowhere", *ITEM, "--sign-key", "ana"), 10, "vault-not-found"),
    ("a vault that is not one", ("push", "evidence", "home", *ITEM, "--sign-key", "ana"), 10, "vault-not-found"),
    ("a case that leads elsewhere", ("push", "evidence", "vault", "--case", "../x", "--item", "i"), 2, "invalid-name"),
    ("an item that is a path", ("push", "evidence", "vault", "--case", "c", "--item", "/x"), 2, "invalid-name"),
    ("a key that is not trusted", ("push", "evidence", "vault", *ITEM, "--sign-key", "eve"), 32, "untrusted-signer"),
    ("a key that is not there", ("push", "evidence", "vault", *ITEM, "--sign-key", "nobody"), 12, "signing-key"),
    ("no key at all", ("push", "evidence", "vault", *ITEM), 12, "signing-key"),
    ("a locked key and nobody to ask", ("push", "evidence", "vault", *ITEM, "--sign-key", "locked"), 12, "wrong-passphrase"),
    ("a rate that is none", (*PUSH, "--limit-rate", "fast"), 2, "usage"),
    ("a compression that is none", (*PUSH, "--compress", "max"), 2, "usage"),
    ("a note of two lines", (*PUSH, "--note", "a\nb"), 2, "usage"),
    ("receipts that cannot be kept", (*PUSH, "--receipts", "ana"), 2, "configuration"),
    ("a source with the vault in it", ("push", ".", "vault", *ITEM, "--sign-key", "ana"), 2, "usage"),
    ("a source in the vault", ("push", "vault/cases", "vault", *ITEM, "--sign-key", "ana"), 2, "usage"),
    ("a remote vault where it must be local", ("clean", "lab:/srv/vault"), 2, "usage"),
    ("an item that is not there", ("show", "vault", *ITEM), 10, "not-there"),
    ("a vault in a folder that is not empty", ("init", "evidence"), 2, "usage"),
    ("trust without a name for it", ("init", "new", "--trust", "ana.pub"), 2, "usage"),
    ("a private key where a public one belongs", ("trust", "add", "vault", "ana", "--principal", "x"), 12, "signing-key"),
    ("a stranger to retire", ("trust", "retire", "vault", "nobody@lab"), 10, "not-there"),
    ("a place to listen at that is none", ("serve", "--vault", "v", "--listen", "x", "--authorized-keys", "k"), 2, "usage"),
    ("an expected head that is none", ("verify", "vault", "--expect-head", "xyz"), 2, "usage"),
    ("signers from outside that are not there", ("verify", "vault", "--trusted", "nowhere"), 2, "trust-file"),
]  # fmt: skip


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """For commands that change nothing."""
    lab = Lab.make(tmp_path_factory.mktemp("untouched"))
    lab.write("notes.txt", b"hello")
    lab.make_key("eve")
    lab.make_key("locked", passphrase="secret")
    return lab


@pytest.mark.parametrize(("arguments", "code", "slug"), [row[1:] for row in BAD_INPUT], ids=[row[0] for row in BAD_INPUT])
def test_bad_input_ends_with_its_code_and_one_clear_line(
    arguments: tuple[str, ...], code: int, slug: str, untouched: Lab
) -> None:
    lab = untouched
    for_people = lab.run(*arguments)
    assert for_people.code == code, for_people
    assert for_people.out == ""
    lines = for_people.err.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) == 1 or (len(lines) == 2 and lines[1].startswith("hint: ")), for_people.err
    for_scripts = lab.run(*arguments, "--json")
    assert (for_scripts.code, for_scripts.err) == (code, "")
    assert schema_errors(for_scripts.document, "error-output") == []
    assert for_scripts.error["slug"] == slug
    assert not lab.acquisition().exists()


def test_an_empty_folder_can_be_evidence_on_purpose(lab: Lab) -> None:
    (lab.folder / "empty").mkdir()
    done = lab.push("--allow-empty", "--json", source="empty")
    assert (done.code, done.document["files"], done.document["bytes"]) == (0, 0, 0)
    assert lab.run("verify", "vault").code == 0


def test_a_file_that_cannot_be_read_is_3_and_named_without_its_control_characters(lab: Lab) -> None:
    secret = lab.folder.joinpath("evidence", os.fsdecode(EVIL))
    secret.write_bytes(b"secret")
    secret.chmod(0)
    done = lab.push(unprivileged=True)
    assert done.code == 3, done
    assert "published, WITH GAPS" in done.out
    assert r"unreadable: bad\x1b[31m\xff[bold]name" in done.out
    assert "\x1b" not in done.out + done.err
    again = lab.push("--json", unprivileged=True)
    assert (again.code, again.document["verdict"], again.document["flags"]) == (3, "gaps", {"unreadable": 1})
    assert schema_errors(again.document, "push-output") == []
    verified = lab.run("verify", "vault", "--json")
    assert (verified.code, verified.document["verdict"]) == (0, "pass")


def test_a_source_that_changes_while_it_is_read_is_4(lab: Lab) -> None:
    log = lab.write("log", b"line\n" * 8_000_000)
    stop = threading.Event()

    def grow() -> None:
        with log.open("ab", buffering=0) as file:
            while not stop.wait(0.0005):
                file.write(b"more\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        done = lab.push("--json")
    finally:
        stop.set()
        writer.join()
    assert (done.code, done.document["verdict"], done.document["flags"]) == (4, "source-changed", {"changed-while-read": 1})
    assert lab.run("verify", "vault").code == 0


def test_an_item_that_somebody_else_writes_to_is_11(lab: Lab) -> None:
    assert lab.push().code == 0
    folder = os.open(lab.acquisition().parents[1], os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        refused = lab.push("--json")
    finally:
        os.close(folder)
    assert (refused.code, refused.error["slug"]) == (11, "locked")
    assert lab.push().code == 0


def test_who_may_sign_can_be_changed_and_every_change_is_recorded(lab: Lab) -> None:
    lab.make_key("ben")
    added = lab.run("trust", "add", "vault", "ben.pub", "--principal", "ben@lab", "--json").document
    assert schema_errors(added, "trust-output") == []
    assert (added["changes"][0]["action"], added["changes"][0]["record"]) == ("added", 2)
    assert lab.run("push", "evidence", "vault", *ITEM, "--sign-key", "ben").code == 0
    assert lab.run("trust", "retire", "vault", "ben@lab").code == 0
    fingerprint = added["changes"][0]["key"]
    revoked = lab.run("trust", "revoke", "vault", fingerprint, "--reason", "stolen", "--json").document
    assert schema_errors(revoked, "trust-output") == [], revoked
    assert [signer["revoked"] for signer in revoked["signers"]] == [False, False, True]
    assert lab.run("push", "evidence", "vault", *ITEM, "--sign-key", "ben").code == 32
    listed = lab.run("trust", "list", "vault")
    assert listed.code == 0
    assert [line.split()[0] for line in listed.out.splitlines() if line[0] != " "] == ["vault", "ana@lab", "ben@lab"]
    assert "REVOKED" in listed.out.partition("ben@lab")[2]
    assert listed.out.count("REVOKED") == 1
    assert lab.run("verify", "vault").code == 32


def test_the_index_can_be_made_anew_and_what_is_left_behind_removed(lab: Lab) -> None:
    assert lab.push().code == 0
    for file in (lab.folder / "vault" / "index").iterdir():
        file.write_bytes(b"not an index")
    rebuilt = lab.run("reindex", "vault", "--json")
    assert (rebuilt.code, rebuilt.document) == (0, {"cases": 1, "acquisitions": 1, "left_out": []})
    assert schema_errors(rebuilt.document, "reindex-output") == []
    assert lab.run("clean", "vault").out == "nothing to remove\n"
    staged = lab.acquisition().parents[1] / "incoming" / ("a" * 32)
    staged.mkdir()
    (staged / "part").write_bytes(b"x" * 5000)
    for answer, code in (("", 2), ("no\n", 0)):
        assert lab.run("clean", "vault", answer=answer).code == code
        assert staged.exists()
    cleaned = lab.run("clean", "vault", "--json", answer="yes\n")
    assert schema_errors(cleaned.document, "clean-output") == []
    assert [one["session"] for one in cleaned.document["removed"]] == ["a" * 32]
    assert not staged.exists()
    new = lab.folder / "vault" / "cases" / "New"
    (new / "X" / "acquisitions").mkdir(parents=True)
    cleaned = lab.run("clean", "vault", "--yes", "--json")
    assert (cleaned.code, cleaned.document["emptied"], new.exists()) == (0, ["New/X"], False)
    assert lab.run("verify", "vault").code == 0


def test_init_says_what_it_made(tmp_path: Path) -> None:
    lab = Lab.make(tmp_path, vault=False)
    made = lab.run("init", "v", "--name", "Labor Zürich", "--trust", "ana.pub", "--principal", "ana@lab", "--json").document
    assert schema_errors(made, "init-output") == []
    assert (made["name"], made["vault"]) == ("Labor Zürich", str(tmp_path / "v"))
    assert [signer["principals"] for signer in made["signers"]] == [["vault"], ["ana@lab"]]
    assert "trust add" in lab.run("init", "empty").out


def test_every_document_in_a_vault_fits_its_schema(lab: Lab) -> None:
    import json

    os.mkfifo(lab.folder / "evidence" / "fifo")
    (lab.folder / "evidence" / "link").symlink_to("notes.txt")
    lab.folder.joinpath("evidence", os.fsdecode(EVIL)).write_bytes(b"x")
    assert lab.push().code == 0
    lines = (lab.acquisition() / "manifest.jsonl").read_bytes().splitlines()
    assert len(lines) == 9
    for line in lines:
        assert schema_errors(json.loads(line), "manifest-line") == []
    receipt = json.loads((lab.acquisition() / "receipt.json").read_bytes())
    assert schema_errors(receipt, "receipt") == []
    records = [*lab.acquisition().parents[1].glob("custody/*.json"), *lab.folder.glob("vault/custody/*.json")]
    assert len(records) == 4
    for record in records:
        assert schema_errors(json.loads(record.read_bytes()), "custody-record") == []
    assert lab.run("trust", "change", "vault", "ana@lab", "--case", "2024-*", "--until", "2099-12-31").code == 0
    assert schema_errors(json.loads((lab.folder / "vault" / "roles.json").read_bytes()), "roles") == []
    assert schema_errors({**receipt, "more": 1}, "receipt") != []
    assert schema_errors({"type": "file"}, "custody-record") != []


@pytest.mark.parametrize(
    "option",
    ["--ssh", "--remote-command", "--compress", "--limit-rate", "--on-read-error", "--note", "--known-hosts", "-F", "--exclude"],
)
def test_an_option_that_is_empty_is_not_its_default(option: str, lab: Lab) -> None:
    """As by a variable that is not set. What it would have said is not known."""
    done = lab.push(option, "")
    assert (done.code, "is empty" in done.err) == (2, True), done


def test_the_option_that_is_empty_is_named_as_it_is_written(lab: Lab) -> None:
    done = lab.run("export", "vault", "out", *ITEM, "--format", "")
    assert (done.code, "--format is empty" in done.err) == (2, True), done


@pytest.mark.parametrize("option", ["--examiner", "--organisation", "--sign-key", "-i"])
def test_who_signs_is_not_guessed_where_an_option_is_empty(option: str, lab: Lab) -> None:
    """As by a variable that is not set: nothing is signed by the default key, or in the login's name."""
    (lab.folder / "home" / ".ssh").mkdir(exist_ok=True)
    for name in ("ana", "ana.pub"):
        (lab.folder / "home" / ".ssh" / name.replace("ana", "id_ed25519")).write_bytes((lab.folder / name).read_bytes())
    (lab.folder / "home" / ".ssh" / "id_ed25519").chmod(0o600)
    key = () if option in ("--sign-key", "-i") else ("--sign-key", "ana")
    done = lab.run("push", "evidence", "vault", *ITEM, *key, option, "")
    assert (done.code, "is empty" in done.err) == (2, True), done
    assert lab.run("push", "evidence", "vault", *ITEM, *key).code == 0  # without the option the default counts


@pytest.mark.parametrize("length", [252, 255, 256])
@pytest.mark.parametrize(
    "words",
    [
        ("timestamp", "attach", "vault", "{}", *ITEM),
        ("push", "evidence", "nobody@127.0.0.1:/v", *ITEM, "--sign-key", "ana", "-p", "1", "--known-hosts", "{}"),
        ("push", "evidence", "vault", *ITEM, "--sign-key", "{}"),
        ("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "-i", "{}"),
        ("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--files-from", "{}"),
        ("push", "evidence", "vault", *ITEM, "--sign-key", "ana", "--receipts", "{}"),
        ("host", "trust", "--known-hosts", "{}", "ssh://127.0.0.1:1"),
        ("verify", "vault", "--trusted", "{}"),
        ("report", "vault", "--case", ITEM[1], "-o", "{}.html"),
        ("restore", "vault", "{}", *ITEM),
        ("trust", "add", "vault", "{}", "--principal", "eve@lab"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_name_as_long_as_names_can_be_or_longer_is_no_defect(words: tuple[str, ...], length: int, lab: Lab) -> None:
    """Also where a suffix makes it too long."""
    done = lab.run(*(word.replace("{}", "x" * length) for word in words))
    assert "defect" not in done.err, done
    assert done.code not in (0, 1) or words[0] in ("push", "report", "restore"), done


def test_a_tilde_that_no_shell_has_expanded_is_the_home_folder(lab: Lab) -> None:
    """As in `host:~/vault`; but what is there under that very name is meant by it."""
    key = ("--sign-key", "ana", "--case", "1", "--item", "2")
    (lab.folder / "home" / "E").mkdir()
    (lab.folder / "home" / "E" / "note").write_bytes(b"at home")
    assert lab.run("init", "~/V", "--trust", "ana.pub", "--principal", "ana@lab").code == 0
    assert (lab.folder / "home" / "V" / "vault.toml").is_file()
    assert not (lab.folder / "~").exists()
    pushed = lab.run("push", "~/E", "~/V", *key, "--json")
    assert (pushed.code, pushed.document["files"]) == (0, 1)
    for command in ("verify", "list"):
        assert lab.run(command, "~/V").code == 0
    assert lab.run("custody", "note", "~/V", *key, "--text", "x").code == 0
    assert lab.run("custody", "show", "~/V", *key[2:]).code == 0
    (lab.folder / "~" / "E").mkdir(parents=True)
    (lab.folder / "~" / "E" / "one").write_bytes(b"not at home")
    (lab.folder / "~" / "E" / "two").write_bytes(b"not at home, either")
    assert lab.run("push", "~/E", "~/V", *key, "--json").document["files"] == 2


@pytest.mark.parametrize(
    ("limit", "arguments"),
    [
        ("8192", ("push", "evidence", "vault", *ITEM, "--note", "a\U000e0100b")),
        ("200", ("push", "evidence", "vault", *ITEM, "--examiner", "a\U000e0100b")),
        ("200", ("push", "evidence", "vault", *ITEM, "--organisation", "x" * 201)),
        ("100", ("custody", "note", "vault", *ITEM, "--text", "x", *(f"--detail=d{number}=v" for number in range(100)))),
        ("100", ("custody", "correct", "vault", *ITEM, "--record", "1", *(f"--detail=d{number}=v" for number in range(100)))),
        ("8192", ("trust", "revoke", "vault", "ana.pub", "--reason", "x" * 8193)),
        ("200", ("trust", "add", "vault", "ana.pub", "--principal", "x" * 201)),
        ("200", ("init", "other", "--trust", "ana.pub", "--principal", "x" * 201)),
    ],
)
def test_what_no_document_has_room_for_is_refused_where_it_is_typed(lab: Lab, limit: str, arguments: tuple[str, ...]) -> None:
    if arguments[0] == "custody":
        assert lab.push().code == 0
    key = ("--sign-key", "ana") if arguments[0] in ("push", "custody") else ()
    said = lab.run(*arguments, *key)
    assert said.code == 2, said.err
    assert limit in said.err
    if arguments[0] == "push":
        assert "nothing yet" in lab.run("list", "vault").out


def test_notes_that_do_not_fit_into_a_header_are_refused_before_anything_is_sent(lab: Lab) -> None:
    notes = [f"--note={'n' * 8000}"] * 30
    with lab.start("push", "evidence", "vault", *ITEM, "--sign-key", "ana", *notes) as push:  # too much for the prepared program
        _, err = push.communicate()
    assert push.returncode == 2, err
    assert b"the limit is 425984" in err
    assert "nothing yet" in lab.run("list", "vault").out


def test_a_quick_push_says_what_it_has_read_and_why(lab: Lab) -> None:
    files = [file for file in (lab.folder / "evidence").rglob("*") if file.is_file()]
    first = lab.push("--quick", "--json")
    assert schema_errors(first.document, "push-output") == []
    assert (first.document["why_all_read"], first.document["earlier"]) == ("there is no acquisition before this one", None)
    assert lab.push("--quick", "--dry-run").code == 0
    second = lab.push("--quick")
    if time.time() - max(file.stat().st_ctime for file in files) < RACY_SECONDS:  # they may have changed as they were read
        assert "not read     nothing: no file looked as it did, or it had changed just before the last acquisition" in second.out
    else:  # a clock that is ahead of the file system's, as under faketime
        assert "not read" in second.out
    third = lab.push("--quick", "--receipts", "elsewhere")
    assert "everything was read although --quick was given: this machine has no receipt with the manifest of" in third.out
    assert lab.run("pull", "host:/x", "vault", *ITEM, "--quick").code == 2
