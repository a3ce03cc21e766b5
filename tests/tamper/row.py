"""What a row of the tamper corpus is: what is done to the vault, and what `verify` must say of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from evidencesync.custody.documents import CUSTODY_NAMESPACE, MANIFEST_NAMESPACE, RECEIPT_NAMESPACE
from evidencesync.custody.sshsig import sign_document
from evidencesync.evidence.digest import sha512_of
from tests.tamper.vault import SECOND, Workshop, remove

Change = Callable[[bytes], bytes]
Deed = Callable[[Workshop], object]
HUGE: Final = 32 << 30


@dataclass(frozen=True)
class Row:
    """One way of tampering.

    `code` is verify's exit code. `slug` is a finding that must be there, about `place`; with code 0 it is no error, and where
    `slug` is empty there must be no finding that the untouched vault does not have, too. `memory`: it takes what this machine
    has seen of the vault. `restore` is whether a working copy of `about` may be made, where that is not what verify of that
    acquisition says.
    """

    do: Deed
    code: int
    slug: str = ""
    place: str = ""
    memory: bool = False
    about: str = SECOND
    restore: Literal["made", "refused"] | None = None
    why: str = ""

    @property
    def finding(self) -> tuple[str, int, bool]:
        """What it is found as; rows with the same finding are of one kind."""
        return self.slug, self.code, self.memory


@dataclass
class Table:
    """Rows by name. A name is used once."""

    rows: dict[str, Row] = field(default_factory=dict)

    def add(self, name: str, row: Row) -> None:
        """Adds a row."""
        assert name not in self.rows, name
        self.rows[name] = row


# --- Deeds ---------------------------------------------------------------------------------------------------------------


def overwrite(file: Path, data: bytes) -> None:
    """Other bytes in the same inode: every hard link to it has them. The mode stays."""
    mode = file.stat().st_mode & 0o7777
    file.chmod(0o600)
    file.write_bytes(data)
    file.chmod(mode)


def put(file: Path, data: bytes, mode: int = 0o444) -> None:
    """A new file in the place of whatever was there."""
    remove(file)
    file.write_bytes(data)
    file.chmod(mode)


def touch(file: Path) -> None:
    """A new file with something in it."""
    put(file, b"x")


def spoiled(place: str, change: Change, *, inode: bool = True) -> Deed:
    """Changes the bytes of a file: in its inode, or as a new file under its name."""

    def do(workshop: Workshop) -> None:
        file = workshop.vault / place
        data = file.read_bytes()
        changed = change(data)
        assert changed != data, "nothing was changed"
        if inode:
            overwrite(file, changed)
        else:
            put(file, changed, file.stat().st_mode & 0o7777)

    return do


def gone(*places: str) -> Deed:
    """Removes what is named, by patterns; each must name something."""

    def do(workshop: Workshop) -> None:
        for place in places:
            found = [workshop.vault / place] if os.path.lexists(workshop.vault / place) else list(workshop.vault.glob(place))
            assert found, place
            for one in found:
                remove(one)

    return do


def moved(place: str, to: str) -> Deed:
    """Renames."""

    def do(workshop: Workshop) -> None:
        (workshop.vault / to).parent.mkdir(parents=True, exist_ok=True)
        (workshop.vault / place).rename(workshop.vault / to)

    return do


def swapped(one: str, other: str) -> Deed:
    """Two files or folders in each other's places."""

    def do(workshop: Workshop) -> None:
        first, second, aside = workshop.vault / one, workshop.vault / other, workshop.folder / "aside"
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    return do


def taken(*places: str, source: str = "", of: Callable[[Workshop], Path] = lambda workshop: workshop.vault) -> Deed:
    """The same place of another vault, or (`source`) another place, copied over what is there."""

    def do(workshop: Workshop) -> None:
        for place in places:
            copy_over(of(workshop) / (source or place), workshop.vault / place)

    return do


def copy_over(source: Path, target: Path) -> None:
    """A file or a folder, with its modes, in place of what was there. It must have been another."""
    if source.is_dir():
        remove(target)
        shutil.copytree(source, target, symlinks=True, copy_function=_copy)
        return
    data = source.read_bytes()
    assert not target.is_file() or target.read_bytes() != data, "nothing was changed"
    put(target, data, source.stat().st_mode & 0o7777)


def _copy(source: str, target: str) -> None:
    shutil.copy2(source, target, follow_symlinks=False)


def made(place: str, make: Callable[[Path], object]) -> Deed:
    """Something else in the place of what was there."""

    def do(workshop: Workshop) -> None:
        remove(workshop.vault / place)
        make(workshop.vault / place)

    return do


def linked_away(place: str) -> Deed:
    """Moves it out of the vault, and leaves a symbolic link to it: the right content, by a link."""

    def do(workshop: Workshop) -> None:
        away = workshop.folder / "away"
        remove(away)
        (workshop.vault / place).rename(away)
        (workshop.vault / place).symlink_to(away)

    return do


def mode(place: str, bits: int) -> Deed:
    """Another mode."""
    return lambda workshop: (workshop.vault / place).chmod(bits)


def longer(place: str, size: int = HUGE) -> Deed:
    """A hole at the end of it, so large that nobody could read it."""

    def do(workshop: Workshop) -> None:
        file = workshop.vault / place
        bits = file.stat().st_mode & 0o7777
        file.chmod(0o600)
        os.truncate(file, size)
        file.chmod(bits)

    return do


def after(*deeds: Deed) -> Deed:
    """One after the other."""

    def do(workshop: Workshop) -> None:
        for deed in deeds:
            deed(workshop)

    return do


NAMESPACES: Final = {"manifest.jsonl": MANIFEST_NAMESPACE, "receipt.json": RECEIPT_NAMESPACE}


def signature_by(workshop: Workshop, document: Path, signer: str, namespace: str = "") -> bytes:
    """A signature of a document by somebody: a name of a key, or `vault`."""
    key = workshop.open().signer if signer == "vault" else workshop.keys[signer]
    named = namespace or NAMESPACES.get(document.name, CUSTODY_NAMESPACE)
    return sign_document(key, named, sha512_of(document.read_bytes()))


def signed_by(place: str, signer: str, namespace: str = "", *, inode: bool = True) -> Deed:
    """Signs a document anew."""

    def do(workshop: Workshop) -> None:
        document = workshop.vault / place
        signature = signature_by(workshop, document, signer, namespace)
        file = Path(f"{document}.sig")
        if inode:
            overwrite(file, signature)
        else:
            put(file, signature)

    return do
