"""Which keys are offered to a server, and in which order. Public keys are the only way in; no password is ever sent."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import asyncssh

from evidencesync.errors import ExposedKeyError, NoHomeError, PassphraseError, SigningKeyError
from evidencesync.evidence.display import safe_text
from evidencesync.home import home_folder
from evidencesync.ssh.config import Hop
from evidencesync.ssh.options import AskPassphrase
from evidencesync.ssh.private_files import check_key_file

_DEFAULT_FILES: Final = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
_ATTEMPTS: Final = 3
_HINT: Final = "Name the key with -i FILE, or load it into ssh-agent."


@dataclass(slots=True)
class Identities:
    """Keys for one server. `locked` are key files that nobody has decrypted; `agent` must stay open while keys are in use."""

    keys: list[asyncssh.SSHKeyPair] = field(default_factory=list)
    locked: list[Path] = field(default_factory=list)
    agent: asyncssh.SSHAgentClient | None = None

    async def close(self) -> None:
        """Lets go of the agent."""
        if self.agent is not None:
            self.agent.close()
            await self.agent.wait_closed()
            self.agent = None


async def load_identities(hop: Hop) -> Identities:
    """The keys to offer: those of the agent, then those of the files; with `-i` or IdentitiesOnly, the files' keys alone.

    A key that both have is offered once, through the agent. Raises SigningKeyError for a named file that is no key, or that
    others can read; a default file that can't be used is passed over, as ssh does.
    """
    found = Identities()
    named = hop.identities
    files = named if named is not None else _default_files()
    held = await _agent_keys(hop.agent, found)
    wanted: set[bytes] = set()
    from_files: list[asyncssh.SSHKeyPair] = []
    for file in files:
        public = await asyncio.to_thread(_read_public, file)
        if public is not None:
            wanted.add(public)
            if public in held:
                continue
        try:
            from_files.extend(await asyncio.to_thread(_load_file, file, None, hop.certificates))
        except _LockedKeyError:
            found.locked.append(file)
        except ExposedKeyError:
            if named is not None:
                raise
        except (OSError, asyncssh.KeyImportError, ValueError) as error:
            if named is not None and not (public is not None or (isinstance(error, FileNotFoundError) and len(files) > 1)):
                raise SigningKeyError(
                    f"no SSH key can be read from {safe_text(str(file))}: {_reason(error)}", hint=_HINT
                ) from error
    offered = [pair for blob, pair in held.items() if not hop.identities_only or blob in wanted]
    found.keys = [*offered, *(pair for pair in from_files if pair.public_data not in held)]
    return found


async def unlock_identities(found: Identities, hop: Hop, ask: AskPassphrase) -> list[asyncssh.SSHKeyPair]:
    """Asks for the passphrase of each locked key; an empty answer skips it. Raises PassphraseError after three wrong ones."""
    opened: list[asyncssh.SSHKeyPair] = []
    for file in found.locked:
        for attempt in range(_ATTEMPTS):
            passphrase = await asyncio.to_thread(ask, safe_text(str(file)))
            if not passphrase:
                break
            try:
                opened.extend(await asyncio.to_thread(_load_file, file, passphrase, hop.certificates))
                break
            except (OSError, ValueError, asyncssh.KeyImportError, asyncssh.KeyEncryptionError) as error:
                if attempt == _ATTEMPTS - 1:
                    raise PassphraseError(f"{safe_text(str(file))} could not be decrypted", hint=_HINT) from error
    return opened


def _default_files() -> tuple[Path, ...]:
    try:
        folder = home_folder() / ".ssh"
    except NoHomeError:
        return ()
    return tuple(folder / name for name in _DEFAULT_FILES)


class _LockedKeyError(Exception):
    """A private key needs a passphrase."""


async def _agent_keys(socket: str, found: Identities) -> dict[bytes, asyncssh.SSHKeyPair]:
    """An agent that is not there holds no keys."""
    if not socket:
        return {}
    agent: asyncssh.SSHAgentClient | None = None
    try:
        agent = await asyncssh.connect_agent(socket)
        keys: Sequence[asyncssh.SSHKeyPair] = await agent.get_keys()
    except (OSError, ValueError, asyncssh.Error):
        if agent is not None:
            agent.close()
        return {}
    found.agent = agent
    return {pair.public_data: pair for pair in keys}


def _read_public(file: Path) -> bytes | None:
    for candidate in (file, file.with_name(file.name + ".pub")):
        with suppress(OSError, ValueError, asyncssh.KeyImportError):
            return asyncssh.read_public_key(candidate).public_data
    return None


def _load_file(file: Path, passphrase: str | None, certificates: tuple[Path, ...]) -> list[asyncssh.SSHKeyPair]:
    check_key_file(file)
    try:
        return list(asyncssh.load_keypairs([str(file)], passphrase, [str(path) for path in certificates]))
    except asyncssh.KeyImportError as error:
        if passphrase is None and str(error).startswith("Passphrase"):  # the only sign that asyncssh gives
            raise _LockedKeyError from error
        raise


def _reason(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return safe_text(text, 200)
