"""The known_hosts files: which of them ssh reads, how a key is recorded in ours, and the command that records one.

That command names the server as the user or the configuration names it to ssh, and not as ssh resolves that name: a
HostKeyAlias, a jump host and other settings in the configuration hold for that name only.
"""

from __future__ import annotations

import errno
import os
import pwd
import shlex
import stat
from pathlib import Path
from typing import Final

import msgspec

from evidencesync.errors import ConfigurationError, HostKeyError, NoHomeError
from evidencesync.evidence.display import safe_text, shell_text
from evidencesync.home import own_folder
from evidencesync.outside import open_folder_outside
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import DEFAULT, SshOptions

_NOWHERE: Final = "/dev/null"


def own_known_hosts() -> Path:
    """The file that `host trust` writes, in the user's config folder (XDG Base Directory Specification). Raises NoHomeError."""
    return own_folder("XDG_CONFIG_HOME", ".config") / "evidencesync" / "known_hosts"


class KnownHosts(msgspec.Struct, frozen=True):
    """The files in which ssh looks for host keys, and the settings that override the configuration for this."""

    users: tuple[str, ...]
    system: tuple[str, ...]
    changed: dict[str, str]


def known_hosts(found: dict[str, str], options: SshOptions) -> KnownHosts:
    """The files of the configuration and our own; or only the file of `--known-hosts`.

    Raises HostKeyError, before anything is sent, if no host key could be known at all.
    """
    command = found.get("knownhostscommand", "none")
    has_command = command.lower() != "none"
    if options.known_hosts is not None:
        _require_real(options.known_hosts)
        only = {"UserKnownHostsFile": quoted(without_tokens(str(options.known_hosts))), "GlobalKnownHostsFile": _NOWHERE}
        return KnownHosts((str(options.known_hosts),), (), {**only, "KnownHostsCommand": "none"} if has_command else only)
    if "%K" in command.replace("%%", ""):
        raise HostKeyError(
            f"KnownHostsCommand {safe_text(command, 200)} is told the key that a server shows, and could call any key known",
            hint="Let it find the keys of a host by its name, without %K, or name a file: --known-hosts FILE",
        )
    changed: dict[str, str] = {}
    names, system = (_files(found.get(name, "")) for name in ("userknownhostsfile", "globalknownhostsfile"))
    if all(map(_is_off, names)):
        changed["UserKnownHostsFile"] = _NOWHERE  # earlier versions take `none` for a file in the current folder
    own = _own_file()
    others = [] if all(map(_is_off, system)) else system
    if own is not None:
        others = [*others, own]
        changed["GlobalKnownHostsFile"] = " ".join(map(quoted, others))
    is_something_known = own is not None or any(not _is_off(name) and os.path.isfile(name) for name in system)
    if "UserKnownHostsFile" in changed and not has_command and not is_something_known:
        raise HostKeyError(
            f"no host key can be known: UserKnownHostsFile {safe_text(' '.join(names))} would switch host-key checks off",
            hint="Name a real known_hosts file, or remove the setting. A key is recorded with: evidencesync host trust ADDRESS",
        )
    return KnownHosts(tuple(names), tuple(others), changed)


def _own_file() -> str | None:
    try:
        own = own_known_hosts()
    except NoHomeError:
        return None
    return str(own) if own.is_file() else None


def _require_real(file: Path) -> None:
    if _is_off(str(file)) or (os.path.exists(file) and not os.path.isfile(file)):
        raise ConfigurationError(
            f"--known-hosts {safe_text(str(file))} would switch host-key checks off: it is not a regular file",
            hint="Name a real known_hosts file. A key is recorded with: evidencesync host trust ADDRESS",
        )


def _is_off(name: str) -> bool:
    return name.lower() == "none" or os.path.realpath(name) == _NOWHERE


def _files(names: str) -> list[str]:
    """The files of a setting as `ssh -G` prints it. There a blank may be part of a name, or stand between two names."""
    return [names] if " " in names and os.path.isfile(names) else names.split()


def as_ssh_finds(name: str) -> Path:
    """The path of a file as ssh resolves it: `~` is the home folder of the password database, and not HOME."""
    if name != "~" and not name.startswith("~/"):
        return Path(name)
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir + name[1:])
    except KeyError:
        return Path(name)


def quoted(file: str) -> str:
    """A file's name, quoted for a setting that lists several files."""
    plain = file.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{plain}"' if plain != file or any(one in file for one in " '\t#") else file


def without_tokens(file: str) -> str:
    """A file's name for a setting in which ssh expands tokens such as %h."""
    return file.replace("%", "%%")


def remember_host_key(file: Path, name: str, key: str) -> None:
    """Appends a key (its type and base64) to a known_hosts file, for `host trust` after a person has agreed.

    Durable when this returns. The line is appended in one write, so that two processes cannot mix their lines; a torn last line
    is ended first. Raises ConfigurationError if the file cannot be written.
    """
    line = f"{name} {key}\n".encode()
    try:
        descriptor = _open_to_add(file)
        try:
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                raise ConfigurationError(f"{safe_text(str(file))} could not be written whole")
            os.fsync(descriptor)  # a torn line would hide the next host that is added
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigurationError(f"{safe_text(str(file))} can't be written: {error.strerror}") from error


def _open_to_add(file: Path) -> int:
    """Opens a known_hosts file, and makes it if it is missing. A link to an existing file is followed. Raises OSError."""
    shown = safe_text(str(file), 200)
    folder = open_folder_outside(file.parent, shown, (), "Name another file: --known-hosts FILE", follow=True)
    try:
        flags = os.O_RDWR | os.O_APPEND | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(file.name, flags, dir_fd=folder)
        except FileNotFoundError:
            return os.open(file.name, flags | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=folder)
    finally:
        os.close(folder)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return descriptor


def trust_command(
    options: SshOptions, name: str, user: str | None, port: int | None, jump: str | None, *, is_target: bool
) -> str:
    """The `host trust` command for a server, safe to show. `jump` is the value of -J; `is_target`: it is no jump host itself.

    It names no identity: `host trust` does not log in to that server.
    """
    program = options.program
    ssh = [*program.words, *program.arguments] if is_target else [program.ssh]
    if program.config is not None and options.config is None:
        ssh += ["-F", program.config]
    if jump is not None:
        ssh += ["-J", jump]
    words = ["evidencesync", "host", "trust"]
    if options.known_hosts is not None:
        words += ["--known-hosts", str(options.known_hosts)]
    if options.config is not None:
        words += ["-F", str(options.config)]
    if ssh != [DEFAULT]:
        words += ["--ssh", shlex.join(ssh)]
    return shell_text(*words, _address(name, user, port))


def _address(name: str, user: str | None, port: int | None) -> str:
    server = Address(user, name, port, "", local=False).host_text
    if port is None and ":" not in name:
        return server
    return f"ssh://{server}" + ("" if port is None else f":{port}")
