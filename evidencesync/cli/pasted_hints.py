"""Makes commands in hints ready to be pasted: with the vault, the case and the item that were typed in place of their names.

A vault on another machine is named as its command needs it: by its address, with the options by which it is reached, where the
command reads it from here; by its path there, with a word of it, where the command works only where the vault lies.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from evidencesync.cli.meant_places import add_what_was_meant, is_here
from evidencesync.errors import CommandKind, EvidenceSyncError, UntrustedSignerError, UsageError
from evidencesync.evidence.display import safe_text, shell_text

if TYPE_CHECKING:
    from evidencesync.cli.settings import LoadedSettings

_IN_VAULT: Final = re.compile(r"\bVAULT/([\w.]+)")
_COMMAND: Final = re.compile(r"(?<=evidencesync )((?:[a-z-]+ )+)VAULT\b((?: (?:--[a-z-]+|[A-Z]+(?:\.pub)?)(?![\w-]))*)")
"""A command about a vault: what stands before VAULT, and what stands behind it."""
_ITEM: Final = re.compile(r"--case (?:C|CASE) --item (?:I|ITEM)\b")
_FROM_AFAR: Final = frozenset(
    {
        *("push", "watch", "list", "show", "diff", "restore", "verify", "report", "export", "custody", "timestamp", "trust"),
    }
)
"""The commands, or their groups, that take the address of a vault on another machine."""
_ONLY_THERE: Final = "trust rotate-vault-key"
"""The command of such a group that does not."""
_SAID: Final = ("vault's machine", "where the vault lies", "machine that is to write")
"""How a hint says where its command runs."""
_KEY: Final = "KEY.pub --principal NAME"
_ON_ITS_MACHINE: Final = " (on the vault's machine)"
REACHING: Final = ("identity", "sign_key", "port", "ssh_config", "known_hosts", "ssh", "remote_command")
"""The options, by their parameters' names, by which a vault on another machine is reached."""


def takes_address(name: str) -> bool:
    """Whether the command of this name takes the address of a vault on another machine."""
    return name != _ONLY_THERE and (name in _FROM_AFAR or name.split(maxsplit=1)[0] in _FROM_AFAR)


@contextlib.contextmanager
def filling_in_hints(
    values: Mapping[str, object], kind: CommandKind, settings: LoadedSettings, reached_by: Sequence[str] = ()
) -> Iterator[Callable[[EvidenceSyncError], None]]:
    """Fills what a person has typed (`values`, by the parameters' names) into the hints of errors that pass through.

    `reached_by`: the options that were typed to reach the vault, as words. Yields what does so for an error that is not raised.
    """
    key = _signing_key(values, settings)
    names = () if kind is CommandKind.SERVES else ("vault", "case", "item")  # what `serve` says goes to another machine, too
    typed = {name: value for name in names if isinstance(value := values.get(name), str) and value}

    def fill(error: EvidenceSyncError) -> None:
        hint = error.hint_for(kind)
        if hint is not None and (filled := _filled_in(hint, typed, reached_by)) != hint:
            with contextlib.suppress(EvidenceSyncError, OSError):
                if isinstance(error, UntrustedSignerError):
                    filled = _with_key(filled, key, at_hand=is_here(typed.get("vault", "")))
            error.hint = filled
        with contextlib.suppress(EvidenceSyncError, OSError):
            add_what_was_meant(error, kind, values)

    try:
        yield fill
    except EvidenceSyncError as error:
        fill(error)
        raise


def pasted(fill: Callable[[EvidenceSyncError], None], command: str) -> str:
    """A command with what was typed in it, as the hint of an error would say it: `fill` is what `filling_in_hints` yields."""
    said = EvidenceSyncError("", hint=command)
    fill(said)
    return said.hint or command


def _signing_key(values: Mapping[str, object], settings: LoadedSettings) -> str:
    """The key that signs, by the rule of `load_signer`: what was typed, or the settings name, or the usual one."""
    named = values.get("sign_key") or settings.values.sign_key
    if isinstance(named, str):
        return named if named == values.get("sign_key") or named == "agent" else str(settings.path(named))
    identity = values.get("identity") or settings.path(settings.values.identity)
    return str(identity or "~/.ssh/id_ed25519")


def _filled_in(hint: str, typed: Mapping[str, str], reached_by: Sequence[str]) -> str:
    with contextlib.suppress(UsageError):
        hint = _with_vault(hint, typed.get("vault"), reached_by)
    if "case" in typed and "item" in typed:
        named = shell_text("--case", typed["case"], "--item", typed["item"])
        hint = _ITEM.sub(lambda _: named, hint)
    return hint


def _with_key(hint: str, key: str, *, at_hand: bool) -> str:
    """The hint with the public part of the key that signs, and its owner's name if that is known. Raises SigningKeyError."""
    from evidencesync.cli.trust_files import load_public_key, named_key
    from evidencesync.home import expand

    if key == "agent" or _KEY not in hint:
        return hint
    file = expand(f"{key.removesuffix('.pub')}.pub")
    load_public_key(file)
    shown = shell_text(str(file) if at_hand else file.name)
    taken = "" if at_hand else f". Take {safe_text(str(file), 200)} there first"
    try:
        named, who = shell_text(named_key(file, None)[1]), ""
    except UsageError:
        named, who = "NAME", " (its owner, such as ana@lab)"
    return hint.replace(_KEY, f"{shown} --principal {named}{who}{taken}")


def _with_vault(hint: str, typed: str | None, reached_by: Sequence[str]) -> str:
    """The hint with the vault as it is typed where each of its commands runs. Raises UsageError."""
    from evidencesync.ssh.address import Address

    if typed is None:
        return hint
    address = Address.parse(typed)
    is_said = any(words in hint for words in _SAID)

    def as_typed(found: re.Match[str]) -> str:
        if address.local:
            return f"{found[1]}{shell_text(typed)}{found[2]}"
        typed_there = is_said and found[1].startswith("trust ")  # by who keeps the vault, for somebody who may not ask from afar
        if takes_address(found[1].strip()) and not typed_there:
            return f"{found[1]}{shell_text(typed, *reached_by)}{found[2]}"
        there = shell_text(address.path_there) if address.path else "VAULT"
        return f"{found[1]}{there}{found[2]}{'' if is_said else _ON_ITS_MACHINE}"

    if not address.local:
        port = "" if address.port is None else f" -p {address.port}"
        hint = hint.replace("HOST:/ ", f"{shell_text(address.host_text)}:/{port} ")
    root = typed if address.local else address.path_there
    return _COMMAND.sub(as_typed, _IN_VAULT.sub(lambda found: shell_text(f"{root.rstrip('/')}/{found[1]}"), hint))
