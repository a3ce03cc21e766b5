"""Two judges of odd signatures: what `ssh-keygen -Y verify` refuses we never accept, and what only we refuse has a known reason.

`make differential` tries ten thousand (COUNT=...) and prints the score; a failure names the attack's number and seed.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from evidencesync.custody.wire import WireReader, write_mpint, write_string
from tests.support.signature_attacks import WAYS, Attack, Envelope, armor, from_trusted, line_of
from tests.support.signing_keys import SoftKey, all_keys, ecdsa_key, ed25519_key, rsa_key, token_key
from tests.support.two_judges import REASONS, Score, judge, keygen_accepts, we_refuse

COUNT: Final = int(os.environ.get("DIFFERENTIAL", "0"))
SEED: Final = int(os.environ.get("SEED", "0"))
IN_SUITE: Final = 330
FORMATS: Final = Path(__file__).parents[2] / "docs" / "formats.md"


@pytest.fixture(scope="module")
def keys() -> list[SoftKey]:
    return all_keys()


@pytest.fixture(scope="module")
def score(keys: list[SoftKey], tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Score:
    return judge(require_program("ssh-keygen"), tmp_path_factory.mktemp("judges"), keys, SEED, range(COUNT or IN_SUITE))


def test_nothing_that_ssh_keygen_refuses_is_accepted(score: Score) -> None:
    assert score.only_we_accept == []
    assert score.judged == (COUNT or IN_SUITE)
    assert set(score.ways) == set(WAYS)


def test_both_judges_accept_some_and_refuse_most(score: Score) -> None:
    """Else the attacks would show nothing: a judge that refuses everything agrees with everybody."""
    assert score.both_accept > score.judged // 30
    assert score.both_refuse > score.judged // 2


def test_what_only_we_refuse_has_a_reason_that_is_written_down(score: Score) -> None:
    assert score.unexplained == []
    section = FORMATS.read_text("utf-8").partition("## Signatures")[2].partition("\n## ")[0]
    documented = set(re.findall(r"^\| `([a-z-]+)` \|", section, re.MULTILINE))
    assert documented == set(REASONS)


def test_the_score_is_printed(score: Score, request: pytest.FixtureRequest, capfd: pytest.CaptureFixture[str]) -> None:
    """For people: by `make differential`."""
    if COUNT:
        with capfd.disabled():
            for line in ("", *score.lines()):
                request.config.get_terminal_writer().line(line)
    assert score.lines()


# One of each reason, so that the list in the document is true whatever chance brings.

ED25519: Final = ed25519_key()
ECDSA: Final = ecdsa_key(256)


def _attack(key: SoftKey, envelope: Envelope | None = None, **more: object) -> Attack:
    return from_trusted(key, armor((envelope or Envelope(key)).envelope()), **more)


def _wide_number(blob: bytes) -> bytes:
    """The first number of an ECDSA signature with zeros in front."""
    outer = WireReader(blob)
    name, numbers = outer.string(), WireReader(outer.string())
    r, s = numbers.mpint(), numbers.mpint()
    return write_string(name) + write_string(write_string(r.to_bytes(40, "big")) + write_mpint(s))


def _unreduced(blob: bytes) -> bytes:
    number = int.from_bytes(blob[-32:], "little") + 2**252 + 27742317777372353535851937790883648493
    return blob[:-32] + number.to_bytes(32, "little")


def _short_number(blob: bytes) -> bytes:
    reader = WireReader(blob)
    return write_string(reader.string()) + write_string(reader.string().lstrip(b"\0"))


def _short_rsa() -> Attack:
    """Signs in one namespace after the other until the signature begins with a zero, and leaves that out."""
    key = rsa_key(3072)
    for number in range(20_000):
        namespace = f"n{number}"
        envelope = Envelope(key, namespace=namespace.encode())
        _, raw = key.fields(envelope.data())
        if raw[0] == 0:
            return _attack(key, replace(envelope, blob=_short_number), namespace=namespace)
    raise AssertionError("no signature begins with a zero")


def _krl(folder: Path) -> Attack:
    (folder / "other.pub").write_bytes(b" ".join(line_of(ed25519_key(9)).split()[1:]) + b"\n")
    subprocess.run(["ssh-keygen", "-q", "-k", "-f", str(folder / "krl"), str(folder / "other.pub")], check=True)
    return _attack(ED25519, revoked=(folder / "krl").read_bytes())


def _renamed(key: SoftKey) -> Attack:
    return _attack(key, Envelope(key, public=write_string(b"rsa-sha2-512") + key.blob[4 + len("ssh-rsa") :]))


STRICTER: Final[dict[str, Callable[[Path], Attack]]] = {
    "armor": lambda _: from_trusted(ED25519, armor(Envelope(ED25519).envelope(), columns=64)),
    "version": lambda _: _attack(ED25519, Envelope(ED25519, version=0)),
    "digest": lambda _: _attack(ED25519, Envelope(ED25519, hash=b"sha256")),
    "reserved": lambda _: _attack(ED25519, Envelope(ED25519, reserved=b"x", signed={"reserved": b""})),
    "number": lambda _: _attack(ECDSA, Envelope(ECDSA, blob=_wide_number)),
    "length": lambda _: _short_rsa(),
    "malleable": lambda _: _attack(ED25519, Envelope(ED25519, blob=_unreduced)),
    "token": lambda _: _attack(token_key(flags=0)),
    "small-key": lambda _: _attack(rsa_key(2048)),
    "key-type": lambda _: _renamed(rsa_key(3072)),
    "text": lambda _: _attack(ED25519, Envelope(ED25519, hash=b"sha512\0", signed={"hash": b"sha512"})),
    "list": lambda _: _attack(ED25519, trusted=line_of(ED25519) + b"\nnot understood\n"),
    "revocations": _krl,
}


@pytest.mark.parametrize("reason", REASONS)
def test_ssh_keygen_accepts_what_we_refuse_for_this_reason(
    reason: str, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    program = require_program("ssh-keygen")
    one = STRICTER[reason](tmp_path)
    ours = we_refuse(one)
    assert ours is not None
    assert any(text in ours for text in REASONS[reason]), ours
    assert keygen_accepts(program, tmp_path, one)
