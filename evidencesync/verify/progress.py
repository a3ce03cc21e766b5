"""How far a check is: plain numbers that one thread raises and a display reads whenever it likes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class VerifyProgress:
    """Files and bytes that were read, of those that the receipts name (a hint for a display, nothing more)."""

    files: int = 0
    bytes: int = 0
    total_files: int = 0
    total_bytes: int = 0
    place: str = ""
    """The item and acquisition that is being checked; safe to show."""
