"""Options that several commands share, and the values they stand for."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Final

import msgspec
import typer

from evidencesync.cli.defaults import CASE_VARIABLE, VAULT_VARIABLE
from evidencesync.cli.help_text import SIGNING, WHAT
from evidencesync.cli.settings import LoadedSettings, Settings
from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_clean, is_unsafe, shell_text
from evidencesync.home import at_home, expand, rooted, user_name
from evidencesync.limits import MAX_TITLE

if TYPE_CHECKING:
    from evidencesync.evidence.identity import ItemName
    from evidencesync.ssh.address import Address
    from evidencesync.ssh.options import SshOptions, TerminalUser

DEFAULT_TIMEOUT_SECONDS = 60.0
TSA_VARIABLE: Final = "EVIDENCESYNC_TSA_ROOT"
WHOLE_NAME: Final = "Name all of it: --case CASE --item ITEM. What there is, is listed by: evidencesync list VAULT"

VaultPath = Annotated[str, typer.Argument(metavar="VAULT", envvar=VAULT_VARIABLE, help="The vault's folder on this machine.")]
VaultAddress = Annotated[
    str,
    typer.Argument(
        metavar="VAULT", envvar=VAULT_VARIABLE, help="A local path, [user@]host:path, or ssh://[user@]host[:port]/path."
    ),
]
Case = Annotated[
    str, typer.Option(metavar="CASE", envvar=CASE_VARIABLE, help="Case number, exactly as your laboratory writes it.")
]
OwnSigners = Annotated[
    str | None, typer.Option(metavar="FILE", help="Your own allowed_signers file, to use instead of the vault's.")
]
TsaRoots = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="FILE",
        envvar=TSA_VARIABLE,
        help="Root certificates (PEM) of the time-stamping authorities that you trust; may be repeated.",
    ),
]


@dataclasses.dataclass(frozen=True, slots=True)
class ItemChoice:
    """Which exhibit of which case."""

    GROUP: ClassVar = WHAT

    case: Case
    item: Annotated[str, typer.Option(metavar="ITEM", help="Exhibit (evidence item) number.")]

    def name(self) -> ItemName:
        """The checked numbers. Raises InvalidNameError, UsageError."""
        from evidencesync.evidence.identity import ItemName, Title

        if (self.case, self.item) == ("CASE", "ITEM"):  # a hint that was pasted
            stands = "CASE and ITEM stand for the numbers of your case and of your item"
            raise UsageError(stands, hint="Write those, as in: --case 2024-017 --item LAPTOP-1")
        return ItemName(Title(self.case), Title(self.item))


@dataclasses.dataclass(frozen=True, slots=True)
class ServerChoice:
    """How a server is reached. Without an option, `~/.ssh/config` decides."""

    GROUP: ClassVar = "SSH"

    identity: Annotated[
        str | None,
        typer.Option("-i", "--identity", metavar="FILE", envvar="EVIDENCESYNC_IDENTITY", help="Private key for SSH."),
    ] = None
    port: Annotated[int | None, typer.Option("-p", "--port", metavar="N", min=1, max=65535, help="Port of the SSH server.")] = (
        None
    )
    ssh_config: Annotated[
        str | None,
        typer.Option(
            "-F",
            "--ssh-config",
            metavar="FILE",
            envvar="EVIDENCESYNC_SSH_CONFIG",
            help="SSH configuration to use instead of ~/.ssh/config ('none': no file).",
        ),
    ] = None
    known_hosts: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            envvar="EVIDENCESYNC_KNOWN_HOSTS",
            help="The only known_hosts file to use, instead of those of ssh and our own; host trust writes to it.",
        ),
    ] = None
    timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS",
            min=0.1,
            max=86_400,
            envvar="EVIDENCESYNC_TIMEOUT",
            help="Treat a silent connection as lost after this time.  [default: 60]",
        ),
    ] = None

    def identity_file(self, settings: LoadedSettings) -> Path | None:
        """The private key for SSH that an option or the settings name; None if neither does."""
        return _path(self.identity, settings, settings.values.identity)

    def timeout_seconds(self, settings: LoadedSettings) -> float:
        """How long a connection may be silent before it counts as lost."""
        return self.timeout or settings.values.timeout or DEFAULT_TIMEOUT_SECONDS

    ssh: Annotated[
        str | None,
        typer.Option(
            metavar="PROGRAM",
            envvar="EVIDENCESYNC_SSH",
            help="The SSH client, with options if needed, as for rsync -e.  [default: ssh]",
        ),
    ] = None

    def options(self, settings: LoadedSettings, person: TerminalUser | None) -> SshOptions:
        """The options for the ssh room. Without a `person`, ssh asks no questions."""
        from evidencesync.ssh.options import SshOptions, parse_program

        return SshOptions(
            identity=self.identity_file(settings),
            port=self.port,
            config=_config_path(self.ssh_config, settings),
            known_hosts=_path(self.known_hosts, settings, settings.values.known_hosts),
            timeout_seconds=self.timeout_seconds(settings),
            program=parse_program(self.ssh or settings.values.ssh or "ssh"),
            person=person,
        )


@dataclasses.dataclass(frozen=True, slots=True)
class RemoteChoice(ServerChoice):
    """The same, for a command that starts evidencesync on the server."""

    GROUP: ClassVar = "SSH"

    remote_command: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            envvar="EVIDENCESYNC_REMOTE_COMMAND",
            help="Path of evidencesync on the other machine.  [default: evidencesync]",
        ),
    ] = None

    def options(self, settings: LoadedSettings, person: TerminalUser | None) -> SshOptions:
        """The options for the ssh room."""
        options = ServerChoice.options(self, settings, person)
        named = self.remote_command or settings.values.remote_command
        return options if named is None else msgspec.structs.replace(options, remote_command=named)


@dataclasses.dataclass(frozen=True, slots=True)
class SigningPerson:
    """The person who signs, as documents name them."""

    name: str
    organisation: str | None


@dataclasses.dataclass(frozen=True, slots=True)
class KeyChoice:
    """The key that stands for a person."""

    sign_key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|agent",
            envvar="EVIDENCESYNC_SIGN_KEY",
            help="Key to sign with.  [default: the identity, then ~/.ssh/id_ed25519]",
        ),
    ] = None

    def key_choice(self, settings: LoadedSettings) -> str | None:
        """A key file's path, `agent`, or None for the default key."""
        named = option_or_setting("--sign-key", self.sign_key, None)
        if named is None and settings.values.sign_key not in (None, "agent"):
            return str(settings.path(settings.values.sign_key))
        return named or settings.values.sign_key


