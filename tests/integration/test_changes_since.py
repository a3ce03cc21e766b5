"""What a push says of the acquisition before is what `diff` says of both, and an unchanged source need not be published again."""

from __future__ import annotations

import os
import random
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from evidencesync.acquire import handshake
from evidencesync.acquire.handshake import Handshake
from evidencesync.acquire.push import push
from evidencesync.acquire.session_recorder import SessionRecorder
from evidencesync.acquire.unchanged import EntriesCheck, UnchangedSource
from evidencesync.compare.acquisitions import compare_acquisitions
from evidencesync.connection.progress import Progress
from evidencesync.custody.manifest import decode_header
from evidencesync.errors import ChainError, LinkLostError, ProtocolError
from evidencesync.evidence.digest import sha256_of
from evidencesync.ingest import comparison, session
from evidencesync.ingest.pages import PreviousManifest
from evidencesync.localstate.heads import HeadMemory
from evidencesync.protocol import failures
from evidencesync.protocol.framing import frame_of
from evidencesync.protocol.messages import CHANGES_VERSION, VERSIONS, Changes, Previous, Published, Ready, Withdraw
from evidencesync.source.filters import FilterRules
from evidencesync.source.listed import ListedNames
from tests.integration.cli_program import Lab, drop_file_privileges, schema_errors
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.custody_client import state
from tests.support.hostile_vault import push_tampered
from tests.support.link_in_between import LinkInBetween
from tests.support.patience import PATIENCE_SECONDS
from tests.support.pulling import pull_from
from tests.support.soak import seeds

FILES = 400


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return make_bench(tmp_path)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    made = Lab.make(tmp_path)
    for name in ("a", "b", "folder/c"):
        made.write(name, name.encode())
    return made


def _change(folder: Path, chance: random.Random) -> None:
    """Some of everything: files that go, come, move, change, and get another mode."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    for number, path in enumerate(chance.sample(files, chance.randrange(1, 60))):
        match number % 5:
            case 0:
                path.unlink()
            case 1:
                path.rename(path.with_name(f"moved {number} {chance.random()}"))
            case 2:
                path.write_bytes(chance.randbytes(30))
            case 3:
                path.chmod(0o640)
            case 4:
                (path.parent / f"new {chance.random()}").write_bytes(chance.randbytes(20))
    os.setxattr(folder, "user.many", chance.randbytes(8))


@pytest.mark.parametrize("seed", seeds(1, 50))
def test_the_counts_are_those_of_diff(bench: Bench, seed: int) -> None:
    chance = random.Random(seed)
    for number in range(FILES):
        path = bench.source / f"{number % 7}" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"%d" % (number // 2))  # each content twice
    assert bench.push().changes is None
    for number in range(2, 5):
        _change(bench.source, chance)
        said = bench.push().changes
        item = bench.vault.layout.item(bench.name)
        found = compare_acquisitions(item, number - 1, number, 0)
        counted = (
            found.added_count,
            found.removed_count,
            found.moved_count,
            found.changed_count,
            found.metadata_count,
            found.filtered_count,
        )
        assert said == Changes(*counted)
    assert bench.push().changes == Changes(0, 0, 0, 0, 0, 0)


def test_where_too_much_differs_it_is_not_looked_for_what_was_moved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "MAX_MOVES", 2)
    for number in range(3):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
    bench.push()
    for number in range(3):
        (bench.source / f"{number}").rename(bench.source / f"moved {number}")
    assert bench.push().changes == Changes(3, 3, None, 0, 1, 0)


def test_where_nearly_all_of_a_large_source_differs_nothing_is_compared(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold up the push."""
    monkeypatch.setattr(comparison, "MAX_COMPARED", 4000)
    for number in range(10):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
    bench.push()
    assert bench.push().changes == Changes(0, 0, 0, 0, 0, 0)
    for number in range(10):
        (bench.source / f"{number}").chmod(0o600)
    assert bench.push().changes is None


