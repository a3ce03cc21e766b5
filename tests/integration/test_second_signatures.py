"""Nobody can make a second good signature of a good one: not with ECDSA either, where OpenSSH's own takes the other form."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from evidencesync.custody.documents import CUSTODY_NAMESPACE, MANIFEST_NAMESPACE
from evidencesync.custody.publickey import PublicKey, has_low_s
from evidencesync.custody.record import SIGNATURE_FORM
from evidencesync.custody.sshsig import (
    SigningKey,
    decode_armor,
    encode_armor,
    encode_signature,
    is_malleable,
    sign_document,
    signing_input,
    verify_signature,
)
from evidencesync.custody.wire import WireReader, write_mpint, write_string
from evidencesync.errors import SignatureError
from evidencesync.evidence.digest import sha512_of
from evidencesync.exit_codes import ExitCode
from evidencesync.protocol.messages import Published
from evidencesync.ssh.keys import KeySigner
from evidencesync.ssh_agent import AgentSigner
from evidencesync.vault import create
from tests.integration.conftest import Agent
from tests.support.bench_of_evidence import Bench, make_bench
from tests.support.hostile_client import ROOT, HostileClient, entry_of
from tests.unit.verify.sample import Made, slugs

SHA512: Final = hashlib.sha512(b"document").digest()
CURVES: Final = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
ORDERS: Final = {
    256: 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551,
    384: 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFC7634D81F4372DDF581A0DB248B0A77AECEC196ACCC52973,
    521: (1 << 521) - 0x5AE79787C40D069948033FEB708F65A2FC44A36477663B851449048E16EC79BF7,
}


def twin(armored: bytes) -> bytes:
    """The other good signature that anybody can make: (r, n - s) of (r, s)."""
    blob = decode_armor(armored)
    reader = WireReader(blob[10:])
    fields = [reader.string() for _ in range(5)]
    outer = WireReader(fields[4])
    algorithm, numbers = outer.string(), WireReader(outer.string())
    r, s = numbers.mpint(), numbers.mpint()
    order = ORDERS[int(algorithm[-3:])]
    fields[4] = write_string(algorithm) + write_string(write_mpint(r) + write_mpint(order - s))
    return encode_armor(blob[:10] + b"".join(map(write_string, fields)))


def both_forms(signer: SigningKey, namespace: str, sha512: bytes) -> tuple[bytes, bytes]:
    """The form that counts, and the other one, which an older version left as the signer gave it."""
    low = sign_document(signer, namespace, sha512)
    return low, twin(low)


@pytest.mark.parametrize("bits", CURVES)
def test_what_we_sign_is_always_in_the_one_form(bits: int) -> None:
    signer = KeySigner.from_private(ec.generate_private_key(CURVES[bits]))
    raw = [signer.sign(signing_input("file", SHA512)) for _ in range(40)]
    assert {has_low_s(signer.public_key, one) for one in raw} == {True, False}  # as chance has it
    for _ in range(40):
        armored = sign_document(signer, "file", SHA512)
        assert verify_signature(armored, "file", SHA512, low_s=True) == signer.public_key
        assert not is_malleable(armored)
        other = twin(armored)
        assert verify_signature(other, "file", SHA512) == signer.public_key  # it is good
        assert is_malleable(other)
        with pytest.raises(SignatureError, match="one form"):
            verify_signature(other, "file", SHA512, low_s=True)


def test_ssh_keygen_reads_the_form_that_counts_and_the_agent_is_put_into_it(
    tmp_path: Path, agent: Agent, require_program: Callable[[str], str]
) -> None:
    key = tmp_path / "key"
    subprocess.run([require_program("ssh-keygen"), "-q", "-t", "ecdsa", "-N", "", "-f", key], check=True)
    agent.add(key)
    public = PublicKey.from_line(key.with_suffix(".pub").read_bytes())
    signers: list[SigningKey] = [AgentSigner(public), KeySigner.from_bytes(key.read_bytes())]
    (tmp_path / "trusted").write_text(f"ana {public.line()}\n")
    for number, signer in itertools.product(range(6), signers):
        document = f"document {number}".encode()
        armored = sign_document(signer, "file", sha512_of(document))
        assert verify_signature(armored, "file", sha512_of(document), low_s=True) == public
        (tmp_path / "sig").write_bytes(armored)
        command = ["ssh-keygen", "-Y", "verify", "-f", "trusted", "-I", "ana", "-n", "file", "-s", "sig"]
        assert subprocess.run(command, input=document, cwd=tmp_path, capture_output=True, check=False).returncode == 0


@pytest.fixture
def ecdsa(tmp_path: Path) -> Bench:
    """A bench whose examiner has an ECDSA key, with one acquisition."""
    return bench_with(tmp_path, KeySigner.from_private(ec.generate_private_key(ec.SECP256R1())))


def bench_with(folder: Path, signer: KeySigner) -> Bench:
    made = make_bench(folder)
    made.vault.trust.add(signer.public_key, "ben@lab")
    bench = Bench(made.vault, signer, made.source, made.name)
    (bench.source / "file").write_bytes(b"evidence")
    return bench


def signatures(bench: Bench) -> Iterator[list[Path]]:
    """The files of each signature of the examiner: a record's has two names."""
    acquisition = bench.acquisition(1)
    yield [acquisition / "manifest.jsonl.sig"]
    yield [acquisition / "acquired.json.sig", acquisition.parents[1] / "custody" / "0001-acquired.json.sig"]


