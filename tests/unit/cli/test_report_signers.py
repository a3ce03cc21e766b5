"""A report's first page says who signs it so that nobody is taken for the vault."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from evidencesync.cli import report_writing
from evidencesync.report.document import Signer, Trust


@dataclasses.dataclass(frozen=True)
class _Signing:
    """What of a verifier is shown."""

    examiner: str
    organisation: str | None = None

    @property
    def signer(self) -> Any:
        return self

    @property
    def public_key(self) -> Any:
        return self

    fingerprint = "SHA256:abc"


def test_an_account_that_has_the_name_of_the_vault_is_called_an_account_and_the_list_says_whose_key_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def said(examiner: str, *, listed: bool = True, revoked: bool = False) -> str | None:
        signer = Signer(["ana@lab"], "SHA256:abc", "ssh-ed25519", [], None, None, revoked, None, None, None, [])
        verifier: Any = _Signing(examiner)
        return report_writing.signed_by(verifier, Trust("vault", [signer] if listed else [], None, None))

    monkeypatch.setattr(report_writing, "user_name", lambda: "vault")
    assert said("vault") == "the account vault, with the key SHA256:abc of ana@lab"
    assert said("Ana") == "Ana, with the key SHA256:abc of ana@lab"
    unlisted = "Ana, with the key SHA256:abc, which is on no list of this report"
    assert said("Ana", listed=False) == said("Ana", revoked=True) == unlisted
    assert report_writing.signed_by(None, Trust("vault", [], None, None)) is None
