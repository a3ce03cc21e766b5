"""Unusual, and sound: what a crash, a full disk, a copy or another writer leaves. Nobody may be accused of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from tests.tamper.row import Deed, Row, Table, copy_over, gone, put, signature_by, touch
from tests.tamper.vault import CHAIN, E1, SECOND, A, Workshop, remove

TABLE: Final = Table()
_add = TABLE.add
SESSION: Final = f"{E1}/incoming/0123456789abcdef0123456789abcdef"
# The other vault's second acquisition of E1 was the last thing that happened in it: what a crash of it leaves, from the end on.
LAST: Final = (
    "custody/0003-heads.json",
    "custody/0003-heads.json.sig",
    f"{CHAIN}/0004-received.json",
    f"{CHAIN}/0004-received.json.sig",
    f"{CHAIN}/0003-acquired.json",
    f"{CHAIN}/0003-acquired.json.sig",
)


def _crashed(left_out: int, *others: Deed) -> Deed:
    def do(shop: Workshop) -> None:
        copy_over(shop.other, shop.vault)
        remove(shop.state)  # nobody was told that it was published
        remove(shop.receipts)
        gone(*LAST[:left_out])(shop)
        for other in others:
            other(shop)

    return do


def _publishing() -> None:
    unfinished = f"{E1}/acquisitions/0002"
    _add("a publish without the vault's statement", Row(_crashed(1), 0))
    _add("a publish without the vault's statement and its signature", Row(_crashed(2), 0))
    for count, what in (
        (3, "its last record"),
        (4, "its last record and signature"),
        (5, "its records"),
        (6, "anything in the chain"),
    ):
        _add(f"a publish without {what}", Row(_crashed(count), 0, "unfinished-publish", unfinished))
    staged = _crashed(6, lambda shop: _stage(shop, unfinished))
    _add("a publish before its commit", Row(staged, 0, "unfinished-transfer", SESSION))
    _add("a vault with everything but its private key", Row(_crashed(0, gone("vault_key")), 0))


def _stage(shop: Workshop, acquisition: str) -> None:
    folder = shop.vault / SESSION
    folder.mkdir(parents=True)
    (shop.vault / acquisition).rename(folder / "acquisition")


def _changing() -> None:
    for kind in ("noted", "acquired", "verified"):
        place = f"{CHAIN}/0015-{kind}.json.sig"
        _add(f"an append of {kind} cut short", Row(_signature_alone(place), 0, "unfinished-change", place))
    place = "custody/0021-heads.json.sig"
    _add("a statement of the vault cut short", Row(_signature_alone(place, "vault"), 0, "unfinished-change", place))
    for folder, name in ((CHAIN, "0015-noted"), ("custody", "0021-heads")):
        place = f"{folder}/.new-{name}.json"
        _add(f"a temporary file in {Path(folder).parent.name or 'the'} custody", Row(_half(place), 0, "unfinished-change", place))
    place = ".new-trusted_signers"
    _add("a change of trust cut short before its record", Row(_trust_before_record, 0, "unfinished-change", place))
    _add("a change of trust cut short after its record", Row(_trust_after_record, 0, "unfinished-change", ".new-revoked_keys"))


def _signature_alone(place: str, who: str = "ana") -> Deed:
    """A signature is stored before its record."""
    return lambda shop: put(shop.vault / place, signature_by(shop, shop.vault / SECOND / "acquired.json", who))


def _half(place: str) -> Deed:
    return lambda shop: put(shop.vault / place, b'{\n  "format": "evidencesync-cus')


def _trust_before_record(shop: Workshop) -> None:
    """The new lists are written beside the old ones, and then stated."""
    for name in ("trusted_signers", "revoked_keys"):
        put(shop.vault / f".new-{name}", (shop.older / name).read_bytes(), 0o644)


def _trust_after_record(shop: Workshop) -> None:
    """The vault's last record states the new list of revoked keys; the old one is still in place."""
    file = shop.vault / "revoked_keys"
    file.rename(shop.vault / ".new-revoked_keys")
    file.write_bytes((shop.older / "revoked_keys").read_bytes())


def _around() -> None:
    _add("a first transfer that never ended", Row(_empty_item, 0, "empty-item", f"{A}/E9"))
    _add("the rest of a transfer in staging", Row(_leftover, 0, "unfinished-transfer", SESSION))
    _add("times set by a copy", Row(_touched, 0))
    _add("folders without their owner's right to write", Row(_read_only, 0))


def _empty_item(shop: Workshop) -> None:
    for name in ("acquisitions", "custody", "incoming"):
        (shop.vault / A / "E9" / name).mkdir(parents=True)


def _leftover(shop: Workshop) -> None:
    (shop.vault / SESSION / "contents").mkdir(parents=True)
    touch(shop.vault / SESSION / "contents" / "0")
    touch(shop.vault / SESSION / "journal")


def _touched(shop: Workshop) -> None:
    for folder, folders, files in os.walk(shop.vault):
        for name in folders + files:
            os.utime(Path(folder, name), (1, 1), follow_symlinks=False)


def _read_only(shop: Workshop) -> None:
    for folder, _, _ in os.walk(shop.vault):
        os.chmod(folder, 0o500)


_publishing()
_changing()
_around()