def test_a_previous_manifest_that_cannot_be_read_keeps_no_push_from_its_end(bench: Bench) -> None:
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    manifest = bench.acquisition(1) / "manifest.jsonl"
    whole = manifest.read_bytes()
    manifest.chmod(0o600)
    manifest.write_bytes(whole.replace(b'"type":"file"', b'"type":"fire"'))
    (bench.source / "b").write_bytes(b"b")
    assert bench.push().changes is None


def test_what_a_filter_leaves_out_now_is_not_called_removed(bench: Bench) -> None:
    for name in ("kept", "folder/a", "folder/b"):
        (bench.source / name).parent.mkdir(exist_ok=True)
        (bench.source / name).write_bytes(name.encode())
    bench.push()
    filtered = bench.push(rules=FilterRules.from_patterns(["folder"], ()))
    assert filtered.changes == Changes(0, 0, 0, 0, 0, 3)
    assert bench.push().changes == Changes(0, 0, 0, 0, 0, 3)


def test_an_unchanged_source_is_published_no_second_time(bench: Bench) -> None:
    for number in range(FILES):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
    first = bench.push(skip_unchanged=True)  # there is nothing yet to be the same as
    with pytest.raises(UnchangedSource) as found:
        bench.push(skip_unchanged=True)
    assert (found.value.acquisition, found.value.manifest_sha256) == (1, first.manifest_sha256)
    assert found.value.tally.manifest.contents == FILES
    assert bench.acquisitions() == ["0001"]
    assert os.listdir(bench.vault.layout.item(bench.name).incoming) == []
    (bench.source / "7").chmod(0o640)
    assert bench.push(skip_unchanged=True).acquisition == 2


@pytest.mark.parametrize("change", ["content", "mode", "time", "name", "gone", "new", "attribute"])
def test_any_change_is_published(bench: Bench, change: str) -> None:
    file = bench.source / "a"
    file.write_bytes(b"a")
    bench.push()
    times = file.stat()
    match change:
        case "content":
            file.write_bytes(b"b")
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
        case "mode":
            file.chmod(0o600)
        case "time":
            os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
        case "name":
            file.rename(bench.source / "b")
        case "gone":
            file.unlink()
        case "new":
            (bench.source / "b").touch()
        case "attribute":
            os.setxattr(file, "user.k", b"1")
    assert bench.push(skip_unchanged=True).acquisition == 2


