"""Custody chains, the items' and the vault's own: records removed, reordered, replaced, added, cut off."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Final, Literal

import msgspec

from evidencesync.evidence.digest import sha256_of
from tests.tamper.kinds import ANY, JSON, TEXT, TYPES, with_field
from tests.tamper.row import (
    Deed,
    Row,
    Table,
    after,
    copy_over,
    gone,
    linked_away,
    longer,
    made,
    mode,
    moved,
    overwrite,
    put,
    signature_by,
    signed_by,
    spoiled,
    swapped,
    taken,
    touch,
)
from tests.tamper.vault import CHAIN, E3, OTHER_CHAIN, THIRD, Workshop

TABLE: Final = Table()
_add = TABLE.add

BROKEN, MISSING, ROLLED_BACK = "chain-broken", "missing-record", "rolled-back"
E3_CHAIN: Final = f"{E3}/custody"
# One of each type that is not in an acquisition's folder, too; the seal is the last of its chain.
ALONE: Final = (
    f"{CHAIN}/0005-timestamped.json",
    f"{CHAIN}/0006-noted.json",
    f"{CHAIN}/0007-corrected.json",
    f"{CHAIN}/0008-handed-over.json",
    f"{CHAIN}/0009-accepted.json",
    f"{CHAIN}/0010-verified.json",
    f"{CHAIN}/0011-exported.json",
    f"{CHAIN}/0012-restored.json",
)
SEAL: Final = f"{E3_CHAIN}/0003-sealed.json"
MADE, HEADS, RETIRED, REVOKED = (
    "custody/0001-made.json",
    "custody/0002-heads.json",
    "custody/0005-trust-changed.json",
    "custody/0015-trust-changed.json",
)


def _each_type() -> None:
    for place in ALONE:
        name = place.removeprefix(f"{CHAIN}/").removesuffix(".json")
        _add(f"record {name} removed", Row(gone(f"{place}*"), 34, MISSING, CHAIN))
        _add(f"record {name} changed by a bit", Row(spoiled(place, ANY["a bit changed"]), 34, "", place))
        _add(f"record {name} signed by mallory", Row(signed_by(place, "mallory"), 32, "", place))
        _add(f"record {name} signed by the vault", Row(signed_by(place, "vault"), 32, "", place))
        _add(f"record {name} without its signature", Row(gone(f"{place}.sig"), 31, "missing-document", f"{place}.sig"))
    for kind, change in (JSON | TEXT).items():
        _add(f"a record {kind}", Row(spoiled(ALONE[1], change), 34, "malformed-document", ALONE[1]))
    for kind, change in ANY.items():
        _add(f"a record's signature {kind}", Row(spoiled(f"{ALONE[1]}.sig", change), 32, "bad-signature", f"{ALONE[1]}.sig"))
    for kind, make in TYPES.items():
        _add(f"a record that is {kind}", Row(made(ALONE[1], make), 34, "wrong-type", ALONE[1]))
    for who in ("ben", "carl", "dora"):
        _add(f"a note of ana's signed by {who}", Row(signed_by(ALONE[1], who), 32, "", ALONE[1]))


FIELDS: Final = {
    "sequence": 7,
    "type": "verified",
    "time": "2001-01-01T00:00:00.000000Z",
    "case": "2026/12",
    "item": "E2",
    "vault_id": "0" * 32,
    "previous_sha256": "0123456789abcdef" * 4,
    "details.more": "never said",
    "actor.name": "Mal",
    "actor.principal": "dora@lab",
}


def _fields() -> None:
    """A record that says something else, and is signed again. The vault has stated the last, which no record names."""
    for field, value in FIELDS.items():
        anew = after(spoiled(ALONE[1], with_field(field, value)), signed_by(ALONE[1], "ana"))
        _add(f"a note with another {field}, signed anew", Row(anew, 34, "", ""))
        if field != "sequence":
            anew = after(spoiled(SEAL, with_field(field, value)), signed_by(SEAL, "ana"))
            _add(f"a last record with another {field}, signed anew", Row(anew, 34, "", ""))


def _order() -> None:
    note, correction = ALONE[1], ALONE[2]
    both = after(swapped(note, correction), swapped(f"{note}.sig", f"{correction}.sig"))
    _add("two records in each other's places", Row(both, 34, "", note))
    _add("a record under another number", Row(_moved_pair(note, f"{CHAIN}/0016-noted.json"), 34, MISSING, CHAIN))
    _add(
        "a record of another type's name",
        Row(_moved_pair(note, f"{CHAIN}/0006-verified.json"), 34, "", f"{CHAIN}/0006-verified.json"),
    )
    _add("the first record removed", Row(gone(f"{CHAIN}/0001-*"), 34, MISSING, CHAIN))
    _add("three records removed", Row(gone(f"{CHAIN}/000[678]-*"), 34, MISSING, CHAIN))
    _add(
        "an old note once more at the end",
        Row(_copied_pair(note, f"{CHAIN}/0015-noted.json"), 34, BROKEN, f"{CHAIN}/0015-noted.json"),
    )
    _add("a record twice under one number", Row(_copied_pair(note, f"{CHAIN}/0006-verified.json"), 34, "", CHAIN))
    _add("a note of another case", Row(_pair_of(f"{OTHER_CHAIN}/0001-acquired.json", f"{CHAIN}/0001-acquired.json"), 34, "", ""))
    _add(
        "a seal of another item at the end",
        Row(_copied_pair(SEAL, f"{CHAIN}/0015-sealed.json"), 34, BROKEN, f"{CHAIN}/0015-sealed.json"),
    )
    records = [f"{CHAIN}/0003-acquired.json", f"{CHAIN}/0004-received.json"]
    theirs = taken(*records, *(f"{one}.sig" for one in records), of=lambda shop: shop.other)
    _add("two records of another vault", Row(theirs, 34, BROKEN, records[0]))
    _add("a whole chain of another case", Row(taken(CHAIN, source=OTHER_CHAIN), 34, "", ""))
    _add("a whole chain of another item", Row(taken(CHAIN, source=E3_CHAIN), 34, "", ""))
    _add("a whole chain of another vault", Row(taken(CHAIN, of=lambda shop: shop.other), 34, "", ""))
    _add("an older copy of the chain", Row(taken(CHAIN, of=lambda shop: shop.older), 34, ROLLED_BACK, CHAIN))
    _add("no record at all", Row(gone(f"{CHAIN}/*"), 34, "", ""))
    _add("no custody folder", Row(gone(CHAIN), 34, "missing-document", CHAIN))
    _add("a custody folder that is a link to itself elsewhere", Row(linked_away(CHAIN), 31, "wrong-type", CHAIN))


def _moved_pair(place: str, to: str) -> Deed:
    return after(moved(place, to), moved(f"{place}.sig", f"{to}.sig"))


def _copied_pair(place: str, to: str) -> Deed:
    return after(taken(to, source=place), taken(f"{to}.sig", source=f"{place}.sig"))


_pair_of = _copied_pair


def _tails() -> None:
    """What is cut off at the end: the vault's own chain has stated it; where that is cut, too, this machine has seen it."""
    seal = gone(f"{SEAL}*")
    _add("a seal removed", Row(seal, 34, ROLLED_BACK, E3_CHAIN))
    last = gone(f"{CHAIN}/001[34]-*", THIRD)
    _add("the last acquisition removed with its records", Row(last, 34, ROLLED_BACK, CHAIN))
    _add("the last two records removed", Row(gone(f"{CHAIN}/001[34]-*"), 34, "", "", about=THIRD))
    _add("the last record removed", Row(gone(f"{CHAIN}/0014-*"), 34, "", "", about=THIRD))
    _add(
        "the last record's signature removed",
        Row(gone(f"{CHAIN}/0014-*.sig"), 31, "missing-document", f"{CHAIN}/0014-received.json.sig", about=THIRD),
    )
    _add("the vault's last statement removed", Row(gone("custody/0020-*"), 34, "older-copy", "", memory=True))
    own = _own_tail(16)
    _add("a seal removed with all that the vault stated of it", Row(after(seal, own), 34, "", "", memory=True))
    _add("the last acquisition removed with all that the vault stated", Row(after(last, own), 34, "", "", memory=True))
    _add("the vault's own chain, as it was", Row(taken("custody", of=lambda shop: shop.older), 34, "", "", memory=True))
    _add("the whole vault, as it was", Row(_as_it_was, 34, "older-copy", "", memory=True))


