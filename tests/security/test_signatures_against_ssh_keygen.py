"""Two judges of odd signatures: what `ssh-keygen -Y verify` refuses we never accept, and what only we refuse has a known reason.

`make differential` tries ten thousand (COUNT=...) and prints the score; a failure names the attack's number and seed.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.signature_attacks import NAMESPACE, WAYS, Attack, Envelope, armor, line_of
from tests.support.signing_keys import SoftKey, all_keys, ed25519_key, rsa_key, token_key
from tests.support.two_judges import REASONS, Score, judge, keygen_accepts, we_refuse

COUNT: Final = int(os.environ.get("DIFFERENTIAL", "0"))
SEED: Final = int(os.environ.get("SEED", "0"))
IN_SUITE: Final = 660
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


def test_the_score_is_printed(score: Score, request: pytest.FixtureRequest) -> None:
    """For people: by `make differential`."""
    if COUNT:
        writer = request.config.get_terminal_writer()
        for line in ("", *score.lines()):
            writer.line(line)
    assert score.lines()


# One of each reason, so that the list is true whatever chance brings.

ED25519: Final = ed25519_key()
STRICTER: Final[dict[str, Callable[[], Attack]]] = {
    "armor": lambda: _attack(ED25519, armor(Envelope(ED25519).envelope(), columns=64)),
    "version": lambda: _attack(ED25519, armor(Envelope(ED25519, version=0).envelope())),
    "digest": lambda: _attack(ED25519, armor(Envelope(ED25519, hash=b"sha256").envelope())),
    "reserved": lambda: _attack(ED25519, armor(Envelope(ED25519, reserved=b"x", signed={"reserved": b""}).envelope())),
    "token": lambda: _attack(token_key(flags=0), armor(Envelope(token_key(flags=0)).envelope())),
    "small-key": lambda: _small(),
}


def _attack(key: SoftKey, signature: bytes) -> Attack:
    return Attack("", key.kind, signature, line_of(key) + b"\n")


def _small() -> Attack:
    key = rsa_key(2048)
    return _attack(key, armor(Envelope(key).envelope()))


@pytest.mark.parametrize("reason", STRICTER)
def test_ssh_keygen_accepts_what_we_refuse_for_this_reason(
    reason: str, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    one = STRICTER[reason]()
    assert one.namespace == NAMESPACE
    ours = we_refuse(one)
    assert ours is not None
    assert any(text in ours for text in REASONS[reason]), ours
    assert keygen_accepts(require_program("ssh-keygen"), tmp_path, one)