def test_what_was_published_is_compared_and_not_what_the_vault_says(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A vault that states no difference, or shows other ends of a manifest, keeps nobody from publishing."""
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    (bench.source / "a").write_bytes(b"b")
    bench.push()
    first = (bench.acquisition(1) / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    monkeypatch.setattr(PreviousManifest, "read_ends", lambda _: (first[0], first[-1]))
    (bench.source / "a").write_bytes(b"a")
    assert bench.push(skip_unchanged=True).acquisition == 3


def test_a_pull_compares_and_skips_as_a_push_does(bench: Bench) -> None:
    for number in range(FILES):
        (bench.source / f"{number}").write_bytes(b"%d" % number)
    assert pull_from(bench).changes is None
    with pytest.raises(UnchangedSource) as found:
        pull_from(bench, skip_unchanged=True)
    assert (found.value.acquisition, found.value.tally.manifest.contents) == (1, FILES)
    assert os.listdir(bench.vault.layout.item(bench.name).incoming) == []
    (bench.source / "7").write_bytes(b"seven")
    assert pull_from(bench, skip_unchanged=True).changes == Changes(0, 0, 0, 1, 0, 0)


@pytest.mark.parametrize("old", [handshake, failures])
def test_an_end_of_an_earlier_version_publishes_and_says_nothing(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, old: object
) -> None:
    earlier = tuple(version for version in VERSIONS if version < CHANGES_VERSION)
    (bench.source / "a").write_bytes(b"a")
    assert bench.push().acquisition == 1
    monkeypatch.setattr(old, "VERSIONS", earlier)
    again = bench.push(skip_unchanged=True)
    assert (again.acquisition, again.changes) == (2, None)


# Without the others, which the chain and the manifest's pages need, the push is refused.
@pytest.mark.parametrize(
    "name", ["manifest.jsonl.sig", "receipt.json", "receipt.json.sig", "SHA256SUMS", "BLAKE3SUMS", "chunks.bin"]
)
def test_a_source_is_published_anew_where_the_vault_has_lost_a_document_of_it(bench: Bench, name: str) -> None:
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    (bench.acquisition(1) / name).unlink()
    again = bench.push(skip_unchanged=True)
    assert (again.acquisition, again.previous_is_whole) == (2, False)


@pytest.mark.parametrize("name", ["manifest.jsonl.sig", "receipt.json"])
def test_a_source_is_published_anew_where_a_document_of_it_is_damaged(bench: Bench, name: str) -> None:
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    file = bench.acquisition(1) / name
    file.chmod(0o600)
    file.write_bytes(file.read_bytes().replace(b"a", b"b", 1))
    assert bench.push(skip_unchanged=True).acquisition == 2


def test_a_link_that_is_lost_while_the_sender_withdraws_changes_nothing(bench: Bench) -> None:
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    ours, thread = bench.serve()
    with pytest.raises(UnchangedSource):
        push(CutAtWithdraw(ours), bench.request(skip_unchanged=True), Progress())
    thread.join(PATIENCE_SECONDS)
    assert bench.acquisitions() == ["0001"]


def test_earlier_attempts_at_an_unchanged_source_are_removed_with_what_is_staged(bench: Bench) -> None:
    """Else they would stay for as long as nothing changes: nothing is published that they could go into."""
    (bench.source / "a").write_bytes(b"a")
    bench.push()
    ours, thread = bench.serve()
    with pytest.raises(UnchangedSource):
        push(CutAtWithdraw(ours), bench.request(skip_unchanged=True), Progress())
    thread.join(PATIENCE_SECONDS)
    incoming = bench.vault.layout.item(bench.name).incoming
    assert len(os.listdir(incoming)) == 1
    with pytest.raises(UnchangedSource):
        bench.push(skip_unchanged=True)
    assert os.listdir(incoming) == []


def test_a_first_acquisition_has_nothing_to_be_compared_with_whatever_the_vault_says(bench: Bench) -> None:
    nothing = Changes(0, 0, 0, 0, 0, 0)
    assert push_tampered(bench, lambda said: [nothing, said] if isinstance(said, Published) else said).changes is None


def test_the_ends_of_a_manifest_that_cannot_be_there_end_the_push(bench: Bench) -> None:
    ends = Previous(b"{}", b"{}")
    with pytest.raises(ProtocolError, match="before there is one"):
        push_tampered(bench, lambda said: [ends, said] if isinstance(said, Ready) else said)


class CutAtWithdraw(LinkInBetween):
    """A link that is lost with the sender's last word."""

    def write(self, data: bytes) -> None:
        if frame_of(Withdraw()) in data:
            self.close()
            raise LinkLostError("cut by the test")
        super().write(data)


def test_the_command_says_what_has_changed_and_in_one_line_if_asked(lab: Lab) -> None:
    assert "since" not in lab.push().out
    (lab.folder / "evidence" / "a").rename(lab.folder / "evidence" / "z")
    lab.write("new", b"n")
    second = lab.push()
    assert "4 files, 11 B; since acquisition 1: 1 added, 1 moved, other attributes of 1" in second.out
    assert len(second.out.splitlines()) == 5, second.out
    quiet = lab.push("-q")
    assert quiet.out.count("\n") == 1
    assert "acquisition 3: published, complete; fingerprint " in quiet.out
    verbose = lab.push("-v").out
    for words in ("chain head", "vault head", "receipt ", "nothing changed since acquisition 3"):
        assert words in verbose
    document = lab.push("--json").document
    assert schema_errors(document, "push-output") == []
    assert document["changes"] == {"since": 4, "added": 0, "removed": 0, "moved": 0, "changed": 0, "metadata": 0, "filtered": 0}


def test_another_source_than_the_last_one_is_named(lab: Lab) -> None:
    """The wrong source, or the wrong item, may have been typed: what is published cannot be taken back."""
    assert "another source" not in lab.push().out
    assert "another source" not in lab.push().out
    (lab.folder / "other\x1b").mkdir()
    (lab.folder / "other\x1b" / "x").write_bytes(b"x")
    said = lab.push(source="other\x1b")
    assert f"acquisition 2 came from another source: {os.uname().nodename}:{lab.folder}/evidence" in said.out
    assert lab.push("--json").document["other_source"].endswith("other\\x1b")
    assert lab.push("--json").document["other_source"] is None


def test_the_command_skips_an_unchanged_source_and_says_so(lab: Lab) -> None:
    assert lab.push().code == 0
    done = lab.push("--skip-unchanged")
    assert (done.code, "nothing changed since acquisition 1, and nothing was published" in done.out) == (0, True), done
    assert lab.push("--skip-unchanged", "-q").out.count("\n") == 1
    document = lab.push("--skip-unchanged", "--json").document
    assert schema_errors(document, "push-output") == []
    assert (document["unchanged"], document["since"], document["files"]) == (True, 1, 3)
    assert len(list((lab.folder / "home/.local/share/evidencesync/receipts").iterdir())) == 1
    assert not any((lab.acquisition().parents[1] / "incoming").iterdir())
    assert lab.run("verify", "vault").code == 0


def test_a_source_that_cannot_be_read_whole_is_never_unchanged(lab: Lab) -> None:
    (lab.folder / "evidence" / "a").chmod(0)
    for number in (1, 2):
        process = lab.start(
            *("push", "evidence", "vault", "--case", "2024-017", "--item", "LAPTOP-1"),
            *("--sign-key", "ana", "--skip-unchanged"),
            preexec_fn=drop_file_privileges,
        )
        out, _ = process.communicate()
        assert (process.returncode, f"acquisition {number}: published, WITH GAPS" in out.decode()) == (3, True), out


def _lie_about_the_first(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Acquires two sources. The vault then says that the first acquisition was the last."""
    for name in ("one", "two"):
        folder = bench.source / name
        folder.mkdir()
        (folder / "a").write_bytes(name.encode())
        bench.push(source=os.fsencode(folder))
    first = (bench.acquisition(1) / "manifest.jsonl").read_bytes()
    lines = first.splitlines(keepends=True)
    ready, digest = session._ready, sha256_of(first)
    monkeypatch.setattr(PreviousManifest, "read_ends", lambda _: (lines[0], lines[-1]))
    monkeypatch.setattr(session, "check_header", lambda *_: None)  # which the examiner takes from the lie
    monkeypatch.setattr(session, "_ready", lambda *args: msgspec.structs.replace(ready(*args), previous_manifest_sha256=digest))


def test_an_earlier_acquisition_that_a_vault_passes_off_as_the_last_is_found_in_its_chain(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The vault knows the entries, and so can state the digest that they will have."""
    _lie_about_the_first(bench, monkeypatch)
    with pytest.raises(ChainError, match="another acquisition"):
        bench.push(source=os.fsencode(bench.source / "one"), skip_unchanged=True)


def test_a_source_is_unchanged_only_by_a_record_that_the_vault_has_shown(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """This machine remembers no head: it is shown the last record alone, which is not the acquisition's."""
    _lie_about_the_first(bench, monkeypatch)
    state(bench, "noted", {"text": "seen"})
    assert bench.push(source=os.fsencode(bench.source / "one"), skip_unchanged=True).acquisition == 3


@pytest.mark.parametrize("hidden", [0, 1])
def test_entries_that_a_vault_puts_before_the_last_line_do_not_hide_that_they_are_gone(bench: Bench, hidden: int) -> None:
    for name in ("a", "b"):
        (bench.source / name).write_bytes(b"x")
    tally = bench.push().tally
    manifest = (bench.acquisition(1) / "manifest.jsonl").read_bytes()
    lines = manifest.splitlines(keepends=True)
    seen = len(lines) - 1 - hidden
    shown = SimpleNamespace(
        ready=SimpleNamespace(previous_manifest_sha256=sha256_of(manifest), known_contents=1, acquisition=2),
        previous=Previous(lines[0], b"".join(lines[seen:])),
        shown=SimpleNamespace(item=SimpleNamespace(received="shown")),
    )
    check = EntriesCheck(cast("Handshake", shown))
    for line in lines[:seen]:
        check.add(line)
    assert check.is_same(decode_header(lines[0]), tally) is not bool(hidden)


@pytest.mark.parametrize("harm", ["damaged", "gone"])
@pytest.mark.parametrize("size", [20, 600_000])
@pytest.mark.parametrize("way", ["push", "pull"])
def test_where_the_vault_has_lost_a_content_an_unchanged_source_is_published_again(
    bench: Bench, way: str, size: int, harm: str
) -> None:
    """The source may be the only place that still has it, and may not have it for long."""
    acquire = bench.push if way == "push" else partial(pull_from, bench)
    (bench.source / "a").write_bytes(random.Random(1).randbytes(size))
    acquire()
    file = bench.acquisition(1) / "data" / "a"
    if harm == "gone":
        file.unlink()
    else:
        file.chmod(0o600)
        file.write_bytes(b"X" + file.read_bytes()[1:])
    again = acquire(skip_unchanged=True)
    assert (again.acquisition, again.literal_bytes > 0) == (2, True)
    with pytest.raises(UnchangedSource):
        acquire(skip_unchanged=True)


def test_where_the_vaults_index_is_gone_an_unchanged_source_is_published_again_or_found(bench: Bench) -> None:
    """It is a cache: it is made again from what is published."""
    (bench.source / "a").write_bytes(random.Random(1).randbytes(600_000))
    (bench.source / "b").write_bytes(b"b")
    bench.push()
    for path in bench.vault.layout.root.rglob("*.sqlite*"):
        path.unlink()
    with pytest.raises(UnchangedSource):
        bench.push(skip_unchanged=True)


def test_a_record_that_came_after_the_acquisition_does_not_hide_it(bench: Bench) -> None:
    (bench.source / "a").write_bytes(b"a")
    memory = HeadMemory(bench.source.parent / "seen")
    ours, _ = bench.serve()
    memory.remember(push(ours, bench.request(), Progress(), recorder=SessionRecorder(memory)).seen)
    for number in range(3):
        state(bench, "noted", {"text": f"{number}"})
        ours, _ = bench.serve()
        with pytest.raises(UnchangedSource) as found:
            push(ours, bench.request(skip_unchanged=True), Progress(), recorder=SessionRecorder(memory))
        memory.remember(found.value.seen)


def test_a_list_of_files_that_named_all_there_is_does_not_make_the_whole_source_unchanged(bench: Bench) -> None:
    """An acquisition by a list does not say that there was nothing else."""
    for name in ("a", "b"):
        (bench.source / name).write_bytes(b"x")
    listed = FilterRules.from_patterns(listed=ListedNames.parse(b"a\nb\n", b"\n"))
    bench.push(rules=listed)
    with pytest.raises(UnchangedSource):
        bench.push(rules=listed, skip_unchanged=True)
    assert bench.push(skip_unchanged=True).acquisition == 2


def test_equal_entries_of_another_machine_are_no_unchanged_source(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    (bench.source / "a").write_bytes(b"x")
    bench.push()
    monkeypatch.setattr("socket.gethostname", lambda: "another")
    assert bench.push(skip_unchanged=True).acquisition == 2
