"""What `custody show` says where a chain cannot be compared with what is known of it."""

from __future__ import annotations

import pytest

from evidencesync.acquire.custody_exchange import ShownChain
from evidencesync.cli.custody_outputs import show_output
from evidencesync.custody.vault_keys import VaultKeys
from evidencesync.errors import (
    ChainError,
    EvidenceSyncError,
    ForkedError,
    LaterFormatError,
    LimitExceededError,
    NoSpaceError,
    RememberedHeadsError,
    ResourcesError,
    StorageError,
)
from evidencesync.evidence.identity import ItemName, Title

NAME = ItemName(Title("2024-017"), Title("LAPTOP-1"))


@pytest.mark.parametrize(
    ("known", "slug"),
    [
        (StorageError("x"), "not-compared"),
        (ResourcesError("too many open files"), "not-compared"),
        (NoSpaceError("over quota"), "not-compared"),
        (RememberedHeadsError("x"), "not-compared"),
        (LaterFormatError("x"), "later-format"),
        (ChainError("x"), "chain-broken"),
        (ForkedError("x"), "forked"),
        (LimitExceededError("x"), "chain-broken"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_only_what_was_read_breaks_a_chain(known: EvidenceSyncError, slug: str) -> None:
    chain = ShownChain("0" * 32, VaultKeys(""), NAME, inconsistency=known)
    assert [one.slug for one in show_output(chain).problems] == [slug]
