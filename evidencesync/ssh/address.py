"""Parses addresses of vaults and sources: a local path, `[user@]host:path`, or `ssh://[user@]host[:port]/path`."""

from __future__ import annotations

import ipaddress
import re
from typing import Final
from urllib.parse import unquote

import msgspec

from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_unsafe, safe_text, shell_text
from evidencesync.limits import MAX_PATH

_SCHEME: Final = "ssh://"
_OTHER_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://([^/:]*)(?::[0-9]*)?(/.*)?", re.DOTALL)
_PORT_BEFORE_PATH: Final = re.compile(r"([0-9]{1,5}):(.*)", re.DOTALL)
_BARE_IP6: Final = re.compile(r"(?P<user>[^/@\[\]]*@)?(?P<host>[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*):(?P<path>.*)", re.DOTALL)
_WINDOWS_DRIVE: Final = re.compile(r"[A-Za-z]:[\\/]")
_HOST: Final = re.compile(r"\w(?:[\w.-]{0,251}\w)?\.?")  # RFC 1123, the underscore and other scripts that DNS is full of
_USER: Final = re.compile(r"[^\s\-@:/\\'\"`$;|&<>()][^\s@:/\\'\"`$;|&<>()]{0,254}")
_ONE_SLASH: Final = re.compile(r"ssh:/([^/].*)", re.DOTALL)
_HINT: Final = "Write it as a local path, [user@]host:path, or ssh://[user@]host[:port]/path (an IPv6 address in brackets)."


class Address(msgspec.Struct, frozen=True):
    """A checked address. A local one has a path and nothing else. `host` and `user` can't be taken for an option of a program.

    `port` is None if the address has none. A remote `path` that does not begin with `/` is relative to the account's home. It
    may be empty, which is enough to fetch a host key and for nothing else.
    """

    user: str | None
    host: str
    port: int | None
    path: str
    local: bool

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises UsageError for an empty or ambiguous address, and for characters that no honest host, user or path has."""
        if not text:
            raise UsageError("an address is empty", hint=_HINT)
        if len(text) > MAX_PATH:
            raise UsageError("an address is longer than any path", hint=_HINT)
        if text.startswith(_SCHEME):
            return _parse_url(text)
        _refuse_likely_mistake(text)
        split = None if _WINDOWS_DRIVE.match(text) else _split_host(text)
        if split is None:
            if "\0" in text:
                raise UsageError("a local path holds a zero byte", hint=_HINT)
            return cls(None, "", None, text, local=True)
        authority, path = split
        user, host = _parse_authority(authority, text)
        return cls(user, host, None, _parse_path(path, text), local=False)

    def without_path(self, what: str) -> UsageError:
        """The error for a server that was named without the path of a vault or source (`what`) on it."""
        named = self.path if self.local else self.host_text
        right = f"{named}:/path" if self.port is None else f"{_SCHEME}{named}:{self.port}/path"
        shown = self.display()
        port = "" if self.port is None else f" --port {self.port}"
        hint = f"Add the {what}'s path: {shell_text(right)}"
        if what == "vault" and not self.local:
            hint += f". The one vault that a server serves: {shell_text(f'{named}:/')}{port}"
        return UsageError(f"{shown} names a server, but no {what} on it", hint=hint)

    @property
    def host_text(self) -> str:
        """User and host as `ssh://` writes them: an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" if self.user else host

    @property
    def path_there(self) -> str:
        """The path as it is typed on its own machine, in any folder."""
        return self.path if self.local or self.path.startswith(("/", "~")) else f"~/{self.path}"

    @property
    def text(self) -> str:
        """The address as a person would type it, not safe for a terminal."""
        if self.local:
            return self.path
        if self.port is None:
            return f"{self.host_text}:{self.path}"
        return f"{_SCHEME}{self.host_text}:{self.port}{self._url_path()}"

    def display(self) -> str:
        """The address as a person would type it, safe for a terminal."""
        return safe_text(self.text)

    def _url_path(self) -> str:
        if not self.path:
            return ""
        path = self.path.replace("%", "%25")
        return path if path.startswith("/") else f"/~/{path}"


def parse_server(text: str) -> tuple[str | None, str, int | None]:
    """Parses `[user@]host[:port]`, the notation of ProxyJump, into user, host and port. Raises UsageError."""
    authority = text.removeprefix(_SCHEME)
    port: int | None = None
    head, colon, tail = authority.rpartition(":")
    if colon and "]" not in tail and (":" not in head or head.endswith("]")):
        authority, port = head, _parse_port(tail, text)
    user, host = _parse_authority(authority, text)
    return user, host, port


