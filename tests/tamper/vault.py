"""The vault that is tampered with: made once, by the command line itself, and copied for every row of the table.

Two cases. In the first, E1 has three acquisitions (hard links, a sparse file, chunks, gaps), a timestamp, and a record of every
type but a seal; E2 is a single file by an examiner who was retired since; E3 is sealed. The second case has the same evidence
under the same item's number. Beside it: a second vault of the same examiner and names, and older copies of the first.
"""

from __future__ import annotations

import contextlib
import io
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from evidencesync.cli.app import main
from evidencesync.cli.own_state import STATE_VARIABLE
from evidencesync.custody.timestamp import Request, Roots
from evidencesync.evidence.identity import Title
from evidencesync.ssh.keys import KeySigner
from evidencesync.vault.vault import Vault
from tests.support.authority import Authority, make_authority
from tests.support.key_pairs import write_key_pair
from tests.support.undo import Undo

CASE, OTHER_CASE = "2026/11", "2026/12"
A, B = (f"cases/{Title(case).folder}" for case in (CASE, OTHER_CASE))
E1, E2, E3, OTHER_E1 = f"{A}/E1", f"{A}/E2", f"{A}/E3", f"{B}/E1"
FIRST, SECOND, THIRD = (f"{E1}/acquisitions/{number:04d}" for number in (1, 2, 3))
CHAIN, OTHER_CHAIN = f"{E1}/custody", f"{OTHER_E1}/custody"
OTHER_FIRST, RETIRED_FIRST = f"{OTHER_E1}/acquisitions/0001", f"{E2}/acquisitions/0001"
FOLDERS: Final = {(CASE, "E1"): E1, (CASE, "E2"): E2, (CASE, "E3"): E3, (OTHER_CASE, "E1"): OTHER_E1}
NONCE: Final = 4711
_NOISE: Final = random.Random(20261126).randbytes


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass
class Workshop:
    """Everything that rows may use. `vault` is the copy that is tampered with; it always lies at the same place."""

    folder: Path
    keys: dict[str, KeySigner] = field(default_factory=dict)
    authority: Authority = field(default_factory=make_authority)
    ids: list[str] = field(default_factory=list)
    """Of the vault, and of the other one."""
    undo: list[Undo] = field(default_factory=list)

    @property
    def vault(self) -> Path:
        """Where the vault lies that commands are told of."""
        return self.folder / "vault"

    @property
    def template(self) -> Path:
        """The vault as it was made."""
        return self.folder / "template"

    @property
    def older(self) -> Path:
        """What the vault was before the second acquisition of E1."""
        return self.folder / "older"

    @property
    def other(self) -> Path:
        """A vault of its own, with the same examiner, case, item and evidence."""
        return self.folder / "other"

    @property
    def state(self) -> Path:
        """What this machine remembers."""
        return self.folder / "state"

    @property
    def receipts(self) -> Path:
        """What this machine was given."""
        return self.folder / "receipts"

    @property
    def roots(self) -> Roots:
        """The authority that is believed."""
        return Roots.parse(self.authority.root_pem, "roots")

    def open(self) -> Vault:
        """The vault, to use its own keys."""
        return Vault.open(self.vault)

    def renew(self) -> None:
        """Puts the vault back as it was made, hard links and all."""
        if not self.undo:
            pairs = (("template", self.vault), ("remembered", self.state), ("received", self.receipts))
            self.undo = [Undo(self.folder / name, place) for name, place in pairs]
        for one in self.undo:
            one.undo()

    def run(self, *arguments: str | Path) -> Done:
        """A command line, in this process."""
        streams = [io.TextIOWrapper(io.BytesIO(), encoding="utf-8") for _ in range(2)]
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            code = main([str(one) for one in arguments])
        for one in streams:
            one.seek(0)
        return Done(code, *(one.read() for one in streams))

    def must(self, *arguments: str | Path, code: int = 0) -> Done:
        """A command that must end so."""
        done = self.run(*arguments)
        assert done.code == code, (arguments, done)
        return done


def remove(place: Path) -> None:
    """Whatever is there, if anything is."""
    if place.is_dir() and not place.is_symlink():
        shutil.rmtree(place)
    else:
        place.unlink(missing_ok=True)


