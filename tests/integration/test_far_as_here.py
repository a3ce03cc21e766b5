"""What is wrong with a vault, or cannot be read there, is said from afar as it is said where the vault lies."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from evidencesync.cli.app import main
from evidencesync.connection.link import LocalLink, local_pair
from evidencesync.errors import EvidenceSyncError
from evidencesync.ingest.receive import receive, refuse
from evidencesync.ssh.address import Address
from evidencesync.vault.vault import Vault
from tests.integration.test_unreadable_vaults import CASE, ITEM, OLD, desk, template  # noqa: F401
from tests.support.unreadable import Unreadable

PLACE: Final = f"{CASE}/LAPTOP-1"
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "list": ("list", "{vault}"),
    "list item": ("list", "{vault}", *ITEM),
    "show": ("show", "{vault}", *ITEM, "--acquisition", "1"),
    "show last": ("show", "{vault}", *ITEM),
    "show files": ("show", "{vault}", *ITEM, "--acquisition", "1", "--files"),
    "diff": ("diff", "{vault}", "1", "2", *ITEM),
    "restore": ("restore", "{vault}", "{folder}/out/copy", *ITEM, "--acquisition", "1"),
    "verify": ("verify", "{vault}"),
}


def over_a_link(address: Address, _options: object = None) -> LocalLink:
    """A link to an end that serves the vault in this process, as `serve --vault` does."""
    ours, theirs = local_pair()

    def serve() -> None:
        try:
            vault = Vault.open(Path(address.path))
        except EvidenceSyncError as error:
            refuse(theirs, error)
            return
        with contextlib.suppress(EvidenceSyncError):
            receive(theirs, vault, "a test", may_reconnect=False)

    threading.Thread(target=serve, daemon=True).start()
    return ours


class Desk:
    """Runs commands about one vault, here and from afar."""

    def __init__(self, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.vault = folder / "vault"
        self._capfd = capfd

    def run(self, name: str, *, afar: bool, unread: tuple[Path, str] | None = None) -> tuple[int, str]:
        """The code of a command, and all that it says."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir()
        vault = f"lab:{self.vault}" if afar else str(self.vault)
        words = [word.format(vault=vault, folder=self.folder) for word in COMMANDS[name]]
        self._capfd.readouterr()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("evidencesync.acquire.connect.connect_to_vault", over_a_link)
            if unread is not None:
                Unreadable(patch, *unread)
            code = main([*words, "--json", *(("--sign-key", f"{self.folder}/ana") if afar else ())])
        return code, "".join(self._capfd.readouterr())

    def codes(self, name: str, unread: tuple[Path, str] | None = None) -> tuple[int, int]:
        """The codes of a command, here and from afar."""
        return self.run(name, afar=False, unread=unread)[0], self.run(name, afar=True, unread=unread)[0]


@pytest.fixture(name="both")
def both_ends(desk: Path, capfd: pytest.CaptureFixture[str]) -> Desk:  # noqa: F811
    return Desk(desk, capfd)


def written(place: str, data: bytes = b"x") -> Callable[[Path], object]:
    return lambda vault: Path(os.fsdecode(os.fsencode(vault / place))).write_bytes(data)


STRANGE: Final[dict[str, Callable[[Path], object]]] = {
    "README.json": written(f"{PLACE}/custody/README.json"),
    "a number that is too large": written(f"{PLACE}/custody/1000000-noted.json"),
    "no text": written(f"{PLACE}/custody/{os.fsdecode(bytes([255]))}.json"),
    "a folder": lambda vault: (vault / PLACE / "custody" / "records.json").mkdir(),
    "a link": lambda vault: (vault / PLACE / "custody" / "records.json").symlink_to("x"),
    "an acquisition without a document": lambda vault: (vault / PLACE / "acquisitions" / "0009").mkdir(),
}


@pytest.mark.parametrize("what", STRANGE)
def test_what_lies_among_documents_and_is_none_is_the_same_from_afar(both: Desk, what: str) -> None:
    STRANGE[what](both.vault)
    found = {name: both.codes(name) for name in COMMANDS}
    assert {name: codes for name, codes in found.items() if codes[0] != codes[1]} == {}
    assert found["list"] == (31, 31)


HARMLESS: Final = ("custody/notes.txt", "custody/x.json.sig", "custody/.new-x", "acquisitions/x", "acquisitions/0001/x", "x")


