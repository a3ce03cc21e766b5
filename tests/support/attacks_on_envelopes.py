"""Odd signatures: in their bytes, their fields, the numbers of each kind of key, and the text that carries them."""

from __future__ import annotations

import base64
import random
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from evidencesync.custody.wire import WireReader, write_mpint, write_string, write_uint32
from tests.support.signature_attacks import (
    BEGIN,
    DOCUMENT,
    END,
    NAMESPACE,
    Attack,
    Envelope,
    armor,
    from_trusted,
    line_of,
    spoil,
    way,
)
from tests.support.signing_keys import SoftKey, ed25519_key, rsa_signer, token_key

_ORDERS: Final = {  # of the curves' groups, by size in bits
    "nistp256": 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    "nistp384": 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    "nistp521": (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}
_ED25519_ORDER: Final = 2**252 + 27742317777372353535851937790883648493


# --- Bytes ---------------------------------------------------------------------------------------------------------------


@way
def _nothing_changed(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(key, armor(Envelope(key).envelope()))


@way
def _bytes_of_the_envelope(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(key, armor(spoil(source, Envelope(key).envelope())))


@way
def _bytes_of_the_key(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(key, armor(Envelope(key, public=spoil(source, key.blob)).envelope()))


@way
def _bytes_of_the_signature(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(key, armor(Envelope(key, blob=lambda blob: spoil(source, blob)).envelope()))


@way
def _bytes_of_the_text(source: random.Random, key: SoftKey) -> Attack:
    armored = armor(Envelope(key).envelope())
    if source.randrange(2):
        return from_trusted(key, spoil(source, armored))
    at = source.randrange(len(armored))
    return from_trusted(
        key, armored[:at] + source.choice((b"\n", b" ", b"\t", b"\r", b"=", b"A", b"\0", b"-", b"\xff")) + armored[at:]
    )


# --- The envelope --------------------------------------------------------------------------------------------------------


@way
def _lengths_of_fields(source: random.Random, key: SoftKey) -> Attack:
    """A length in front of some field, at any depth, that is a little or very wrong."""
    blob = bytearray(Envelope(key).envelope())
    places = _length_places(bytes(blob))
    at = source.choice(places)
    length = int.from_bytes(blob[at : at + 4], "big")
    wrong = source.choice((length + 1, length - 1, 0, 0xFFFFFFFF, 0x80000000, length + 4, length << 8)) % 2**32
    blob[at : at + 4] = wrong.to_bytes(4, "big")
    return from_trusted(key, armor(bytes(blob)))


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


@way
def _versions(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(key, armor(Envelope(key, version=source.choice((0, 2, 3, 256, 0x01000000, 2**32 - 1))).envelope()))


@way
def _magic(source: random.Random, key: SoftKey) -> Attack:
    magic = source.choice((b"SSHSIH", b"sshsig", b"SSHSIG\0", b"", b"\0SSHSI"))
    signed = {"magic": magic} if source.randrange(2) else {}
    return from_trusted(key, armor(Envelope(key, magic=magic, signed=signed).envelope()))


@way
def _reserved_fields(source: random.Random, key: SoftKey) -> Attack:
    reserved = source.choice((b"x", b"\0", b"reserved" * 20))
    signed = source.choice(({}, {"reserved": b""}))
    return from_trusted(key, armor(Envelope(key, reserved=reserved, signed=signed).envelope()))


@way
def _digests(source: random.Random, key: SoftKey) -> Attack:
    named = source.choice((b"sha256", b"sha512", b"sha384", b"sha1", b"md5", b"SHA512", b"sha512\0", b"sha-512", b"", b"sha512 "))
    signed = source.choice(({}, {"hash": b"sha256"}, {"hash": b"sha512"}))
    return from_trusted(key, armor(Envelope(key, hash=named, signed=signed).envelope()))


@way
def _namespaces(source: random.Random, key: SoftKey) -> Attack:
    """Signed for one namespace, said to be for another, asked for in a third; each may be the right one."""
    choices = (
        "receipt@evidencesync",
        NAMESPACE + "\0",
        NAMESPACE.upper(),
        NAMESPACE[:-1],
        NAMESPACE + " ",
        "",
        "file",
        NAMESPACE,
    )
    named, signed = source.choice(choices), source.choice((None, *choices))
    asked = source.choice((NAMESPACE, NAMESPACE, "receipt@evidencesync", "file"))
    envelope = Envelope(key, namespace=named.encode(), signed={} if signed is None else {"namespace": signed.encode()})
    return from_trusted(key, armor(envelope.envelope()), namespace=asked)


@way
def _trailing_bytes(source: random.Random, key: SoftKey) -> Attack:
    more = source.choice((b"\0", b"\0\0\0\0", b"x", write_string(b""), write_string(b"more")))
    match source.randrange(3):
        case 0:
            return from_trusted(key, armor(Envelope(key, after=more).envelope()))
        case 1:
            return from_trusted(key, armor(Envelope(key, public=key.blob + more).envelope()))
        case _:
            return from_trusted(key, armor(Envelope(key, blob=lambda blob: blob + more).envelope()))


@way
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
        return from_trusted(key, armor(Envelope(key, public=grow(key.blob)).envelope()))
    return from_trusted(key, armor(Envelope(key, blob=grow).envelope()))


def _strings(blob: bytes) -> list[bytes]:
    reader, found = WireReader(blob), []
    left = len(blob)
    while left:
        found.append(reader.string())
        left -= 4 + len(found[-1])
    return found


# --- What each kind of key has of its own -----------------------------------------------------------------------------------


@way
def _numbers_of_the_signature(source: random.Random, key: SoftKey) -> Attack:
    """Other spellings of the same numbers, and other numbers that mean the same."""
    return from_trusted(key, armor(Envelope(key, blob=lambda blob: _renumber(source, key, blob)).envelope()))


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


@way
def _numbers_of_the_key(source: random.Random, key: SoftKey) -> Attack:
    fields = _strings(key.blob)
    at = source.randrange(1, len(fields))
    raw = fields[at]
    fields[at] = source.choice((b"\0" + raw, b"\0\0" + raw, raw[1:], raw[:-1], b"", bytes(len(raw)), b"\xff" * len(raw)))
    return from_trusted(key, armor(Envelope(key, public=b"".join(map(write_string, fields))).envelope()))


@way
def _algorithms(source: random.Random, key: SoftKey) -> Attack:
    """The signature, or the key, names another algorithm."""
    name = source.choice(
        (
            b"ssh-ed25519",
            b"sk-ssh-ed25519@openssh.com",
            b"rsa-sha2-256",
            b"rsa-sha2-512",
            b"ssh-rsa",
            b"ssh-dss",
            b"",
            b"ecdsa-sha2-nistp256",
            b"ecdsa-sha2-nistp384",
            b"ssh-ed25519-cert-v01@openssh.com",
            b"rsa-sha2-512\0",
            b"RSA-SHA2-512",
        )
    )

    def rename(blob: bytes) -> bytes:
        length = int.from_bytes(blob[:4], "big")
        return write_string(name) + blob[4 + length :]

    if source.randrange(3) == 0:
        return from_trusted(key, armor(Envelope(key, public=rename(key.blob)).envelope()))
    return from_trusted(key, armor(Envelope(key, blob=rename).envelope()))


@way
def _touches_and_counters(source: random.Random, key: SoftKey) -> Attack:
    """A token that signs with other flags and counters (for whatever key: the token takes its place)."""
    flags, counter = source.choice((0, 0, 1, 2, 4, 5, 0x40, 0x41, 0x81, 0xFE, 0xFF)), source.choice((0, 1, 7, 2**31, 2**32 - 1))
    application = source.choice((b"ssh:", b"ssh:", b"ssh:lab", b"ssh", b"", b"ssh:\0", b"a" * 300, "ssh:ä".encode()))
    token = token_key(flags, counter, application)
    lie = source.choice(
        (b"", b"", bytes([flags ^ 1]) + write_uint32(counter), bytes([flags]) + write_uint32((counter + 1) % 2**32))
    )
    blob = (lambda made: made[:-5] + lie) if lie else None
    return from_trusted(token, armor(Envelope(token, blob=blob).envelope()))


@way
def _another_signer(source: random.Random, key: SoftKey) -> Attack:
    other = ed25519_key(9)
    signed_by, shown, trusted = source.choice(((other, key, key), (key, other, key), (key, key, other), (other, other, key)))
    envelope = Envelope(signed_by, public=shown.blob)
    return from_trusted(key, armor(envelope.envelope()), trusted=line_of(trusted) + b"\n")


@way
def _another_document(source: random.Random, key: SoftKey) -> Attack:
    document = source.choice((DOCUMENT[:-1], DOCUMENT + b"\n", b"", DOCUMENT.replace(b"\n", b"\r\n"), DOCUMENT * 2))
    return from_trusted(key, armor(Envelope(key, document=document).envelope()))


@way
def _old_digests_of_rsa(source: random.Random, key: SoftKey) -> Attack:
    """SHA-1, or a name that is not what was signed with; with the RSA key of this run (whatever key it is the turn of)."""
    private = _rsa_of_this_run()
    used, named = (
        source.choice(("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")),
        source.choice(("ssh-rsa", "rsa-sha2-256", "rsa-sha2-512")),
    )
    rsa_key = rsa_signer(private, used)
    blob = Envelope(rsa_key, blob=lambda made: write_string(named.encode()) + made[4 + len(used) :])
    return from_trusted(rsa_key, armor(blob.envelope()))


@cache
def _rsa_of_this_run() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=3072)


# --- The text ------------------------------------------------------------------------------------------------------------


@way
def _line_lengths(source: random.Random, key: SoftKey) -> Attack:
    return from_trusted(
        key, armor(Envelope(key).envelope(), columns=source.choice((1, 4, 60, 63, 64, 69, 71, 72, 76, 77, 100, 10_000)))
    )


@way
def _ends_of_lines(source: random.Random, key: SoftKey) -> Attack:
    blob = Envelope(key).envelope()
    good = armor(blob)
    return from_trusted(
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
                good.replace(BEGIN, BEGIN + b"\n"),
                good.replace(BEGIN, BEGIN[:-1]),
            )
        ),
    )


@way
def _before_and_after(source: random.Random, key: SoftKey) -> Attack:
    good = armor(Envelope(key).envelope())
    other = armor(Envelope(ed25519_key(9)).envelope())
    return from_trusted(
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
                good[: -len(END)] + good[len(BEGIN) :],
                BEGIN + good,
                good + END,
                good.replace(b"SIGNATURE", b"signature"),
                good.replace(b"-----BEGIN", b"----BEGIN"),
                good.replace(b"END SSH SIGNATURE-----", b"END SSH SIGNATURE----"),
                good.replace(b"END SSH SIGNATURE", b"END SSH SIGNATUR"),
                good.replace(b"SSH SIGNATURE", b"PGP SIGNATURE"),
                good[len(BEGIN) :],
                good[: -len(END)],
                b"",
            )
        ),
    )


@way
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
    return from_trusted(key, BEGIN + lines + END)