def _refuse_likely_mistake(text: str) -> None:
    """Raises UsageError for what would name a server that nobody means, such as one called `http`. It says the right form."""
    shown = safe_text(text, 200)
    if text.startswith("file://"):
        raise UsageError(f"{shown}: a local path has no scheme", hint=f"Write it as: {shell_text(unquote(text[7:]) or '/path')}")
    if (slash := _ONE_SLASH.fullmatch(text)) is not None:
        raise UsageError(f"{shown}: two slashes are missing", hint=f"Write it as: {shell_text(f'{_SCHEME}{slash[1]}')}")
    if (other := _OTHER_SCHEME.fullmatch(text)) is not None:
        right = shell_text(f"{_SCHEME}{other[2] or 'host'}{other[3] or '/path'}")
        raise UsageError(f"{shown}: evidence travels over SSH, not over {other[1].lower()}://", hint=f"Write it as: {right}")
    if (bare := _BARE_IP6.fullmatch(text)) is not None and _is_ip6(bare["host"]):
        right = shell_text(f"{bare['user'] or ''}[{bare['host']}]:{bare['path'] or '/path'}")
        raise UsageError(f"{shown}: an IPv6 address needs brackets", hint=f"Write it as: {right}")
    host, _, path = text.partition(":")
    if "/" not in host and (port := _PORT_BEFORE_PATH.fullmatch(path)) is not None and "[" not in host:
        right = shell_text(f"{_SCHEME}{host}:{port[1]}/{port[2].lstrip('/') or 'path'}")
        raise UsageError(f"{shown}: a port is written in another way", hint=f"Write it as: {right}")


def _is_ip6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def _parse_url(text: str) -> Address:
    authority, slash, rest = text[len(_SCHEME) :].partition("/")
    if authority.endswith(":"):
        meant = safe_text(f"{_SCHEME}{authority[:-1]}{slash}{rest}", 200)
        raise UsageError(f"{safe_text(text, 200)}: there is no port behind the colon", hint=f"Write it as: {meant}")
    user, host, port = parse_server(authority)
    path = unquote(slash + rest, errors="surrogateescape")
    if path.startswith("/~/"):
        path = path[1:]
    return Address(user, host, port, _parse_path("" if path == "/" else path, text), local=False)


def _split_host(text: str) -> tuple[str, str] | None:
    """Splits `host:path` at the colon; None for a local path."""
    bracket = re.match(r"(?:[^/@\[\]]*@)?\[[^/\[\]]*\]:", text)
    if bracket is not None:
        return text[: bracket.end() - 1], text[bracket.end() :]
    head, colon, path = text.partition(":")
    return (head, path) if colon and "/" not in head else None


def _parse_authority(authority: str, text: str) -> tuple[str | None, str]:
    before, at, host = authority.rpartition("@")
    user = before if at else None
    if user is not None and (not _USER.fullmatch(user) or any(map(is_unsafe, user))):
        raise _refused("user name", user, text)
    if host.startswith("[") and host.endswith("]"):
        return user, _parse_ip6(host[1:-1], text)
    if not _HOST.fullmatch(host) or any(map(is_unsafe, host)):
        raise _refused("host name", host, text)
    return user, host


def _parse_ip6(host: str, text: str) -> str:
    if not _is_ip6(host) or not re.fullmatch(r"[0-9A-Fa-f:.]+(%[A-Za-z0-9_.-]+)?", host):
        raise _refused("IPv6 address", host, text)
    return host


def _parse_port(port: str, text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
        raise _refused("port", port, text)
    return int(port)


def _parse_path(path: str, text: str) -> str:
    """Checks a remote path. `~/` is dropped: a command starts in the home folder. Another user's home cannot be resolved here."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(f"the remote path in {safe_text(text, 200)} is not valid Unicode") from error
    if any(map(is_unsafe, path)):
        raise _refused("remote path", path, text)
    if path in {"~", "~/"}:
        return "."
    if path.startswith("~/"):
        return path[2:].lstrip("/") or "."
    if path.startswith("~"):
        raise UsageError(f"{safe_text(text, 200)}: the home folder of another user can't be named", hint="Write the whole path.")
    return path


def _refused(what: str, value: str, text: str) -> UsageError:
    if not value:
        return UsageError(f"{safe_text(text, 200)!r}: the {what} is empty", hint=_HINT)
    return UsageError(
        f"{safe_text(text, 200)}: {safe_text(value, 100)!r} is not {'an' if what.startswith('IPv6') else 'a'} {what}", hint=_HINT
    )
