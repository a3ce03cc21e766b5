"""What is said of a capture that cannot go on."""

from __future__ import annotations

import pytest

from evidencesync.cli import capture
from evidencesync.errors import LinkLostError, NoSpaceError, SessionGoneError


def test_of_a_capture_whose_vault_has_ended_it_is_said_what_publishes_what_came() -> None:
    with pytest.raises(LinkLostError) as lost, capture._once():
        raise SessionGoneError("the vault's end of this session has ended")
    assert "--recover" in (lost.value.hint or "")


def test_where_the_vaults_disk_is_full_nobody_is_told_that_the_same_command_goes_on() -> None:
    with pytest.raises(NoSpaceError) as full, capture._once():
        raise NoSpaceError("could not write: No space left on device")
    assert "same command" not in (full.value.hint or "")
    assert "--recover" in (full.value.hint or "")
