"""Parses the verbose log (`-v`) of OpenSSH's ssh, line by line: facts about the connection, and reasons of failure. No I/O.

The log is a stream of its own (`-E`), apart from what the server prints. But it quotes the server, for example the reason with
which it disconnects. That may hold line breaks, and so lines that look like ssh's own. ssh's own lines are in the log as well,
at the latest at the end of the login. So a fact that is stated in two different ways is a forgery, and ends the session.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final

import msgspec

from evidencesync.evidence.display import safe_text

_MAX_LINE: Final = 16 * 1024
_MAX_KEPT: Final = 40  # of ssh's own words to a person
_MAX_MESSAGE: Final = 300
# Patterns are compiled (and kept, by re) when there is a line to match: while ssh logs in, and not before it is started.
_KEY: Final = r"(?P<type>[\w.@+-]+) (?P<fingerprint>SHA256:[A-Za-z0-9+/]{43})"
_FACTS: Final = (
    (
        "server_version",
        r"debug1: Remote protocol version (?P<protocol>[\d.]+), remote software version (?P<value>.*)",
    ),
    ("recv", r"debug1: kex: server->client cipher: (?P<cipher>\S+) MAC: (?P<mac>\S+) compression: \S+"),
    ("send", r"debug1: kex: client->server cipher: (?P<cipher>\S+) MAC: (?P<mac>\S+) compression: \S+"),
    ("host_key", rf"debug1: Server host (?:key|certificate): {_KEY}(?:, .*)?"),
    ("destination", r"debug1: Authenticating to (?P<host>.*):(?P<port>\d+) as '(?P<user>.*)'"),
)
_CONNECTED: Final = "debug1: Connection established."
_AUTHENTICATED: Final = r'Authenticated to .* ?(?:\(\[.*\]:\d+\)|\(via proxy\))(?: using "[\w@.-]+")?\.'
_ACCEPTED_KEY: Final = r"debug1: Server accepts key: .*? (SHA256:[A-Za-z0-9+/]{43})(?: .*)?"
_HOST_VERIFIED: Final = frozenset({"debug1: SSH2_MSG_NEWKEYS received", "debug1: SSH2_MSG_SERVICE_ACCEPT received"})
_EXIT_STATUS: Final = r"debug1: Exit status (\d{1,10})"
_EXIT_SIGNAL: Final = r"debug1: client_input_channel_req: channel \d{1,10} rtype exit-signal reply \d"
_IS_IDLE: Final = r"@|Transferred: |Bytes per second: |OpenSSH_"
_IS_DEBUG: Final = r"debug\d: "
_OFFENDING: Final = r"Offending (?:key for IP|.* key) in (?P<place>.*:\d+)"


class ConnectFailure(Enum):
    """Why a connection failed, by ssh's log. The most severe first."""

    HOST_KEY_REVOKED = "the host key is marked as revoked"
    HOST_KEY_CHANGED = "another host key is recorded"
    HOST_KEY_UNKNOWN = "the host key is not recorded"
    DENIED = "no key is accepted"
    NAME = "the name is not found"
    NO_ALGORITHM = "no algorithm in common"
    NOT_SSH = "it does not speak SSH"
    SESSION = "the server runs nothing for us"
    SILENT = "no answer in time"
    UNREACHABLE = "nobody can be reached there"
    CLOSED = "it hung up"


_REFUSALS: Final = (
    (ConnectFailure.HOST_KEY_REVOKED, r".*(?:REVOKED HOST KEY DETECTED|[Hh]ost key .*revoked|evoked (?:host|CA) key).*"),
    (ConnectFailure.HOST_KEY_CHANGED, r".*REMOTE HOST IDENTIFICATION HAS CHANGED.*"),
    (ConnectFailure.HOST_KEY_UNKNOWN, r"Host key verification failed\.|No .* host key is known for .* strict checking\."),
    (
        ConnectFailure.DENIED,
        (r"(?:.*: )?Permission denied \(.*|.*Too many authentication failures.*|(?:.*: )?No more authentication methods.*"),
    ),
    (ConnectFailure.NAME, r".*: Could not resolve host.*|.*[Nn]ame or service not known.*"),
    (ConnectFailure.NO_ALGORITHM, r"(?:.*: )?[Uu]nable to negotiate .*|.*no matching .* found.*|Bad server host key: .*"),
    (
        ConnectFailure.NOT_SSH,
        (
            r"(?!Load key ).*(?:Bad remote protocol version|banner line|Bad packet length|invalid format|[Pp]rotocol mismatch|"
            r"major versions differ|client sent invalid|[Cc]orrupted|message authentication code|incorrect signature).*"
        ),
    ),
    (
        ConnectFailure.SESSION,
        (
            r"(?:.*: )?(?:exec|subsystem|shell) request failed on channel.*|channel \d+: open failed: .*|"
            r"(?:.*: )?stdio forwarding failed"
        ),
    ),
    (ConnectFailure.SILENT, r".*(?:timed out|Timeout, server .* not responding|Operation timed out).*"),
    (
        ConnectFailure.UNREACHABLE,
        (
            r"(?:.*: )?connect to (?:host|address) .*: (?!Connection reset).*|"
            r".*(?:No route to host|unreachable|Connection refused).*"
        ),
    ),
    (
        ConnectFailure.CLOSED,
        (
            r".*(?:[Cc]onnection (?:to .* )?(?:closed|reset)|[Rr]eceived disconnect|Disconnected from|Broken pipe|"
            r"UNKNOWN port|closed by (?:remote )?host|Software caused connection abort).*"
        ),
    ),
)
_SEVERITY: Final = tuple(ConnectFailure)
_HOST_KEY: Final = frozenset({ConnectFailure.HOST_KEY_REVOKED, ConnectFailure.HOST_KEY_CHANGED, ConnectFailure.HOST_KEY_UNKNOWN})


