"""Speaks with an ssh-agent: which keys it holds, and signatures by them. So a key may live in a token, or in another machine.

Source: draft-ietf-sshm-ssh-agent. Answers of the agent are parsed as strictly as any other input.
"""

from __future__ import annotations

import os
import socket
from typing import Final

import msgspec

from evidencesync.custody.publickey import InvalidPublicKeyError, PublicKey, pad_rsa_signature
from evidencesync.custody.wire import WireError, WireReader, write_string, write_uint32
from evidencesync.errors import SigningKeyError
from evidencesync.limits import MAX_AGENT_REPLY

_LIST_SECONDS: Final = 10.0
_SIGN_SECONDS: Final = 120.0  # a person may have to touch a token, or to confirm
_REQUEST_IDENTITIES: Final = 11
_IDENTITIES_ANSWER: Final = 12
_SIGN_REQUEST: Final = 13
_SIGN_RESPONSE: Final = 14
_RSA_SHA2_512: Final = 4
_MAX_AGENT_KEYS: Final = 1000


class AgentSigner(msgspec.Struct, frozen=True):
    """A key in the agent. Each signature is one request over `SSH_AUTH_SOCK`."""

    public_key: PublicKey

    def sign(self, data: bytes) -> bytes:
        """The SSH signature blob over `data`; waits for a touch or a confirmation. Raises SigningKeyError."""
        flags = _RSA_SHA2_512 if self.public_key.algorithm == "ssh-rsa" else 0
        request = write_string(self.public_key.blob) + write_string(data) + write_uint32(flags)
        try:
            answer = _ask_agent(_SIGN_REQUEST, request, _SIGN_RESPONSE, _SIGN_SECONDS)
            signature = answer.string()
            answer.end()
            return pad_rsa_signature(self.public_key, signature)
        except WireError as error:
            raise SigningKeyError(f"the agent's answer is malformed: {error.message}") from error


def agent_keys() -> list[PublicKey]:
    """The keys in the agent that may sign, in its order; others are left out. Raises SigningKeyError."""
    keys: list[PublicKey] = []
    try:
        answer = _ask_agent(_REQUEST_IDENTITIES, b"", _IDENTITIES_ANSWER, _LIST_SECONDS)
        count = answer.uint32()
        if count > _MAX_AGENT_KEYS:
            raise SigningKeyError("the agent says that it has more keys than any real one")
        for _ in range(count):
            blob = answer.string()
            answer.string()  # the comment
            try:
                keys.append(PublicKey.from_blob(blob))
            except InvalidPublicKeyError:
                continue  # a certificate, or a kind of key that may not sign: no error of the agent
        answer.end()
    except WireError as error:
        raise SigningKeyError(f"the agent's answer is malformed: {error.message}") from error
    return keys


def choose_from_agent(wanted: PublicKey | None) -> AgentSigner:
    """The signer for one key in the agent; with None for the only one that may sign. Raises SigningKeyError."""
    keys = agent_keys()
    if wanted is not None:
        if wanted not in keys:
            raise SigningKeyError(f"the agent does not hold the key {wanted.fingerprint}", hint="Load it with: ssh-add FILE")
        return AgentSigner(wanted)
    if not keys:
        raise SigningKeyError("the agent holds no key that may sign", hint="Load one with: ssh-add FILE")
    if len(keys) > 1:
        held = ", ".join(key.fingerprint for key in keys)
        raise SigningKeyError(
            f"the agent holds more than one key: {held}", hint="Choose one with --sign-key FILE.pub, its public part."
        )
    return AgentSigner(keys[0])


def agent_holds(key: PublicKey) -> bool:
    """Whether the agent holds a key, so that no passphrase is needed. False without an agent."""
    if not os.environ.get("SSH_AUTH_SOCK"):
        return False
    try:
        return key in agent_keys()
    except SigningKeyError:
        return False  # the passphrase will be asked for


def _ask_agent(kind: int, body: bytes, expected: int, timeout_seconds: float) -> WireReader:
    address = os.environ.get("SSH_AUTH_SOCK")
    if not address:
        raise SigningKeyError("no ssh-agent: SSH_AUTH_SOCK is not set", hint="Start one, or name a key: --sign-key FILE")
    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise SigningKeyError("this system has no Unix sockets to speak with an agent", hint="Use --sign-key FILE.")
    message = bytes([kind]) + body
    try:
        with socket.socket(family, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout_seconds)
            connection.connect(address)
            connection.sendall(write_string(message))
            length = int.from_bytes(_receive(connection, 4), "big")
            if not 1 <= length <= MAX_AGENT_REPLY:
                raise SigningKeyError("the agent's answer is empty or too long")
            answer = _receive(connection, length)
    except OSError as error:
        raise SigningKeyError(f"the agent does not answer: {error.strerror or error}") from error
    if answer[0] != expected:
        raise SigningKeyError("the agent refused: the key is gone or locked, or its user said no")
    return WireReader(answer[1:])


def _receive(connection: socket.socket, length: int) -> bytes:
    parts = bytearray()
    while len(parts) < length:
        part = connection.recv(length - len(parts))
        if not part:
            raise SigningKeyError("the agent closed the connection")
        parts += part
    return bytes(parts)
