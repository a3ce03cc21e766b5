"""Says what somebody who reads from afar may see now: trust and roles are asked for again at each question."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Final

from evidencesync.custody.documents import SESSION_NAMESPACE
from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.roles import Role
from evidencesync.custody.trust import TrustLists
from evidencesync.errors import EvidenceSyncError, NotAllowedError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.identity import folder_name, is_derived
from evidencesync.vault.catalog import is_folder, readable_names
from evidencesync.vault.vault import Vault

_FRESH_NS: Final = 1_000_000_000  # who restores asks many times a second, and a vault's own chain may be long


class Rights:
    """What one key may do while a session lasts. A change of trust counts after a second."""

    def __init__(self, vault: Vault, key: PublicKey, now: Callable[[], int]) -> None:
        self._vault = vault
        self._key = key
        self._now = now
        self._trust: tuple[TrustLists, int] | None = None
        self._found: tuple[str, str] | None = None  # the folder that was asked for last, and its case

    def require(self, role: Role, case: str | None) -> None:
        """Raises NotAllowedError where the key has not this role in a case now (None: in every case).

        Raises UntrustedSignerError where it is not trusted any more.
        """
        now = self._now()
        self._lists(now).check_role(self._key, (role,), case, now)

    def require_shown(self, role: Role, case: str | None) -> None:
        """Raises as `require` does, also where the folder of the case is that of another one, in which the key has not this role.

        The name of a folder is a number, too: that of another case, which a pattern for that one does not mean.
        """
        self.require(role, case)
        if case is None or self._may(role, None):
            return
        folder = folder_name(case)
        if is_folder(self._vault.layout.case(folder)) and not self._may_in_folder(role, folder):
            raise NotAllowedError(f"the folder {folder} is that of another case than {safe_text(case, 80)}, or that is not known")

    def require_somewhere(self, *roles: Role) -> None:
        """Raises NotAllowedError where the key has none of these roles in any case now."""
        now = self._now()
        self._lists(now).check_somewhere(self._key, roles, now)

    def require_admin(self) -> None:
        """Raises NotAllowedError where the key may not administer now."""
        now = self._now()
        self._lists(now).check_admin(self._key, now)

    def require_recorder(self, case: str | None) -> None:
        """Raises NotAllowedError, UntrustedSignerError where the key may add no custody record in a case now (None: in any)."""
        now = self._now()
        self._lists(now).check_recorder(self._key, case, now)

    @property
    def are_bound(self) -> bool:
        """Whether the key is bound to some cases."""
        return self._lists(self._now()).grant_of(self._key).cases is not None

    def knows(self, case: str) -> bool:
        """Whether the key has anything to do with a case, by its exact number."""
        return self._lists(self._now()).grant_of(self._key).covers(case)

    def may_read_folder(self, folder: str) -> bool:
        """Whether the key may read the case in a folder. Where its number cannot be found out, only who may read every case."""
        return self._may("read", None) or self._may_in_folder("read", folder)

    def _may_in_folder(self, role: Role, folder: str) -> bool:
        case = self._case_of(folder) if is_derived(folder) else folder
        return case is not None and self._may(role, case)

    def _case_of(self, folder: str) -> str | None:
        """The number of the case in a folder, which does not change; None where it cannot be found out."""
        if self._found is None or self._found[0] != folder:
            with contextlib.suppress(EvidenceSyncError):
                self._found = next(((folder, name.case.text) for name in readable_names(self._vault.layout, folder)), None)
        return self._found[1] if self._found is not None and self._found[0] == folder else None

    def _may(self, role: Role, case: str | None) -> bool:
        try:
            self.require(role, case)
        except NotAllowedError:
            return False
        return True

    def _lists(self, now: int) -> TrustLists:
        if self._trust is None or not 0 <= now - self._trust[1] < _FRESH_NS:
            self._trust = self._vault.load_trust(), now
        trust = self._trust[0]
        trust.principal_for(self._key, SESSION_NAMESPACE, now)
        return trust
