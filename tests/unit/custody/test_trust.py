"""Who may sign: the same answers as `ssh-keygen -Y verify` gives, or stricter ones, and reasons that say what is wrong."""

from __future__ import annotations

import hashlib
import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import sign_document
from evidencesync.custody.trust import RevokedKeys, TrustedSigners, TrustLists, matches_any, signer_line
from evidencesync.errors import ConfigurationError, TrustFileError, UntrustedSignerError
from evidencesync.ssh.keys import KeySigner

NAMESPACE = "custody@evidencesync"
DOCUMENT = b"a record\n"
SHA512 = hashlib.sha512(DOCUMENT).digest()
SECOND = 1_000_000_000
JUNE = 1_717_200_000 * SECOND  # 2024-06-01T00:00:00Z


def new_signer(seed: int) -> KeySigner:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return KeySigner.from_private(Ed25519PrivateKey.from_private_bytes(seed.to_bytes(32, "big")))


ANA, BEN = new_signer(1), new_signer(2)
KEY = ANA.public_key


@pytest.fixture(scope="session")
def keygen(require_program: Callable[[str], str]) -> str:
    return require_program("ssh-keygen")


def keygen_accepts(keygen: str, folder: Path, trusted: str, principal: str, at: str, revoked: str | None = None) -> bool:
    (folder / "trusted").write_text(trusted)
    (folder / "document.sig").write_bytes(sign_document(ANA, NAMESPACE, SHA512))
    command = [keygen, "-Y", "verify", "-f", "trusted", "-I", principal, "-n", NAMESPACE, "-s", "document.sig"]
    command.append(f"-Overify-time={at}")
    if revoked is not None:
        (folder / "revoked").write_text(revoked)
        command += ["-r", "revoked"]
    return subprocess.run(command, input=DOCUMENT, capture_output=True, cwd=folder, check=False).returncode == 0


def we_accept(trusted: str, principal: str, at_ns: int, revoked: str = "") -> bool:
    try:
        trust = TrustLists(TrustedSigners.parse(trusted.encode()), RevokedKeys.parse(revoked.encode()))
        return trust.check_signature(sign_document(ANA, NAMESPACE, SHA512), NAMESPACE, SHA512, principal, at_ns) == KEY
    except (UntrustedSignerError, TrustFileError):
        return False


@pytest.mark.parametrize(
    ("principals", "options"),
    list(
        itertools.product(
            ["ana@lab", "ben,ana@lab", "*@lab", "ana@*,!*@other", "*,!ana@lab", "a?a@lab", '"ana@lab"', "ben"],
            [
                "",
                f'namespaces="{NAMESPACE}" ',
                'namespaces="file,*@evidencesync" ',
                'namespaces="*,!custody@*" ',
                'NAMESPACES="other" ',
                'valid-after="20240601Z" ',
                'valid-after="20240601000001Z" ',
                'valid-before="20240601000000Z" ',
                'valid-before="202405312359Z" ',
                'namespaces="*",valid-after="20240101Z",valid-before="20250101Z" ',
            ],
        )
    ),
)
def test_agrees_with_ssh_keygen(keygen: str, tmp_path: Path, principals: str, options: str) -> None:
    trusted = f"# signers\n\n{principals} {options}{KEY.line('ana')}\n"
    theirs = keygen_accepts(keygen, tmp_path, trusted, "ana@lab", "20240601000000Z")
    assert we_accept(trusted, "ana@lab", JUNE) == theirs


@pytest.mark.parametrize(
    "line",
    [
        f"ana@lab cert-authority {KEY.line()}",
        f'ana@lab cert-authority,namespaces="x" {KEY.line()}',
        f'ana@lab namespaces="a",namespaces="b" {KEY.line()}',
        f"ana@lab namespaces=a {KEY.line()}",
        f'ana@lab namespaces="a {KEY.line()}',
        f'ana@lab namespaces="" {KEY.line()}',
        f'ana@lab namespaces="a\\"" {KEY.line()}',
        f"ana@lab namespaces {KEY.line()}",
        f"ana@lab unknown {KEY.line()}",
        f'ana@lab valid-after="20240601" {KEY.line()}',
        f'ana@lab valid-after="20241301Z" {KEY.line()}',
        f'ana@lab valid-after="19691231Z" {KEY.line()}',
        f'ana@lab valid-after="2024060Z" {KEY.line()}',
        f'ana@lab valid-after="20240601Z",valid-before="20240601Z" {KEY.line()}',
        f"ana@lab, {KEY.line()}",
        f"{'a' * 1001} {KEY.line()}",
        f'"ana@lab {KEY.line()}',
        "ana@lab",
        "ana@lab ssh-ed25519",
        "ana@lab ssh-ed25519 AAAA",
        "ana@lab ssh-ed25519 !!!!",
        f"ana@lab ssh-rsa {KEY.line().split()[1]}",
        f"ana@lab {KEY.line()[:-1]}",
        KEY.line(),
        f"ana@lab {KEY.line()} \x1b[2J",
        f"ana@lab {KEY.line()} \u202e",
        "a" * 30_000,
    ],
)
def test_a_line_that_is_not_understood_spoils_the_file(line: str) -> None:
    with pytest.raises(TrustFileError):
        TrustedSigners.parse(f"ben {BEN.public_key.line()}\n{line}\n".encode())