@dataclasses.dataclass(frozen=True, slots=True)
class SignChoice(KeyChoice):
    """Who acquires, and signs."""

    GROUP: ClassVar = SIGNING

    examiner: Annotated[
        str | None,
        typer.Option(metavar="NAME", envvar="EVIDENCESYNC_EXAMINER", help="Your name.  [default: your login's full name]"),
    ] = None
    organisation: Annotated[
        str | None, typer.Option(metavar="NAME", envvar="EVIDENCESYNC_ORGANISATION", help="Your organisation.")
    ] = None

    def person(self, settings: Settings) -> SigningPerson:
        """Who signs: from the options, else the settings, else the login. Raises UsageError."""
        name = option_or_setting("--examiner", self.examiner, settings.examiner) or login_name()
        organisation = option_or_setting("--organisation", self.organisation, settings.organisation)
        return SigningPerson(
            _check_person(name, "the examiner's name"),
            _check_person(organisation, "the organisation's name") if organisation else None,
        )


def option_or_setting(option: str, given: str | None, setting: str | None) -> str | None:
    """The value of an option, else that of the settings. Raises UsageError for an empty option (an unset shell variable).

    The default would be a guess about who signs.
    """
    if given is not None and not given.strip():
        raise UsageError(f"{option} is empty", hint="Give it a value, or leave the option out.")
    return setting if given is None else given


def parse_address(text: str, what: str) -> Address:
    """The address of a vault or source (`what`). Raises UsageError, also for a `user@host` that is no file here."""
    from evidencesync.ssh.address import Address

    address = Address.parse(text)
    if address.local and "@" in text and "/" not in text and not os.path.lexists(text):
        raise address.without_path(what)
    return address


