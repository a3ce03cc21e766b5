"""Requests and tokens of RFC 3161: what `openssl ts` writes is read, and what is wrong in any one way is refused."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.der import OCTETS, SEQUENCE, DerReader, context, der, der_integer, der_oid
from evidencesync.custody.timestamp import Request, Roots, Token, timestamp_details
from evidencesync.errors import TimestampError, TrustFileError
from evidencesync.limits import MAX_TIMESTAMP
from tests.support.authority import LAST, POLICY, STAMPING, Authority, make_authority

STAMPED = b"-----BEGIN SSH SIGNATURE-----\n..."
AT_NS = 1_700_000_000_000_000_000
DAY_NS = 86_400 * 1_000_000_000


@pytest.fixture(scope="module")
def authority() -> Authority:
    return make_authority()


def roots(*authorities: Authority) -> Roots:
    return Roots.parse(b"".join(one.root_pem for one in authorities), "roots.pem")


# --- Requests ------------------------------------------------------------------------------------------------------------


@given(st.binary(), st.sampled_from(["sha256", "sha512"]), st.integers(min_value=0, max_value=2**160))
def test_a_request_is_read_as_it_was_written(stamped: bytes, digest: str, nonce: int) -> None:
    request = Request.over(stamped, "sha256" if digest == "sha256" else "sha512", nonce)
    assert Request.decode(request.encode()) == request


def test_openssl_reads_our_request_and_we_read_its(tmp_path: Path, require_program: Callable[[str], str]) -> None:
    openssl = require_program("openssl")
    ours = tmp_path / "ours.tsq"
    ours.write_bytes(Request.over(STAMPED, "sha512", 255).encode())
    shown = subprocess.run([openssl, "ts", "-query", "-in", ours, "-text"], capture_output=True, text=True, check=True).stdout
    assert all(text in shown for text in ("Hash Algorithm: sha512", "Nonce: 0xFF", "Certificate required: yes"))
    stamped = tmp_path / "stamped"
    stamped.write_bytes(STAMPED)
    made: list[str | Path] = [
        openssl,
        "ts",
        "-query",
        "-data",
        stamped,
        "-sha256",
        "-cert",
        "-tspolicy",
        POLICY,
        "-out",
        tmp_path / "its.tsq",
    ]
    subprocess.run(made, capture_output=True, check=True)
    its = Request.decode((tmp_path / "its.tsq").read_bytes())
    assert (its.digest, its.policy) == ("sha256", POLICY)
    assert its.imprint == Request.over(STAMPED, "sha256", 0).imprint
    assert its.encode() == (tmp_path / "its.tsq").read_bytes()


# --- Honest answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", ["sha256", "sha384", "sha512"])
@pytest.mark.parametrize("ess", ["sha1", "sha256", "sha512"])
@pytest.mark.parametrize("with_root", [False, True])
def test_what_openssl_answers_is_read(
    tmp_path: Path, require_program: Callable[[str], str], digest: str, ess: str, with_root: bool
) -> None:
    require_program("openssl")
    authority = make_authority(intermediate=True)
    request = Request.over(STAMPED, "sha512", 12345)
    response = authority.answer(tmp_path, request.encode(), digest=digest, ess=ess, with_root=with_root)
    token = Token.decode(response)
    token.check_stamped(STAMPED)
    token.check_answers(request)
    roots(authority).check(token)
    assert (token.accuracy_ns, token.policy, token.serial, token.nonce) == (1_500_000_000, POLICY, 0x1A2B3C + 1, 12345)
    assert token.authority == "CN=Clock authority"
    details = timestamp_details(token, response, request.encode())
    assert details["imprint"] == f"sha512:{request.imprint.hex()}"


def test_what_is_made_here_for_the_other_tests_is_taken_by_openssl_too(
    tmp_path: Path, authority: Authority, require_program: Callable[[str], str]
) -> None:
    (tmp_path / "root.pem").write_bytes(authority.root_pem)
    (tmp_path / "stamped").write_bytes(STAMPED)
    (tmp_path / "made.tsr").write_bytes(authority.forge(STAMPED, AT_NS))
    program: list[str | Path] = [
        require_program("openssl"),
        "ts",
        "-verify",
        "-data",
        tmp_path / "stamped",
        "-in",
        tmp_path / "made.tsr",
    ]
    program += ["-CAfile", tmp_path / "root.pem", "-attime", str(AT_NS // 10**9)]
    assert "Verification: OK" in subprocess.run(program, capture_output=True, text=True, check=True).stdout
    token = Token.decode(authority.forge(STAMPED, AT_NS))
    token.check_stamped(STAMPED)
    roots(authority).check(token)
    assert token.gen_time_ns == AT_NS


@pytest.mark.parametrize(("bits", "good"), [(2048, True), (1024, False)])
def test_an_rsa_key_signs_if_it_is_long_enough(
    tmp_path: Path, require_program: Callable[[str], str], bits: int, good: bool
) -> None:
    require_program("openssl")
    authority = make_authority(rsa_bits=bits)
    response = authority.answer(tmp_path, Request.over(STAMPED, "sha256", 1).encode())
    if good:
        roots(authority).check(Token.decode(response))
    else:
        with pytest.raises(TimestampError, match="too weak"):
            Token.decode(response)


def test_a_signer_may_be_named_by_his_key(authority: Authority) -> None:
    roots(authority).check(Token.decode(authority.forge(STAMPED, AT_NS, by_key=True)))


# --- Answers that are none -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"status": 2},
        {"status": 3},
        {"status": 5},
        {"imprint": "sha1"},
        {"imprint": "md5"},
        {"digest": "sha1"},
        {"signers": 0},
        {"signers": 2},
        {"tokens": 0},
        {"tokens": 2},
        {"content_type": "1.2.840.113549.1.7.1"},
        {"signed_type": "1.2.840.113549.1.7.1"},
        {"twice": True},
        {"version": 3},
        {"version": 1, "by_key": True},
        {"version": 0},
        {"spoil_digest": True},
        {"certificates": ()},
        {"accuracy": der(SEQUENCE, der(0x80, b"\x04\x00"))},
        {"extensions": der(context(1), der(SEQUENCE, der_oid("1.2.3"), b"\x01\x01\xff", der(OCTETS, b"")))},
    ],
    ids=str,
)
def test_an_answer_with_one_thing_wrong_is_none(authority: Authority, wrong: dict[str, object]) -> None:
    with pytest.raises(TimestampError):
        Token.decode(authority.forge(STAMPED, AT_NS, **wrong))  # type: ignore[arg-type]


def test_an_extension_that_need_not_be_understood_is_passed_over(authority: Authority) -> None:
    harmless = der(context(1), der(SEQUENCE, der_oid("1.2.3"), der(OCTETS, b"x")))
    assert Token.decode(authority.forge(STAMPED, AT_NS, extensions=harmless)).gen_time_ns == AT_NS


def test_an_answer_over_other_bytes_or_to_another_request_does_not_fit(authority: Authority) -> None:
    token = Token.decode(authority.forge(STAMPED, AT_NS, nonce=5))
    with pytest.raises(TimestampError, match="other bytes"):
        token.check_stamped(STAMPED + b"\n")
    token.check_answers(Request.over(STAMPED, "sha512", 5))
    for other in (Request.over(STAMPED, "sha512", 6), Request.over(STAMPED, "sha256", 5), Request.over(b"", "sha512", 5)):
        with pytest.raises(TimestampError):
            token.check_answers(other)
    with pytest.raises(TimestampError, match="policy"):
        token.check_answers(Request("sha512", token.imprint, 5, "1.2.3.4"))
    with pytest.raises(TimestampError, match="nonce"):
        Token.decode(authority.forge(STAMPED, AT_NS)).check_answers(Request.over(STAMPED, "sha512", 5))


@pytest.mark.parametrize(
    "unfit",
    [
        {"purposes": None},
        {"purposes": (ExtendedKeyUsageOID.CODE_SIGNING,)},
        {"purposes": (*STAMPING, ExtendedKeyUsageOID.CODE_SIGNING)},
        {"critical": False},
        {"may_sign": False},
    ],
    ids=str,
)
def test_a_certificate_for_anything_else_makes_no_timestamps(unfit: dict[str, object]) -> None:
    with pytest.raises(TimestampError):
        Token.decode(make_authority(**unfit).forge(STAMPED, AT_NS))  # type: ignore[arg-type]


def test_another_certificate_cannot_be_named_as_the_signers(authority: Authority) -> None:
    other = make_authority("Other")
    both = [authority.certificate, other.certificate]
    with pytest.raises(TimestampError, match="two certificates"):
        Token.decode(authority.forge(STAMPED, AT_NS, certificates=both, named=other.certificate))


# --- Who is believed -----------------------------------------------------------------------------------------------------


def test_an_authority_is_believed_only_if_its_own_root_was_given(authority: Authority) -> None:
    other = make_authority("Other")
    token = Token.decode(authority.forge(STAMPED, AT_NS))
    roots(other, authority).check(token)
    with pytest.raises(TimestampError):
        roots(other).check(token)


def test_a_root_that_an_answer_brings_along_is_not_believed(authority: Authority) -> None:
    """Whoever forges an answer forges its root as well, under any name."""
    stranger = make_authority()  # the same names
    brought = [stranger.certificate, stranger.root, authority.root, authority.certificate]
    with pytest.raises(TimestampError):
        roots(authority).check(Token.decode(stranger.forge(STAMPED, AT_NS, certificates=brought)))


def test_certificates_on_the_way_are_used_and_must_be_allowed_to_issue() -> None:
    good, bad = make_authority(intermediate=True), make_authority(intermediate=True, issuer_is_ca=False)
    roots(good).check(Token.decode(good.forge(STAMPED, AT_NS)))
    for token in (
        Token.decode(bad.forge(STAMPED, AT_NS)),
        Token.decode(bad.forge(STAMPED, AT_NS, certificates=[bad.certificate])),
    ):
        with pytest.raises(TimestampError):
            roots(bad).check(token)


@pytest.mark.parametrize(("days", "good"), [(-1, False), (1, True), (9, True), (11, False)])
def test_a_certificate_must_have_been_valid_when_the_timestamp_was_made(days: int, good: bool) -> None:
    """... and not when it is checked: an authority's certificates end long before evidence does."""
    first = LAST - timedelta(days=1000)
    authority = make_authority(first=first, last=first + timedelta(days=10))
    token = Token.decode(authority.forge(STAMPED, int(first.timestamp()) * 10**9 + days * DAY_NS))
    if good:
        roots(authority).check(token)
    else:
        with pytest.raises(TimestampError, match="not valid at validation time"):
            roots(authority).check(token)


