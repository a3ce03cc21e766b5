"""Documents that are none, or say what is not so, signed with the right keys after the change: no signature gives them away."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Final

import msgspec
import pytest

from tests.support.forger import Change, Forgery, append_record, readable, with_field
from tests.unit.vault.acquiring import new_signer
from tests.unit.verify.sample import ITEM, Made
from tests.unit.verify.vectors import CUSTODY, HEX, SECOND, Bad

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
    f"manifest: {name}": Bad(Forgery(manifest=change), "malformed-document", 32, f"{SECOND}/manifest.jsonl", SAYS.get(name, ""))
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
    "manifest: for another vault": Bad(
        Forgery(manifest=other_digest(b"vault_id")), "wrong-place", 32, f"{SECOND}/manifest.jsonl"
    ),
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
    "what the disk gave back, which was not asked": ("points.disk.taken", False),
    "no digests from the disk, which was asked": ("points.disk.digests", []),
    "nothing at the source, which the manifest says was digested": ("points.source.taken", False),
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

# --- Records that their own keys have signed ----------------------------------------------------------------------

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
    "received: signed by the examiner": Bad(
        Forgery(received_by_examiner=True), "wrong-signer", 32, f"{CUSTODY}/0004-received.json"
    ),
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
        lambda made: append_record(made, "received", made.open().signer, acquisition=2, manifest_sha256=HEX, receipt_sha256=HEX),
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


@pytest.mark.parametrize("name", ROWS)
def test_each_forgery_is_found_for_what_it_is(made: Made, name: str) -> None:
    ROWS[name].check(made)


def test_the_forger_itself_leaves_no_trace(made: Made) -> None:
    """Else the table would show nothing: what is found is the change, and not that something was signed anew."""
    Forgery()(made)
    assert made.audit().findings == []
    append_record(made, "noted", made.examiner)
    assert made.audit().findings == []