def is_for_people(line: str) -> bool:
    """Whether ssh says a line of its log to a person also without `-v`."""
    return bool(line.strip()) and not re.match(f"{_IS_DEBUG}|{_IS_IDLE}", line)


class ServerKey(msgspec.Struct, frozen=True):
    """A host key that a server has shown. The fingerprint of a certificate is that of the key in it."""

    type: str
    fingerprint: str
    is_certificate: bool


class SshLog(msgspec.Struct):
    """What the log of one ssh has stated so far."""

    host_key: ServerKey | None = None
    destination: tuple[str, str, str] | None = None
    """Host, port and user, as ssh has used them."""
    algorithms: dict[str, str] = msgspec.field(default_factory=dict)
    is_connected: bool = False
    is_host_verified: bool = False
    is_authenticated: bool = False
    login_key: str | None = None
    exit_status: int | None = None
    """The remote command's exit status, if the server has sent it."""
    was_signalled: bool = False
    """Whether the server has said that a signal has ended the remote command."""
    contradiction: str | None = None
    """The name of a fact that was stated in two different ways."""
    refusals: dict[ConnectFailure, str] = msgspec.field(default_factory=dict)
    offending: list[str] = msgspec.field(default_factory=list)
    """Where another host key is recorded: `file:line`."""
    messages: list[str] = msgspec.field(default_factory=list)
    """The last messages of ssh for a person, safe to show."""
    _stated: dict[str, str] = msgspec.field(default_factory=dict)
    _is_login_over: bool = False
    _rest: bytes = b""

    def update(self, data: bytes) -> list[str]:
        """Parses the next bytes of the log. Returns the lines that they complete, which are not safe to show."""
        *whole, rest = (self._rest + data).split(b"\n")
        self._rest = rest[-_MAX_LINE:]
        lines = [line.rstrip(b"\r")[:_MAX_LINE].decode("utf-8", "backslashreplace") for line in whole]
        for line in lines:
            self._take(line)
        return lines

    def end_login(self) -> None:
        """Ends the parsing of facts: the other end has sent its first byte, so all facts of the login have been stated."""
        self._is_login_over = True

    @property
    def refusal(self) -> ConnectFailure | None:
        """The most severe failure in the log; None without one."""
        return next((refusal for refusal in _SEVERITY if refusal in self.refusals), None)

    @property
    def host_key_refusal(self) -> ConnectFailure | None:
        """The refusal of the host key, which ends every ssh at once: a login in the same log is then a forgery.

        None after `end_login`: there was a login, and such lines come from the server.
        """
        return self.refusal if self.refusal in _HOST_KEY and not self._is_login_over else None

    @property
    def last_message(self) -> str:
        """The last line that gives a reason, safe to show."""
        if (refusal := self.refusal) is not None:
            return self.refusals[refusal]
        return self.messages[-1] if self.messages else ""

    def _take(self, line: str) -> None:
        for name, pattern in _FACTS:
            if (match := re.fullmatch(pattern, line)) is not None:
                self._record_fact(name, match.groupdict(), is_certificate="certificate" in line)
                return
        if line == _CONNECTED:
            self.is_connected = True
            self._forget_refusals()  # another address of the same name did not answer
        elif line in _HOST_VERIFIED:
            self.is_host_verified = True
        elif (accepted := re.fullmatch(_ACCEPTED_KEY, line)) is not None:
            self.login_key = accepted[1]
        elif re.fullmatch(_AUTHENTICATED, line):
            self.is_authenticated = self.is_host_verified = True
            self._forget_refusals()
        elif (status := re.fullmatch(_EXIT_STATUS, line)) is not None and self.is_authenticated:
            self.exit_status = int(status[1])
        elif re.fullmatch(_EXIT_SIGNAL, line) and self.is_authenticated:
            self.was_signalled = True
        elif not re.match(_IS_DEBUG, line):
            self._record_message(line)

    def _forget_refusals(self) -> None:
        """Drops earlier reasons, since the connection has come further. A refused host key stays."""
        self.refusals = {refusal: word for refusal, word in self.refusals.items() if refusal in _HOST_KEY}
        self.messages.clear()

    def _record_fact(self, name: str, found: dict[str, str], *, is_certificate: bool) -> None:
        if self._is_login_over:
            return  # keys are exchanged anew; ssh itself checks that the host key is the same
        stated = found["fingerprint"] if name == "host_key" else " ".join(found.values())
        if self._stated.setdefault(name, stated) != stated:
            self.contradiction = name
            return
        match name:
            case "host_key":
                self.host_key = ServerKey(found["type"], found["fingerprint"], is_certificate)
            case "destination":
                self.destination = found["host"], found["port"], found["user"]
            case "server_version":
                self.algorithms["server_version"] = safe_text(f"SSH-{found['protocol']}-{found['value']}", 200)
            case _:
                cipher, mac = found["cipher"], found["mac"]
                self.algorithms[f"{name}_cipher"] = safe_text(cipher, 200)
                self.algorithms[f"{name}_mac"] = safe_text(cipher if mac == "<implicit>" else mac, 200)

    def _record_message(self, line: str) -> None:
        for refusal, pattern in _REFUSALS:
            if re.fullmatch(pattern, line):
                self.refusals.setdefault(refusal, safe_text(line, _MAX_MESSAGE))
        if (offending := re.fullmatch(_OFFENDING, line)) is not None and len(self.offending) < _MAX_KEPT:
            self.offending.append(safe_text(offending["place"], _MAX_MESSAGE))
        if line.strip() and not re.match(_IS_IDLE, line):
            self.messages.append(safe_text(line, _MAX_MESSAGE))
            del self.messages[:-_MAX_KEPT]
