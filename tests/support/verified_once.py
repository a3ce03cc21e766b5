"""Vaults that differ in one place have the same signatures everywhere else: what has verified once need not be computed again."""

from __future__ import annotations

from functools import lru_cache

import pytest

from evidencesync.custody.sshsig import verify_signature
from evidencesync.verify import signatures


def verify_each_signature_once(patch: pytest.MonkeyPatch) -> None:
    """Has `verify` remember each good signature by all that decides: its bytes, the namespace, the document's digest, the form.

    What does not verify is never remembered. Whether the signer is trusted, and when, is asked every time.
    """
    patch.setattr(signatures, "verify_signature", lru_cache(maxsize=None)(verify_signature))
