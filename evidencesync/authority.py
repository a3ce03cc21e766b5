"""Asks a time-stamping authority over HTTP (RFC 3161, clause 3.4). The only place that uses a network without SSH.

It is used only if a person names an authority (`timestamp fetch --tsa URL`). It sends a request: a digest and a random number.
The answer is signed, so the connection need not be trusted. Its size and its time are bounded, and no redirection is followed.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from http.client import HTTPException
from typing import Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (  # noqa: TID251  # the one exception, see above
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
)

from evidencesync.errors import ConnectError, LinkLostError, TimestampError, UsageError
from evidencesync.evidence.display import is_unsafe, safe_text, shell_text
from evidencesync.limits import MAX_TIMESTAMP

_QUERY: Final = "application/timestamp-query"
_REPLY: Final = "application/timestamp-reply"
_BLOCK: Final = 4096
_BARE_HOST: Final = re.compile(r"[\w-]+(?:\.[\w-]+)+(?::[0-9]+)?(?:/[\w./-]*)?")
_MAX_URL: Final = 2000
_ELSEWHERE: Final = (
    "Look at the URL, and whether this machine may reach it (https_proxy names a proxy). "
    "From another machine: evidencesync timestamp request, then attach"
)


def ask_authority(url: str, request: bytes, timeout_seconds: float) -> bytes:
    """Sends an encoded request, and returns the authority's answer, unchecked.

    Uses the proxies of the environment: many machines reach an authority only through them. Raises UsageError for an invalid
    URL, ConnectError, LinkLostError if the authority is silent for `timeout_seconds` or the whole answer takes longer, and
    TimestampError if the answer is no timestamp.
    """
    shown = _check_url(url)
    said: list[bytes | Exception] = []

    def ask() -> None:
        try:
            said.append(_ask(url, shown, request, timeout_seconds))
        except Exception as error:  # noqa: BLE001 - raised again in the caller's thread
            said.append(error)

    # In a thread, for a socket's timeout is one for each call: a server may say its headers a byte at a time, for ever.
    asking = threading.Thread(target=ask, name="authority", daemon=True)
    asking.start()
    asking.join(timeout_seconds)
    if not said:
        raise _too_slow(shown)
    if isinstance(said[0], Exception):
        raise said[0]
    return said[0]


def _ask(url: str, shown: str, request: bytes, timeout_seconds: float) -> bytes:
    # Assembled from parts: urllib's default opener follows redirections, also to ftp.
    opener = OpenerDirector()
    for handler in (ProxyHandler, HTTPHandler, HTTPSHandler, HTTPDefaultErrorHandler, HTTPErrorProcessor):
        opener.add_handler(handler())
    opener.addheaders = []
    headers = {"Content-Type": _QUERY, "Accept": _REPLY, "User-Agent": "evidencesync"}
    deadline = time.monotonic() + timeout_seconds
    try:
        post = Request(url, request, headers, method="POST")  # noqa: S310  # its scheme was checked
        with opener.open(post, timeout=timeout_seconds) as answer:
            kind = answer.headers.get_content_type()
            if kind != _REPLY:
                raise TimestampError(f"{shown} answers with {safe_text(kind, 80)}, which is no timestamp")
            return _read(answer.read1, shown, deadline)
    except HTTPError as error:
        with error:
            raise ConnectError(f"{shown} refuses the request: HTTP status {error.code}", hint=_hint(error.code)) from error
    except TimeoutError as error:
        raise _too_slow(shown) from error
    except URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise _too_slow(shown) from error
        raise ConnectError(f"{shown} cannot be reached: {_reason(error.reason)}", hint=_ELSEWHERE) from error
    except (OSError, HTTPException) as error:
        raise ConnectError(f"{shown} does not answer as a server should: {safe_text(str(error), 200)}") from error


def _as_url(text: str) -> str:
    """An address as it may have been meant by one without `https://`; an example where nobody knows."""
    return f"https://{text}" if _BARE_HOST.fullmatch(text) else "https://tsa.example/path"


def _check_url(url: str) -> str:
    """Checks a URL, and returns how it is shown. Raises UsageError."""
    try:
        parts = urlsplit(url)
        named = parts.hostname, parts.port
    except ValueError as error:
        raise UsageError(
            "the authority's address is not a valid URL", hint="It looks like this: https://tsa.example/path"
        ) from error
    if parts.scheme not in ("http", "https") or not named[0] or len(url) > _MAX_URL or any(map(is_unsafe, url)) or " " in url:
        raise UsageError(
            "the authority's address must begin with https:// or http://, and name a host",
            hint=f"Write it in full, as in: {shell_text(_as_url(url))}",
        )
    if parts.username is not None or parts.password is not None:
        raise UsageError("the authority's address contains a user name or a password", hint="Nothing but a digest is ever sent.")
    return f"the authority {safe_text(parts.netloc, 200)}"


def _read(read: Callable[[int], bytes], shown: str, deadline: float) -> bytes:
    data = b""
    while part := read(_BLOCK):
        data += part
        if len(data) > MAX_TIMESTAMP:
            raise TimestampError(f"{shown} answers with more than {MAX_TIMESTAMP} bytes")
        if time.monotonic() > deadline:
            raise _too_slow(shown)
    return data


def _too_slow(shown: str) -> LinkLostError:
    return LinkLostError(f"{shown} did not answer in time", hint="Run the same command again, or give it more time: --timeout.")


def _reason(reason: str | BaseException) -> str:
    """Why there is no connection, without the number that the system gives to it."""
    why = reason.strerror if isinstance(reason, OSError) and reason.strerror else str(reason)
    return safe_text(why, 200)


def _hint(status: int) -> str | None:
    return "The authority redirects to another address. Name that one." if 300 <= status < 400 else None
