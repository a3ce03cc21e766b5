"""One real vault for all tests of this folder, copied for each: damage is done to the copy."""

from __future__ import annotations

import shutil
import subprocess

import pytest

from tests.support.undo import Undo, remove
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


@pytest.fixture(scope="session")
def copies(template: Made, tmp_path_factory: pytest.TempPathFactory) -> Undo:
    """Makes the copies, all at one place. Hard links become files of their own, so that each can be damaged by itself."""
    folder = tmp_path_factory.mktemp("copied")
    shutil.copytree(template.path, folder / "template", symlinks=True)
    (folder / "copy").mkdir()
    return Undo(folder / "template", folder / "copy" / "vault")


@pytest.fixture
def made(template: Made, copies: Undo) -> Made:
    """A copy of the vault, alone in its folder."""
    path = copies.place
    try:
        _put_back(copies)
    except PermissionError:  # to whoever is not root, what a test has closed is closed
        subprocess.run(["chmod", "-R", "u+rwX", path.parent], check=True)
        _put_back(copies)
    return Made(path, template.examiner)


def _put_back(copies: Undo) -> None:
    for other in copies.place.parent.iterdir():
        if other != copies.place:
            remove(other)
    copies.undo()
