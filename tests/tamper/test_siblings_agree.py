"""Commands that read the same damaged vault agree about it, here and from afar; where they do not, the table says why.

`make tamper` runs all commands in all states; the suite runs those that differ most in how they read.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.integration.test_far_as_here import over_a_link
from tests.support.unreadable import Unreadable
from tests.support.verified_once import verify_each_signature_once
from tests.tamper.row import Deed, after, gone, made, overwrite, spoiled, touch
from tests.tamper.vault import CASE, CHAIN, E1, SECOND, Workshop, remove, workshop

ITEM: Final = ("--case", CASE, "--item", "E1")
NUMBER: Final = (*ITEM, "--acquisition", "2")
COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "list": ("list", "{vault}", *ITEM),
    "show": ("show", "{vault}", *NUMBER),
    "diff": ("diff", "{vault}", "1", "2", *ITEM),
    "custody": ("custody", "show", "{vault}", *ITEM),
    "timestamp": ("timestamp", "show", "{vault}", *NUMBER),
    "verify": ("verify", "{vault}", *NUMBER),
    "restore": ("restore", "{vault}", "{out}/copy", *NUMBER),
    "export": ("export", "{vault}", "{out}/known", *NUMBER, "--format", "hashdeep"),
    "report": ("report", "{vault}", *ITEM, "-o", "{out}/report.json"),
    "receipts": ("receipts", "check", "--vault", "{vault}"),
    "clean": ("clean", "{vault}", "--yes"),
}
HERE_ALONE: Final = frozenset({"receipts", "clean"})
SHOWING: Final = ("list", "show", "diff", "custody", "timestamp", "receipts", "clean")
EVERYTHING: Final = os.environ.get("TAMPER", "") == "all"
ASKED: Final = list(COMMANDS) if EVERYTHING else ["list", "custody", "verify", "restore"]


@dataclass(frozen=True)
class State:
    """A damage. All commands end with `code` but `others`, and from afar but those of `afar`; then `why` says the reason.

    `unread`: in place of a deed, what the system refuses, and how.
    """

    code: int
    do: Deed | None = None
    unread: tuple[str, str] | None = None
    others: Mapping[str, int] = field(default_factory=dict)
    afar: Mapping[str, int] = field(default_factory=dict)
    why: str = ""

    def expected(self, command: str, *, from_afar: bool) -> int:
        return self.afar.get(command, self.others.get(command, self.code)) if from_afar else self.others.get(command, self.code)


def whole(*commands: str) -> dict[str, int]:
    return dict.fromkeys(commands, 0)


def of_all(code: int) -> dict[str, int]:
    return dict.fromkeys(COMMANDS, code)


def damaged(chain: str, number: int) -> Deed:
    """A record, counted from the first or the last, that is no JSON any more."""

    def do(shop: Workshop) -> None:
        file = sorted((shop.vault / chain).glob("*.json"))[number]
        overwrite(file, file.read_bytes().replace(b'"', b"'", 1))

    return do


def bit(place: str) -> Deed:
    return spoiled(place, lambda data: data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])


def forget(shop: Workshop) -> None:
    """This machine has never seen the vault."""
    remove(shop.state)


EVIDENCE: Final = "only what shows no evidence, and no list of it for other programs, ends with 0"
LOCAL: Final = "here this machine remembers the chain; a vault's end, as custody asks one, remembers nothing, and lets nobody in"
UNREAD: Final = "clean states nothing of a vault, and has failed"
CLEAN: Final = "nothing that clean removes is concerned"
STATES: Final[dict[str, State]] = {
    "a file": State(30, bit(f"{SECOND}/data/a.txt"), others=whole(*SHOWING), why=EVIDENCE),
    "BLAKE3SUMS": State(30, bit(f"{SECOND}/BLAKE3SUMS"), others=whole(*SHOWING, "restore"), why=EVIDENCE),
    "no SHA256SUMS": State(31, gone(f"{SECOND}/SHA256SUMS"), others=whole(*SHOWING, "restore"), why=EVIDENCE),
    "no evidence": State(31, gone(f"{SECOND}/data"), others=whole(*SHOWING), why=EVIDENCE),
    "no chain of the item": State(34, gone(CHAIN), others=whole("clean"), why=CLEAN),
    "no own chain": State(34, gone("custody"), others={"clean": 31, "custody": 31}, afar=of_all(31), why=LOCAL),
    "no cases": State(34, gone("cases"), others={"clean": 31}, why="clean looks at folders alone"),
    "no own chain, and no memory": State(
        31, after(gone("custody"), forget), others={"receipts": 34}, why="receipts remember the chain as well"
    ),
    "no item": State(34, gone(E1), others=whole("clean"), why=CLEAN),
    "the first record": State(34, damaged(CHAIN, 0), others={"clean": 0, "receipts": 32}, why="receipts compare documents alone"),
    "an acquisition's copy of a record": State(
        32, spoiled(f"{SECOND}/received.json", lambda data: data[:100], inode=False),
        others={**whole(*SHOWING), "receipts": 32}, why="receipts compare documents, and what shows evidence reads the chain",
    ),
    "the last record": State(34, damaged(CHAIN, -1), others=whole("clean"), why=CLEAN),
    "the last record of the vault's own chain": State(
        34, damaged("custody", -1), others=whole("clean"), afar={"custody": 32, "verify": 32}, why=LOCAL
    ),
    "the first record of the vault's own chain": State(34, damaged("custody", 0), others={"clean": 0, "receipts": 0}, why=CLEAN),
    "a strange name in the own chain": State(31, made("custody/README.json", touch), others=whole("clean"), why=CLEAN),
    "no roles": State(32, gone("roles.json"), others={"clean": 0, "receipts": 0}, why=CLEAN),
    "no vault.toml": State(31, gone("vault.toml")),
    "vault.toml unread": State(3, unread=("vault.toml", "open"), others={"clean": 1}, why=UNREAD),
    "the vault unread": State(3, unread=("", "open"), others={"clean": 1}, why=UNREAD),
    "cases that nobody may list": State(
        3,
        unread=("cases", "read"),
        others={**whole(*(name for name in SHOWING if name != "list")), "clean": 1},
        afar={name: 3 for name in SHOWING if name != "custody"},
        why="from afar all documents come by one look, in which the folder of all cases is listed; here what is named is opened",
    ),
    "cases unread": State(
        3, unread=("cases", "open"), others={**whole(*SHOWING), "clean": 1}, why="what is named is opened by its name"
    ),
    "a file unread": State(3, unread=(f"{SECOND}/data/a.txt", "read"), others=whole(*SHOWING), why=EVIDENCE),
    "evidence unread": State(3, unread=(f"{SECOND}/data", "open"), others=whole(*SHOWING), why=EVIDENCE),
    "the own chain unread": State(3, unread=("custody", "open"), others={"clean": 1}, why=UNREAD),
}  # fmt: skip


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with pytest.MonkeyPatch.context() as patch, workshop(tmp_path_factory.mktemp("siblings")) as made_shop:
        verify_each_signature_once(patch)
        patch.setattr("evidencesync.acquire.connect.connect_to_vault", over_a_link)
        yield made_shop


def ended(shop: Workshop, command: str, state: State, *, from_afar: bool) -> int:
    out = shop.folder / "out"
    remove(out)
    out.mkdir()
    vault = f"lab:{shop.vault}" if from_afar else str(shop.vault)
    words = [word.format(vault=vault, out=out) for word in COMMANDS[command]]
    with pytest.MonkeyPatch.context() as patch:
        if state.unread is not None:
            Unreadable(patch, Path(os.path.normpath(shop.vault / state.unread[0])), state.unread[1])
        done = shop.run(*words, *(("--sign-key", shop.folder / "ana") if from_afar else ()))
    assert "defect of evidencesync" not in done.err, done.err
    return done.code


@pytest.mark.parametrize("name", STATES)
def test_all_commands_say_of_a_damaged_vault_what_the_table_says(shop: Workshop, name: str) -> None:
    state = STATES[name]
    shop.renew()
    if state.do is not None:
        state.do(shop)
    ends = [(command, afar) for command in ASKED for afar in (False, True) if not (afar and command in HERE_ALONE)]
    found = {(command, "afar" if afar else "here"): ended(shop, command, state, from_afar=afar) for command, afar in ends}
    wanted = {(command, "afar" if afar else "here"): state.expected(command, from_afar=afar) for command, afar in ends}
    assert found == wanted


def test_each_difference_has_its_reason() -> None:
    assert [name for name, state in STATES.items() if (state.others or state.afar) and not state.why] == []
