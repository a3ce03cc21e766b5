"""Where the system gives no process or no descriptor for ssh, nobody is told to install it."""

from __future__ import annotations

import errno
import os
import subprocess

import pytest

from evidencesync.errors import ConfigurationError, EvidenceSyncError, ResourcesError
from evidencesync.ssh import route


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.EMFILE, ResourcesError),
        (errno.EAGAIN, ResourcesError),
        (errno.ENOMEM, ResourcesError),
        (errno.ENOENT, ConfigurationError),
        (errno.EACCES, ConfigurationError),
    ],
)
def test_a_shortage_is_no_missing_program(
    number: int, expected: type[EvidenceSyncError], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(subprocess, "run", refused)
    with pytest.raises(expected) as caught:
        route._run(["ssh", "-G", "vault.lab"])
    assert ("Install" in (caught.value.hint or "")) == (expected is ConfigurationError)
    assert os.strerror(number) in caught.value.message
