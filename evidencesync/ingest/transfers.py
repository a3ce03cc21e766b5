"""Lists the transfers that run or wait in a vault, and ends waiting ones, through their sessions' sockets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from evidencesync.connection.session_socket import ResumeRequest, SessionState, ask_state, request_resume
from evidencesync.errors import EvidenceSyncError, LockedError
from evidencesync.evidence.display import safe_text
from evidencesync.evidence.utc_time import format_utc_time
from evidencesync.files.disk import locked_folder
from evidencesync.vault.catalog import case_folders, item_folders
from evidencesync.vault.layout import ItemLayout, VaultLayout
from evidencesync.vault.staging import opened_sessions

_ENDING_SECONDS: Final = 20.0  # for a session that is just storing something
_POLL_SECONDS: Final = 0.05


class Transfer(msgspec.Struct, frozen=True):
    """A running session, and the state that it reports. `case` and `item` are folder names."""

    case: str
    item: str
    session: str
    session_state: SessionState

    @property
    def waits(self) -> bool:
        """Whether the session waits for its sender to reconnect."""
        return self.session_state.state == "waiting"


def find_transfers(vault: VaultLayout) -> list[Transfer]:
    """Returns all sessions of a vault that answer at their sockets: those that run, and those that wait."""
    return [found for case in case_folders(vault) for found in _of_case(vault, case)]


def add_holder(locked: LockedError, layout: ItemLayout) -> None:
    """Adds to the error who holds the item for a transfer, and since when, where that transfer says so."""
    with contextlib.suppress(EvidenceSyncError):
        if (said := next(_states(layout), None)) is not None:
            locked.message += f": {_holder_text(said)}"


def find_holder(layout: ItemLayout) -> str | None:
    """Returns who pushes into an item just now, and since when. A transfer that waits for its sender gives way to another one."""
    with contextlib.suppress(EvidenceSyncError):
        return next((_holder_text(said) for said in _states(layout) if said.state != "waiting"), None)
    return None


def _states(layout: ItemLayout) -> Iterator[SessionState]:
    for _, session_fd in opened_sessions(layout):
        if (said := ask_state(session_fd)) is not None:
            yield said


def _holder_text(said: SessionState) -> str:
    return f"{safe_text(said.principal)}, {said.state} since {format_utc_time(said.since_ns)}"


def end_waiting(vault: VaultLayout, transfers: Iterable[Transfer]) -> list[Transfer]:
    """Asks waiting sessions to end; returns those that have. A session whose sender has reconnected meanwhile goes on."""
    ended = []
    for one in transfers:
        layout = ItemLayout(vault.case(one.case) / one.item)
        asked = False
        with contextlib.suppress(EvidenceSyncError):
            for session, session_fd in opened_sessions(layout):
                if session == one.session:
                    asked = request_resume(session_fd, ResumeRequest("", "", resumes=False)) is True
        if asked and _is_free(layout):
            ended.append(one)
    return ended


def _of_case(vault: VaultLayout, case: str) -> list[Transfer]:
    with contextlib.suppress(EvidenceSyncError):  # as for an item
        return [found for item in item_folders(vault, case) for found in _of_item(vault, case, item)]
    return []


def _of_item(vault: VaultLayout, case: str, item: str) -> Iterator[Transfer]:
    layout = ItemLayout(vault.case(case) / item)
    with contextlib.suppress(EvidenceSyncError):  # `list` and `verify` report what is wrong with the item
        for session, session_fd in opened_sessions(layout):
            if (session_state := ask_state(session_fd)) is not None:
                yield Transfer(case, item, session, session_state)


def _is_free(layout: ItemLayout) -> bool:
    """Waits until the item's lock is free, which shows that the session has ended; returns whether it is."""
    until = time.monotonic() + _ENDING_SECONDS
    while True:
        try:
            with locked_folder(layout.root, "the item"):
                return True
        except LockedError:
            if time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)  # the session releases the lock last, after it has closed its staging area
