"""A whole case with one key behind a forced command: the page's session, typed by an ordinary user over a real sshd."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import REPOSITORY
from tests.integration.test_set_up import SET_UP, Newcomer
from tests.support.authority import make_authority
from tests.support.laboratory import Laboratory, made_laboratory

_BLOCK: Final = re.compile(r"^```\n(\$ .*?)^```$", re.MULTILINE | re.DOTALL)
_OTHER_EACH_TIME: Final = (
    (re.compile(r"\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:\.\d+)?"), "TIME"),
    (re.compile(r"SHA256:[\w+/]{43}"), "KEY"),
    (re.compile(r"\b[0-9a-f]{32,64}\b"), "DIGEST"),
    (re.compile(r"\b(?:[0-9a-f]{4} ){4}[0-9a-f]{4}\b"), "FINGERPRINT"),
    (re.compile(r"^[d-]0[0-7]{3} ", re.MULTILINE), "MODE "),  # as the umask has it
    (re.compile(r"travelled .* start to receipt"), "travelled"),
    (re.compile(r"travelled [\d.]+ kB$", re.MULTILINE), "travelled"),
    (re.compile(r"room .* for evidence"), "room"),
    (re.compile(r"(report\.html) .*"), r"\1"),
    (re.compile(r"evidencesync \d[\w.]*"), "VERSION"),
)


def session() -> list[tuple[str, str]]:
    """What the page types, and what it says comes out."""
    blocks = _BLOCK.findall((REPOSITORY / "docs" / "one-key.md").read_text())
    parts = [part for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(typed, printed) for typed, _, printed in (part.partition("\n") for part in parts)]


def without_what_is_another_each_time(text: str) -> str:
    for pattern, word in _OTHER_EACH_TIME:
        text = pattern.sub(word, text)
    return text


@pytest.fixture
def laboratory(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Laboratory]:
    with made_laboratory(tmp_path, require_program) as made:
        yield made


def test_the_page_goes_from_a_push_to_a_report() -> None:
    commands = [typed.split()[1] for typed, _ in session() if typed.startswith("evidencesync ")]
    assert (commands[0], commands[-1]) == ("push", "report")
    assert {"list", "show", "diff", "verify", "custody", "timestamp", "restore", "export"} <= set(commands)


def answer_as_an_authority(laboratory: Laboratory, folder: Path) -> None:
    """What somebody else does: takes the request that lies at Ana's, and gives her an answer and the authority's root."""

    def typed(command: str, given: bytes = b"") -> bytes:
        done = laboratory.run("ana", command, base64.b64encode(given).decode())
        assert done.returncode == 0, done.stdout
        return done.stdout.encode()

    authority = make_authority()
    request = base64.b64decode(typed("base64 laptop.tsq"))
    typed("base64 -d > laptop.tsr", authority.answer(folder, request))
    typed("base64 -d > tsa.pem", authority.root_pem)


@pytest.mark.slow
def test_a_whole_case_comes_out_as_the_page_says(
    laboratory: Laboratory, tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    require_program("openssl")
    (tmp_path / "authority").mkdir()
    newcomer = Newcomer(laboratory)
    for account, command in SET_UP[2:8]:
        newcomer.type(account, command)
    for typed, printed in session():
        if typed.startswith("evidencesync timestamp attach"):
            answer_as_an_authority(laboratory, tmp_path / "authority")
        assert without_what_is_another_each_time(newcomer.type("ana", typed)) == without_what_is_another_each_time(printed), typed