@pytest.mark.parametrize("data", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_file_without_roots_is_refused(data: bytes) -> None:
    with pytest.raises(TrustFileError):
        Roots.parse(data, "roots.pem")


# --- Bytes ---------------------------------------------------------------------------------------------------------------


def test_bytes_too_few_or_too_many_are_refused(authority: Authority) -> None:
    response = authority.forge(STAMPED, AT_NS)
    for end in range(len(response)):
        with pytest.raises(TimestampError):
            Token.decode(response[:end])
    for more in (b"\x00", b"\n", response):
        with pytest.raises(TimestampError):
            Token.decode(response + more)
    with pytest.raises(TimestampError, match="longer than"):
        Token.decode(response + bytes(MAX_TIMESTAMP))


@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_happens(data: bytes) -> None:
    for decode in (Token.decode, Request.decode):
        with pytest.raises(TimestampError):
            decode(data)


CHANGED = make_authority("Changed")
RESPONSE = CHANGED.forge(STAMPED, AT_NS, nonce=9)


@pytest.mark.slow
def test_every_bit_counts_but_one_that_no_authority_signs() -> None:
    """It is the last bit of the status: `granted` becomes `granted with changes`, and whatever was granted is checked anyway.

    In a vault it counts as well, for the custody record names the whole answer by its digest.
    """
    trusted = roots(CHANGED)
    accepted = []
    for place in range(8 * len(RESPONSE)):
        response = bytearray(RESPONSE)
        response[place // 8] ^= 1 << place % 8
        try:
            token = Token.decode(bytes(response))
            token.check_stamped(STAMPED)
            trusted.check(token)
        except TimestampError:
            continue
        accepted.append(place)
    assert accepted == [8 * RESPONSE.index(b"\x30\x03\x02\x01\x00") + 8 * 4]


@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=3))
def test_changed_bytes_are_refused_or_say_the_same(changes: list[tuple[float, int]]) -> None:
    """The status is not signed: it may change, and then changes nothing of what counts."""
    response = bytearray(RESPONSE)
    for where, byte in changes:
        response[int(where * len(response))] = byte
    try:
        token = Token.decode(bytes(response))
        token.check_stamped(STAMPED)
        roots(CHANGED).check(token)
    except TimestampError:
        return
    assert (token.gen_time_ns, token.serial, token.policy, token.nonce) == (AT_NS, 77, POLICY, 9)


@given(st.integers(min_value=0, max_value=2**200), st.lists(st.integers(0, 2**40), max_size=6))
def test_numbers_and_identifiers_come_back(number: int, arcs: list[int]) -> None:
    assert DerReader(der_integer(number), "it").integer() == number
    dotted = ".".join(map(str, [1, 3, *arcs]))
    assert DerReader(der_oid(dotted), "it").oid() == dotted


@pytest.mark.parametrize(
    "data",
    [
        b"\x02\x00",
        b"\x02\x02\x00\x01",
        b"\x02\x02\xff\xff",
        b"\x02\x81\x01\x01",
        b"\x02\x80\x01\x00\x00",
        b"\x02" + b"\x41" + b"\x01" * 65,
    ],
    ids=lambda data: data.hex()[:12],
)
def test_a_number_in_another_form_than_its_shortest_is_refused(data: bytes) -> None:
    with pytest.raises(TimestampError):
        DerReader(data, "it").integer()
