"""Any system call fails, at either end of a push and in every other command: nothing is lost, and nothing passes that does not.

The suite tries a sample; `make faults` tries every call of every command, with every error (SEED, COUNT: another sample).
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.failing_calls import KILL, NONE, SHORT, Ended, FailingProgram, Fault, build
from tests.support.soak import Tally
from tests.support.undo import Undo
from tests.tamper.vault import make_key_pair

SEED: Final = int(os.environ.get("SEED", "0"))
COUNT: Final = int(os.environ.get("FAULTS", "19"))  # 0: all
ITEM: Final = ("--case", "2026/11", "--item", "E1")
ERRORS: Final = {
    "open": (errno.EIO, errno.EACCES, errno.ESTALE, errno.EMFILE),
    "read": (errno.EIO, errno.ESTALE, errno.EINTR, SHORT),
    "write": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR, SHORT),
    "truncate": (errno.EIO, errno.ENOSPC),
    "fsync": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "syncfs": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.ENOSPC, errno.EACCES),
    "link": (errno.EIO, errno.EMLINK, errno.EPERM, errno.EDQUOT),
    "mkdir": (errno.EIO, errno.ENOSPC, errno.EACCES),
    "unlink": (errno.EIO, errno.EACCES),
    "chmod": (errno.EIO, errno.EPERM),
    "readdir": (errno.EIO, errno.ESTALE),
    "stat": (errno.EIO, errno.EACCES, errno.ESTALE),
    "close": (errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ENOTCONN),  # NFS, CIFS and FUSE tell of lost writes there
}
DEADLY: Final = tuple(
    "write truncate fsync syncfs rename link mkdir unlink chmod".split()
)  # a process is killed before these, too
TRANSIENT: Final = (errno.EINTR, SHORT)  # nobody may notice
ROOM: Final = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Trial:
    """A command, and the part of the machine of which calls fail."""

    name: str
    arguments: tuple[str, ...]
    below: str
    writes: bool = True
    done_already: tuple[int, str] | None = None  # how it ends, and what it says, where the one before counts after all


def _trials() -> Iterator[Trial]:
    push = ("push", "{}/source", "{}/vault", *ITEM, "--sign-key", "{}/ana")
    for below in ("vault", "source", "state", "receipts"):
        yield Trial("push", push, below)
    yield Trial("verify", ("verify", "{}/vault"), "vault", writes=False)
    yield Trial("verify", ("verify", "{}/vault"), "state", writes=False)
    for below in ("vault", "out"):
        yield Trial("restore", ("restore", "{}/vault", "{}/out/copy", *ITEM), below, writes=False)
        yield Trial("export", ("export", "{}/vault", "{}/out/copy", *ITEM, "--format", "bagit"), below, writes=False)
        yield Trial("report", ("report", "{}/vault", "--case", ITEM[1], "-o", "{}/out/copy.json"), below, writes=False)
    add = ("trust", "add", "{}/vault", "{}/ben.pub", "--principal", "ben@lab")
    yield Trial("trust add", add, "vault", done_already=(2, "known already"))
    yield Trial("trust retire", ("trust", "retire", "{}/vault", "ana@lab"), "vault", done_already=(10, "not trusted now"))
    seal = ("custody", "seal", "{}/vault", *ITEM, "--yes", "--sign-key", "{}/ana")
    yield Trial("custody seal", seal, "vault", done_already=(11, "was sealed before"))
    yield Trial("vault writer", ("vault", "writer", "{}/vault", "--take"), "vault")
    yield Trial("custody note", ("custody", "note", "{}/vault", *ITEM, "--text", "intact", "--sign-key", "{}/ana"), "vault")
    yield Trial("receipts check", ("receipts", "check", "--vault", "{}/vault"), "receipts", writes=False)
    yield Trial("receipts check", ("receipts", "check", "--vault", "{}/vault"), "vault", writes=False)
    yield Trial("reindex", ("reindex", "{}/vault"), "vault")
    yield Trial("list", ("list", "{}/vault"), "vault", writes=False)


TRIALS: Final = tuple(_trials())


class Machine:
    """Everything that one examiner has, put back after each command."""

    def __init__(self, folder: Path, program: FailingProgram) -> None:
        self.folder = folder
        self.program = program
        self._undo: list[Undo] = []

    def make(self) -> None:
        for name in ("ana", "ben"):
            make_key_pair(self.folder, name)
        source = self.folder / "source"
        (source / "logs").mkdir(parents=True)
        (source / "a.txt").write_bytes(b"first\n")
        (source / "image").write_bytes(random.Random(1).randbytes(300_000) + bytes(200_000))
        (source / "logs" / "day").write_bytes(b"line\n" * 300)
        self.must("init", "{}/vault", "--trust", "{}/ana.pub", "--principal", "ana@lab")
        self.must(*TRIALS[0].arguments)
        (source / "logs" / "day").write_bytes(b"line\n" * 400)
        (self.folder / "out").mkdir()
        for name in ("vault", "state", "receipts", "out"):
            (self.folder / name).rename(self.folder / f"{name} as made")
            self._undo.append(Undo(self.folder / f"{name} as made", self.folder / name))
        self.renew()

    def renew(self) -> None:
        for one in self._undo:
            one.undo()

    def run(self, *arguments: str, below: str = "nothing", fault: Fault = NONE, files: int = 0) -> Ended:
        given = [one.replace("{}", str(self.folder)) for one in arguments]
        return self.program.run(given, self.folder / below, fault, files=files)

    def must(self, *arguments: str) -> Ended:
        done = self.run(*arguments)
        assert done.code == 0, (arguments, done)
        return done

    def acquisitions(self) -> list[str]:
        return sorted(path.name for path in self.folder.glob("vault/cases/*/E1/acquisitions/*"))


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("failing")
    environment = {"EVIDENCESYNC_STATE": str(folder / "state"), "EVIDENCESYNC_RECEIPTS": str(folder / "receipts")}
    environment |= {"EVIDENCESYNC_EXAMINER": "Ana"}
    program = FailingProgram(build(folder, require_program("gcc")), folder, environment)
    try:
        made = Machine(folder, program)
        made.make()
        yield made
    finally:
        program.close()


def possible_faults(machine: Machine, trial: Trial) -> list[Fault]:
    """Every call of a command, with every error."""
    machine.renew()
    met = machine.run(*trial.arguments, below=trial.below).met
    found = []
    for call, count in met.items():
        for number in range(1, count + 1):
            found += [Fault(call, number, error) for error in ERRORS[call]]
            found += [Fault(call, number, error, lasting=True) for error in ERRORS[call][:2]]
            found += [Fault(call, number, KILL)] if call in DEADLY else []
    return found


def objections(machine: Machine, trial: Trial, fault: Fault) -> list[str]:
    """What is wrong with how a command took a fault, and what it said itself."""
    machine.renew()
    done = machine.run(*trial.arguments, "--json", below=trial.below, fault=fault)
    if done.hung:
        return ["it hangs"]
    words = [] if fault.error == KILL else list(_in_its_words(trial, fault, done))
    found = [*words, *_what_is_left(machine, trial, fault, done)]
    return [f"{one}: {done.out[:600]} {done.err[-300:]}" for one in found]


def _in_its_words(trial: Trial, fault: Fault, done: Ended) -> Iterator[str]:
    said = json.loads(done.out) if done.out else {}
    error = said.get("error", {})
    if "Traceback" in done.err or error.get("slug") == "internal-error" or "defect of evidencesync" in done.out:
        yield "it is called a defect"
    if done.code not in (0, 1, 2, 3, 4, 10, 12, 13):
        yield f"exit code {done.code}"
    if fault.error in TRANSIENT and not fault.lasting and done.code != 0:
        yield f"exit code {done.code} for what is none"
    kept_elsewhere = error.get("slug") in ("receipt-not-kept", "remembered-heads")  # it was published before
    room = fault.error in ROOM and fault.call in ("write", "fsync", "truncate", "mkdir", "rename") and not kept_elsewhere
    if room and done.code not in (0, 13):
        yield f"exit code {done.code} where there is no room"
    if trial.name == "verify" and done.code not in (0, 3) and error.get("slug") != "resources":
        yield f"exit code {done.code}: a reading error accuses"


def _what_is_left(machine: Machine, trial: Trial, fault: Fault, done: Ended) -> Iterator[str]:
    """The vault is sound, what was acknowledged is there, and the next run does what this one could not."""
    published = machine.acquisitions()
    if trial.name == "push" and done.code == 0 and published != ["0001", "0002"]:
        yield f"acknowledged, and published is {published}"
    out = machine.folder / "out"
    if trial.name == "verify":
        return
    # Who is killed, or can remove nothing, leaves a draft; and who is killed at the very end, a whole copy. A report has its name
    # before that of its draft is removed: who cannot remove that one has failed, and leaves the whole report.
    if done.code is None and (out / "copy").is_dir() and trial.name == "restore":
        copy = {one.name for one in (out / "copy").rglob("*")}
        if copy != {"a.txt", "image", "logs", "day"}:
            yield f"a copy of {sorted(copy)}"
    drafts = done.code is None or fault.lasting
    whole = done.code is None or (trial.name == "report" and fault.lasting and fault.call == "unlink")
    left = [one for one in out.iterdir() if not drafts or (not whole and one.name.startswith("copy"))]
    if not trial.writes and done.code not in (0, 3) and left:
        yield f"it failed, and left {sorted(one.name for one in left)}"
    if not trial.writes:
        return
    checked = machine.run("verify", "{}/vault", "--json")
    if checked.code != 0:
        yield f"verify afterwards: {checked.code} {checked.out} {checked.err}"
    if done.code != 0:
        again = machine.run(*trial.arguments)
        known = trial.done_already is not None and again.code == trial.done_already[0] and trial.done_already[1] in again.err
        if again.code != 0 and not known:
            yield f"the next run: {again.code} {again.err}"
        checked = machine.run("verify", "{}/vault", "--json")
        if checked.code != 0:
            yield f"verify after the next run: {checked.code} {checked.out}"


def test_whatever_call_fails_nothing_is_lost_and_nothing_passes_that_does_not(machine: Machine) -> None:
    chance = random.Random(SEED)
    share = -(-COUNT // len(TRIALS)) if COUNT else 0
    wrong, tally = list[str](), Tally("faults")
    for trial in TRIALS:
        faults = possible_faults(machine, trial)
        assert faults, trial
        if share:
            by_call: dict[str, list[Fault]] = {}
            for fault in faults:
                by_call.setdefault(fault.call, []).append(fault)
            faults = [chance.choice(by_call[call]) for call in chance.choices(sorted(by_call), k=share)]
        for fault in faults:
            found = objections(machine, trial, fault)
            wrong += tally.count([f"{trial.name} below {trial.below}, {fault}: {one}" for one in found])
    assert not wrong, "\n".join([f"seed {SEED}, {tally.done} faults:", *wrong])


READING: Final = (
    ("verify", "{}/vault"),
    ("restore", "{}/vault", "{}/out/copy", *ITEM),
    ("export", "{}/vault", "{}/out/copy", *ITEM, "--format", "bagit"),
    ("report", "{}/vault", "--case", ITEM[1], "-o", "{}/out/copy.json"),
    ("show", "{}/vault", *ITEM),
    ("custody", "show", "{}/vault", *ITEM),
    ("receipts", "check", "--vault", "{}/vault"),
    ("compare", "{}/manifest.jsonl", "{}/source"),
)


@pytest.mark.parametrize("command", READING, ids=lambda command: command[0])
def test_a_shortage_of_open_files_accuses_nobody(machine: Machine, command: tuple[str, ...]) -> None:
    """Whatever cannot be opened is unread, at every depth: not gone, not rolled back, and no source that is not there."""
    machine.renew()
    _keep_manifest(machine)
    for files in range(5, 22, 1 if COUNT == 0 else 4):
        done = machine.run(*command, "--json", files=files)
        said = json.loads(done.out) if done.out else {}
        assert done.code in (0, 1, 3) or (command[0], done.code) == ("compare", 30), (files, done)
        listed = found if isinstance(found := said.get("findings"), list) else []
        wrong = [one for one in listed if one["slug"] in ("index-differs", "rolled-back", "missing-record")]
        assert not wrong, (files, done)
        assert said.get("error", {}).get("slug") in (None, "resources", "incomplete", "storage"), (files, done)
        shutil.rmtree(machine.folder / "out" / "copy", ignore_errors=True)
        (machine.folder / "out" / "copy.json").unlink(missing_ok=True)


@pytest.mark.parametrize("command", READING[:2], ids=lambda command: command[0])
def test_a_disk_of_which_nothing_can_be_opened_from_some_moment_on_accuses_nobody(
    machine: Machine, command: tuple[str, ...]
) -> None:
    """Its folders are listed, and then their files are not given: no chain is called rolled back, nothing missing."""
    machine.renew()
    item = next(machine.folder.glob("vault/cases/*/E1"))
    count = machine.run(*command, below=str(item)).met["open"]
    shutil.rmtree(machine.folder / "out" / "copy", ignore_errors=True)
    assert count >= 20
    step = 1 if COUNT == 0 else 7
    for number in range(1, count, step):  # the last one is for the index alone
        done = machine.run(*command, "--json", below=str(item), fault=Fault("open", number, errno.EIO, lasting=True))
        assert done.code in (1, 3), (number, done)
        assert done.fired


def test_a_signature_that_cannot_be_read_is_not_called_missing(machine: Machine) -> None:
    machine.renew()
    _keep_manifest(machine)
    key = (machine.folder / "ana.pub").read_text()
    (machine.folder / "mine").write_text(f'ana@lab namespaces="manifest@evidencesync" {key}')
    compare = ("compare", "{}/manifest.jsonl", "{}/source", "--trusted", "{}/mine")
    assert machine.run(*compare).code == 30  # one file has changed since
    for error in (errno.EACCES, errno.EIO, errno.EMFILE):
        done = machine.run(*compare, "--json", below="manifest.jsonl.sig", fault=Fault("open", 1, error))
        assert (done.code, done.fired) == (1 if error == errno.EMFILE else 3, 1), done
        assert "missing" not in done.out


def _keep_manifest(machine: Machine) -> None:
    (acquisition,) = machine.folder.glob("vault/cases/*/E1/acquisitions/0001")
    for name in ("manifest.jsonl", "manifest.jsonl.sig"):
        shutil.copyfile(acquisition / name, machine.folder / name)


def test_what_closing_a_written_file_says_is_the_disks_word_and_the_file_is_closed_once(machine: Machine) -> None:
    """A number that is closed twice may be another thread's file by then."""
    machine.renew()
    (machine.folder / "source" / "new").write_bytes(random.Random(2).randbytes(300_000))
    push = TRIALS[0]
    try:
        count = machine.run(*push.arguments, below="vault").met["close"]
        seen = set()
        for number in range(1, count + 1, 1 if COUNT == 0 else 5):
            machine.renew()
            done = machine.run(*push.arguments, "--json", below="vault", fault=Fault("close", number, errno.ENOSPC))
            slug = json.loads(done.out).get("error", {}).get("slug")
            assert (done.code, slug) in ((0, None), (13, "no-space")), (number, done)
            seen.add(slug)
        assert seen == {None, "no-space"}
    finally:
        (machine.folder / "source" / "new").unlink()


def test_closing_what_was_only_read_changes_no_outcome(machine: Machine) -> None:
    machine.renew()
    for command, below in ((("verify", "{}/vault"), "vault"), (TRIALS[0].arguments, "source")):
        fault = Fault("close", 1, errno.ENOTCONN, lasting=True)
        done = machine.run(*command, below=below, fault=fault)
        assert (done.code, done.fired > 0) == (0, True), done
        machine.renew()
