"""What a newcomer pastes: the pages that say how a laboratory is set up, line by line, as ordinary users over a real sshd."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.integration.cli_program import REPOSITORY
from tests.support.laboratory import ACCOUNTS, Laboratory, made_laboratory

EVIDENCE: Final = "/usr/share/common-licenses"
INSTALLING: Final = (
    "sudo apt install -y openssh-server pipx",
    "sudo PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install '.[all]'",
)


def commands_of(page: str) -> Iterator[tuple[str, str]]:
    """Who types, and what: each line of a block of commands, below a heading or a sentence that ends with the account's name."""
    account = "sudo"
    for part in re.split(r"^(#+ .*|On .*:)$", page, flags=re.MULTILINE):
        if (found := re.fullmatch(r"(?:#+|On) .*as `?(\w+)`?:?", part)) is not None:
            account = found[1] if found[1] in ACCOUNTS else "sudo"
        for block in re.findall(r"^```sh\n(.*?)^```$", part, flags=re.MULTILINE | re.DOTALL):
            yield from ((account, line) for line in block.splitlines())


SET_UP: Final = list(commands_of((REPOSITORY / "docs" / "set-up.md").read_text()))
FIRST_TRANSFER: Final = list(
    commands_of((REPOSITORY / "README.md").read_text().partition("\n## A first transfer\n")[2].partition("\n## ")[0])
)


@pytest.fixture
def laboratory(tmp_path: Path, require_program: Callable[[str], str]) -> Iterator[Laboratory]:
    with made_laboratory(tmp_path, require_program) as made:
        yield made


class Newcomer:
    """Types the commands of a page, and pastes what an earlier one has printed where one waits for it."""

    def __init__(self, laboratory: Laboratory) -> None:
        self._laboratory = laboratory
        self.printed: dict[str, str] = {}

    def type(self, account: str, command: str) -> str:
        done = self._laboratory.run(account, command, self._typed(command))
        assert done.returncode == 0, f"{account}: {command}\n{done.stdout}"
        self.printed[" ".join(command.split()[:2])] = done.stdout
        return done.stdout

    def _typed(self, command: str) -> str:
        if command.startswith("ssh-keygen"):
            return "\n\n\n"  # the usual file, no passphrase, and again none
        if command == "cat > ana.pub":
            return self.printed["cat ~/.ssh/id_ed25519.pub"]
        if "authorized_keys" in command:
            return f"{self.line('restrict,')}\n"
        return "yes\n" if "host trust" in command else ""

    def line(self, beginning: str) -> str:
        """A line of what `init` has printed."""
        return next(line for line in self.printed["evidencesync init"].splitlines() if line.startswith(beginning))


def the_first_push_is_verified(newcomer: Newcomer, commands: list[tuple[str, str]]) -> None:
    """From the vault that is made to the verdict: five commands."""
    assert [command.split()[:2] for _, command in commands] == [
        ["evidencesync", "init"],
        ["mkdir", "-p"],
        ["evidencesync", "host"],
        ["evidencesync", "push"],
        ["evidencesync", "verify"],
    ]
    made, _, trusted, pushed, verified = (newcomer.type(account, command) for account, command in commands)
    assert "trusts     ana@vault.lab  ssh-ed25519" in made
    command = newcomer.line("evidencesync host trust")
    assert command.partition(" --fingerprint ")[0] == commands[2][1]
    assert command.rpartition(" ")[2] in trusted
    address = commands[3][1].split()[3]
    assert newcomer.line("evidencesync push") == f"evidencesync push SOURCE {address} --case CASE --item ITEM"
    assert ", acquisition 1: published, complete" in pushed
    assert verified.splitlines()[-1] == "verdict: PASS"


@pytest.mark.parametrize("commands", [SET_UP, FIRST_TRANSFER])
def test_the_page_has_ten_commands_and_the_first_two_install(commands: list[tuple[str, str]]) -> None:
    assert len(commands) == 10
    assert commands[:2] == [("sudo", line) for line in INSTALLING]
    assert [account for account, _ in commands[2:]] == ["ana", "ana", "vault", "vault", "vault", "ana", "ana", "vault"]


@pytest.mark.slow
@pytest.mark.skipif(not Path(EVIDENCE).is_dir(), reason=f"only where the system has {EVIDENCE}")
def test_a_laboratory_is_set_up_by_what_the_page_says(laboratory: Laboratory) -> None:
    newcomer = Newcomer(laboratory)
    for account, command in SET_UP[2:5]:
        newcomer.type(account, command)
    the_first_push_is_verified(newcomer, SET_UP[5:])


@pytest.mark.slow
def test_the_first_transfer_of_the_readme_comes_out_as_it_says(laboratory: Laboratory) -> None:
    newcomer = Newcomer(laboratory)
    for account, command in FIRST_TRANSFER[2:5]:
        newcomer.type(account, command)
    the_first_push_is_verified(newcomer, FIRST_TRANSFER[5:])