def replace(files: list[Path], data: bytes) -> None:
    for file in files:
        file.unlink()
        file.write_bytes(data)
        file.chmod(0o444)


def test_the_other_form_of_a_good_signature_is_found_wherever_it_is_put(ecdsa: Bench) -> None:
    ecdsa.push()
    made = Made(ecdsa.vault.layout.root, ecdsa.signer)
    assert made.audit().findings == []
    for files in signatures(ecdsa):
        good = files[0].read_bytes()
        replace(files, twin(good))
        verdict = made.audit()
        assert (verdict.verdict, verdict.exit_code) == ("fail", 32)
        told = [one for one in verdict.findings if one.slug == "bad-signature"]
        assert {one.path for one in told} == {str(file.relative_to(made.path)) for file in files}  # the document is not accused
        assert all("it fits the document" in one.message for one in told)
        assert made.audit(trusted=b"").exit_code == 32
        replace(files, good)
    assert made.audit().findings == []


def test_a_vault_of_before_with_either_form_passes_and_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older version left signatures as OpenSSH made them. Nobody can tell now which of the two was."""
    with monkeypatch.context() as before:
        before.setattr(create, "SIGNATURE_FORM", {})
        bench = bench_with(tmp_path, KeySigner.from_private(ec.generate_private_key(ec.SECP384R1())))
    bench.push()
    made = Made(bench.vault.layout.root, bench.signer)
    assert made.audit().findings == []
    files = list(signatures(bench))[1]
    replace(files, twin(files[0].read_bytes()))
    verdict = made.audit()
    assert (verdict.verdict, slugs(verdict, "info", "warning", "error")) == ("pass", {"loose-signature"})
    bench.push()  # and the item goes on
    assert made.audit().verdict == "pass"


def finish(client: HostileClient, signer: SigningKey, which: str) -> None:
    manifest = client.send_manifest([ROOT, entry_of(b"f", content=b"x")], [b"x"])
    record = client.record(manifest)
    name, namespace, data = (
        ("signature", MANIFEST_NAMESPACE, manifest) if which == "manifest" else ("acquired_signature", CUSTODY_NAMESPACE, record)
    )
    other = both_forms(signer, namespace, sha512_of(data))[1]
    client.send(msgspec.structs.replace(client.finish(manifest, record), **{name: other}))


@pytest.mark.parametrize("which", ["manifest", "acquired"])
def test_a_vault_takes_no_signature_that_verify_would_refuse(ecdsa: Bench, which: str) -> None:
    client = HostileClient(ecdsa)
    client.shake_hands()
    finish(client, ecdsa.signer, which)
    error = client.ended()
    assert (error.exit_code, "one form" in error.message) == (ExitCode.SIGNATURE, True)
    assert ecdsa.acquisitions() == []


@pytest.mark.parametrize("which", ["manifest", "acquired"])
def test_a_vault_of_before_takes_what_a_sender_of_before_signs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    monkeypatch.setattr(create, "SIGNATURE_FORM", {})
    bench = bench_with(tmp_path, KeySigner.from_private(ec.generate_private_key(ec.SECP256R1())))
    client = HostileClient(bench)
    client.shake_hands()
    finish(client, bench.signer, which)
    assert client.hear(Published).acquisition == 1
    assert Made(bench.vault.layout.root, bench.signer).audit().verdict == "pass"


def test_the_first_record_says_it() -> None:
    assert dict(SIGNATURE_FORM) == {"signatures": "low-s"}


def test_an_rsa_signature_has_one_number_and_one_length() -> None:
    """s + n gives the same power, where it fits the length; zeros in front give the same number."""
    private = rsa.generate_private_key(public_exponent=65537, key_size=3072)
    signer, modulus = KeySigner.from_private(private), private.public_key().public_numbers().n
    reader = WireReader(signer.sign(signing_input("file", SHA512)))
    algorithm, raw = reader.string(), reader.string()
    larger = int.from_bytes(raw, "big") + modulus
    for other in (larger.to_bytes((larger.bit_length() + 7) // 8, "big"), b"\0" + raw, raw[1:]):
        blob = write_string(algorithm) + write_string(other)
        with pytest.raises(SignatureError):
            verify_signature(encode_signature(signer.public_key, "file", blob), "file", SHA512)