def _own_tail(first: int) -> Deed:
    def do(shop: Workshop) -> None:
        for file in (shop.vault / "custody").iterdir():
            if int(file.name[:4]) >= first:
                file.unlink()

    return do


def _as_it_was(shop: Workshop) -> None:
    copy_over(shop.older, shop.vault)


NAMES: Final = (
    "README",
    ".hidden",
    "0006-noted.json.bak",
    "15-noted.json",
    "0015-NOTED.JSON",
    "\u0660\u0660\u0661\u0665-noted.json",
    "0015-noted.json\n",
    "0015-\x1b[2Jnoted.json",
)


def _extras() -> None:
    for name in NAMES:
        _add(f"a file {name!r} among the records", _strange(name))
    for name, code in (("0000-noted.json", 34), ("0015-sworn.json", 32)):
        place = f"{CHAIN}/{name}"
        _add(f"a file {name!r} among the records", Row(made(place, touch), code, "malformed-document", place))
    _add("a folder among the records", Row(made(f"{CHAIN}/0015-noted.json", Path.mkdir), 31, "", f"{CHAIN}/0015-noted.json"))
    _add("two signatures for the next record", Row(_next_signatures, 31, "", "", restore="made"))
    _add("a record of 32 GiB", Row(longer(ALONE[1]), 34, "malformed-document", ALONE[1]))
    _add("a record's signature of 32 GiB", Row(longer(f"{ALONE[1]}.sig"), 32, "", f"{ALONE[1]}.sig"))
    _add("a record that everybody may write", Row(mode(ALONE[1], 0o666), 0, "unsafe-mode", ALONE[1]))
    _add("a custody folder that everybody may write", Row(mode(CHAIN, 0o777), 0, "unsafe-mode", CHAIN))
    _add("two signatures in one file of a record", Row(_both_signatures, 32, "bad-signature", f"{ALONE[1]}.sig"))
    _add("the chain's own link is a copy", Row(_unlinked, 0))