@pytest.mark.parametrize("place", HARMLESS)
def test_what_is_no_document_and_seems_to_be_none_keeps_nobody_from_reading(both: Desk, place: str) -> None:
    written(f"{PLACE}/{place}")(both.vault)
    for name in ("list", "show", "restore"):
        assert both.codes(name) == (0, 0), name
    assert both.codes("verify") == (31, 31)


UNREAD: Final = (
    (f"{OLD}/manifest.jsonl", "read"),
    (f"{OLD}/receipt.json", "open"),
    (f"{OLD}/chunks.bin", "read"),
    (OLD, "open"),
    (f"{PLACE}/custody/0001-acquired.json", "read"),
    (f"{PLACE}/custody/0002-received.json.sig", "read"),
    (f"{PLACE}/custody", "read"),
    (f"{PLACE}/custody", "stat"),
    (f"{PLACE}/acquisitions", "read"),
    (PLACE, "stat"),
)


@pytest.mark.parametrize(("place", "how"), UNREAD)
def test_what_the_disk_does_not_give_is_unread_from_afar_too_and_hides_nothing_else(both: Desk, place: str, how: str) -> None:
    other = ("--case", "2024-018", "--item", "PHONE-1", "--sign-key", f"{both.folder}/ana", "-q")
    assert main(["push", f"{both.folder}/evidence", f"{both.vault}", *other]) == 0
    unread = (both.vault / place, how)
    for name in COMMANDS:
        (here, _), (afar, said) = both.run(name, afar=False, unread=unread), both.run(name, afar=True, unread=unread)
        assert (name, afar) == (name, here), said
        assert afar in (0, 1, 3), (name, said)
        if afar and name != "verify":
            assert str(both.vault) in said, (name, said)
        if name == "list":
            assert "PHONE-1" in said


@pytest.mark.parametrize("place", ["custody", "custody/0001-made.json", "trusted_signers", "vault.toml"])
def test_what_keeps_a_far_vault_from_knowing_who_reads_accuses_nobody(both: Desk, place: str) -> None:
    """It shows nothing then, and what it says is no failure of the command."""
    for name in COMMANDS:
        code, said = both.run(name, afar=True, unread=(both.vault / place, "read"))
        assert (name, code) == (name, 3), said
        assert str(both.vault / place) in said, (name, said)


def test_a_vault_whose_own_chain_cannot_be_looked_at_has_not_lost_it(both: Desk) -> None:
    for name in COMMANDS:
        assert both.codes(name, (both.vault / "custody", "stat")) == (3, 3), name


def test_evidence_that_cannot_be_opened_is_there(both: Desk) -> None:
    code, said = both.run("restore", afar=True, unread=(both.vault / OLD / "data", "open"))
    assert (code, "could not open acquisition 1" in said) == (3, True), said


# --- Lists of trust ------------------------------------------------------------------------------------------------------------


def _moved(file: Path) -> None:
    file.rename(file.parent / "cases" / "moved")
    file.symlink_to("cases/moved")


def _remade(file: Path) -> None:
    file.unlink()
    file.mkdir()


SPOILT: Final[dict[str, Callable[[Path], object]]] = {
    "gone": Path.unlink,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-5] or b"ssh-ed25519"),  # nobody is revoked yet
    "edited": lambda file: file.write_bytes(file.read_bytes() + b"# a line\n"),
    "a folder": _remade,
    "a link": _moved,
}


@pytest.mark.parametrize("how", SPOILT)
@pytest.mark.parametrize("name", ["trusted_signers", "revoked_keys"])
def test_a_list_of_trust_that_is_not_the_recorded_one_is_said_by_all_and_from_afar(both: Desk, name: str, how: str) -> None:
    """From afar nobody gets in, for it is not known whose keys are trusted. So it is not said only there."""
    SPOILT[how](both.vault / name)
    for command in COMMANDS:
        assert both.codes(command) == (32, 32), command
    here, afar = (_json(both.run("list", afar=end)[1]) for end in (False, True))
    assert (here["problem"]["slug"], afar["error"]["slug"]) == ("trust-changed", "trust-changed")
    assert here["problem"]["message"] == afar["error"]["message"]
    assert name in afar["error"]["message"]
    assert [item["item"] for item in here["items"]] == [ITEM[3]]  # it hides nothing


def test_a_list_of_trust_that_cannot_be_read_leaves_open_who_is_trusted(both: Desk) -> None:
    assert both.codes("list", (both.vault / "revoked_keys", "read")) == (3, 3)
    assert both.codes("show", (both.vault / "revoked_keys", "open")) == (3, 3)


def _json(said: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(said[said.index("{") : said.rindex("}") + 1])
    return found
