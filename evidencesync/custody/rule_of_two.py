"""What needs two people in a vault, as its records and its list of roles state it."""

from __future__ import annotations

from typing import Final, Literal, get_args

from evidencesync.errors import MalformedDocumentError, UsageError
from evidencesync.evidence.display import safe_text

NeedsTwo = Literal["seal", "trust"]
ALL_THAT_MAY: Final[tuple[NeedsTwo, ...]] = get_args(NeedsTwo)
NOTHING: Final = "nothing"
TWO_PERSON: Final = "two_person"
"""The detail of a record that states it, and the action of a change of it."""


def parse_rule(text: str) -> tuple[NeedsTwo, ...]:
    """Reads what needs two people, with commas between; by an empty text nothing does. Raises MalformedDocumentError."""
    words = text.split(",") if text else []
    rule = tuple(one for one in ALL_THAT_MAY if one in words)
    if ",".join(rule) != text:
        raise MalformedDocumentError(f"not what may need two people, in its one form: '{safe_text(text, 40)}'")
    return rule


def typed_rule(text: str) -> tuple[NeedsTwo, ...]:
    """Reads what a person has typed: words in any order with commas between, or `nothing`. Raises UsageError."""
    words = [] if text.strip() == NOTHING else [word.strip() for word in text.split(",")]
    if unknown := [word for word in words if word not in ALL_THAT_MAY]:
        hint = f"There are: {', '.join(ALL_THAT_MAY)}; or {NOTHING}."
        raise UsageError(f"nothing that may need two people: '{safe_text(unknown[0], 40)}'", hint=hint)
    return tuple(one for one in ALL_THAT_MAY if one in words)


def needs_two(rule: tuple[NeedsTwo, ...], action: str) -> bool:
    """Whether a change of trust needs two people by a rule; one of the rule itself does as long as there is any."""
    return bool(rule) if action == TWO_PERSON else "trust" in rule
