"""The guide has one table that says of every command about a vault whether it takes an address, and else what to do instead."""

from __future__ import annotations

import re

from evidencesync.cli.pasted_hints import takes_address
from tests.integration.cli_program import REPOSITORY
from tests.support.every_command import every_command

_ROW = re.compile(r"^\| `([a-z -]+)` \| (yes|no) \| *(.*?) *\|$", re.MULTILINE)


def test_every_command_about_a_vault_is_in_the_table_with_what_it_does() -> None:
    page = (REPOSITORY / "docs" / "guide.md").read_text().partition("\n## An address, or the vault's machine\n")[2]
    rows = {name: (takes, instead) for name, takes, instead in _ROW.findall(page.partition("\n## ")[0])}
    about_a_vault = {name for name, found in every_command() if any(one.name == "vault" for one in found.params)}
    assert set(rows) == about_a_vault
    for name, (takes, instead) in rows.items():
        assert (takes == "yes") is takes_address(name), name
        assert takes == "yes" or instead.strip(), name