@contextlib.contextmanager
def workshop(folder: Path) -> Iterator[Workshop]:
    """Makes all of it, and points the command line at this machine's folders for as long as it is used."""
    made = Workshop(folder)
    kept = {name: os.environ.get(name) for name in (STATE_VARIABLE, "EVIDENCESYNC_RECEIPTS", "EVIDENCESYNC_EXAMINER")}
    os.environ |= {STATE_VARIABLE: str(made.state), "EVIDENCESYNC_RECEIPTS": str(made.receipts), "EVIDENCESYNC_EXAMINER": "Ana"}
    try:
        _build(made)
        yield made
    finally:
        for name, value in kept.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _build(made: Workshop) -> None:
    for name in ("ana", "ben", "carl", "dora", "mallory"):
        made.keys[name] = make_key_pair(made.folder, name)
    source = made.folder / "source"
    _fill(source)
    who = ("ana", "ben", "carl", "dora")
    trusted = [part for name in who for part in ("--trust", made.folder / f"{name}.pub", "--principal", f"{name}@lab")]
    for vault in (made.vault, made.other):
        made.must("init", vault, "--name", "Laboratory", *trusted)
    _push(made, source, "E1")
    _push(made, source / "disk.img", "E2", key="ben")
    made.must("trust", "retire", made.vault, "ben@lab")
    subprocess.run(["cp", "-a", made.vault, made.older], check=True)
    _push(made, source, "E1", vault=made.other)
    _change(source)
    _push(made, source, "E1")
    _push(made, source, "E1", vault=made.other)
    _stamp(made)
    _record(made)
    made.must("trust", "revoke", made.vault, "carl@lab", "--reason", "laptop stolen")
    wanted = made.folder / "wanted"
    wanted.write_bytes(b"a.txt\ndisk.img\nnot there\n")
    _push(made, source, "E1", "--files-from", wanted, "--note", "a part only", code=3)
    _push(made, source / "logs", "E3")
    made.must("custody", "seal", made.vault, *_item("E3"), "--sign-key", made.folder / "ana", "--reason", "closed")
    _push(made, source, "E1", case=OTHER_CASE)
    made.must("verify", made.vault)
    made.ids = [Vault.open(one).settings.id for one in (made.vault, made.other)]
    made.vault.rename(made.template)
    made.state.rename(made.folder / "remembered")
    made.receipts.rename(made.folder / "received")


def make_key_pair(folder: Path, name: str) -> KeySigner:
    return KeySigner.from_private(write_key_pair(folder / name, name))


def _fill(source: Path) -> None:
    (source / "logs" / "deep").mkdir(parents=True)
    (source / "empty folder").mkdir()
    (source / "a.txt").write_bytes(b"first\n")
    (source / "A.TXT").write_bytes(b"the same name on other systems\n")
    (source / "empty").write_bytes(b"")
    (source / "logs" / "day 1.log").write_bytes(b"line\n" * 400)
    (source / "logs" / "deep" / "\u540d.txt").write_bytes(b"a name\n")
    (source / "logs" / "twin").write_bytes(b"twins\n")
    os.link(source / "logs" / "twin", source / "logs" / "twin 2")
    (source / "link").symlink_to("logs/day 1.log")
    os.mkfifo(source / "fifo")
    with (source / "disk.img").open("wb") as image:
        image.write(_NOISE(200_000))
        image.seek(200_000 + 300_000)
        image.write(_NOISE(150_000))


def _change(source: Path) -> None:
    (source / "a.txt").write_bytes(b"second\n")
    (source / "new.txt").write_bytes(b"new\n")
    (source / "logs" / "deep" / "\u540d.txt").unlink()


def _item(item: str, case: str = CASE) -> tuple[str, ...]:
    return "--case", case, "--item", item


def _push(
    made: Workshop,
    source: Path,
    item: str,
    *more: str | Path,
    case: str = CASE,
    key: str = "ana",
    vault: Path | None = None,
    code: int = 0,
) -> None:
    made.must("push", source, vault or made.vault, *_item(item, case), "--sign-key", made.folder / key, *more, code=code)


def _stamp(made: Workshop) -> None:
    signature = (made.vault / SECOND / "manifest.jsonl.sig").read_bytes()
    answer = made.authority.forge(signature, time.time_ns(), nonce=NONCE)
    (made.folder / "stamp.tsr").write_bytes(answer)
    (made.folder / "stamp.tsq").write_bytes(Request.over(signature, "sha512", NONCE).encode())
    root = made.folder / "root.pem"
    root.write_bytes(made.authority.root_pem)
    made.must(
        "timestamp", "attach", made.vault, made.folder / "stamp.tsr", *_item("E1"), "--acquisition", "2", "--tsa-root", root,
        "--sign-key", made.folder / "ana",
    )  # fmt: skip


def _record(made: Workshop) -> None:
    ana, dora = (("--sign-key", str(made.folder / name)) for name in ("ana", "dora"))
    vault, item, out = made.vault, _item("E1"), made.folder / "out"
    out.mkdir()
    made.must("custody", "note", vault, *item, *ana, "--text", "the seal was intact")
    made.must("custody", "correct", vault, *item, *ana, "--record", "1", "--text", "the seal was broken")
    made.must("custody", "hand-over", vault, *item, *ana, "--to", "dora@lab", "--reason", "analysis")
    made.must("custody", "accept", vault, *item, *dora, "--condition", "sealed")
    made.must("verify", vault, *item, "--record", *ana)
    made.must("export", vault, out / "known.txt", *item, "--format", "hashdeep", "--record", *ana)
    made.must("restore", vault, out / "copy", *item, "--record", *ana)
    shutil.rmtree(out)