def test_files_beyond_every_honest_size_are_refused() -> None:
    for data in (b"#" * (5 * 1024 * 1024), b"\n" * 20_000, b"\xff\n", b"ana \0"):
        with pytest.raises(TrustFileError):
            TrustedSigners.parse(data)
        with pytest.raises(TrustFileError):
            RevokedKeys.parse(data)


def reason(call: Callable[[], object]) -> str:
    with pytest.raises(UntrustedSignerError) as caught:
        call()
    return caught.value.message


def test_the_error_says_exactly_what_is_wrong() -> None:
    line = signer_line("ana@lab", KEY, (NAMESPACE,), JUNE, JUNE + 10 * SECOND)
    signers = TrustedSigners.parse(line.encode())
    signers.check("ana@lab", KEY, NAMESPACE, JUNE)
    signers.check("ana@lab", KEY, NAMESPACE, JUNE + 10 * SECOND)
    assert "not among the trusted keys" in reason(lambda: signers.check("ana@lab", BEN.public_key, NAMESPACE, JUNE))
    assert "another name" in reason(lambda: signers.check("ben", KEY, NAMESPACE, JUNE))
    assert "not trusted for the namespace other" in reason(lambda: signers.check("ana@lab", KEY, "other", JUNE))
    assert "trusted from 2024-06-01 00:00:00 UTC on" in reason(lambda: signers.check("ana@lab", KEY, NAMESPACE, JUNE - 1))
    assert "until 2024-06-01 00:00:10 UTC" in reason(lambda: signers.check("ana@lab", KEY, NAMESPACE, JUNE + 11 * SECOND))
    assert "not a principal" in reason(lambda: signers.check("", KEY, NAMESPACE, JUNE))
    revoked = TrustLists(signers, RevokedKeys.parse(KEY.line().encode()))
    assert "revoked" in reason(lambda: revoked.check_key("ana@lab", KEY, NAMESPACE, JUNE))


def test_a_key_may_be_trusted_again_in_a_later_line() -> None:
    early = signer_line("ana@lab", KEY, (NAMESPACE,), None, JUNE)
    late = signer_line("ana@home", KEY, (NAMESPACE,), JUNE + 100 * SECOND)
    signers = TrustedSigners.parse(f"{early}\n{late}\n".encode())
    assert signers.principal_for(KEY, NAMESPACE, JUNE) == "ana@lab"
    assert signers.principal_for(KEY, NAMESPACE, JUNE + 100 * SECOND) == "ana@home"
    assert "; it " in reason(lambda: signers.principal_for(KEY, NAMESPACE, JUNE + 50 * SECOND))
    assert "not among the trusted keys" in reason(lambda: signers.principal_for(BEN.public_key, NAMESPACE, JUNE))


def test_a_line_of_patterns_names_nobody() -> None:
    signers = TrustedSigners.parse(f"*@lab {KEY.line()}\n".encode())
    signers.check("ana@lab", KEY, NAMESPACE, JUNE)
    assert "not among the trusted keys" in reason(lambda: signers.principal_for(KEY, NAMESPACE, JUNE))
    mixed = TrustedSigners.parse(f"*@lab,ana {KEY.line()}\n".encode())
    assert mixed.principal_for(KEY, NAMESPACE, JUNE) == "ana"


@pytest.mark.parametrize(
    "principal", ["", "a,b", "*", "a b\tc", 'a"b', "a\\b c", "#a", "!a", "a?", "a\nb", "a\u202eb", "a" * 2000]
)
def test_names_that_the_file_cannot_carry_are_refused(principal: str) -> None:
    with pytest.raises(TrustFileError):
        signer_line(principal, KEY, (NAMESPACE,))


