"""Says which vault and which case a command means that leaves them out. The one place of this rule.

What is typed wins, then `EVIDENCESYNC_VAULT` and `EVIDENCESYNC_CASE`, then the settings `vault` and `case`. A command that takes
one of them says so on stderr, with the place it comes from. VAULT counts as left out only where every other argument that a
command needs is there, and no more: `trust retire ana@lab`. `push VAULT` has lost its source, and is refused. A case is taken
by commands that need one. Those that may be narrowed to a case (`verify`) never are by this: a verdict about less than was
asked for would look the same. `init`, `serve` and `receipts check` mean a vault only where it is typed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from evidencesync.cli.settings import CONFIG_VARIABLE, LoadedSettings, load_settings
from evidencesync.errors import CommandKind, ConfigurationError, EvidenceSyncError, UsageError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.home import expand

if TYPE_CHECKING:
    from evidencesync.cli.console import Console

VAULT_VARIABLE: Final = "EVIDENCESYNC_VAULT"
CASE_VARIABLE: Final = "EVIDENCESYNC_CASE"
VARIABLES: Final = {"vault": VAULT_VARIABLE, "case": CASE_VARIABLE}
"""The environment variable of each parameter that has a default. It marks the parameters that take one."""


def fill_in(values: MutableMapping[str, Any], typed: Mapping[str, bool], settings: LoadedSettings, console: Console) -> None:
    """Gives the parameters that were not typed their defaults, and says which. Raises UsageError for one that has none."""
    said, missing = [], []
    for name in (name for name, is_typed in typed.items() if not is_typed):
        found = _default(name, settings)
        if found is None:
            missing.append(name)
        else:
            values[name], place = found
            said.append(f"{name} {safe_text(values[name])} ({place})")
    if "vault" in values and not typed.get("vault", True):
        _refuse_vault_as_source(values, named="vault" not in missing)
    if missing:
        variables = " and ".join(VARIABLES[name] for name in missing)
        shown = ", ".join("--case" if name == "case" else name.upper() for name in missing)
        source, it = values.get("source"), "it" if len(missing) == 1 else "them"
        example = _typed_with(source, "VAULT") if "vault" in missing and source else f", as in: {_completed(missing)}"
        hint = f"Set {variables}, or write {it} into the settings file, or type {it}{example}"
        raise UsageError(f"missing: {shown}", hint=hint)
    if said:  # a list that is asked for again and again may be quiet about it; whatever is stated or changed may not
        say = console.print_message if console.kind is CommandKind.SHOWS else console.print_notice
        say(f"note: {', '.join(said)}")


def takes_default(name: str | None, variable: object) -> bool:
    """Whether a parameter of this name and environment variable may be left out."""
    return variable is not None and VARIABLES.get(name or "") == variable


def has_default(name: str, config: object) -> bool:
    """Whether a parameter may be left out. `config` is the raw value of `--config`, if that was typed."""
    if name not in VARIABLES:
        return False
    if os.environ.get(VARIABLES[name]):
        return True
    try:
        settings = load_settings(config if isinstance(config, str) else os.environ.get(CONFIG_VARIABLE) or None)
    except EvidenceSyncError:
        return False  # it is reported where the command begins
    return getattr(settings.values, name) is not None


def leave_out_vault(arguments: Sequence[Any], given: MutableMapping[str, Any]) -> None:
    """Moves the arguments of a command line behind VAULT by one, if VAULT was left out. `given` are the parser's raw values."""
    required = [one.name for one in arguments if one.required]
    if not required or not takes_default(arguments[0].name, arguments[0].envvar):
        return
    values = [given[one.name] for one in arguments if isinstance(given.get(one.name), str)]
    if len(values) == len(required) and has_default("vault", given.get("config")):
        left_out = given[required[-1]]  # whatever the parser has for an argument that is not there
        given.update({"vault": left_out, **dict(zip(required, values, strict=True))})


def _default(name: str, settings: LoadedSettings) -> tuple[str, str] | None:
    """The default of a parameter, and where it comes from. Raises ConfigurationError for a relative path to a vault."""
    value = os.environ.get(VARIABLES[name])
    if value:
        return (_rooted(value) if name == "vault" else value), VARIABLES[name]
    value = getattr(settings.values, name)
    if value is None:
        return None
    if name == "vault" and _is_local(value):
        value = str(settings.path(value))
    return value, safe_text(str(settings.file), 200)


def _rooted(vault: str) -> str:
    """A vault that is the same one in every folder: what lies in a folder of evidence must not choose it."""
    if not _is_local(vault) or vault.startswith("/"):
        return vault
    if vault == "~" or vault.startswith("~/"):
        return str(expand(vault))
    raise ConfigurationError(
        f"{VAULT_VARIABLE} is a relative path: {safe_text(vault, 200)}", hint="Set it to the whole path, or to an address."
    )


def _refuse_vault_as_source(values: Mapping[str, Any], *, named: bool) -> None:
    """Raises UsageError if SOURCE is a vault, or may be one and no other is `named`: then the source was left out."""
    source = values.get("source")
    is_pull = "agentless" in values  # its SOURCE is an address
    if not isinstance(source, str) or not means_vault(source, elsewhere=not named and not is_pull):
        return
    shown = safe_text(source, 200)
    what = f"{shown} is itself a vault, and no other was named" if named else f"missing: SOURCE, in front of {shown}"
    raise UsageError(what, hint=f"Type both, the source and then the vault{_typed_with('SOURCE', source)}")


def _typed_with(*places: str) -> str:
    """The command line of this process, after a colon, with these two places for the one of them that it has; else nothing."""
    words = sys.argv[1:]
    here = [at for at, word in enumerate(words) if word in places]
    if not here:
        return "."
    at = here[0]
    return f": {shell_text('evidencesync', *words[:at], *places, *words[at + 1 :])}"


def _completed(missing: Sequence[str]) -> str:
    """The command line of this process with examples of what is missing."""
    words = sys.argv[1:]
    at = next((at for at, word in enumerate(words) if word.startswith("-")), len(words))
    vault = ["/srv/vault"] if "vault" in missing else []
    case = ["--case", "2024-017"] if "case" in missing else []
    return shell_text("evidencesync", *words[:at], *vault, *words[at:], *case)


def is_vault_here(place: str) -> bool:
    """Whether a place on this machine has what every vault has."""
    from evidencesync.outside import VAULT_MARKS

    return all(os.path.exists(os.path.join(place, mark)) for mark in VAULT_MARKS)


def means_vault(source: str, *, elsewhere: bool) -> bool:
    """Whether a SOURCE is a vault on this machine: then it may be the source that was left out, and it would become evidence.

    `elsewhere`: or an address on another machine, where a source is none.
    """
    if is_vault_here(source):
        return True
    try:
        return elsewhere and not os.path.lexists(source) and not _is_local(source)
    except UsageError:
        return False


def _is_local(vault: str) -> bool:
    from evidencesync.ssh.address import Address

    return Address.parse(vault).local
