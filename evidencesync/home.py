"""Finds the user's own folders, and resolves and reads paths that a person has typed.

A process may have no home folder: HOME is not set, and the password database does not know the user (containers, systemd's
dynamic users, `setpriv`). Then everything that needs no home works, and the rest fails with NoHomeError. A relative HOME counts
as none: it would lead to the current folder, which may hold evidence. The same holds for XDG's folders.

EVIDENCESYNC_HOME names another folder to be the home, or none if it is empty. Then HOME, the password database and XDG's folders
are not asked: nothing of the account that runs this is read or changed. The bundle sets it.
"""

from __future__ import annotations

import contextlib
import errno
import getpass
import os
import pwd
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from evidencesync.errors import NoHomeError, NoWorkingFolderError, UsageError
from evidencesync.evidence.display import safe_text

HOME_VARIABLE: Final = "EVIDENCESYNC_HOME"
# Values for libraries that fail without them (see `stand_in_for_libraries`); this module treats them as not set.
_NO_HOME: Final = "/nonexistent/home-of-evidencesync"
_NO_USER: Final = "unknown-to-evidencesync"
_BLOCK: Final = 1 << 20
NO_REGULAR_FILE: Final = "it is no regular file"


def home_folder() -> Path:
    """EVIDENCESYNC_HOME, HOME, or the password database's folder. Raises NoHomeError if that is no absolute path to a folder."""
    named = os.environ.get(HOME_VARIABLE)
    if named is not None:
        return _named_home(named)
    home = os.environ.get("HOME", "")
    if home == _NO_HOME:
        home = ""
    where = "HOME is" if home else "HOME is not set, and the password database has"
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise NoHomeError(
                f"there is no home folder: HOME is not set, and the password database does not know the user {os.getuid()}"
            ) from None
    if not home.startswith("/"):
        raise NoHomeError(f"there is no home folder: {where} no absolute path: {safe_text(home, 100) or 'it is empty'}")
    if _is_no_folder(home):
        raise NoHomeError(f"there is no home folder: {where} no folder: {safe_text(home, 100)}")
    return Path(home)


def _named_home(named: str) -> Path:
    """The folder that EVIDENCESYNC_HOME names. Raises NoHomeError."""
    hint = f"Name a folder of yours in {HOME_VARIABLE}, such as one on your own disk; or name the file itself."
    if not named:
        raise NoHomeError(f"no folder of this account is used: {HOME_VARIABLE} is empty", hint=hint)
    if not named.startswith("/") or _is_no_folder(named):
        what = "is no absolute path" if not named.startswith("/") else "is no folder"
        raise NoHomeError(f"{HOME_VARIABLE} {what}: {safe_text(named, 100)}", hint=hint)
    return Path(named)


def own_folder(variable: str, *fallback: str) -> Path:
    """The user's folder that an environment variable names, else one below the home folder.

    A relative path in the variable counts as none (XDG Base Directory Specification). Raises NoHomeError.
    """
    if HOME_VARIABLE in os.environ:
        return home_folder().joinpath(*fallback)
    base = os.environ.get(variable, "")
    if base.startswith("/"):
        return Path(base)
    try:
        return home_folder().joinpath(*fallback)
    except NoHomeError as error:
        raise NoHomeError(error.message, hint=f"Set HOME to a folder of your own, or {variable}.") from error


def expand(path: str | Path) -> Path:
    """Expands a path that a person has typed: `~` is the home folder, `~ana` that of another user.

    Raises NoHomeError, UsageError for an empty path and for an unknown user, NoWorkingFolderError.
    """
    text = os.fspath(path)
    if not text:
        raise UsageError("a path is empty", hint="Write the whole path. The current folder is a dot.")
    if not text.startswith("~"):
        return rooted(Path(text))
    user, _, rest = text[1:].partition("/")
    if not user:
        return home_folder() / rest
    try:
        return Path(pwd.getpwnam(user).pw_dir) / rest
    except KeyError:
        raise UsageError(
            f"there is no user '{safe_text(user, 60)}', whose home folder '{safe_text(text, 200)}' names",
            hint="A file whose name begins with ~ is written ./~name.",
        ) from None


def at_home(path: str) -> str:
    """Expands `~/` of a vault's or a source's path, as in `host:~/vault`, unless the working folder has a folder named `~`.

    A shell does not expand it between quotes. Raises NoHomeError.
    """
    if (path == "~" or path.startswith("~/")) and not os.path.lexists(path):
        return os.fspath(home_folder() / path[2:].lstrip("/"))
    return path