def _strange(name: str) -> Row:
    """A record's suffix without a record's name: nobody can say what was meant to stand there, so nothing is restored."""
    restore: Literal["made", "refused"] = "refused" if name.endswith(".json") else "made"
    return Row(made(f"{CHAIN}/{name}", touch), 31, "extra-entry", f"{CHAIN}/{name}", restore=restore)


def _next_signatures(shop: Workshop) -> None:
    for kind in ("acquired", "noted"):
        touch(shop.vault / CHAIN / f"0015-{kind}.json.sig")


def _both_signatures(shop: Workshop) -> None:
    both = b"".join(signature_by(shop, shop.vault / ALONE[1], who) for who in ("ana", "dora"))
    overwrite(shop.vault / f"{ALONE[1]}.sig", both)


def _appended(chain: str, last: str, kind: str, signer: str, **stated: object) -> Deed:
    """A record more, linked and signed as it should be."""

    def do(shop: Workshop) -> None:
        before = shop.vault / chain / last
        record = json.loads(before.read_bytes())
        number = int(record["sequence"]) + 1
        record |= {"sequence": number, "type": kind, "previous_sha256": sha256_of(before.read_bytes()).hex(), **stated}
        actor = {"name": "x", "principal": f"{signer}@lab", "key": shop.open().signer.public_key.fingerprint}
        record["actor"] = actor if signer == "vault" else actor | {"key": shop.keys[signer].public_key.fingerprint}
        record["actor"]["principal"] = stated.get("principal", record["actor"]["principal"])
        record = {name: value for name, value in record.items() if name != "principal" and (value or name in NULLS)}
        file = shop.vault / chain / f"{number:04d}-{kind}.json"
        put(file, msgspec.json.format(msgspec.json.encode(record), indent=2) + b"\n")
        put(Path(f"{file}.sig"), signature_by(shop, file, signer))

    return do


