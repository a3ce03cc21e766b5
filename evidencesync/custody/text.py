"""How a signed document's bytes are read in one strict way, and which text it may hold.

Text is held to a fixed list (`evidence.display.is_clean`): a document that is good today stays good when Unicode grows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

import msgspec

from evidencesync.errors import InvalidNameError, MalformedDocumentError, PathEscapeError
from evidencesync.evidence.display import is_clean, safe_text
from evidencesync.evidence.identity import Title
from evidencesync.evidence.path import from_json_fields
from evidencesync.evidence.utc_time import format_utc_time, parse_utc_time
from evidencesync.limits import MAX_DOCUMENT_FIELDS, MAX_PATH

T = TypeVar("T")

# All that msgspec and the integers and texts below it can raise on bytes from outside.
UNREADABLE: Final = (msgspec.MsgspecError, RecursionError, OverflowError, ValueError)
_ENCODER: Final = msgspec.json.Encoder()


def decode_exactly(decoder: msgspec.json.Decoder[T], line: bytes, what: str) -> T:
    """The value of a JSON text without spaces, which must be the very bytes that encoding the value gives.

    So duplicate keys, other spellings of numbers and escapes, odd spacing and unknown fields cannot hide. Raises
    MalformedDocumentError for anything else, whatever the bytes are.
    """
    try:
        value = decoder.decode(line)
        same = _ENCODER.encode(value) == line
    except UNREADABLE as error:
        raise MalformedDocumentError(f"{what} cannot be read: {safe_text(str(error), 200)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} is not in the one form that a signer writes")
    return value


def encode_readable(document: msgspec.Struct) -> bytes:
    """A document as indented JSON with a newline at its end: what is stored and signed."""
    return msgspec.json.format(_ENCODER.encode(document), indent=2) + b"\n"


def decode_readable(decoder: msgspec.json.Decoder[T], data: bytes, limit: int, what: str) -> T:
    """The value of an indented document, which must be the very bytes that `encode_readable` gives for it."""
    if len(data) > limit:
        raise MalformedDocumentError(f"{what} is {len(data)} bytes long; the limit is {limit}")
    try:
        value = decoder.decode(data)
        same = msgspec.json.format(_ENCODER.encode(value), indent=2) + b"\n" == data
    except UNREADABLE as error:
        raise MalformedDocumentError(f"{what} cannot be read: {safe_text(str(error), 200)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} is not in the one form that a signer writes")
    return value


def check_texts(document: msgspec.Struct, what: str) -> None:
    """Checks every text in a document, keys included: clean, bounded in length and in number."""
    for count, text in enumerate(_texts(msgspec.to_builtins(document)), 1):
        if count > MAX_DOCUMENT_FIELDS:
            raise MalformedDocumentError(f"{what} has more than {MAX_DOCUMENT_FIELDS} fields")
        if len(text) > 2 * MAX_PATH or not is_clean(text):
            raise MalformedDocumentError(f"{what} holds unclean or overlong text: {safe_text(text, 80)}")


def check_title(title: str, what: str) -> None:
    """Checks a case or item number as `evidence.identity.Title` does."""
    try:
        Title(title)
    except InvalidNameError as error:
        raise MalformedDocumentError(f"{what}: {error.message}") from error


def check_utc_time(moment: str, what: str) -> None:
    """Checks that a clock reading is a real one, in its one spelling."""
    try:
        same = format_utc_time(parse_utc_time(moment)) == moment
    except ValueError as error:
        raise MalformedDocumentError(f"{what} holds a time that does not exist: {safe_text(moment, 40)}") from error
    if not same:
        raise MalformedDocumentError(f"{what} holds a time in another spelling: {safe_text(moment, 40)}")


def check_path_pair(text: str | None, encoded: str | None, limit: int, what: str) -> bytes:
    """The raw bytes of a path that leads nowhere of ours (a link's target, where the source lies)."""
    try:
        raw = from_json_fields(text, encoded)
    except PathEscapeError as error:
        raise MalformedDocumentError(f"{what}: {error.message}") from error
    if len(raw) > limit or b"\0" in raw:
        raise MalformedDocumentError(f"{what} is too long, or holds a NUL byte: {safe_text(raw, 80)}")
    return raw


def _texts(value: object) -> Iterable[str]:
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, str):
            yield part
        elif isinstance(part, dict):
            pending.extend(part.keys())
            pending.extend(part.values())
        elif isinstance(part, list):
            pending.extend(part)
