"""Checks every file of this bundle against SHA256SUMS, and starts evidencesync from it if all are what they were.

Until then nothing runs but the loader, the C library, Python itself with what it loads at its start, this file, and, after they
were checked, the module and the library that hash quickly. A check that lies in what it checks finds a bad stick, a copy that was
cut, and a careless hand. It cannot find somebody who changed the checker too: README.txt says how another machine does.
"""

import _sha256
import posix
import sys

HERE = __file__.rpartition("/")[0]
SUMS = "SHA256SUMS"
UNLISTED = {SUMS, SUMS + ".sig"}
QUICK = ("python/lib/python3.11/lib-dynload/_hashlib.cpython-311-x86_64-linux-gnu.so", "system/libcrypto.so.3")
DIFFERS, INCOMPLETE = 30, 31
BLOCK = 1 << 20


def read(path):
    """Yields the blocks of a file."""
    fd = posix.open(HERE + "/" + path, posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK)
    try:
        while block := posix.read(fd, BLOCK):
            yield block
    finally:
        posix.close(fd)


def digest_of(path, new):
    """A file's digest, as SHA256SUMS has it."""
    digest = new()
    for block in read(path):
        digest.update(block)
    return digest.hexdigest()


def files(folder=""):
    """Yields the path of every file, and of what is neither file nor folder."""
    with posix.scandir(HERE + "/" + folder) as found:
        for entry in found:
            path = folder + entry.name
            if entry.is_dir(follow_symlinks=False):
                yield from files(path + "/")
            else:
                yield path


def listed():
    """The digest of each file that SHA256SUMS names."""
    lines = b"".join(read(SUMS)).decode().splitlines()
    return {line[66:]: line[:64] for line in lines}


def check():
    """Ends this process with a line for people where a file is not what it was. Returns the listed digests."""
    try:
        wanted = listed()
        found = set(files()) - UNLISTED
        if names := sorted(wanted.keys() - found):
            refuse(names, "gone", INCOMPLETE)
        if names := sorted(found - wanted.keys()):
            refuse(names, "not part of it", INCOMPLETE)
        if names := [name for name in QUICK if digest_of(name, _sha256.sha256) != wanted[name]]:
            refuse(names, "changed", DIFFERS)
        import _hashlib

        if names := sorted(name for name in wanted if digest_of(name, _hashlib.openssl_sha256) != wanted[name]):
            refuse(names, "changed", DIFFERS)
    except (OSError, UnicodeDecodeError, KeyError) as error:
        refuse([SUMS], f"not to be read ({type(error).__name__}: {error})", INCOMPLETE)
    return wanted


def refuse(names, what, code):
    """Ends this process: the bundle is not whole."""
    more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
    say(
        f"error: this bundle is not whole: {ascii(names[0])[1:-1]} is {what}{more}. Nothing else of it was run: use another copy."
    )
    sys.exit(code)


def say(line):
    """Writes a line for people."""
    sys.stderr.write(f"evidencesync: {line}\n")


def show_check(wanted):
    """`--check-bundle`: what was checked, and whose signature there is."""
    import _hashlib

    print(f"files      {len(wanted)}, each as {SUMS} lists it; none is gone, and none was added")
    print(f"SHA-256    {digest_of(SUMS, _hashlib.openssl_sha256)}  {SUMS}")
    try:
        signature = b"".join(read(SUMS + ".sig"))
    except FileNotFoundError:
        print("signature  none: this bundle is unsigned")
        return 0
    import hashlib

    from evidencesync.custody.sshsig import verify_signature
    from evidencesync.errors import EvidenceSyncError

    try:
        key = verify_signature(signature, "bundle@evidencesync", hashlib.sha512(b"".join(read(SUMS))).digest()).fingerprint
    except EvidenceSyncError as error:
        print(f"signature  BAD: {error.message}")
        return 32
    print(f"signature  good, by the key {key}: compare it with the one that you were told")
    return 0


def prepare():
    """Sets what evidencesync looks at: where its modules are, and that nothing of this machine's accounts is read or changed."""
    import os
    import shlex
    import shutil
    import tempfile

    library = HERE + "/python/lib/python3.11"
    sys.path[:] = [library, library + "/lib-dynload", HERE + "/packages"]
    sys.argv[0] = HERE + "/evidencesync"
    sys.executable = ""  # Python cannot be started by its name alone
    home = os.environ.setdefault("EVIDENCESYNC_HOME", "")  # no folder, unless one is named: nothing is kept on this machine
    for name, variable in (("config", "SSH_CONFIG"), ("known_hosts", "KNOWN_HOSTS"), ("id_ed25519", "IDENTITY")):
        if home and os.path.exists(f"{home}/.ssh/{name}"):
            os.environ.setdefault("EVIDENCESYNC_" + variable, f"{home}/.ssh/{name}")
    if home:  # that of an account here could call any server known
        os.environ.setdefault("EVIDENCESYNC_KNOWN_HOSTS", home + "/.config/evidencesync/known_hosts")
    if "TMPDIR" not in os.environ:
        tempfile.tempdir = home or "/nonexistent/temporary-folder"
    os.environ.setdefault("EVIDENCESYNC_SSH_CONFIG", "none")  # that of an account here could start programs
    if shutil.which("ssh") is None and "EVIDENCESYNC_SSH" not in os.environ:
        os.environ["EVIDENCESYNC_SSH"] = shlex.quote(HERE + "/ssh/ssh")
        if any(":" in word and not word.startswith("-") for word in sys.argv[1:]):
            say("note: this machine has no ssh; that of the bundle is used")


def main():
    """Runs the command line, and returns its exit code."""
    wanted = check()
    prepare()
    if sys.argv[1:] == ["--check-bundle"]:
        return show_check(wanted)
    from evidencesync.cli.start import main as run

    return run()


sys.exit(main())
