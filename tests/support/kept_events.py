"""A log in memory."""

from __future__ import annotations

import json
from typing import Any

from evidencesync.connection.event_log import LogEvent, line_of


class KeptEvents:
    """A sink that keeps lines as they would be written."""

    lost = 0

    def __init__(self) -> None:
        self.lines: list[bytes] = []

    def write(self, event: LogEvent) -> None:
        self.lines.append(line_of(event))

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]

    def names(self, role: str) -> list[str]:
        return [event["event"] for event in self.events if event["role"] == role]
