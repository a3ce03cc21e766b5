"""What lies at a vault's root, and its folders: settings, keys, who is trusted, cases, items, staging, the index."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Final

from evidencesync.custody.trust import signer_line
from tests.tamper.kinds import ANY, TEXT, TYPES
from tests.tamper.row import (
    Change,
    Deed,
    Row,
    Table,
    copy_over,
    gone,
    linked_away,
    longer,
    made,
    mode,
    moved,
    put,
    spoiled,
    swapped,
    taken,
    touch,
)
from tests.tamper.vault import E1, E2, E3, FIRST, OTHER_E1, SECOND, THIRD, A, B, Workshop

TABLE: Final = Table()
_add = TABLE.add
INDEX: Final = f"index/{A.removeprefix('cases/')}.sqlite"
SESSION: Final = "0123456789abcdef0123456789abcdef"


def _lists() -> None:
    """trusted_signers, revoked_keys and roles.json: whatever is changed in them, no record says so."""
    for name in ("trusted_signers", "revoked_keys", "roles.json"):
        for kind, change in (ANY | TEXT).items():
            if name == "revoked_keys" and kind == "in capitals":
                continue
            _add(f"{name} {kind}", Row(spoiled(name, change), 32, "trust-changed", name))
        _add(f"{name} removed", Row(gone(name), 32, "trust-changed", name))
        _add(f"{name} of another vault", Row(taken(name, of=lambda shop: shop.other), 32, "trust-changed", name))
        _add(f"{name} is a link to itself elsewhere", Row(linked_away(name), 32, "", name))
        _add(f"{name} of 32 GiB", Row(longer(name), 32, "", name))
        _add(f"{name} that everybody may write", Row(mode(name, 0o666), 0, "unsafe-mode", name))
    _add("revoked_keys as they were", Row(taken("revoked_keys", of=lambda shop: shop.older), 32, "trust-changed", "revoked_keys"))
    for kind, change in SIGNERS.items():
        _add(f"trusted_signers {kind}", Row(spoiled("trusted_signers", change), 32, "trust-changed", "trusted_signers"))
    _add("a stranger trusted", Row(_stranger, 32, "trust-changed", "trusted_signers"))
    _add("a stranger trusted, beside the right list", Row(_rogue_beside, 32, "", ""))
    for kind, change in ROLES.items():
        _add(f"roles.json {kind}", Row(spoiled("roles.json", change), 32, "trust-changed", "roles.json"))
    for name in (
        ".new-trusted_signers",
        ".new-revoked_keys",
        ".new-roles.json",
    ):  # as a change leaves it that ends before its record
        _add(f"{name} beside the right lists", Row(made(name, touch), 0, "unfinished-change", name))


def _lines(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda data: b"".join(change(data.splitlines(keepends=True)))


SIGNERS: Final[dict[str, Change]] = {
    "without a line": _lines(lambda lines: lines[:-1]),
    "with a line twice": _lines(lambda lines: lines + lines[-1:]),
    "in another order": _lines(lambda lines: lines[::-1]),
    "with a comment": lambda data: data + b"# checked\n",
    "with a retired key trusted again": _lines(lambda lines: [re.sub(rb',?valid-before="[^"]*"', b"", line) for line in lines]),
    "with a wildcard": lambda data: data.replace(b"ana@lab", b"*", 1),
    "with two names for a key": lambda data: data.replace(b"ana@lab", b"ana@lab,mal@lab", 1),
    "with names exchanged": lambda data: (
        data.replace(b"ana@lab", b"x@lab").replace(b"dora@lab", b"ana@lab").replace(b"x@lab", b"dora@lab")
    ),
    "with a namespace more": lambda data: data.replace(b'namespaces="', b'namespaces="file,', 1),
}


ROLES: Final[dict[str, Change]] = {
    "with a role more": lambda data: data.replace(b'"verify"\n', b'"verify",\n      "admin"\n', 1),
    "with a role less": lambda data: data.replace(b'"acquire",\n      ', b"", 1),
    "for one case": lambda data: data.replace(b"]\n", b'],\n    "cases": [\n      "2024-*"\n    ]\n', 1),
}


def _stranger(shop: Workshop) -> None:
    line = signer_line(
        "mal@lab", shop.keys["mallory"].public_key, ("manifest@evidencesync", "custody@evidencesync", "session@evidencesync")
    )
    file = shop.vault / "trusted_signers"
    file.write_bytes(file.read_bytes() + line.encode() + b"\n")


def _rogue_beside(shop: Workshop) -> None:
    """The list that the chain names is moved aside, as an interrupted change would leave it; a rogue one takes its place."""
    (shop.vault / ".new-trusted_signers").write_bytes((shop.vault / "trusted_signers").read_bytes())
    _stranger(shop)


def _settings() -> None:
    place = "vault.toml"
    for kind in ("emptied", "cut off by half", "zeros of the same size", "twice"):
        _add(f"vault.toml {kind}", Row(spoiled(place, ANY[kind]), 32, "malformed-document", place))
    _add("vault.toml with a byte order mark, which editors write", Row(spoiled(place, lambda data: b"\xef\xbb\xbf" + data), 0))
    _add("vault.toml removed", Row(gone(place), 31, "missing-document", place))
    _add("vault.toml of another vault", Row(taken(place, of=lambda shop: shop.other), 32, "wrong-place", place))
    _add("vault.toml with another key", Row(spoiled(place, _other_key), 32, "wrong-place", place))
    _add("vault.toml with another id", Row(spoiled(place, _other_id), 32, "wrong-place", place))
    _add(
        "vault.toml of a later format",
        Row(
            spoiled(place, lambda data: data.replace(b"evidencesync-vault/1", b"evidencesync-vault/9")), 2, "later-format", place
        ),
    )
    _add("vault.toml with another name, which is for people", Row(spoiled(place, _other_name), 0))
    _add("vault.toml is a link to itself elsewhere", Row(linked_away(place), 31, "wrong-type", place))
    _add("vault.toml of 32 GiB", Row(longer(place), 32, "", place))
    for kind, make in TYPES.items():
        _add(f"vault.toml is {kind}", Row(made(place, make), 31, "wrong-type", place))


def _other_name(data: bytes) -> bytes:
    return data.replace(b"Laboratory", b"\\u001b[2J\\u202e", 1)


def _other_key(data: bytes) -> bytes:
    start = data.index(b'key = "SHA256:') + 14
    return data[:start] + (b"A" if data[start : start + 1] != b"A" else b"B") + data[start + 1 :]


def _other_id(data: bytes) -> bytes:
    start = data.index(b'id = "') + 6
    return data[:start] + (b"1" if data[start : start + 1] != b"1" else b"2") + data[start + 1 :]


def _keys() -> None:
    place = "vault_key.pub"
    for kind in ("emptied", "cut off by half", "zeros of the same size"):
        _add(f"vault_key.pub {kind}", Row(spoiled(place, ANY[kind]), 32, "malformed-document", place))
    _add("vault_key.pub removed", Row(gone(place), 31, "missing-document", place))
    _add("vault_key.pub of another vault", Row(taken(place, of=lambda shop: shop.other), 32, "wrong-signer", place))
    _add("vault_key.pub of 32 GiB", Row(longer(place), 32, "", place))
    _add("vault_key.pub is a link to itself elsewhere", Row(linked_away(place), 31, "wrong-type", place))
    _add("vault_key that others can read", Row(mode("vault_key", 0o644), 0, "unsafe-mode", "vault_key"))
    _add("vault_key that the group can read", Row(mode("vault_key", 0o640), 0, "unsafe-mode", "vault_key"))
    _add("vault_key is a link to itself elsewhere", Row(linked_away("vault_key"), 31, "wrong-type", "vault_key"))
    _add("vault_key is a FIFO", Row(made("vault_key", os.mkfifo), 31, "wrong-type", "vault_key"))
    _add("vault_key is a folder", Row(made("vault_key", Path.mkdir), 31, "wrong-type", "vault_key"))
    _add("vault_key removed, as in a copy", Row(gone("vault_key"), 0))
    _add(
        "host_key that others can read", Row(made("host_key", lambda file: put(file, b"x", 0o644)), 0, "unsafe-mode", "host_key")
    )


NAMES: Final = ("README", ".hidden", "Cases", "custody2", "vault.toml~", "a\x1b[2J", "\u202egnp", "trusted_signers.bak")


def _folders() -> None:
    for name in NAMES:
        _add(f"a file {name!r} at the root", Row(made(name, touch), 0, "foreign-entry", name))
    _add("a folder at the root", Row(made("lost+found", Path.mkdir), 0, "foreign-entry", "lost+found"))
    for folder, what, code, slug, place in (
        (A, "a case", 34, "rolled-back", E1),
        (E1, "an item", 34, "rolled-back", E1),
        ("cases", "all cases", 34, "missing-document", "cases"),
        (f"{E1}/acquisitions", "all acquisitions", 31, "missing-document", f"{E1}/acquisitions"),
    ):
        _add(f"{what} removed", Row(gone(folder), code, slug, place))
        _add(f"{what} is a link to itself elsewhere", Row(linked_away(folder), 31, "wrong-type", folder, memory=True))
        _add(f"{what} that everybody may write", Row(mode(folder, 0o777), 0, "unsafe-mode", folder))
    for number, folder in enumerate((FIRST, SECOND, THIRD), 1):
        _add(f"acquisition {number} removed", Row(gone(folder), 31, "missing-acquisition", folder))
        _add(f"acquisition {number} is a link to itself elsewhere", Row(linked_away(folder), 31, "", ""))
    _add("two acquisitions in each other's places", Row(swapped(FIRST, SECOND), 34, "wrong-place", f"{SECOND}/manifest.jsonl"))
    _add("two items in each other's places", Row(swapped(E1, E3), 34, "", ""))
    _add("two cases in each other's places", Row(swapped(A, B), 34, "", ""))
    _add("an item of one case in the other", Row(taken(E1, source=OTHER_E1), 34, "", ""))
    _add("an item of another vault", Row(taken(E1, of=lambda shop: shop.other), 34, "", ""))
    _add("an item as it was", Row(taken(E1, of=lambda shop: shop.older), 34, "rolled-back", f"{E1}/custody"))
    _add("an acquisition of another vault", Row(taken(SECOND, of=lambda shop: shop.other), 34, "", ""))
    _add("an acquisition of another case", Row(taken(FIRST, source=f"{OTHER_E1}/acquisitions/0001"), 34, "", ""))
    _add(
        "an acquisition once more",
        Row(taken(f"{E1}/acquisitions/0004", source=SECOND), 34, "not-in-chain", f"{E1}/acquisitions/0004"),
    )
    _add("a copy of an item under another name", Row(taken(f"{A}/E9", source=E1), 32, "wrong-place", f"{A}/E9"))
    _add("a copy of a case under another name", Row(taken("cases/2026-99", source=B), 32, "", ""))
    _add("an item that clashes by its capitals", Row(taken(f"{A}/e1", source=E1), 32, "wrong-place", f"{A}/e1"))
    for name in ("0000", "1", "00001", "0001 ", "9999x", "latest"):
        place = f"{E1}/acquisitions/{name}"
        _add(f"a folder {name!r} among the acquisitions", Row(made(place, Path.mkdir), 31, "extra-entry", place))
    _add("a file among the acquisitions", Row(made(f"{E1}/acquisitions/0009", touch), 34, "", f"{E1}/acquisitions/0009"))
    _add("an empty acquisition", Row(made(f"{E1}/acquisitions/0004", Path.mkdir), 34, "not-in-chain", f"{E1}/acquisitions/0004"))
    for name in ("README", "data", ".hidden", "Custody"):
        _add(f"a file {name!r} in an item", Row(made(f"{E1}/{name}", touch), 31, "extra-entry", f"{E1}/{name}"))
    for folder in (A, "cases"):
        _add(f"a file README in {folder}", Row(made(f"{folder}/README", touch), 31, "extra-entry", f"{folder}/README"))
    folders = ("cases", A, E1, f"{E1}/custody", f"{E1}/acquisitions", f"{E1}/incoming", FIRST, "custody", "index")
    for folder in folders:
        for name in (".DS_Store", "._0001-acquired.json", "Thumbs.db"):
            _add(
                f"a file {name} that systems leave in {folder}",
                Row(made(f"{folder}/{name}", touch), 0, "foreign-entry", f"{folder}/{name}"),
            )
        for name in (".Trash-1000", "System Volume Information"):
            place = f"{folder}/{name}"
            _add(f"a folder {name} that systems leave in {folder}", Row(made(place, Path.mkdir), 0, "foreign-entry", place))
    _add(
        "a folder of a file's name that systems leave",
        Row(made(f"{E1}/.DS_Store", Path.mkdir), 31, "extra-entry", f"{E1}/.DS_Store"),
    )
    _add("an empty folder among the cases", Row(made("cases/2026-99", Path.mkdir), 0, "empty-case", "cases/2026-99"))
    _add("an empty folder in a case", Row(made(f"{A}/E9", Path.mkdir), 0, "empty-item", f"{A}/E9"))
    _add(
        "a folder of a hostile name among the cases",
        Row(made("cases/a\x1b[2J\u202eb", Path.mkdir), 31, "extra-entry", "cases/a\x1b[2J\u202eb"),
    )
    _add("a name that is no text among the cases", Row(_no_text, 31, "extra-entry", "cases/\udcff\udcfe"))


def _no_text(shop: Workshop) -> None:
    os.mkdir(os.fsencode(shop.vault / "cases") + b"/\xff\xfe")


def _staging() -> None:
    incoming = f"{E1}/incoming"
    _add("incoming removed", Row(gone(incoming), 0, "no-incoming", incoming))
    _add("incoming is a link elsewhere", Row(linked_away(incoming), 31, "wrong-type", incoming))
    for name in ("README", "session", SESSION.upper(), SESSION[:-1]):
        _add(
            f"a folder {name!r} in incoming", Row(made(f"{incoming}/{name}", Path.mkdir), 31, "extra-entry", f"{incoming}/{name}")
        )
    _add(
        "a file with a session's name in incoming",
        Row(made(f"{incoming}/{SESSION}", touch), 31, "extra-entry", f"{incoming}/{SESSION}"),
    )
    _add(
        "an acquisition moved into incoming",
        Row(moved(THIRD, f"{incoming}/{SESSION}"), 31, "missing-acquisition", THIRD, about=THIRD),
    )
    _add(
        "a leftover of a transfer",
        Row(made(f"{incoming}/{SESSION}", Path.mkdir), 0, "unfinished-transfer", f"{incoming}/{SESSION}"),
    )


def _index() -> None:
    """A cache: it is never believed, and its loss is no fault."""
    _add("the index removed", Row(gone("index"), 0))
    _add("the index full of noise", Row(_noise, 0, "index-differs", INDEX))
    _add("the index of another vault", Row(taken("index", of=lambda shop: shop.other), 0, "index-differs", INDEX))
    _add("the index as it was", Row(taken("index", of=lambda shop: shop.older), 0, "index-differs", INDEX))
    _add("the index is a file", Row(made("index", touch), 31, "wrong-type", "index"))
    _add("the index is a link elsewhere", Row(linked_away("index"), 31, "wrong-type", "index"))


def _noise(shop: Workshop) -> None:
    for folder, _, names in os.walk(shop.vault / "index"):
        for name in names:
            Path(folder, name).write_bytes(b"noise" * 100)


def _vaults() -> None:
    _add("another vault in its place", Row(lambda shop: copy_over(shop.other, shop.vault), 0))
    _add("a vault without anything", Row(_emptied, 10, "vault-not-found", ""))
    _add("no vault", Row(lambda shop: shutil.rmtree(shop.vault), 10, "vault-not-found", ""))
    _add("cases and nothing else", Row(_only("cases"), 31, "", ""))
    _add("settings and nothing else", Row(_only("vault.toml"), 31, "", ""))
    _add(
        "E2 and E3 exchanged for each other's acquisitions",
        Row(swapped(f"{E2}/acquisitions", f"{E3}/acquisitions"), 34, "", ""),
    )


def _emptied(shop: Workshop) -> None:
    shutil.rmtree(shop.vault)
    shop.vault.mkdir()


def _only(name: str) -> Deed:
    def do(shop: Workshop) -> None:
        for one in shop.vault.iterdir():
            if one.name != name:
                gone(one.name)(shop)

    return do


_lists()
_settings()
_keys()
_folders()
_staging()
_index()
_vaults()
