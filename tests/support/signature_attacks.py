"""Signatures and lists of signers that are wrong, or odd, in one known way: what two judges are asked about.

Every way is tried on every kind of key. Many are signed anew after the change, so that nothing but the change is wrong.
"""

from __future__ import annotations

import base64
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from evidencesync.custody.wire import WireReader, write_mpint, write_string, write_uint32
from tests.support.signing_keys import SoftKey, ed25519_key, rsa_signer, token_key

NAMESPACE: Final = "manifest@evidencesync"
PRINCIPAL: Final = "ana@lab"
DOCUMENT: Final = b'{"format":"evidencesync-manifest/1"}\n'
AT: Final = 1_717_200_000  # 2024-06-01 00:00:00 UTC
_BEGIN: Final = b"-----BEGIN SSH SIGNATURE-----\n"
_END: Final = b"-----END SSH SIGNATURE-----\n"
_ORDERS: Final = {  # of the curves' groups, by size in bits
    "nistp256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "nistp384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "nistp521": (1 << 521)
    - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


@dataclass(frozen=True)
class Attack:
    """What both judges get. `way` says in which way it is odd."""

    way: str
    kind: str
    signature: bytes
    trusted: bytes
    revoked: bytes = b""
    namespace: str = NAMESPACE
    principal: str = PRINCIPAL
    at: int = AT


@dataclass(frozen=True)
class Envelope:
    """All parts of a signature, each to be changed alone. `signed_*` is what the key signs, where that is something else."""

    key: SoftKey
    magic: bytes = b"SSHSIG"
    version: int = 1
    public: bytes = b""
    namespace: bytes = NAMESPACE.encode()
    reserved: bytes = b""
    hash: bytes = b"sha512"
    after: bytes = b""
    signed: dict[str, bytes] = field(default_factory=dict)
    document: bytes = DOCUMENT
    blob: Callable[[bytes], bytes] | None = None  # changes the finished signature blob

    def data(self) -> bytes:
        """The bytes that the key signs."""
        name = self.signed.get("hash", self.hash)
        known = name.decode("ascii", "replace").lower()
        digest = hashlib.new(known if known in ("sha256", "sha384", "sha1", "md5") else "sha512", self.document).digest()
        parts = (self.signed.get("namespace", self.namespace), self.signed.get("reserved", self.reserved), name, digest)
        return self.signed.get("magic", b"SSHSIG") + b"".join(map(write_string, parts))

    def envelope(self) -> bytes:
        """The blob that is armored."""
        signature = self.key.sign(self.data())
        if self.blob is not None:
            signature = self.blob(signature)
        fields = (self.public or self.key.blob, self.namespace, self.reserved, self.hash, signature)
        return self.magic + write_uint32(self.version) + b"".join(map(write_string, fields)) + self.after


def armor(blob: bytes, columns: int = 70, end: bytes = b"\n") -> bytes:
    """The text form, with lines of any length."""
    text = base64.b64encode(blob)
    lines = b"".join(text[at : at + columns] + end for at in range(0, len(text), columns))
    return _BEGIN.replace(b"\n", end) + lines + _END.replace(b"\n", end)


def line_of(key: SoftKey, principals: str = PRINCIPAL, options: str = "") -> bytes:
    """A line of allowed_signers, without its end."""
    return f"{principals} {options}{key.algorithm} {base64.b64encode(key.blob).decode()}".encode()


Way = Callable[[random.Random, SoftKey], Attack]
WAYS: dict[str, Way] = {}


def _way(make: Way) -> Way:
    WAYS[make.__name__.lstrip("_").replace("_", " ")] = make
    return make


def _signed(key: SoftKey, armored: bytes, **more: object) -> Attack:
    attack = Attack("", key.kind, armored, line_of(key) + b"\n")
    return replace(attack, **more)  # type: ignore[arg-type]


def attack(number: int, seed: int, keys: list[SoftKey]) -> Attack:
    """The attack of this number: all ways in turn, and for each of them all keys."""
    names = list(WAYS)
    name = names[number % len(names)]
    key = keys[number // len(names) % len(keys)]
    return replace(WAYS[name](random.Random(seed * 1_000_003 + number), key), way=name)


# --- Bytes ---------------------------------------------------------------------------------------------------------------


def _spoil(source: random.Random, data: bytes) -> bytes:
    at = source.randrange(len(data))
    match source.randrange(6):
        case 0:
            return data[:at] + bytes([data[at] ^ 1 << source.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at] + bytes([source.choice((0, 1, 0x7F, 0x80, 0xFF))]) + data[at + 1 :]
        case 2:
            return data[:at] + data[at + source.randrange(1, 9) :]
        case 3:
            return data[:at] + source.randbytes(source.randrange(1, 9)) + data[at:]
        case 4:
            other = source.randrange(len(data))
            return data[:at] + data[other : other + 8] + data[at + 8 :]
        case _:
            return data[:at]


@_way
def _nothing_changed(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(Envelope(key).envelope()))


@_way
def _bytes_of_the_envelope(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(_spoil(source, Envelope(key).envelope())))


@_way
def _bytes_of_the_key(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(Envelope(key, public=_spoil(source, key.blob)).envelope()))


@_way
def _bytes_of_the_signature(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(Envelope(key, blob=lambda blob: _spoil(source, blob)).envelope()))


@_way
def _bytes_of_the_text(source: random.Random, key: SoftKey) -> Attack:
    armored = armor(Envelope(key).envelope())
    if source.randrange(2):
        return _signed(key, _spoil(source, armored))
    at = source.randrange(len(armored))
    return _signed(key, armored[:at] + source.choice((b"\n", b" ", b"\t", b"\r", b"=", b"A", b"\0", b"-", b"\xff")) + armored[at:])


@_way
def _bytes_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    options = source.choice(("", f'namespaces="{NAMESPACE}" ', 'valid-after="20240101Z",valid-before="20250101Z" '))
    line = line_of(key, options=options) + b" a comment\n"
    where = source.randrange(3)
    if where:  # the front of the line, where there is something to misread
        front = len(line) - len(base64.b64encode(key.blob)) - 12
        return _signed(key, armor(Envelope(key).envelope()), trusted=_spoil(source, line[:front]) + line[front:])
    return _signed(key, armor(Envelope(key).envelope()), trusted=_spoil(source, line))


# --- The envelope --------------------------------------------------------------------------------------------------------


@_way
def _lengths_of_fields(source: random.Random, key: SoftKey) -> Attack:
    """A length in front of some field, at any depth, that is a little or very wrong."""
    blob = bytearray(Envelope(key).envelope())
    places = _length_places(bytes(blob))
    at = source.choice(places)
    length = int.from_bytes(blob[at : at + 4], "big")
    wrong = source.choice((length + 1, length - 1, 0, 0xFFFFFFFF, 0x80000000, length + 4, length << 8)) % 2**32
    blob[at : at + 4] = wrong.to_bytes(4, "big")
    return _signed(key, armor(bytes(blob)))


def _length_places(blob: bytes) -> list[int]:
    """Where lengths stand: of the five fields, and of the strings within key and signature."""
    places, at = [], 10
    for number in range(5):
        length = int.from_bytes(blob[at : at + 4], "big")
        places.append(at)
        if number in (0, 4):
            inner = at + 4
            while inner + 4 <= at + 4 + length - (5 if number == 4 and b"sk-ssh" in blob[:40] else 0):
                places.append(inner)
                inner += 4 + int.from_bytes(blob[inner : inner + 4], "big")
        at += 4 + length
    return places


@_way
def _versions(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(Envelope(key, version=source.choice((0, 2, 3, 256, 0x01000000, 2**32 - 1))).envelope()))


@_way
def _magic(source: random.Random, key: SoftKey) -> Attack:
    magic = source.choice((b"SSHSIH", b"sshsig", b"SSHSIG\0", b"", b"\0SSHSI"))
    signed = {"magic": magic} if source.randrange(2) else {}
    return _signed(key, armor(Envelope(key, magic=magic, signed=signed).envelope()))


@_way
def _reserved_fields(source: random.Random, key: SoftKey) -> Attack:
    reserved = source.choice((b"x", b"\0", b"reserved" * 20))
    signed = source.choice(({}, {"reserved": b""}))
    return _signed(key, armor(Envelope(key, reserved=reserved, signed=signed).envelope()))


@_way
def _digests(source: random.Random, key: SoftKey) -> Attack:
    named = source.choice((b"sha256", b"sha512", b"sha384", b"sha1", b"md5", b"SHA512", b"sha512\0", b"sha-512", b"", b"sha512 "))
    signed = source.choice(({}, {"hash": b"sha256"}, {"hash": b"sha512"}))
    return _signed(key, armor(Envelope(key, hash=named, signed=signed).envelope()))


@_way
def _namespaces(source: random.Random, key: SoftKey) -> Attack:
    """Signed for one namespace, said to be for another, asked for in a third; each may be the right one."""
    choices = ("receipt@evidencesync", NAMESPACE + "\0", NAMESPACE.upper(), NAMESPACE[:-1], NAMESPACE + " ", "", "file", NAMESPACE)
    named, signed = source.choice(choices), source.choice((None, *choices))
    asked = source.choice((NAMESPACE, NAMESPACE, "receipt@evidencesync", "file"))
    envelope = Envelope(key, namespace=named.encode(), signed={} if signed is None else {"namespace": signed.encode()})
    return _signed(key, armor(envelope.envelope()), namespace=asked)


@_way
def _trailing_bytes(source: random.Random, key: SoftKey) -> Attack:
    more = source.choice((b"\0", b"\0\0\0\0", b"x", write_string(b""), write_string(b"more")))
    match source.randrange(3):
        case 0:
            return _signed(key, armor(Envelope(key, after=more).envelope()))
        case 1:
            return _signed(key, armor(Envelope(key, public=key.blob + more).envelope()))
        case _:
            return _signed(key, armor(Envelope(key, blob=lambda blob: blob + more).envelope()))


@_way
def _trailing_bytes_in_strings(source: random.Random, key: SoftKey) -> Attack:
    """One string inside of key or signature gets longer, and its length says so."""
    more = source.choice((b"\0", b"x", b"\0" * 8))

    def grow(blob: bytes) -> bytes:
        head, tail = (blob, b"") if not key.tail or blob == key.blob else (blob[: -len(key.tail)], blob[-len(key.tail) :])
        fields = _strings(head)
        at = source.randrange(len(fields))
        fields[at] = more + fields[at] if source.randrange(3) == 0 else fields[at] + more
        return b"".join(map(write_string, fields)) + tail

    if source.randrange(2):
        return _signed(key, armor(Envelope(key, public=grow(key.blob)).envelope()))
    return _signed(key, armor(Envelope(key, blob=grow).envelope()))


def _strings(blob: bytes) -> list[bytes]:
    reader, found = WireReader(blob), []
    left = len(blob)
    while left:
        found.append(reader.string())
        left -= 4 + len(found[-1])
    return found


# --- What each kind of key has of its own -----------------------------------------------------------------------------------


@_way
def _numbers_of_the_signature(source: random.Random, key: SoftKey) -> Attack:
    """Other spellings of the same numbers, and other numbers that mean the same."""
    return _signed(key, armor(Envelope(key, blob=lambda blob: _renumber(source, key, blob)).envelope()))


def _renumber(source: random.Random, key: SoftKey, blob: bytes) -> bytes:
    fields = _strings(blob[: len(blob) - len(key.tail)])
    if key.kind in _ORDERS:
        numbers, order = WireReader(fields[1]), _ORDERS[key.kind]
        r, s = numbers.mpint(), numbers.mpint()
        wide = write_string(b"\0" * source.randrange(1, 4) + s.to_bytes(67, "big"))
        negative = write_string(s.to_bytes((s.bit_length() + 7) // 8, "big"))
        fields[1] = source.choice(
            (
                write_mpint(r) + write_mpint(order - s),  # the other root: as good as the first
                write_mpint(r) + wide,
                write_mpint(r) + negative,
                write_mpint(r + order) + write_mpint(s),
                write_mpint(r) + write_mpint(s + order),
                write_mpint(0) + write_mpint(s),
                write_mpint(s) + write_mpint(r),
                write_mpint(r) + write_mpint(s) + write_mpint(1),
                write_mpint(r),
            )
        )
    elif "ed25519" in key.kind:
        number = int.from_bytes(fields[1][32:], "little") + _ED25519_ORDER * source.randrange(1, 15)
        fields[1] = fields[1][:32] + (number % 2**256).to_bytes(32, "little")
    else:
        raw = fields[1]
        fields[1] = source.choice((b"\0" + raw, raw.lstrip(b"\0"), raw[:-1], raw + b"\0", bytes(len(raw)), b"", raw[::-1]))
        if fields[1] == raw:
            fields[1] = raw[1:]
    return b"".join(map(write_string, fields)) + key.tail


@_way
def _numbers_of_the_key(source: random.Random, key: SoftKey) -> Attack:
    fields = _strings(key.blob)
    at = source.randrange(1, len(fields))
    raw = fields[at]
    fields[at] = source.choice((b"\0" + raw, b"\0\0" + raw, raw[1:], raw[:-1], b"", bytes(len(raw)), b"\xff" * len(raw)))
    return _signed(key, armor(Envelope(key, public=b"".join(map(write_string, fields))).envelope()))


@_way
def _algorithms(source: random.Random, key: SoftKey) -> Attack:
    """The signature, or the key, names another algorithm."""
    name = source.choice(
        (b"ssh-ed25519", b"sk-ssh-ed25519@openssh.com", b"rsa-sha2-256", b"rsa-sha2-512", b"ssh-rsa", b"ssh-dss", b"")
        + (b"ecdsa-sha2-nistp256", b"ecdsa-sha2-nistp384", b"ssh-ed25519-cert-v01@openssh.com", b"rsa-sha2-512\0", b"RSA-SHA2-512")
    )

    def rename(blob: bytes) -> bytes:
        length = int.from_bytes(blob[:4], "big")
        return write_string(name) + blob[4 + length :]

    if source.randrange(3) == 0:
        return _signed(key, armor(Envelope(key, public=rename(key.blob)).envelope()))
    return _signed(key, armor(Envelope(key, blob=rename).envelope()))


@_way
def _touches_and_counters(source: random.Random, key: SoftKey) -> Attack:
    """A token that signs with other flags and counters (for whatever key: the token takes its place)."""
    flags, counter = source.choice((0, 0, 1, 2, 4, 5, 0x40, 0x41, 0x81, 0xFE, 0xFF)), source.choice((0, 1, 7, 2**31, 2**32 - 1))
    application = source.choice((b"ssh:", b"ssh:", b"ssh:lab", b"ssh", b"", b"ssh:\0", b"a" * 300, "ssh:ä".encode()))
    token = token_key(flags, counter, application)
    lie = source.choice((b"", b"", bytes([flags ^ 1]) + write_uint32(counter), bytes([flags]) + write_uint32((counter + 1) % 2**32)))
    blob = (lambda made: made[:-5] + lie) if lie else None
    return _signed(token, armor(Envelope(token, blob=blob).envelope()))


@_way
def _another_signer(source: random.Random, key: SoftKey) -> Attack:
    other = ed25519_key(9)
    signed_by, shown, trusted = source.choice(((other, key, key), (key, other, key), (key, key, other), (other, other, key)))
    envelope = Envelope(signed_by, public=shown.blob)
    return _signed(key, armor(envelope.envelope()), trusted=line_of(trusted) + b"\n")


@_way
def _another_document(source: random.Random, key: SoftKey) -> Attack:
    document = source.choice((DOCUMENT[:-1], DOCUMENT + b"\n", b"", DOCUMENT.replace(b"\n", b"\r\n"), DOCUMENT * 2))
    return _signed(key, armor(Envelope(key, document=document).envelope()))


@_way
def _old_digests_of_rsa(source: random.Random, key: SoftKey) -> Attack:
    """SHA-1, or a name that is not what was signed with; with the RSA key of this run (whatever key it is the turn of)."""
    private = _rsa_of_this_run()
    used, named = source.choice(("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")), source.choice(("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512"))
    rsa_key = rsa_signer(private, used)
    blob = Envelope(rsa_key, blob=lambda made: write_string(named.encode()) + made[4 + len(used) :])
    return _signed(rsa_key, armor(blob.envelope()))


@cache
def _rsa_of_this_run() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


# --- The text ------------------------------------------------------------------------------------------------------------


@_way
def _line_lengths(source: random.Random, key: SoftKey) -> Attack:
    return _signed(key, armor(Envelope(key).envelope(), columns=source.choice((1, 4, 60, 63, 64, 69, 71, 72, 76, 77, 100, 10_000))))


@_way
def _ends_of_lines(source: random.Random, key: SoftKey) -> Attack:
    blob = Envelope(key).envelope()
    good = armor(blob)
    return _signed(
        key,
        source.choice(
            (
                armor(blob, end=b"\r\n"),
                armor(blob, end=b"\r"),
                armor(blob, end=b" \n"),
                armor(blob, end=b"\t\n"),
                armor(blob, end=b"\n\n"),
                good.replace(b"\n", b"\r\n", 1),
                good[:-1],
                good[:-1] + b"\r\n",
                good.replace(b"\n", b" \n", source.randrange(1, 6)),
                good.replace(b"\n", b"\n ", source.randrange(1, 6)),
                good.replace(b"\n-----END", b"-----END"),
                good.replace(b"\n-----END", b"\n\n-----END"),
                good.replace(_BEGIN, _BEGIN + b"\n"),
                good.replace(_BEGIN, _BEGIN[:-1]),
            )
        ),
    )


@_way
def _before_and_after(source: random.Random, key: SoftKey) -> Attack:
    good = armor(Envelope(key).envelope())
    other = armor(Envelope(ed25519_key(9)).envelope())
    return _signed(
        key,
        source.choice(
            (
                b"\xef\xbb\xbf" + good,
                b"\n" + good,
                b" " + good,
                b"text\n" + good,
                good + b"\n",
                good + b"text\n",
                good + b"\0",
                good + good,
                good + other,
                other + good,
                good[: -len(_END)] + good[len(_BEGIN) :],
                _BEGIN + good,
                good + _END,
                good.replace(b"SIGNATURE", b"signature"),
                good.replace(b"-----BEGIN", b"----BEGIN"),
                good.replace(b"END SSH SIGNATURE-----", b"END SSH SIGNATURE----"),
                good.replace(b"END SSH SIGNATURE", b"END SSH SIGNATUR"),
                good.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
                good[len(_BEGIN) :],
                good[: -len(_END)],
                b"",
            )
        ),
    )


@_way
def _base64(source: random.Random, key: SoftKey) -> Attack:
    """Other spellings of the same bytes: padding left out, doubled or early, stray bits, the other alphabet."""
    after = b"\0" * source.randrange(3)
    blob = Envelope(key, after=after).envelope() if source.randrange(4) == 0 else Envelope(key).envelope()
    text = base64.b64encode(blob)
    bare = text.rstrip(b"=")
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    stray = bare[:-1] + bytes([alphabet[alphabet.index(bare[-1:]) ^ 1]]) + text[len(bare) :]
    middle = len(text) // 2
    spelled = source.choice(
        (
            bare,
            text + b"=",
            text + b"==",
            text + b"AAAA",
            text + b"=AAA",
            stray,
            text[:middle] + b"=" + text[middle:],
            text[:middle] + b"==\n" + text[middle:],
            text.replace(b"+", b"-").replace(b"/", b"_"),
            text[:middle] + b"\v" + text[middle:],
            text[:middle] + b"!" + text[middle:],
            text.swapcase(),
        )
    )
    lines = b"".join(spelled[at : at + 70] + b"\n" for at in range(0, len(spelled), 70))
    return _signed(key, _BEGIN + lines + _END)


# --- Who is trusted -------------------------------------------------------------------------------------------------------


@_way
def _times(source: random.Random, key: SoftKey) -> Attack:
    times = ("20240601", "20240601000000", "20240531235959", "20240601000001", "202406010000", "202405312359", "19700101", "19700102")
    times += ("20240230", "20241301", "2024", "20240601240000", "20240601006000", "20240601000060", "2024060100", "99991231", "")
    zones = ("Z", "Z", "Z", "Z", "", "z", "ZZ", " Z")
    made = [f'{name}="{source.choice(times)}{source.choice(zones)}"' for name in ("valid-after", "valid-before")]
    options = source.choice((made[0], made[1], ",".join(made), ",".join(reversed(made)), f"{made[0]},{made[0]}"))
    at = AT + source.choice((0, 0, -1, 1, 86_400, -86_400))
    return _signed(key, armor(Envelope(key).envelope()), trusted=line_of(key, options=options + " ") + b"\n", at=at)


@_way
def _namespaces_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    patterns = (NAMESPACE, "*", "*@evidencesync", "receipt@evidencesync", "manifest@*", "?anifest@evidencesync", "!manifest@*", "!file")
    patterns += ("", ",", NAMESPACE.upper(), "manifest", " " + NAMESPACE, NAMESPACE + " ", "a" * 1100)
    chosen = ",".join(source.choice(patterns) for _ in range(source.randrange(1, 4)))
    spelled = source.choice(
        (f'namespaces="{chosen}"',) * 6
        + (f"namespaces={chosen}", f"namespaces='{chosen}'", f'Namespaces="{chosen}"', f'namespaces ="{chosen}"', f'namespaces="{chosen}')
        + (f'namespaces="{chosen}",', f',namespaces="{chosen}"', f'namespaces="{chosen}",namespaces="*"', f'namespaces="{chosen}"x')
    )
    return _signed(key, armor(Envelope(key).envelope()), trusted=line_of(key, options=spelled + " ") + b"\n")


@_way
def _principals(source: random.Random, key: SoftKey) -> Attack:
    patterns = (PRINCIPAL, "*", "*@lab", "ben", "!ana@lab", "!ben", "ANA@LAB", "an?@lab", "ana@lab ", '"ana@lab"', "'ana@lab'", "")
    patterns += ('"ana@lab', 'ana@lab"', "ana\\@lab", "#ana@lab", "ana", "a" * 1100, '"ana@lab,ben"', '"ana" @lab', "\u00e4na@lab")
    chosen = ",".join(source.choice(patterns) for _ in range(source.choice((1, 1, 2, 3))))
    asked = source.choice((PRINCIPAL, PRINCIPAL, PRINCIPAL, "ben", "ANA@LAB", "*", "ana@lab,ben", "!ana@lab", '"ana@lab"', "ana"))
    return _signed(key, armor(Envelope(key).envelope()), trusted=line_of(key, chosen) + b"\n", principal=asked)


@_way
def _lines_of_the_list(source: random.Random, key: SoftKey) -> Attack:
    good = line_of(key)
    other = line_of(ed25519_key(9), "ben")
    text = base64.b64encode(key.blob)
    choices = (
        good,
        b"\xef\xbb\xbf" + good,
        b" \t" + good,
        good + b"\r\n",
        good.replace(b" ", b"\t"),
        good.replace(b" ", b"  "),
        good + b" a comment # with more",
        b"# comment\n\n \n" + good,
        b"\r\n" + good,
        b"#\r\n" + good,
        b" # comment\n" + good,
        b"\f\n" + good,
        b"\v" + good,
        b"garbage\n" + good,
        good + b"\ngarbage\n",
        other + b"\n" + good,
        good + b"\n" + good,
        other + b"\n",
        good.replace(b" ", b" cert-authority ", 1),
        good.replace(b" ", b" no-such-option ", 1),
        good.replace(b" ", b" no-such-option,namespaces=\"*\" ", 1),
        good.replace(text, text + b"="),
        good.replace(text, text + b"A"),
        good.replace(text, text[:20] + b" " + text[20:]),
        good.replace(text, text + b"!"),
        good.replace(text, text + b"\r"),
        good.replace(text, base64.b64encode(key.blob + b"\0")),
        good.replace(text, base64.b64encode(key.blob[:-1])),
        good.replace(text, text.rstrip(b"=") or text),
        good.replace(key.algorithm.encode(), b"ssh-ed25519"),
        good.replace(key.algorithm.encode(), key.algorithm.upper().encode()),
        good.replace(key.algorithm.encode() + b" ", b""),
        good.replace(b"ana@lab ", b""),
        good + b"\0",
        b"\0\n" + good,
        b"",
        b"\n",
        good + b"\xff",
        b"\xff\n" + good,
        b"ana@lab\n" + good,
        good.replace(b" ", b"\x0b", 1),
        good.replace(b" ", b"=", 1),
        good.replace(b" ", b"\n", 1),
        good + b" \x1b[2J",
    )
    end = source.choice((b"\n", b"\n", b"", b"\r\n", b"\n\n"))
    return _signed(key, armor(Envelope(key).envelope()), trusted=source.choice(choices) + end)


@_way
def _revocations(source: random.Random, key: SoftKey) -> Attack:
    algorithm, text = key.algorithm.encode(), base64.b64encode(key.blob)
    good, other = algorithm + b" " + text, b" ".join(line_of(ed25519_key(9)).split()[1:])
    choices = (b"", good, other, other + b"\n" + good, b"# " + good, b" " + good, good + b" a comment", good + b"\r", b"\r\n" + good)
    choices += (b"garbage\n" + good, b"garbage", text, good.replace(b" ", b"\t"), b'"' + good, good[:-6], b"key: " + good, b"\xff")
    choices += (good.replace(algorithm, b"ssh-dss"), b"SSHKRL\n\0", b"serial: 1", b"\f" + good, b"ana@lab " + good, b"x=\"y\" " + good)
    digest = base64.b64encode(hashlib.sha256(key.blob).digest()).rstrip(b"=")
    choices += (b"sha256: SHA256:" + digest, b"SHA256:" + digest, b"# c\n\n \n" + good, good + b"\0")
    return _signed(key, armor(Envelope(key).envelope()), revoked=source.choice(choices) + source.choice((b"\n", b"", b"\r\n")))