def vault_address(text: str) -> Address:
    """The address of a vault, with `~` of a local path expanded. Raises UsageError, NoHomeError."""
    address = parse_address(text, "vault")
    return msgspec.structs.replace(address, path=at_home(address.path)) if address.local else address


def local_vault(text: str, instead: str = "") -> Path:
    """The folder of a vault that must lie on this machine. Raises UsageError for a remote address; `instead` begins its hint."""
    address = vault_address(text)
    if not address.local:
        raise UsageError(
            f"this command works where the vault lies, not on {address.display()}",
            hint=f"{instead}Somebody who can log in to a shell there (a key that may only push cannot) runs it on the machine "
            f"where the vault lies: {_typed_there(text, address.path_there)}",
        )
    return rooted(Path(address.path))


def _typed_there(text: str, path: str) -> str:
    """The command line of this process, as it is typed on the vault's machine: with the vault's path for its address."""
    words = sys.argv[1:]
    if text in words:
        return shell_text("evidencesync", *(path if word == text else word for word in words))
    return f"{VAULT_VARIABLE}={shell_text(path)} {shell_text('evidencesync', *words)}"  # it came from a setting


def _path(given: str | None, settings: LoadedSettings, setting: str | None) -> Path | None:
    return expand(given) if given is not None else settings.path(setting)


def _config_path(given: str | None, settings: LoadedSettings) -> Path | None:
    """The SSH configuration file. `none` (no file) is a word, not a path."""
    if "none" in (given, settings.values.ssh_config if given is None else None):
        return Path("none")
    return _path(given, settings, settings.values.ssh_config)


def login_name() -> str:
    """The login's full name, else its user name. Raises UsageError if the machine has neither."""
    for name in (_full_name(), user_name()):
        if name and len(name) <= MAX_TITLE and is_clean(name) and not any(map(is_unsafe, name)):
            return name
    raise UsageError("this machine does not know your name", hint="Give it with --examiner NAME.")


def _check_person(name: str, what: str) -> str:
    """A name without spaces around it, as documents may state it. Raises UsageError."""
    stripped = name.strip()
    if not stripped or len(stripped) > MAX_TITLE or not is_clean(stripped) or any(map(is_unsafe, stripped)):
        hint = "Give it with --examiner NAME, and --organisation NAME."
        raise UsageError(f"{what} must have 1 to {MAX_TITLE} characters, all of them visible", hint=hint)
    return stripped


def _full_name() -> str:
    """The first part of the GECOS field; `&` stands for the user name there (passwd(5))."""
    try:
        import pwd

        entry = pwd.getpwuid(os.getuid())
    except (ImportError, KeyError):
        return ""
    return entry.pw_gecos.split(",")[0].replace("&", entry.pw_name.capitalize()).strip()


@dataclasses.dataclass(frozen=True, slots=True)
class ItemsChoice:
    """The cases and items that a command is about; by default all of a vault."""

    GROUP: ClassVar = WHAT

    case: Annotated[str | None, typer.Option(metavar="CASE", help="Only this case.")] = None
    item: Annotated[str | None, typer.Option(metavar="ITEM", help="Only this item; needs --case.")] = None

    def check(self) -> None:
        """Raises UsageError for an item without its case."""
        if self.item is not None and self.case is None:
            raise UsageError("--item needs --case", hint=WHOLE_NAME)


@dataclasses.dataclass(frozen=True, slots=True)
class PartChoice(ItemsChoice):
    """The part of a vault that a command is about; by default all of it."""

    GROUP: ClassVar = WHAT

    acquisition: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=9999, help="Only this acquisition; needs --item.")
    ] = None

    def check(self) -> None:
        """Raises UsageError for an item without its case, and for an acquisition without its item."""
        if (self.item is not None and self.case is None) or (self.acquisition is not None and self.item is None):
            lacks = "--item needs --case" if self.case is None and self.item is not None else "--acquisition needs --item"
            raise UsageError(lacks, hint=WHOLE_NAME)

    @property
    def scope(self) -> str:
        """The part in a word: `vault`, `case`, `item`, or `acquisition N`."""
        if self.acquisition is not None:
            return f"acquisition {self.acquisition}"
        return "item" if self.item is not None else "case" if self.case is not None else "vault"