NULLS: Final = ("case", "item", "details")


def _more() -> None:
    """What a person with a key can add: it is in its place, well signed, and not true."""
    exported = {"acquisition": 1, "receipt_sha256": None, "manifest_sha256": None}
    for name, kind, stated in (
        ("a note with the manifest of another acquisition", "noted", exported | {"manifest_sha256": "0" * 64}),
        ("an export of another manifest", "exported", exported | {"details": {"manifest_sha256": "0" * 64}}),
        ("a copy of another manifest", "restored", exported | {"details": {"manifest_sha256": "0" * 64}}),
        ("a note with another receipt", "noted", exported | {"receipt_sha256": "0" * 64}),
    ):
        place = f"{CHAIN}/0015-{kind}.json"
        _add(name, Row(_appended(CHAIN, "0014-received.json", kind, "ana", **stated), 34, "wrong-reference", place))
    true = _appended(CHAIN, "0014-received.json", "noted", "ana", acquisition=3, receipt_sha256=None)
    _add("a note with its acquisition's manifest", Row(true, 0))
    false = _appended("custody", "0020-heads.json", "heads", "vault", principal="ana@lab", details={})
    _add("a statement of the vault in an examiner's name", Row(false, 32, "wrong-signer", "custody/0021-heads.json"))
    true = _appended("custody", "0020-heads.json", "heads", "vault", principal="vault", details={})
    _add("a statement of the vault more", Row(true, 0))


def _unlinked(shop: Workshop) -> None:
    """A backup that does not keep hard links gives this: it is no fault."""
    file = shop.vault / CHAIN / "0003-acquired.json"
    data = file.read_bytes()
    file.unlink()
    file.write_bytes(data)
    os.chmod(file, 0o444)


def _own() -> None:
    """The vault's own chain."""
    for place in (MADE, HEADS, RETIRED, REVOKED):
        name = place.removeprefix("custody/").removesuffix(".json")
        _add(f"the vault's {name} removed", Row(gone(f"{place}*"), 34, "", "custody"))
        _add(f"the vault's {name} changed by a bit", Row(spoiled(place, ANY["a bit changed"]), 34, "", place))
        _add(f"the vault's {name} without its signature", Row(gone(f"{place}.sig"), 31, "missing-document", f"{place}.sig"))
        _add(f"the vault's {name} signed by ana", Row(signed_by(place, "ana"), 32, "", place))
        _add(f"the vault's {name} signed by mallory", Row(signed_by(place, "mallory"), 32, "", place))
        _add(f"the vault's {name} emptied", Row(spoiled(place, ANY["emptied"]), 34, "malformed-document", place))
        _add(
            f"the vault's {name} is a link elsewhere",
            Row(linked_away(place), 32 if place == REVOKED else 31, "wrong-type", place),
        )
    _add("the vault's own chain removed", Row(gone("custody"), 31, "missing-document", "custody"))
    _add("the vault's own chain emptied", Row(gone("custody/*"), 34, MISSING, "custody"))
    _add("the vault's own chain of another vault", Row(taken("custody", of=lambda shop: shop.other), 34, "", ""))
    _add("the vault's own chain a link elsewhere", Row(linked_away("custody"), 31, "wrong-type", "custody"))
    swap = after(
        swapped("custody/0002-heads.json", "custody/0003-heads.json"),
        swapped("custody/0002-heads.json.sig", "custody/0003-heads.json.sig"),
    )
    _add("two statements of the vault exchanged", Row(swap, 34, BROKEN, "custody/0002-heads.json"))
    _add("a file among the vault's records", Row(made("custody/README", touch), 31, "extra-entry", "custody/README"))
    _add("an item's record among the vault's", Row(_copied_pair(ALONE[1], "custody/0021-noted.json"), 34, "", ""))
    _add(
        "a statement of the vault once more",
        Row(_copied_pair(HEADS, "custody/0021-heads.json"), 34, BROKEN, "custody/0021-heads.json"),
    )
    _add("a vault's record of 32 GiB", Row(longer(HEADS), 32, "malformed-document", HEADS))


_each_type()
_fields()
_order()
_tails()
_extras()
_more()
_own()