@pytest.mark.parametrize("principal", ["ana@lab", "Ana Novák", "检验员", "o'neill", "a#b"])
def test_the_line_we_write_is_accepted_by_ssh_keygen(keygen: str, tmp_path: Path, principal: str) -> None:
    line = signer_line(principal, KEY, (NAMESPACE, "manifest@evidencesync"), JUNE - SECOND, JUNE + SECOND)
    assert keygen_accepts(keygen, tmp_path, line + "\n", principal, "20240601000000Z")
    assert not keygen_accepts(keygen, tmp_path, line + "\n", principal, "20240601000002Z")
    assert we_accept(line, principal, JUNE)


def test_revocation_agrees_with_ssh_keygen(keygen: str, tmp_path: Path) -> None:
    trusted = f"ana@lab {KEY.line()}\n"
    for revoked in (
        "",
        "# none\n\n",
        BEN.public_key.line() + "\n",
        f" {KEY.line('old')}\n",
        f"{BEN.public_key.line()}\n{KEY.line()}",
        f"{BEN.public_key.line()}\r\n# none\r\n",
    ):
        theirs = keygen_accepts(keygen, tmp_path, trusted, "ana@lab", "20240601000000Z", revoked)
        assert we_accept(trusted, "ana@lab", JUNE, revoked) == theirs == (KEY.line() not in revoked)


@pytest.mark.parametrize("blank", ["\r\n", " \t\r\n", "\r\r\n", "\r \n", "# none\n\r"])
def test_an_empty_line_with_a_carriage_return_spoils_the_revocations_as_for_ssh_keygen(
    keygen: str, tmp_path: Path, blank: str
) -> None:
    trusted = f"ana@lab {KEY.line()}\n"
    assert not keygen_accepts(keygen, tmp_path, trusted, "ana@lab", "20240601000000Z", blank)
    with pytest.raises(TrustFileError, match="carriage return"):
        RevokedKeys.parse(blank.encode())


def test_keys_that_are_too_weak_to_sign_can_still_be_revoked(keygen: str, tmp_path: Path) -> None:
    small = tmp_path / "small"
    subprocess.run([keygen, "-q", "-t", "rsa", "-b", "2048", "-N", "", "-f", str(small)], check=True)
    revoked = RevokedKeys.parse(small.with_suffix(".pub").read_bytes() + KEY.line().encode())
    assert revoked.refuses(KEY)
    assert not revoked.refuses(BEN.public_key)
    assert len(revoked.blobs) == 2


@pytest.mark.parametrize(
    "data",
    [b"SSHKRL\n\0\0\0\0\1", b"ssh-ed25519\n", b"ssh-ed25519 AAAA\n", b"sha256: abc\n", b"ssh-unknown AAAAAAAA\n", b"x\n"],
)
def test_a_revocation_that_is_not_understood_spoils_the_file(data: bytes) -> None:
    with pytest.raises(ConfigurationError):
        RevokedKeys.parse(data)


def test_a_binary_revocation_list_is_named_as_such(keygen: str, tmp_path: Path) -> None:
    (tmp_path / "key.pub").write_text(KEY.line() + "\n")
    subprocess.run([keygen, "-q", "-k", "-f", str(tmp_path / "krl"), str(tmp_path / "key.pub")], check=True)
    with pytest.raises(TrustFileError, match="KRL"):
        RevokedKeys.parse((tmp_path / "krl").read_bytes())


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused_with_our_error(data: bytes) -> None:
    for parse in (TrustedSigners.parse, RevokedKeys.parse):
        try:
            parse(data)
        except TrustFileError:
            continue


@given(st.text(alphabet="ab*?!,", max_size=12), st.text(alphabet="ab", max_size=8))
def test_patterns_agree_with_the_plain_definition(pattern: str, name: str) -> None:
    def fits(rest: str, text: str) -> bool:
        if not rest:
            return not text
        if rest[0] == "*":
            return any(fits(rest[1:], text[i:]) for i in range(len(text) + 1))
        return bool(text) and rest[0] in ("?", text[0]) and fits(rest[1:], text[1:])

    patterns = tuple(part for part in pattern.split(",") if part.removeprefix("!"))
    positive = any(fits(part, name) for part in patterns if not part.startswith("!"))
    negative = any(fits(part[1:], name) for part in patterns if part.startswith("!"))
    assert matches_any(name, patterns) == (positive and not negative)


def test_a_pattern_cannot_take_forever() -> None:
    assert not matches_any("a" * 500, ("*a" * 400 + "b",))


def test_a_public_key_line_is_read_from_text_and_bytes() -> None:
    assert PublicKey.from_line(KEY.line("a comment")) == PublicKey.from_line(KEY.line().encode() + b"\n") == KEY
