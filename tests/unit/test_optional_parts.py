"""What is missing is said with the command that adds it to this very installation."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from evidencesync import optional_parts
from evidencesync.optional_parts import missing_part


class _Installed:
    """An installation, as its metadata tell it."""

    requires = ("msgspec>=0.18", "typst>=0.15; extra == 'pdf'", 'pyrage>=1.4; extra == "encrypt"')

    def __init__(self, origin: object) -> None:
        self._origin = origin

    def read_text(self, _name: str) -> str | None:
        return None if self._origin is None else json.dumps(self._origin)


def _hint(monkeypatch: pytest.MonkeyPatch, origin: object, extra: str = "pdf") -> str:
    monkeypatch.setattr(optional_parts, "distribution", lambda _name: _Installed(origin))
    return missing_part(ImportError("no", name="typst"), "a PDF", extra).hint or ""


def test_an_installation_from_a_clone_gets_the_part_from_that_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clone = tmp_path / "our clone"
    clone.mkdir()
    (clone / "pyproject.toml").touch()
    plain = _hint(monkeypatch, {"url": clone.as_uri(), "dir_info": {}})
    assert plain == f"Install it: {sys.executable} -m pip install '{clone}[pdf]'"
    editable = _hint(monkeypatch, {"url": clone.as_uri(), "dir_info": {"editable": True}})
    assert editable == f"Install it: {sys.executable} -m pip install -e '{clone}[pdf]'"


@pytest.mark.parametrize("origin", [None, [], {"url": "file:///nowhere/clone", "dir_info": {}}, {"url": "https://x/y.whl"}])
def test_where_no_clone_is_left_the_package_itself_is_named(origin: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert _hint(monkeypatch, origin, "encrypt") == f"Install it: {sys.executable} -m pip install 'pyrage>=1.4'"


def test_pipx_is_told_to_add_it_to_the_tools_own_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pipx_metadata.json").touch()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    assert _hint(monkeypatch, None) == "Install it: pipx inject evidencesync 'typst>=0.15'"


def test_without_pip_uv_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(optional_parts, "find_spec", lambda _name: None)
    assert _hint(monkeypatch, None) == f"Install it: uv pip install --python {sys.executable} 'typst>=0.15'"


def test_what_is_missing_is_named() -> None:
    error = missing_part(ImportError("no", name="typst"), "a PDF", "pdf")
    assert error.message == "a PDF needs the package typst, which is not installed"


def test_in_a_bundle_nothing_is_installed_and_another_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    error = missing_part(ImportError("no", name="typst"), "a PDF", "pdf")
    assert error.message == "a PDF needs the package typst, which is not part of the bundle"
    assert "on a machine where evidencesync is installed" in (error.hint or "")
