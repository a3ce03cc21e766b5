"""What needs two people in a vault, as its records and its list of roles state it."""

from __future__ import annotations

from typing import Final, Literal, get_args

from evidencesync.errors import MalformedDocumentError
from evidencesync.evidence.display import safe_text

NeedsTwo = Literal["seal", "trust"]
ALL_THAT_MAY: Final[tuple[NeedsTwo, ...]] = get_args(NeedsTwo)
TWO_PERSON: Final = "two_person"
"""The detail of a record that states it, and the action of a change of it."""


def parse_rule(text: str) -> tuple[NeedsTwo, ...]:
    """Reads what needs two people, with commas between; by an empty text nothing does. Raises MalformedDocumentError."""
    words = text.split(",") if text else []
    rule = tuple(one for one in ALL_THAT_MAY if one in words)
    if ",".join(rule) != text:
        raise MalformedDocumentError(f"not what may need two people, in its one form: '{safe_text(text, 40)}'")
    return rule


def needs_two(rule: tuple[NeedsTwo, ...], action: str) -> bool:
    """Whether a change of trust needs two people by a rule; one of the rule itself does as long as there is any."""
    return bool(rule) if action == TWO_PERSON else "trust" in rule
