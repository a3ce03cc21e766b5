"""Which folder is the home, and that EVIDENCESYNC_HOME takes the place of all that an account has."""

from __future__ import annotations

from pathlib import Path

import pytest

from evidencesync.errors import NoHomeError
from evidencesync.home import home_folder, own_folder


def test_a_named_home_takes_the_place_of_the_accounts_own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/elsewhere")
    monkeypatch.setenv("EVIDENCESYNC_HOME", str(tmp_path))
    assert home_folder() == tmp_path
    assert own_folder("XDG_DATA_HOME", ".local", "share") == tmp_path / ".local/share"


@pytest.mark.parametrize(("named", "said"), [("", "is empty"), ("kept", "no absolute path"), ("/dev/null", "no folder")])
def test_a_home_that_is_named_empty_or_wrong_is_none_and_no_other_is_used(
    named: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EVIDENCESYNC_HOME", named)
    for folder in (home_folder, lambda: own_folder("XDG_DATA_HOME", ".local", "share")):
        with pytest.raises(NoHomeError, match=said) as caught:
            folder()
        assert "EVIDENCESYNC_HOME" in str(caught.value.hint)
