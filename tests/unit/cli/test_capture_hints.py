"""What is said of a capture that cannot go on."""

from __future__ import annotations

import pytest

from evidencesync.cli import capture
from evidencesync.errors import LinkLostError, SessionGoneError


def test_a_capture_whose_vault_has_ended_is_not_said_to_go_on() -> None:
    with pytest.raises(LinkLostError) as lost, capture._once():
        raise SessionGoneError("the vault's end of this session has ended")
    assert "captures anew" in (lost.value.hint or "")
