"""Signatures: what real ssh-keygen writes is read, what we write it accepts, and what it refuses we refuse."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.publickey import SK_ED25519, InvalidPublicKeyError, PublicKey, pad_rsa_signature
from evidencesync.custody.sshsig import (
    decode_armor,
    encode_armor,
    encode_signature,
    sign_document,
    signing_input,
    verify_signature,
)
from evidencesync.custody.wire import WireError, WireReader, write_mpint, write_string, write_uint32
from evidencesync.errors import SignatureError, SigningKeyError
from evidencesync.ssh.keys import KeySigner

NAMESPACE = "manifest@evidencesync"
DOCUMENT = b'{"format":"evidencesync-manifest/1"}\n'
SHA512 = hashlib.sha512(DOCUMENT).digest()
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "nistp256": ["-t", "ecdsa", "-b", "256"],
    "nistp384": ["-t", "ecdsa", "-b", "384"],
    "nistp521": ["-t", "ecdsa", "-b", "521"],
    "rsa": ["-t", "rsa", "-b", "3072"],
}


class Made(NamedTuple):
    key: Path
    public: PublicKey
    armored: bytes


def sign_with_keygen(key: Path, document: bytes, namespace: str, *options: str) -> bytes:
    done = subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-f", str(key), "-n", namespace, *options], input=document, capture_output=True, check=True
    )
    return done.stdout


def keygen_accepts(folder: Path, public: PublicKey | str, armored: bytes, namespace: str = NAMESPACE) -> bool:
    line = public if isinstance(public, str) else public.line()
    (folder / "trusted").write_text(f"ana@lab {line}\n")
    (folder / "judged.sig").write_bytes(armored)
    command = ["ssh-keygen", "-Y", "verify", "-f", "trusted", "-I", "ana@lab", "-n", namespace, "-s", "judged.sig"]
    return subprocess.run(command, input=DOCUMENT, capture_output=True, cwd=folder, check=False).returncode == 0


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> dict[str, Made]:
    require_program("ssh-keygen")
    folder = tmp_path_factory.mktemp("keys")
    found = {}
    for kind, options in KINDS.items():
        key = folder / kind
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-C", "ana", "-f", str(key), *options], check=True)
        public = PublicKey.from_line(key.with_suffix(".pub").read_bytes())
        found[kind] = Made(key, public, sign_with_keygen(key, DOCUMENT, NAMESPACE))
    return found


class Token:
    """A FIDO token in software: Ed25519 with an application string, flags and a counter (PROTOCOL.u2f)."""

    def __init__(self, application: bytes = b"ssh:", flags: int = 1) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
        self._application = application
        self._flags = flags
        raw = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        self.blob = write_string(SK_ED25519.encode()) + write_string(raw) + write_string(application)

    @property
    def public_key(self) -> PublicKey:
        return PublicKey.from_blob(self.blob)

    def sign(self, data: bytes) -> bytes:
        tail = bytes([self._flags]) + write_uint32(7)
        signed = hashlib.sha256(self._application).digest() + tail + hashlib.sha256(data).digest()
        return write_string(SK_ED25519.encode()) + write_string(self._private.sign(signed)) + tail


@pytest.mark.parametrize("kind", KINDS)
def test_reads_what_ssh_keygen_signs(made: dict[str, Made], kind: str) -> None:
    assert verify_signature(made[kind].armored, NAMESPACE, SHA512) == made[kind].public


@pytest.mark.parametrize("kind", KINDS)
def test_ssh_keygen_accepts_what_we_sign(made: dict[str, Made], kind: str, tmp_path: Path) -> None:
    signer = KeySigner.from_bytes(made[kind].key.read_bytes())
    armored = sign_document(signer, NAMESPACE, SHA512)
    assert keygen_accepts(tmp_path, signer.public_key, armored)
    assert not keygen_accepts(tmp_path, signer.public_key, armored, "receipt@evidencesync")


@pytest.mark.parametrize("kind", ["ed25519", "rsa"])
def test_our_signature_is_byte_for_byte_that_of_ssh_keygen(made: dict[str, Made], kind: str) -> None:
    signer = KeySigner.from_bytes(made[kind].key.read_bytes())
    assert sign_document(signer, NAMESPACE, SHA512) == made[kind].armored


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprint_and_line_are_those_of_ssh_keygen(made: dict[str, Made], kind: str) -> None:
    path = made[kind].key.with_suffix(".pub")
    shown = subprocess.run(["ssh-keygen", "-l", "-f", str(path)], capture_output=True, text=True, check=True).stdout
    assert made[kind].public.fingerprint == shown.split()[1]
    assert made[kind].public.line("ana") + "\n" == path.read_text()


def test_a_fido_signature_is_accepted_as_ssh_keygen_does(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    require_program("ssh-keygen")
    token = Token()
    armored = sign_document(token, NAMESPACE, SHA512)
    assert verify_signature(armored, NAMESPACE, SHA512) == token.public_key
    assert keygen_accepts(tmp_path, token.public_key, armored)


def test_a_fido_signature_without_a_touch_is_refused() -> None:
    token = Token(flags=0)
    armored = encode_signature(token.public_key, NAMESPACE, token.sign(signing_input(NAMESPACE, SHA512)))
    with pytest.raises(SignatureError, match="touch"):
        verify_signature(armored, NAMESPACE, SHA512)


def test_fido_keys_of_two_applications_are_two_keys() -> None:
    assert Token(b"ssh:").public_key != Token(b"ssh:other").public_key
    with pytest.raises(InvalidPublicKeyError):
        PublicKey.from_blob(Token(b"ssh:\0").blob)
    with pytest.raises(InvalidPublicKeyError):
        PublicKey.from_blob(Token(b"").blob)


@pytest.mark.parametrize("options", [["-Ohashalg=sha256"]])
def test_a_signature_over_sha256_is_refused(made: dict[str, Made], options: list[str]) -> None:
    armored = sign_with_keygen(made["ed25519"].key, DOCUMENT, NAMESPACE, *options)
    with pytest.raises(SignatureError, match="sha512"):
        verify_signature(armored, NAMESPACE, SHA512)


def test_another_namespace_or_document_is_refused(made: dict[str, Made]) -> None:
    armored = made["ed25519"].armored
    with pytest.raises(SignatureError, match="namespace"):
        verify_signature(armored, "receipt@evidencesync", SHA512)
    with pytest.raises(SignatureError, match="fit"):
        verify_signature(armored, NAMESPACE, hashlib.sha512(b"").digest())
    with pytest.raises(SignatureError):
        verify_signature(armored, NAMESPACE, SHA512[:32])
    with pytest.raises(SignatureError):
        verify_signature(armored, "", SHA512)


def test_small_rsa_keys_and_other_kinds_are_refused(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    require_program("ssh-keygen")
    for kind, options in {"small": ["-t", "rsa", "-b", "2048"], "dsa": ["-t", "dsa"]}.items():
        key = tmp_path / kind
        done = subprocess.run(["ssh-keygen", "-q", "-N", "", "-f", str(key), *options], capture_output=True, check=False)
        if done.returncode != 0 and kind == "dsa":
            continue  # newer OpenSSH has forgotten DSA
        with pytest.raises(InvalidPublicKeyError):
            PublicKey.from_line(key.with_suffix(".pub").read_bytes())


def test_a_certificate_is_no_signing_key(made: dict[str, Made], tmp_path: Path) -> None:
    public = tmp_path / "ana.pub"
    public.write_text(made["ed25519"].public.line())
    authority = made["nistp256"].key
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "id", "-n", "ana", str(public)], check=True)
    with pytest.raises(InvalidPublicKeyError):
        PublicKey.from_line((tmp_path / "ana-cert.pub").read_bytes())


def test_rsa_with_sha256_is_accepted_and_sha1_is_refused(made: dict[str, Made], tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    private = serialization.load_ssh_private_key(made["rsa"].key.read_bytes(), None)
    assert isinstance(private, rsa.RSAPrivateKey)
    public, data = made["rsa"].public, signing_input(NAMESPACE, SHA512)
    good = write_string(b"rsa-sha2-256") + write_string(private.sign(data, padding.PKCS1v15(), hashes.SHA256()))
    weak = write_string(b"ssh-rsa") + write_string(private.sign(data, padding.PKCS1v15(), hashes.SHA1()))
    assert verify_signature(encode_signature(public, NAMESPACE, good), NAMESPACE, SHA512) == public
    assert keygen_accepts(tmp_path, public, encode_signature(public, NAMESPACE, good))
    with pytest.raises(SignatureError, match="SHA-1"):
        verify_signature(encode_signature(public, NAMESPACE, weak), NAMESPACE, SHA512)


def test_an_agents_short_rsa_number_is_padded(made: dict[str, Made]) -> None:
    public = made["rsa"].public
    short = write_string(b"rsa-sha2-512") + write_string(b"\x01" * 383)
    reader = WireReader(pad_rsa_signature(public, short))
    assert reader.string() == b"rsa-sha2-512"
    assert reader.string() == b"\0" + b"\x01" * 383
    assert pad_rsa_signature(made["ed25519"].public, short) == short


def test_a_signer_that_returns_nonsense_is_not_believed(made: dict[str, Made]) -> None:
    class Broken:
        public_key = made["ed25519"].public

        def sign(self, data: bytes) -> bytes:
            return write_string(b"ssh-ed25519") + write_string(bytes(64))

    with pytest.raises(SigningKeyError):
        sign_document(Broken(), NAMESPACE, SHA512)


# --- The envelope ------------------------------------------------------------------------------------------------------


def refused_forms(armored: bytes) -> dict[str, bytes]:
    blob = decode_armor(armored)
    text = base64.b64encode(blob)
    begin, end = b"-----BEGIN SSH SIGNATURE-----\n", b"-----END SSH SIGNATURE-----\n"
    return {
        "empty": b"",
        "no newline at the end": armored[:-1],
        "text before": b"\n" + armored,
        "text after": armored + b"\n",
        "two signatures": armored + armored,
        "windows lines": armored.replace(b"\n", b"\r\n"),
        "one long line": begin + text + b"\n" + end,
        "64 columns": begin + b"".join(text[i : i + 64] + b"\n" for i in range(0, len(text), 64)) + end,
        "foreign character": armored.replace(b"\nU1N", b"\n!U1N", 1),
        "space in a line": armored.replace(b"U1N", b"U1N ", 1),
        "empty line": armored.replace(b"-----\nU1", b"-----\n\nU1", 1),
        "bytes after the envelope": encode_armor(blob + b"\0"),
        "cut envelope": encode_armor(blob[:-1]),
        "version 0": encode_armor(blob[:6] + write_uint32(0) + blob[10:]),
        "version 2": encode_armor(blob[:6] + write_uint32(2) + blob[10:]),
        "other magic": encode_armor(b"SSHSIH" + blob[6:]),
        "nothing in the armor": begin + end,
        "empty blob": encode_armor(b""),
        "absurdly long": begin + b"A" * 100_000 + b"\n" + end,
    }


def test_every_other_form_of_the_envelope_is_refused(made: dict[str, Made]) -> None:
    forms = refused_forms(made["ed25519"].armored)
    assert len(forms) == 19
    for name, form in forms.items():
        with pytest.raises(SignatureError) as caught:
            verify_signature(form, NAMESPACE, SHA512)
        assert caught.value.message, name


@pytest.mark.parametrize("size", [1, 51, 52, 53, 104, 105, 106, 210])
def test_armor_is_the_one_form_at_every_line_length(size: int) -> None:
    blob = bytes(range(size % 251)) * (size // (size % 251))
    armored = encode_armor(blob)
    assert decode_armor(armored) == blob
    assert b"\n\n" not in armored
    assert max(map(len, armored.split(b"\n"))) <= 70


def rebuilt(made: Made, **changed: bytes) -> bytes:
    """The signature with some fields of its envelope replaced."""
    reader = WireReader(decode_armor(made.armored)[10:])
    fields = {name: reader.string() for name in ("key", "namespace", "reserved", "hash", "signature")}
    fields.update(changed)
    return encode_armor(b"SSHSIG" + write_uint32(1) + b"".join(map(write_string, fields.values())))


def test_fields_of_the_envelope_are_exact(made: dict[str, Made]) -> None:
    one = made["ed25519"]
    assert rebuilt(one) == one.armored
    for changed in (
        {"reserved": b"x"},
        {"hash": b"sha256"},
        {"hash": b"SHA512"},
        {"namespace": NAMESPACE.encode() + b"\0"},
        {"namespace": b"\xff"},
        {"namespace": b""},
        {"key": made["nistp256"].public.blob},
        {"key": one.public.blob + b"\0"},
        {"signature": b""},
        {"signature": write_string(b"ssh-ed25519") + write_string(bytes(63))},
        {"signature": write_string(b"ssh-ed25519") + write_string(bytes(64)) + b"\0"},
    ):
        with pytest.raises(SignatureError):
            verify_signature(rebuilt(one, **changed), NAMESPACE, SHA512)


def test_ecdsa_numbers_have_one_form(made: dict[str, Made]) -> None:
    one = made["nistp256"]
    outer = WireReader(decode_armor(one.armored)[10:])
    for _ in range(4):
        outer.string()
    signature = WireReader(outer.string())
    name, numbers = signature.string(), WireReader(signature.string())
    r, s = numbers.mpint(), numbers.mpint()

    def with_numbers(raw: bytes) -> bytes:
        return rebuilt(one, signature=write_string(name) + write_string(raw))

    assert verify_signature(with_numbers(write_mpint(r) + write_mpint(s)), NAMESPACE, SHA512) == one.public
    wide = write_string(b"\0" * 3 + r.to_bytes(33, "big"))
    for raw in (wide + write_mpint(s), write_mpint(0) + write_mpint(s), write_mpint(r) + write_mpint(s + 2**256), b""):
        with pytest.raises(SignatureError):
            verify_signature(with_numbers(raw), NAMESPACE, SHA512)


# --- Public keys -------------------------------------------------------------------------------------------------------


def test_weak_ed25519_points_are_refused() -> None:
    """The eight points of small order, and encodings above the prime: found here by arithmetic, not copied."""
    prime = 2**255 - 19
    d = -121665 * pow(121666, -1, prime) % prime

    def doubled_y(y: int) -> int:  # y of 2P from y of P, on -x² + y² = 1 + dx²y²
        x2 = (y * y - 1) * pow(d * y * y + 1, -1, prime) % prime
        return (y * y + x2) * pow(2 + x2 - y * y, -1, prime) % prime

    from evidencesync.custody import publickey

    weak = publickey._WEAK_Y
    assert len(weak) == 5
    for y in weak:
        assert doubled_y(doubled_y(doubled_y(y))) == 1
    for y in [*weak, prime, prime + 1]:
        for sign in (0, 1 << 255):
            raw = (y | sign).to_bytes(32, "little")
            with pytest.raises(InvalidPublicKeyError):
                PublicKey.from_blob(write_string(b"ssh-ed25519") + write_string(raw))


def test_impossible_rsa_and_ecdsa_keys_are_refused(made: dict[str, Made]) -> None:
    reader = WireReader(made["rsa"].public.blob)
    reader.string()
    exponent, modulus = reader.mpint(), reader.mpint()

    def rsa_blob(e: bytes, n: bytes) -> bytes:
        return write_string(b"ssh-rsa") + e + n

    wide = write_string(b"\0" * 2 + modulus.to_bytes(384, "big"))
    point = made["nistp256"].public.blob[-65:]
    ec_head = write_string(b"ecdsa-sha2-nistp256") + write_string(b"nistp256")
    for blob in (
        rsa_blob(write_mpint(1), write_mpint(modulus)),
        rsa_blob(write_mpint(4), write_mpint(modulus)),
        rsa_blob(write_mpint(2**65 + 1), write_mpint(modulus)),
        rsa_blob(write_mpint(exponent), write_mpint(modulus - 1)),
        rsa_blob(write_mpint(exponent), write_mpint(modulus << 16384 | 1)),
        rsa_blob(write_mpint(exponent), wide),
        rsa_blob(write_string(b"\xff"), write_mpint(modulus)),
        ec_head + write_string(point[:-1]),
        ec_head + write_string(point[:-1] + bytes([point[-1] ^ 1])),
        ec_head + write_string(b"\x02" + point[1:33]),
        ec_head + write_string(b"\0"),
        write_string(b"ecdsa-sha2-nistp256") + write_string(b"nistp384") + write_string(point),
        b"",
        write_string(b"ssh-ed25519"),
    ):
        with pytest.raises(InvalidPublicKeyError):
            PublicKey.from_blob(blob)


@given(st.binary(max_size=200))
def test_any_bytes_as_a_key_or_signature_raise_our_errors_only(data: bytes) -> None:
    with pytest.raises(SignatureError):
        PublicKey.from_blob(data)
    with pytest.raises(SignatureError):
        PublicKey.from_line(data)
    for armored in (data, encode_armor(data), encode_armor(b"SSHSIG" + write_uint32(1) + data)):
        with pytest.raises(SignatureError):
            verify_signature(armored, NAMESPACE, SHA512)


@given(st.integers(min_value=0, max_value=2**200), st.binary(max_size=40), st.integers(min_value=0, max_value=2**32 - 1))
def test_wire_fields_come_back(number: int, data: bytes, small: int) -> None:
    reader = WireReader(write_mpint(number) + write_string(data) + write_uint32(small))
    assert (reader.mpint(), reader.string(), reader.uint32()) == (number, data, small)
    reader.end()
    with pytest.raises(WireError):
        reader.byte()
