"""A table of bad vaults: each row is one attack, and the finding that must name it (slug, exit code, place).

Forgeries are signed with the right keys after the change, so that no signature gives them away; the rest is done to files.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import stat
from collections.abc import Callable
from hashlib import sha512
from pathlib import Path
from typing import Final, NamedTuple

import msgspec
import pytest

from evidencesync.custody.sshsig import sign_document
from tests.support.forger import Change, Forgery, append_record, readable, with_field
from tests.unit.vault.acquiring import Acquirer, item_name, new_signer, new_vault
from tests.unit.verify.conftest import made, template  # noqa: F401  # the vault that is spoiled
from tests.unit.verify.sample import ITEM, Made, edit

SECOND: Final = f"{ITEM}/acquisitions/0002"
FIRST: Final = f"{ITEM}/acquisitions/0001"
CUSTODY: Final = f"{ITEM}/custody"
HEX: Final = "0123456789abcdef" * 4


class Bad(NamedTuple):
    """One row: what is done, and what must be found."""

    do: Callable[[Made], object]
    slug: str
    code: int
    place: str
    says: str = ""  # part of the message, where the same slug could come from something else


ROWS: dict[str, Bad] = {}


# --- Manifests that both keys have signed -----------------------------------------------------------------------------------


def swap(old: bytes, new: bytes) -> Change:
    def change(data: bytes) -> bytes:
        assert old in data, old
        return data.replace(old, new, 1)

    return change


def lines(change: Callable[[list[bytes]], list[bytes]]) -> Change:
    return lambda data: b"".join(line + b"\n" for line in change(data.split(b"\n")[:-1]))


def entry(path: bytes, more: bytes = b"") -> bytes:
    digest = HEX.encode()
    return b'{"type":"file","path":"%s","size":1,"blake3":"%s","sha256":"%s"%s}' % (path, digest, digest, more)


def insert(at: int, line: bytes) -> Change:
    return lines(lambda found: [*found[:at], line, *found[at:]])


def at_entry(old: bytes, new: bytes) -> Change:
    """Changes the line of `a.txt`."""

    def change(found: list[bytes]) -> list[bytes]:
        (number,) = [number for number, line in enumerate(found) if b'"path":"a.txt"' in line]
        assert old in found[number], (old, found[number])
        return [*found[:number], found[number].replace(old, new, 1), *found[number + 1 :]]

    return lines(change)


def more_in_entry(more: bytes, path: bytes = b"a.txt") -> Change:
    """Fields at the end of an entry, where they belong."""

    def change(found: list[bytes]) -> list[bytes]:
        (number,) = [number for number, line in enumerate(found) if b'"path":"%s"' % path in line]
        return [*found[:number], found[number][:-1] + b"," + more + b"}", *found[number + 1 :]]

    return lines(change)


def digest_of_entry(change: Callable[[bytes], bytes]) -> Change:
    def edit_line(data: bytes) -> bytes:
        at = data.index(b'"path":"a.txt"')
        start = data.index(b'"blake3":"', at) + 10
        return data[:start] + change(data[start : start + 64]) + data[start + 64 :]

    return edit_line


FORMS: Final[dict[str, Change]] = {
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "CR alone": lambda data: data.replace(b"\n", b"\r"),
    "an empty line": insert(2, b""),
    "a space at an end": lines(lambda found: [found[0] + b" ", *found[1:]]),
    "spaces between": at_entry(b'"type":"file",', b'"type": "file",'),
    "no newline at the end": lambda data: data[:-1],
    "nothing": lambda data: b"",
    "NUL at the end": lambda data: data + b"\0",
    "a header alone": lines(lambda found: found[:1]),
    "no entries": lines(lambda found: [found[0], found[-1]]),
    "no header": lines(lambda found: found[1:]),
    "two headers": lines(lambda found: [found[0], *found]),
    "no footer": lines(lambda found: found[:-1]),
    "two footers": lines(lambda found: [*found, found[-1]]),
    "an entry after the footer": lines(lambda found: [*found, entry(b"zzz")]),
    "another format": swap(b"evidencesync-manifest/1", b"evidencesync-manifest/2"),
    "an unknown field in the header": swap(b'{"format"', b'{"more":1,"format"'),
    "an unknown field in an entry": at_entry(b'"mode"', b'"more":1,"mode"'),
    "an unknown field in the footer": swap(b'"finished":', b'"more":1,"finished":'),
    "a key twice": at_entry(b'"path":"a.txt"', b'"path":"b.txt","path":"a.txt"'),
    "a key twice in the header": swap(b'"case":', b'"case":"x","case":'),
    "keys in another order": at_entry(b'"type":"file","path":"a.txt"', b'"path":"a.txt","type":"file"'),
    "a null where nothing should stand": at_entry(b'"mode"', b'"uid":null,"mode"'),
    "an escape that is not needed": at_entry(b"a.txt", b"\\u0061.txt"),
    "an escaped slash": swap(b"logs/day 1.log", b"logs\\/day 1.log"),
    "half a surrogate pair": at_entry(b"a.txt", b"\\ud800.txt"),
    "bytes that are not UTF-8": at_entry(b"a.txt", b"a\xff.txt"),
    "an overlong spelling in UTF-8": at_entry(b"a.txt", b"\xc1\xa1.txt"),
    "a digest of 31 bytes": digest_of_entry(lambda digest: digest[:62]),
    "a digest of 33 bytes": digest_of_entry(lambda digest: digest + b"00"),
    "a digest in capitals": digest_of_entry(lambda digest: digest.upper()),
    "a digest that is none": digest_of_entry(lambda digest: b"g" * 64),
    "a digest with a newline": digest_of_entry(lambda digest: digest[:62] + b"\\n"),
    "no digest": at_entry(b'"blake3":', b'"blake4":'),
    "NaN": at_entry(b'"size":6', b'"size":NaN'),
    "Infinity": at_entry(b'"size":6', b'"size":Infinity'),
    "minus infinity": at_entry(b'"size":6', b'"size":-Infinity'),
    "a float": at_entry(b'"size":6', b'"size":6.0'),
    "an exponent": at_entry(b'"size":6', b'"size":6e0'),
    "a number beyond all floats": at_entry(b'"size":6', b'"size":1e400'),
    "a number of a thousand digits": at_entry(b'"size":6', b'"size":' + b"9" * 1000),
    "a size of 2 to the 53": at_entry(b'"size":6', b'"size":9007199254740992'),
    "a negative size": at_entry(b'"size":6', b'"size":-6'),
    "minus nothing": at_entry(b'"size":6', b'"size":-0'),
    "a zero in front": at_entry(b'"size":6', b'"size":06'),
    "a size in quotes": at_entry(b'"size":6', b'"size":"6"'),
    "a truth for a number": at_entry(b'"size":6', b'"size":true'),
    "a deep nest": swap(b'"notes":[]', b'"notes":' + b"[" * 100_000 + b"]" * 100_000),
    "a list for an object": insert(2, b"[]"),
    "a line of a megabyte": insert(2, b'{"type":"file","path":"' + b"a" * (1 << 20) + b'"}'),
    "an unknown type": at_entry(b'"type":"file"', b'"type":"door"'),
    "an unknown flag": at_entry(b'"mtime"', b'"flags":["fine"],"mtime"'),
    "flags out of order": insert(-1, b'{"type":"file","path":"zz","flags":["skipped","vanished"]}'),
    "a mode of three digits": at_entry(b'"0644"', b'"644"'),
    "a mode with a type": at_entry(b'"0644"', b'"100644"'),
    "a time with eight places": at_entry(b'.123456789"', b'.12345678"'),
    "a time as a number": at_entry(b'"mtime":"1600000000.123456789"', b'"mtime":1600000000'),
    "a time that does not exist": swap(b"2023-11-14T", b"2023-02-30T"),
    "entries out of order": lines(lambda found: [*found[:2], found[3], found[2], *found[4:]]),
    "an entry twice": lines(lambda found: [*found[:3], found[2], *found[3:]]),
    "the root twice": lines(lambda found: [*found[:2], found[1], *found[2:]]),
    "no root": lines(lambda found: [found[0], *found[2:]]),
    "a folder that is not listed": insert(-1, entry(b"zz/file")),
    "a file as a folder": insert(3, entry(b"a.txt/file")),
    "a name of base64 that needs none": at_entry(b'"path":"a.txt"', b'"path_b64":"' + base64.b64encode(b"a.txt") + b'"'),
    "both kinds of name": at_entry(b'"path":"a.txt"', b'"path":"a.txt","path_b64":"YQ=="'),
    "no name": at_entry(b'"path":"a.txt",', b""),
    "base64 without padding": insert(-1, entry(b"zz").replace(b'"path":"zz"', b'"path_b64":"eg/_"')),
    "a control character in a name": at_entry(b"a.txt", b"a\\u001b.txt"),
    "a bidirectional character in a name": at_entry(b"a.txt", "a\u202etxt".encode()),
    "a hard link to a later entry": more_in_entry(b'"hardlink_to":"empty"'),
    "a hard link to itself": more_in_entry(b'"hardlink_to":"a.txt"'),
    "a hard link to the root": more_in_entry(b'"hardlink_to":""'),
    "a link without a target": insert(-1, b'{"type":"symlink","path":"zz"}'),
    "a file with a target": more_in_entry(b'"target":"x"'),
    "a link with digests": insert(-1, entry(b"zz", b',"target":"x"').replace(b'"file"', b'"symlink"')),
    "a folder with a size": insert(-1, b'{"type":"directory","path":"zz","size":1}'),
    "holes that overlap": more_in_entry(b'"holes":[[0,4],[2,4]]'),
    "a list that goes on with nothing": insert(2, b'{"type":"continued","holes":[[0,1]]}'),
    "a count too many": swap(b'"directory":', b'"directory":1'),
    "bytes that do not add up": swap(b'"bytes":', b'"bytes":1'),
    "a kind that is not counted": swap(b'{"counts":{', b'{"counts":{"socket":1,'),
    "a first acquisition with one before it": swap(b'"acquisition":2', b'"acquisition":1'),
}
SAYS: Final = {  # where a mistake of this table could have been refused for a simpler reason
    "a hard link to a later entry": "does not lead to an entry before it",
    "a hard link to itself": "does not lead to an entry before it",
    "a hard link to the root": "does not lead to an entry before it",
    "a file with a target": "cannot have a target",
    "holes that overlap": "overlap",
    "a link with digests": "cannot have digests",
    "a folder with a size": "cannot have a size",
    "entries out of order": "out of order",
    "an entry twice": "out of order",
    "a folder that is not listed": "not in the manifest",
    "a count too many": "does not agree",
    "bytes that do not add up": "does not agree",
    "a time that does not exist": "does not exist",
    "flags out of order": "out of order",
}
ROWS |= {
    f"manifest: {name}": Bad(
        Forgery(manifest=change), "malformed-document", 32, f"{SECOND}/manifest.jsonl", SAYS.get(name, "")
    )
    for name, change in FORMS.items()
}

ESCAPES: Final = (b"..", b"../x", b"logs/../../x", b"/etc/passwd", b"./a", b"logs//x", b"logs/", b"a/./b", b"a\\u0000b")
ROWS |= {
    f"manifest: the path {path.decode()}": Bad(
        Forgery(manifest=insert(-1, entry(path))), "malformed-document", 32, f"{SECOND}/manifest.jsonl"
    )
    for path in ESCAPES
}

HEADERS: Final[dict[str, tuple[Change, str]]] = {
    "of another case": (swap(b'"case":"2026/117"', b'"case":"2026/118"'), "wrong-place"),
    "of another item": (swap(b'"item":"3-a"', b'"item":"3-b"'), "wrong-place"),
    "of a later acquisition": (swap(b'"acquisition":2', b'"acquisition":3'), "wrong-place"),
    "by another principal": (swap(b'"principal":"ana"', b'"principal":"eve"'), "untrusted-signer"),
}
ROWS |= {
    f"manifest: {name}": Bad(Forgery(manifest=change), slug, 32, f"{SECOND}/manifest.jsonl")
    for name, (change, slug) in HEADERS.items()
}


def other_digest(field: bytes) -> Change:
    """Changes the first digit of a digest in the header."""

    def change(data: bytes) -> bytes:
        at = data.index(b'"%s":"' % field) + len(field) + 4
        return data[:at] + (b"0" if data[at : at + 1] != b"0" else b"1") + data[at + 1 :]

    return change


ROWS |= {
    "manifest: after another manifest": Bad(
        Forgery(manifest=other_digest(b"previous_manifest_sha256")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
    "manifest: for another vault": Bad(Forgery(manifest=other_digest(b"vault_id")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"),
    "manifest: a file that was never there": Bad(
        Forgery(manifest=lines(lambda found: recounted([*found[:-1], entry(b"zz"), found[-1]]))),
        "missing-file",
        32,
        f"{SECOND}/data/zz",
    ),
    "manifest: other bytes than there are": Bad(
        Forgery(manifest=digest_of_entry(lambda digest: HEX.encode())), "file-damaged", 30, f"{SECOND}/data/a.txt"
    ),
    "manifest: signed with the vault's key": Bad(
        Forgery(manifest_by_vault=True), "wrong-signer", 32, f"{SECOND}/manifest.jsonl.sig"
    ),
    "manifest: a hard link to an entry that is not there": Bad(
        Forgery(manifest=more_in_entry(b'"hardlink_to":"Nowhere"')),
        "malformed-document",
        32,
        f"{SECOND}/manifest.jsonl",
        "which the manifest does not list",
    ),
    "manifest: a hard link to other bytes": Bad(
        Forgery(manifest=more_in_entry(b'"hardlink_to":"a.txt"', b"empty")),
        "malformed-document",
        32,
        f"{SECOND}/manifest.jsonl",
        "other content than a.txt",
    ),
    "manifest: a hard link to a folder": Bad(
        Forgery(manifest=more_in_entry(b'"hardlink_to":"logs"', b"logs.txt")),
        "malformed-document",
        32,
        f"{SECOND}/manifest.jsonl",
        "another kind",
    ),
}


def recounted(found: list[bytes]) -> list[bytes]:
    """With a footer that agrees with the entries, one file of one byte more."""
    footer = json.loads(found[-1])
    footer["counts"]["file"] += 1
    footer["bytes"] += 1
    return [*found[:-1], json.dumps(footer, separators=(",", ":")).encode()]


# --- Receipts that the vault's key has signed --------------------------------------------------------------------------------

READABLE_FORMS: Final[dict[str, Change]] = {
    "a byte order mark": lambda data: b"\xef\xbb\xbf" + data,
    "CRLF": lambda data: data.replace(b"\n", b"\r\n"),
    "tabs": lambda data: data.replace(b"  ", b"\t"),
    "one line": lambda data: data.replace(b"\n", b"").replace(b"  ", b""),
    "no newline at the end": lambda data: data[:-1],
    "a newline too many": lambda data: data + b"\n",
    "nothing": lambda data: b"",
    "half of it": lambda data: data[: len(data) // 2],
    "twice": lambda data: data * 2,
    "an unknown field": with_field("more", "x"),
    "a key twice": lambda data: data.replace(b'  "case": ', b'  "case": "x",\n  "case": ', 1),
    "keys in another order": lambda data: readable(dict(reversed(msgspec.json.decode(data).items()))),
    "a null for a text": with_field("vault_id", None),
    "a digest in capitals": with_field("manifest_sha256", HEX.upper()),
    "a digest of 31 bytes": with_field("manifest_sha256", HEX[:62]),
    "a deep nest": lambda data: b"[" * 100_000 + b"]" * 100_000,
    "another format": lambda data: data.replace(b"/1", b"/2", 1),
    "NaN": lambda data: data.replace(b'"acquisition": 2', b'"acquisition": NaN'),
    "a float": lambda data: data.replace(b'"acquisition": 2', b'"acquisition": 2.0'),
    "a number of a thousand digits": lambda data: data.replace(b'"acquisition": 2', b'"acquisition": ' + b"9" * 1000),
    "acquisition 0": with_field("acquisition", 0),
    "a control character": with_field("vault_id", "\x1b[2J"),
}
RECEIPT_FORMS: Final[dict[str, Change]] = READABLE_FORMS | {
    "seconds as a number": with_field("transfer.seconds", 1),
    "a negative count": with_field("stored.written.files", -1),
    "a count of 2 to the 53": with_field("stored.written.files", 2**53),
    "a time that does not exist": with_field("finished", "2023-02-30T00:00:00.000000Z"),
    "an unknown reach": with_field("lookup", "everywhere"),
    "a bidirectional character": with_field("received_from", "a\u202eb"),
    "no receipt before it": with_field("previous_receipt_sha256", None),
    "no points": with_field("points", {}),
}
ROWS |= {
    f"receipt: {name}": Bad(Forgery(receipt=change), "malformed-document", 32, f"{SECOND}/receipt.json")
    for name, change in RECEIPT_FORMS.items()
}
CLAIMS: Final[dict[str, tuple[str, object]]] = {
    "of another acquisition": ("acquisition", 3),
    "of another case": ("case", "2026/118"),
    "of another item": ("item", "3-b"),
    "of another vault": ("vault_id", "0" * 32),
    "of another session": ("session", "0" * 32),
    "of another vault's key": ("vault_key", "SHA256:" + "A" * 43),
    "after another receipt": ("previous_receipt_sha256", HEX),
    "another place in the chain": ("acquired_sequence", 1),
    "more files at the source": ("points.source.files", 10),
    "more bytes at the source": ("points.source.bytes", 10**9),
    "fewer files on arrival": ("points.arrival.files", 8),
    "nothing on arrival": ("points.arrival.taken", False),
    "more files from the disk": ("points.disk.files", 10),
    "fewer bytes from the disk": ("points.disk.bytes", 1),
    "more files stored": ("stored.written.files", 10),
    "bytes stored twice": ("stored.copied.bytes", 1),
    "all in the lists of sums": ("not_in_sums.blake3sums", 0),
    "more left out of the lists": ("not_in_sums.sha256sums", 1),
}
ROWS |= {
    f"receipt: {name}": Bad(Forgery(receipt=with_field(*claim)), "receipt-mismatch", 32, f"{SECOND}/receipt.json")
    for name, claim in CLAIMS.items()
}
NAMED: Final = {
    "manifest_sha256": "manifest.jsonl",
    "manifest_signature_sha256": "manifest.jsonl.sig",
    "sha256sums_sha256": "SHA256SUMS",
    "blake3sums_sha256": "BLAKE3SUMS",
    "chunks_sha256": "chunks.bin",
    "acquired_sha256": "acquired.json",
}
ROWS |= {
    f"receipt: another {field}": Bad(Forgery(receipt=with_field(field, HEX)), "document-damaged", 30, f"{SECOND}/{name}")
    for field, name in NAMED.items()
}

# --- Records that their own keys have signed -------------------------------------------------------------------------------------

RECORD_FORMS: Final[dict[str, Change]] = READABLE_FORMS | {
    "a type that there is not": with_field("type", "lost"),
    "a detail that is no text": with_field("details", {"a": 1}),
    "a detail of a megabyte": with_field("details", {"a": "x" * 1_000_000}),
    "a hundred thousand details": with_field("details", {str(number): "" for number in range(60_000)}),
    "a control character in a detail": with_field("details", {"a": "\x1b"}),
    "a time that does not exist": with_field("time", "2023-02-30T00:00:00.000000Z"),
    "no case": with_field("case", None),
    "no manifest": lambda data: data.replace(b'"manifest_sha256"', b'"receipt_sha257"'),
}
ROWS |= {
    f"acquired: {name}": Bad(Forgery(acquired=change), "malformed-document", 32, f"{CUSTODY}/0003-acquired.json")
    for name, change in RECORD_FORMS.items()
}
ROWS |= {
    f"received: {name}": Bad(Forgery(received=change), "malformed-document", 32, f"{CUSTODY}/0004-received.json")
    for name, change in RECORD_FORMS.items()
}
BREAKS: Final[dict[str, tuple[str, object]]] = {
    "another number": ("sequence", 4),
    "the number of the one before": ("sequence", 2),
    "another record before it": ("previous_sha256", HEX),
    "of another vault": ("vault_id", "0" * 32),
    "of another case": ("case", "2026/118"),
    "of another item": ("item", "3-b"),
    "of an acquisition that was there": ("acquisition", 1),
    "of an acquisition to come": ("acquisition", 3),
    "of another type": ("type", "noted"),
}
ROWS |= {
    f"acquired: {name}": Bad(Forgery(acquired=with_field(*change)), "chain-broken", 34, f"{CUSTODY}/0003-acquired.json")
    for name, change in BREAKS.items()
    if name != "of another type"
}
ROWS |= {
    "acquired: of another type": Bad(
        Forgery(acquired=with_field("type", "noted")), "chain-broken", 34, f"{CUSTODY}/0003-acquired.json"
    ),
    "acquired: a second beginning": Bad(
        Forgery(acquired=lambda data: with_field("previous_sha256", None)(with_field("sequence", 1)(data))),
        "chain-broken",
        34,
        f"{CUSTODY}/0003-acquired.json",
    ),
    "received: another manifest": Bad(
        Forgery(received=with_field("manifest_sha256", HEX)), "chain-broken", 34, f"{CUSTODY}/0004-received.json"
    ),
    "received: another acquisition": Bad(
        Forgery(received=with_field("acquisition", 1)), "chain-broken", 34, f"{CUSTODY}/0004-received.json"
    ),
    "received: another receipt": Bad(
        Forgery(received=with_field("receipt_sha256", HEX)), "document-damaged", 30, f"{SECOND}/receipt.json"
    ),
    "acquired: another manifest": Bad(
        Forgery(acquired=with_field("manifest_sha256", HEX)), "document-damaged", 34, f"{SECOND}/manifest.jsonl"
    ),
    "acquired: signed by the vault": Bad(Forgery(acquired_by_vault=True), "wrong-signer", 32, f"{CUSTODY}/0003-acquired.json"),
    "received: signed by the examiner": Bad(Forgery(received_by_examiner=True), "wrong-signer", 32, f"{CUSTODY}/0004-received.json"),
    "acquired: an actor who did not sign": Bad(
        Forgery(acquired=with_field("actor.key", "SHA256:" + "A" * 43)), "wrong-signer", 32, f"{CUSTODY}/0003-acquired.json"
    ),
    "acquired: by another principal": Bad(
        Forgery(acquired=with_field("actor.principal", "eve")), "untrusted-signer", 32, f"{CUSTODY}/0003-acquired.json"
    ),
    "a note signed by the vault": Bad(
        lambda made: append_record(made, "noted", made.open().signer), "wrong-signer", 32, f"{CUSTODY}/0005-noted.json"
    ),
    "a note signed by a stranger": Bad(
        lambda made: append_record(made, "noted", new_signer()), "untrusted-signer", 32, f"{CUSTODY}/0005-noted.json"
    ),
    "a note on an acquisition to come": Bad(
        lambda made: append_record(made, "noted", made.examiner, acquisition=3), "chain-broken", 34, f"{CUSTODY}/0005-noted.json"
    ),
    "a record of the vault's among an item's": Bad(
        lambda made: append_record(made, "trust-changed", made.open().signer, case=None, item=None),
        "chain-broken",
        34,
        f"{CUSTODY}/0005-trust-changed.json",
    ),
    "a received without its acquired": Bad(
        lambda made: append_record(
            made, "received", made.open().signer, acquisition=2, manifest_sha256=HEX, receipt_sha256=HEX
        ),
        "chain-broken",
        34,
        f"{CUSTODY}/0005-received.json",
    ),
    "an acquired that was never published": Bad(
        lambda made: append_record(made, "acquired", made.examiner, acquisition=3, manifest_sha256=HEX),
        "missing-acquisition",
        31,
        f"{ITEM}/acquisitions/0003",
    ),
}

# --- Files ---------------------------------------------------------------------------------------------------------------------


def spoil(place: str, change: Change) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        data = (made.path / place).read_bytes()
        changed = change(data)
        assert changed != data
        edit(made.path / place, changed)

    return do


def cut(count: int | None) -> Change:
    return lambda data: data[:-count] if count is not None else data[: len(data) // 2]


TAILS: Final[dict[str, tuple[str, int]]] = {
    f"{SECOND}/manifest.jsonl": ("malformed-document", 32),
    f"{SECOND}/manifest.jsonl.sig": ("bad-signature", 32),
    f"{SECOND}/receipt.json": ("malformed-document", 32),
    f"{SECOND}/receipt.json.sig": ("bad-signature", 32),
    f"{SECOND}/SHA256SUMS": ("sums-differ", 30),
    f"{SECOND}/BLAKE3SUMS": ("sums-differ", 30),
    f"{SECOND}/chunks.bin": ("document-damaged", 30),
    f"{SECOND}/acquired.json": ("record-differs", 34),
    f"{SECOND}/received.json.sig": ("bad-signature", 32),
    f"{CUSTODY}/0004-received.json": ("malformed-document", 32),
    f"{CUSTODY}/0004-received.json.sig": ("bad-signature", 32),
    f"{SECOND}/data/image.bin": ("file-truncated", 30),
    "custody/0001-made.json": ("malformed-document", 32),
    "custody/0001-made.json.sig": ("bad-signature", 32),
}
ROWS |= {
    f"cut off by {'half' if count is None else count}: {place}": Bad(spoil(place, cut(count)), slug, code, place)
    for place, (slug, code) in TAILS.items()
    for count in (1, None)
}


def remove(*places: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        for place in places:
            for file in (made.path / place).parent.glob((made.path / place).name):
                shutil.rmtree(file) if file.is_dir() else file.unlink()

    return do


def exchange(one: str, other: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        first, second, aside = made.path / one, made.path / other, made.path.parent / "aside"
        first.rename(aside)
        second.rename(first)
        aside.rename(second)

    return do


def copy(one: str, other: str) -> Callable[[Made], object]:
    def do(made: Made) -> None:
        if (made.path / one).is_dir():
            shutil.copytree(made.path / one, made.path / other, symlinks=True)
        else:
            (made.path / other).unlink(missing_ok=True)
            shutil.copy2(made.path / one, made.path / other)

    return do


def same_size_and_time(made: Made) -> None:
    file = made.acquisition(2) / "data" / "logs" / "day 1.log"
    before = file.stat()
    edit(file, b"enil\n" * 1000)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def other_namespace(name: str, namespace: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        signer = made.examiner if name in ("manifest.jsonl", "acquired.json") else made.open().signer
        data = (made.acquisition(2) / name).read_bytes()
        edit(made.acquisition(2) / f"{name}.sig", sign_document(signer, namespace, sha512(data).digest()))

    return do


def from_elsewhere(*names: str) -> Callable[[Made], None]:
    """Documents of another item of the same vault, genuine and well signed."""

    def do(made: Made) -> None:
        acquirer = Acquirer(made.open(), made.examiner, item_name("2026/117", "4"))
        acquirer.acquire({b"x": b"x"})
        acquirer.acquire({b"x": b"y"})
        other = made.path / "cases" / "2026-117-2db29d5b" / "4"
        for name in names:
            edit(made.item / name, (other / name).read_bytes())

    return do


def from_another_vault(*names: str) -> Callable[[Made], None]:
    """Documents of an item of the same name in another vault, with the same examiner."""

    def do(made: Made) -> None:
        acquirer = Acquirer(new_vault(made.path.parent / "other", made.examiner), made.examiner)
        acquirer.acquire({b"x": b"x"})
        acquirer.acquire({b"x": b"y"})
        for name in names:
            edit(made.item / name, (made.path.parent / "other" / ITEM / name).read_bytes())

    return do


def pair(name: str) -> tuple[str, str]:
    return name, f"{name}.sig"


ROWS |= {
    "a record removed": Bad(remove(f"{CUSTODY}/0002-*"), "missing-record", 34, CUSTODY),
    "the first record removed": Bad(remove(f"{CUSTODY}/0001-*"), "missing-record", 34, CUSTODY),
    "two records removed": Bad(remove(f"{CUSTODY}/000[23]-*"), "missing-record", 34, CUSTODY),
    "records reordered": Bad(
        exchange(f"{CUSTODY}/0002-received.json", f"{CUSTODY}/0004-received.json"), "chain-broken", 34, f"{CUSTODY}/0002-received.json"
    ),
    "a record twice": Bad(copy(f"{CUSTODY}/0002-received.json", f"{CUSTODY}/0003-received.json"), "chain-broken", 34, CUSTODY),
    "a record under another number": Bad(
        copy(f"{CUSTODY}/0001-acquired.json", f"{CUSTODY}/0003-acquired.json"), "chain-broken", 34, f"{CUSTODY}/0003-acquired.json"
    ),
    "a record of another item": Bad(
        from_elsewhere(*pair("custody/0003-acquired.json")), "chain-broken", 34, f"{CUSTODY}/0003-acquired.json"
    ),
    "a first record of another vault": Bad(
        from_another_vault(*pair("custody/0001-acquired.json")), "chain-broken", 34, f"{CUSTODY}/0001-acquired.json"
    ),
    "a last record of another vault": Bad(
        from_another_vault(*pair("custody/0004-received.json")), "chain-broken", 34, f"{CUSTODY}/0004-received.json"
    ),
    "a manifest of another item": Bad(
        from_elsewhere(*pair("acquisitions/0002/manifest.jsonl")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
    "a manifest of another vault": Bad(
        from_another_vault(*pair("acquisitions/0002/manifest.jsonl")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
    "a manifest of another acquisition": Bad(
        lambda made: [edit(made.acquisition(2) / name, (made.acquisition(1) / name).read_bytes()) for name in pair("manifest.jsonl")],
        "wrong-place",
        32,
        f"{SECOND}/manifest.jsonl",
    ),
    "a receipt of another item": Bad(
        from_elsewhere(*pair("acquisitions/0002/receipt.json")), "receipt-mismatch", 32, f"{SECOND}/receipt.json"
    ),
    "a receipt of another vault": Bad(
        from_another_vault(*pair("acquisitions/0002/receipt.json")), "wrong-signer", 32, f"{SECOND}/receipt.json.sig"
    ),
    "a receipt of another acquisition": Bad(
        lambda made: [edit(made.acquisition(2) / name, (made.acquisition(1) / name).read_bytes()) for name in pair("receipt.json")],
        "receipt-mismatch",
        32,
        f"{SECOND}/receipt.json",
    ),
    "two files in each other's places": Bad(
        exchange(f"{SECOND}/data/logs.txt", f"{SECOND}/data/logs/day 1.log"), "file-extended", 30, f"{SECOND}/data/logs.txt"
    ),
    "a file of another acquisition": Bad(
        copy(f"{FIRST}/data/a.txt", f"{SECOND}/data/a.txt"), "file-truncated", 30, f"{SECOND}/data/a.txt"
    ),
    "other bytes of the same size and time": Bad(same_size_and_time, "file-damaged", 30, f"{SECOND}/data/logs/day 1.log"),
    "an acquisition too many": Bad(
        copy(SECOND, f"{ITEM}/acquisitions/0003"), "not-in-chain", 34, f"{ITEM}/acquisitions/0003"
    ),
    "an acquisition far away": Bad(copy(SECOND, f"{ITEM}/acquisitions/0009"), "not-in-chain", 34, f"{ITEM}/acquisitions/0009"),
    "a gap in the numbers": Bad(
        lambda made: made.acquisition(2).rename(made.acquisition(3)),
        "missing-acquisition",
        34,
        f"{ITEM}/acquisitions/0002",
    ),
    "the first acquisition removed": Bad(remove(FIRST), "missing-acquisition", 31, FIRST),
    "acquisitions in each other's places": Bad(exchange(FIRST, SECOND), "wrong-place", 34, f"{SECOND}/manifest.jsonl"),
    "an acquisition without records": Bad(
        remove(f"{CUSTODY}/000[34]-*", f"{SECOND}/acquired.json*"), "not-in-chain", 34, SECOND
    ),
    "an acquisition of another number's name": Bad(
        copy(SECOND, f"{ITEM}/acquisitions/2"), "extra-entry", 31, f"{ITEM}/acquisitions/2"
    ),
    "an acquisition numbered 0": Bad(copy(SECOND, f"{ITEM}/acquisitions/0000"), "extra-entry", 31, f"{ITEM}/acquisitions/0000"),
    "a case that is a file": Bad(lambda made: (made.path / "cases" / "x").write_bytes(b""), "extra-entry", 31, "cases/x"),
}
ROWS |= {
    f"{name} signed as {namespace}": Bad(
        other_namespace(name, f"{namespace}@evidencesync"), "bad-signature", 32, f"{SECOND}/{name}.sig"
    )
    for name, right in (("manifest.jsonl", "manifest"), ("receipt.json", "receipt"), ("acquired.json", "custody"))
    for namespace in ("manifest", "receipt", "custody", "session")
    if namespace != right
}


def fifo(place: Path) -> None:
    os.mkfifo(place)


def socket(place: Path) -> None:
    os.mknod(place, stat.S_IFSOCK | 0o644)  # bind(2) takes short paths only


def device(place: Path) -> None:
    os.mknod(place, stat.S_IFCHR | 0o600, os.makedev(1, 5))


def link(place: Path) -> None:
    place.symlink_to("/dev/zero")


KINDS: Final[dict[str, Callable[[Path], None]]] = {"a FIFO": fifo, "a socket": socket, "a link": link, "a folder": Path.mkdir}
if os.geteuid() == 0:  # nobody else can make one
    KINDS["a device"] = device


def instead(place: str, make: Callable[[Path], None]) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        remove(place)(made)
        make(made.path / place)

    return do


DOCUMENTS: Final = ("manifest.jsonl", "manifest.jsonl.sig", "receipt.json", "SHA256SUMS", "chunks.bin", "acquired.json")
ROWS |= {
    f"{kind} among the files": Bad(
        instead(f"{SECOND}/data/logs/new", make), "wrong-type" if kind != "a folder" else "extra-entry", 31, f"{SECOND}/data/logs/new"
    )
    for kind, make in KINDS.items()
}
ROWS |= {
    f"{kind} for a file": Bad(instead(f"{SECOND}/data/a.txt", make), "wrong-type", 31, f"{SECOND}/data/a.txt")
    for kind, make in KINDS.items()
}
ROWS |= {
    f"{kind} for {name}": Bad(instead(f"{SECOND}/{name}", make), "wrong-type", 31, f"{SECOND}/{name}")
    for kind, make in KINDS.items()
    for name in DOCUMENTS
}
ROWS |= {
    f"{kind} for a record": Bad(
        instead(f"{CUSTODY}/0002-received.json", make), "wrong-type", 31, f"{CUSTODY}/0002-received.json"
    )
    for kind, make in KINDS.items()
}
ROWS |= {
    f"a file for the folder {place}": Bad(
        instead(place, lambda file: void(file.write_bytes(b""))), "wrong-type", code, place
    )
    for place, code in (
        (f"{SECOND}/data", 31),
        (f"{SECOND}/data/logs", 31),
        (f"{ITEM}/acquisitions", 31),
        (SECOND, 31),
        ("custody", 32),
    )
}


def void(_: object) -> None:
    return None


@pytest.mark.parametrize("name", ROWS)
def test_each_bad_vault_is_found_for_what_it_is(made: Made, name: str) -> None:  # noqa: F811
    row = ROWS[name]
    row.do(made)
    verdict = made.audit()
    found = {(one.slug, one.path): one.message for one in verdict.findings if one.severity == "error"}
    assert row.says in found.get((row.slug, row.place), "nothing of the kind was found there"), sorted(found, key=str)
    assert (verdict.verdict, verdict.exit_code) == ("fail", row.code), sorted(found, key=str)


def test_the_forger_itself_leaves_no_trace(made: Made) -> None:  # noqa: F811
    """Else the table would show nothing: what is found is the change, and not that something was signed anew."""
    Forgery()(made)
    assert made.audit().findings == []
    append_record(made, "noted", made.examiner)
    assert made.audit().findings == []


MODES: Final = {f"mode {mode:04o}": mode for mode in (0o644, 0o464, 0o446, 0o544, 0o4444, 0o2444, 0o1444, 0o777)}


@pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
@pytest.mark.parametrize("place", ["data/a.txt", "manifest.jsonl", "receipt.json.sig", "chunks.bin", "SHA256SUMS", "acquired.json"])
def test_modes_that_let_evidence_be_changed_or_run_are_warnings(made: Made, mode: int, place: str) -> None:  # noqa: F811
    (made.acquisition(2) / place).chmod(mode)
    verdict = made.audit()
    assert verdict.verdict == "pass"
    assert {(one.slug, one.path, one.severity) for one in verdict.findings} == {("unsafe-mode", f"{SECOND}/{place}", "warning")}
