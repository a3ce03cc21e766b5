"""One real vault for all tests of this folder, copied for each: damage is done to the copy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.unit.vault.acquiring import Acquirer, new_signer, new_vault
from tests.unit.verify.sample import FIRST, SECOND, Made, recipe_of


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Two acquisitions of one item; the recipe of what both have lies with the first."""
    path = tmp_path_factory.mktemp("verify") / "vault"
    examiner = new_signer()
    acquirer = Acquirer(new_vault(path, examiner), examiner)
    recipes = [recipe_of(data) for data in FIRST.values() if data]
    acquirer.acquire(FIRST, recipes=recipes)
    acquirer.acquire(SECOND, recipes=[recipe_of(SECOND[b"a.txt"])])
    return Made(path, examiner)


@pytest.fixture
def made(template: Made, tmp_path: Path) -> Made:
    """A copy of the vault. Hard links become files of their own, so that each can be damaged by itself."""
    path = tmp_path / "vault"
    shutil.copytree(template.path, path, symlinks=True)
    return Made(path, template.examiner)