def expand_new_file(text: str) -> Path:
    """Expands the path of a file that will be made. Also raises UsageError for a folder's path, and for `-`."""
    shown = safe_text(text, 200)
    if text == "-":
        raise UsageError("this is not written to standard output", hint="Name a file. One that is called - is written: ./-")
    if text.rpartition("/")[2] in ("", ".", "..") and text:
        raise UsageError(f"{shown} is the name of a folder, and a file is needed", hint="Name the file itself.")
    return expand(text)


def read_named(file: Path, most: int, check: Callable[[int, bytes], None] | None = None, *, again: bool = False) -> bytes:
    """Reads a file that a person has named: at most `most` bytes, and one more if the file is larger. Raises OSError.

    Never waits for a writer: a FIFO without one is an error. A FIFO with a writer, such as a shell's `<(command)`, is read to
    its end; but not if the file must be readable `again`, which a pipe is not. `check` is called with the open descriptor and
    the data.
    """
    fd = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode) or not (again or stat.S_ISFIFO(os.fstat(fd).st_mode)):
            data = _read_on(fd, most)
        elif again:
            raise OSError(errno.EINVAL, NO_REGULAR_FILE)
        else:
            data = _read_pipe(fd, most)
        if check is not None:
            check(fd, data)
        return data
    finally:
        os.close(fd)


def require_regular(file: Path) -> None:
    """Raises OSError for anything but a regular file and /dev/null: another program might wait for it or read it for ever.

    A missing file is accepted: the program that reads it reports that.
    """
    try:
        mode = os.stat(file).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISREG(mode) and os.path.realpath(file) != os.devnull:
        raise OSError(errno.EINVAL, NO_REGULAR_FILE)


def _read_pipe(fd: int, most: int) -> bytes:
    data, may_go_on = b"", True
    try:
        data = os.read(fd, min(most + 1, _BLOCK))
        may_go_on = bool(data)
    except BlockingIOError:  # somebody is about to write
        pass
    if may_go_on:
        data += _read_on(fd, most - len(data))
    if not data:
        raise OSError(errno.EPIPE, "it is a pipe, and nothing comes out of it")
    return data


def _read_on(fd: int, most: int) -> bytes:
    from evidencesync.files.disk import read_bounded  # slow to load, and most commands read no such file

    os.set_blocking(fd, True)
    return read_bounded(fd, most)


def rooted(path: Path) -> Path:
    """Returns the path unchanged. Raises NoWorkingFolderError if it is relative, and the working folder is gone."""
    if not path.is_absolute():
        require_working_folder()
    return path


def require_working_folder() -> None:
    """Raises NoWorkingFolderError if the working folder of this process was removed, or cannot be reached."""
    try:
        os.getcwd()
    except OSError as error:
        raise NoWorkingFolderError(f"the folder that this was started in is gone: {error.strerror}") from error


def user_name() -> str:
    """The user's login name; empty if the system does not know it."""
    try:
        name = getpass.getuser()
    except (OSError, KeyError, ImportError):
        return ""
    return "" if name == _NO_USER else name


def account_name(number: int | None = None) -> str:
    """The account with this number, by default that of this process, whatever LOGNAME says. Empty if the system knows none."""
    try:
        return pwd.getpwuid(os.geteuid() if number is None else number).pw_name
    except KeyError:
        return ""


def whose_place(path: Path | bytes) -> str:
    """Who owns a path that this process may not look into, in words; of a hidden one, who owns the folder that hides it."""
    shown = os.path.abspath(os.fsencode(path))
    while True:
        with contextlib.suppress(OSError):
            owner = os.stat(shown).st_uid
            return f"{safe_text(shown, 200)} belongs to {safe_text(account_name(owner) or f'the account {owner}')}"
        if shown == b"/":
            return "nobody here may see whose it is"
        shown = os.path.dirname(shown)


def stand_in_for_libraries() -> None:
    """Sets HOME and a user name, if this process has none, for libraries that fail without them (asyncssh).

    The folder cannot exist, and `home_folder` and `user_name` ignore both values.
    """
    try:
        home = str(home_folder())
    except NoHomeError:
        home = _NO_HOME
    if os.environ.get("HOME") != home:
        os.environ["HOME"] = home
    if not user_name():
        os.environ["LOGNAME"] = _NO_USER


def _is_no_folder(path: str) -> bool:
    """Whether a path leads to something else than a folder. False if it does not exist or cannot be looked at."""
    try:
        return not stat.S_ISDIR(os.stat(path).st_mode)
    except OSError:
        return False
