"""Signing keys: files that ssh-keygen made, passphrases, and a real ssh-agent."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from evidencesync.custody.publickey import PublicKey
from evidencesync.custody.sshsig import sign_document, verify_signature
from evidencesync.custody.wire import write_string, write_uint32
from evidencesync.errors import ExposedKeyError, PassphraseError, SigningKeyError
from evidencesync.ssh.keys import KeySigner, load_signer
from evidencesync.ssh_agent import AgentSigner, agent_keys
from tests.support.patience import PATIENCE_SECONDS

NAMESPACE = "manifest@evidencesync"
SHA512 = hashlib.sha512(b"document").digest()
KINDS = {
    "ed25519": ["-t", "ed25519"],
    "nistp256": ["-t", "ecdsa", "-b", "256"],
    "nistp384": ["-t", "ecdsa", "-b", "384"],
    "nistp521": ["-t", "ecdsa", "-b", "521"],
    "rsa": ["-t", "rsa", "-b", "3072"],
}
MakeKey = Callable[..., Path]


def never(prompt: str) -> str:
    pytest.fail(f"asked: {prompt}")


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> MakeKey:
    """Makes a key of each kind once: an RSA key takes a second, and to write it in another form takes nothing."""
    program = require_program("ssh-keygen")
    made: dict[tuple[str, ...], Path] = {}

    def run(file: Path, *options: str) -> None:
        subprocess.run([program, "-q", *options, "-f", str(file)], check=True, stdout=subprocess.DEVNULL)

    def make(*options: str, passphrase: str = "") -> Path:
        kind, form = options[: options.index("-m")] if "-m" in options else options, options[len(options) - 2 :]
        wanted = (*options, passphrase)
        if kind not in made:
            made[kind] = tmp_path_factory.mktemp("key") / "key"
            run(made[kind], "-N", "", *kind)
        if wanted not in made:
            made[wanted] = tmp_path_factory.mktemp("key") / "key"
            for suffix in ("", ".pub"):
                shutil.copy(made[kind].with_suffix(suffix), made[wanted].with_suffix(suffix))
            run(made[wanted], "-p", "-P", "", "-N", passphrase, *(form if "-m" in options else ()))
        return made[wanted]

    return make


def public_of(key: Path) -> PublicKey:
    return PublicKey.from_line(key.with_suffix(".pub").read_bytes())


@pytest.fixture
def agent(
    tmp_path: Path, require_program: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Path], None]]:
    """A real ssh-agent; the value loads a key into it."""
    address = tmp_path / "agent"
    add = require_program("ssh-add")
    process = subprocess.Popen([require_program("ssh-agent"), "-D", "-a", str(address)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # it says where it listens once it does
    monkeypatch.setenv("SSH_AUTH_SOCK", str(address))

    def load(key: Path) -> None:
        subprocess.run([add, "-q", str(key)], check=True, capture_output=True)

    try:
        yield load
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)
        process.stdout.close()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["OpenSSH", "PEM", "PKCS8"])
def test_a_key_file_signs(make_key: MakeKey, kind: str, form: str) -> None:
    if kind == "ed25519" and form != "OpenSSH":
        form = "OpenSSH"  # ssh-keygen writes Ed25519 in no other form
    key = make_key(*KINDS[kind], "-m", {"OpenSSH": "RFC4716"}.get(form, form))
    begins = {
        "OpenSSH": "OPENSSH PRIVATE KEY",
        "PEM": "RSA PRIVATE KEY" if kind == "rsa" else "EC PRIVATE KEY",
        "PKCS8": "PRIVATE KEY",
    }
    assert key.read_text().startswith(f"-----BEGIN {begins[form]}-----")
    signer = load_signer(str(key), None, never)
    assert signer.public_key == public_of(key)
    assert verify_signature(sign_document(signer, NAMESPACE, SHA512), NAMESPACE, SHA512) == signer.public_key


@pytest.mark.parametrize(("kind", "form"), [("ed25519", "RFC4716"), ("nistp256", "PKCS8"), ("rsa", "PEM")])
def test_an_encrypted_key_asks_for_its_passphrase(make_key: MakeKey, kind: str, form: str) -> None:
    key = make_key(*KINDS[kind], "-m", form, passphrase="sesame \u00e9")
    asked: list[str] = []
    answers = ["", "wrong", "sesame \u00e9"]

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return answers[len(asked) - 1]

    signer = load_signer(str(key), None, ask)
    assert len(asked) == 3
    assert str(key) in asked[0]
    assert verify_signature(sign_document(signer, NAMESPACE, SHA512), NAMESPACE, SHA512) == public_of(key)


def test_a_wrong_passphrase_is_said_and_asked_for_three_times_and_no_more(make_key: MakeKey) -> None:
    key = make_key(*KINDS["ed25519"], passphrase="sesame")
    asked: list[str] = []

    def ask(prompt: str) -> str:
        asked.append(prompt)
        return "wrong"

    with pytest.raises(PassphraseError, match=f"wrong passphrase for {key}"):
        load_signer(str(key), None, ask)
    assert asked == [f"Passphrase for {key}: ", *[f"Wrong passphrase for {key}. Once more: "] * 2]
    with pytest.raises(PassphraseError, match="nobody can be asked"):
        load_signer(str(key), None, None)


def test_the_identity_is_the_default_then_the_users_own_key(
    make_key: MakeKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = make_key(*KINDS["nistp256"])
    assert load_signer(None, key, never).public_key == public_of(key)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SigningKeyError, match="no key to sign with"):
        load_signer(None, None, never)
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".ssh" / "id_ed25519").write_bytes(make_key(*KINDS["ed25519"]).read_bytes())
    (tmp_path / ".ssh" / "id_ed25519").chmod(0o600)
    assert load_signer(None, None, never).public_key == public_of(make_key(*KINDS["ed25519"]))
    assert load_signer("~/.ssh/id_ed25519", key, never).public_key == public_of(make_key(*KINDS["ed25519"]))


def test_what_is_no_usable_key_is_said_so(make_key: MakeKey, tmp_path: Path) -> None:
    good = make_key(*KINDS["ed25519"]).read_bytes()
    contents = {
        "empty": b"",
        "text": b"hello\n",
        "binary": bytes(range(256)),
        "cut": good[: len(good) // 2],
        "changed": good.replace(b"A", b"B"),
        "large": b"x" * 100_000,
        "small": make_key("-t", "rsa", "-b", "2048").read_bytes(),
        "certificate": b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        "header": b"-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n",
    }
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(SigningKeyError):
            load_signer(str(tmp_path / name), None, lambda prompt: "x")
    for missing in (tmp_path / "none", tmp_path):
        with pytest.raises(SigningKeyError, match=r"cannot be read|does not exist"):
            load_signer(str(missing), None, never)


def test_a_key_is_not_shown_by_its_repr(make_key: MakeKey) -> None:
    assert "PrivateKey" not in repr(KeySigner.from_bytes(make_key(*KINDS["ed25519"]).read_bytes()))


# --- The agent ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_the_agent_signs(make_key: MakeKey, agent: Callable[[Path], None], kind: str) -> None:
    key = make_key(*KINDS[kind])
    agent(key)
    signer = load_signer("agent", None, never)
    assert signer.public_key == public_of(key)
    assert verify_signature(sign_document(signer, NAMESPACE, SHA512), NAMESPACE, SHA512) == public_of(key)


def test_one_of_many_keys_is_chosen_by_its_public_part(make_key: MakeKey, agent: Callable[[Path], None]) -> None:
    first, second = make_key(*KINDS["ed25519"]), make_key(*KINDS["rsa"])
    with pytest.raises(SigningKeyError, match="holds no key"):
        load_signer("agent", None, never)
    agent(first)
    agent(second)
    assert agent_keys() == [public_of(first), public_of(second)]
    with pytest.raises(SigningKeyError, match="more than one"):
        load_signer("agent", None, never)
    for signer in (load_signer(f"{second}.pub", None, never), load_signer("agent", second, never)):
        assert isinstance(signer, AgentSigner)
        assert signer.public_key == public_of(second)
    with pytest.raises(SigningKeyError, match="does not hold"):
        load_signer(f"{make_key(*KINDS['nistp256'])}.pub", None, never)


def test_an_encrypted_key_that_the_agent_holds_needs_no_passphrase(
    make_key: MakeKey, agent: Callable[[Path], None], tmp_path: Path, require_program: Callable[[str], str]
) -> None:
    key = make_key(*KINDS["ed25519"])
    locked = tmp_path / "locked"
    locked.write_bytes(key.read_bytes())
    locked.chmod(0o600)
    subprocess.run(
        [require_program("ssh-keygen"), "-q", "-p", "-N", "sesame", "-f", str(locked)], check=True, capture_output=True
    )
    with pytest.raises(PassphraseError):
        load_signer(str(locked), None, None)
    agent(key)
    assert isinstance(load_signer(str(locked), None, never), AgentSigner)
    assert load_signer("agent", locked, never).public_key == public_of(key)


def test_a_weak_key_in_the_agent_is_passed_over(make_key: MakeKey, agent: Callable[[Path], None]) -> None:
    agent(make_key("-t", "rsa", "-b", "2048"))
    agent(make_key(*KINDS["nistp384"]))
    assert load_signer("agent", None, never).public_key == public_of(make_key(*KINDS["nistp384"]))


def test_a_key_that_left_the_agent_is_said_to_be_gone(
    make_key: MakeKey, agent: Callable[[Path], None], require_program: Callable[[str], str]
) -> None:
    agent(make_key(*KINDS["ed25519"]))
    signer = load_signer("agent", None, never)
    subprocess.run([require_program("ssh-add"), "-q", "-D"], check=True, capture_output=True)
    with pytest.raises(SigningKeyError, match="refused"):
        sign_document(signer, NAMESPACE, SHA512)


def test_no_agent_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    with pytest.raises(SigningKeyError, match="SSH_AUTH_SOCK"):
        load_signer("agent", None, never)
    monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "none"))
    with pytest.raises(SigningKeyError, match="does not answer"):
        load_signer("agent", None, never)


def test_a_public_key_is_said_to_be_one_and_the_private_key_beside_it_is_named(
    make_key: MakeKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    public, private = tmp_path / "ana.pub", tmp_path / "ana"
    public.write_text(public_of(make_key(*KINDS["ed25519"])).line())
    with pytest.raises(SigningKeyError, match=r"ana.pub is a public key, .* no ssh-agent: SSH_AUTH_SOCK") as alone:
        load_signer(None, public, never)
    assert alone.value.hint == "Name the file of the private key."
    private.touch()
    with pytest.raises(SigningKeyError) as beside:
        load_signer(str(public), None, never)
    assert beside.value.hint == f"The private key lies beside it: name {private}"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        write_uint32(0),
        write_uint32(2**31),
        write_string(b"\x05"),
        write_string(b"\x0c"),
        write_string(b"\x0c" + write_uint32(1)),
        write_string(b"\x0c" + write_uint32(2**32 - 1)),
        write_string(b"\x0c" + write_uint32(0) + b"more"),
        write_uint32(10) + b"\x0c",
    ],
)
def test_an_agent_that_speaks_nonsense_is_refused(answer: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = os.path.join(tmp_path, "agent")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()

        def reply() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(answer)

        thread = threading.Thread(target=reply)
        thread.start()
        monkeypatch.setenv("SSH_AUTH_SOCK", address)
        with pytest.raises(SigningKeyError):
            agent_keys()
        thread.join()


# --- Files that are open to others -----------------------------------------------------------------------------------------


@pytest.fixture
def own_key(make_key: MakeKey, tmp_path: Path) -> Callable[[int, str], Path]:
    """A key file of ours with a mode."""

    def make(mode: int, passphrase: str = "") -> Path:
        path = tmp_path / "own"
        path.write_bytes(make_key("-t", "ed25519", passphrase=passphrase).read_bytes())
        path.chmod(mode)
        return path

    return make


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o610, 0o602, 0o677])
@pytest.mark.parametrize("passphrase", ["", "secret"])
def test_a_key_that_others_can_get_at_signs_nothing(own_key: Callable[[int, str], Path], mode: int, passphrase: str) -> None:
    path = own_key(mode, passphrase)
    with pytest.raises(ExposedKeyError) as caught:
        load_signer(str(path), None, lambda _: passphrase)
    assert caught.value.exit_code == 12
    assert (caught.value.hint or "").startswith(f"chmod 600 {path}.")


def test_a_link_to_a_key_is_judged_by_the_key(own_key: Callable[[int, str], Path], tmp_path: Path) -> None:
    own_key(0o644, "")
    (tmp_path / "link").symlink_to(tmp_path / "own")
    with pytest.raises(ExposedKeyError):
        load_signer(None, tmp_path / "link", never)


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o700])
def test_a_key_of_its_owner_alone_signs(own_key: Callable[[int, str], Path], mode: int) -> None:
    assert isinstance(load_signer(str(own_key(mode, "")), None, never), KeySigner)


@pytest.mark.skipif(os.getuid() != 0, reason="only where the system has root to give a file away")
def test_somebody_elses_key_file_is_his_to_keep_as_with_ssh(own_key: Callable[[int, str], Path]) -> None:
    path = own_key(0o644, "")
    os.chown(path, 12345, 12345)
    assert isinstance(load_signer(str(path), None, never), KeySigner)


def test_a_public_key_may_be_read_by_all(make_key: MakeKey, agent: Callable[[Path], None]) -> None:
    key = make_key("-t", "ed25519")
    agent(key)
    key.with_suffix(".pub").chmod(0o644)
    assert isinstance(load_signer(str(key.with_suffix(".pub")), None, never), AgentSigner)


def test_a_key_of_a_kind_that_may_not_sign_is_answered_with_the_kinds_that_may(tmp_path: Path) -> None:
    """An ECDSA key on a FIDO token, as an example: no agent would help."""
    kind = b"sk-ecdsa-sha2-nistp256@openssh.com"
    blob = write_string(kind) + write_string(b"nistp256") + write_string(b"\4" + b"x" * 64) + write_string(b"ssh:")
    file = tmp_path / "token.pub"
    file.write_text(f"{kind.decode()} {base64.b64encode(blob).decode()} ana\n")
    with pytest.raises(SigningKeyError) as caught:
        load_signer(str(file), None, lambda prompt: "x")
    assert "Usable are Ed25519" in str(caught.value.hint)
    inside = b"".join(write_string(part) for part in (b"none", b"none", b"")) + b"\0\0\0\1" + write_string(blob)
    handle = base64.encodebytes(b"openssh-key-v1\0" + inside + write_string(b"x" * 8)).decode()
    (tmp_path / "token").write_text(f"-----BEGIN OPENSSH PRIVATE KEY-----\n{handle}-----END OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "token").chmod(0o600)
    with pytest.raises(SigningKeyError, match=f"handle of one on a FIDO token.*{kind.decode()}") as refused:
        load_signer(str(tmp_path / "token"), None, lambda prompt: "x")
    assert "Usable are Ed25519" in str(refused.value.hint)


def test_a_key_of_putty_comes_with_what_makes_one_of_openssh(tmp_path: Path) -> None:
    file = tmp_path / "ana.ppk"
    file.write_text("PuTTY-User-Key-File-3: ssh-ed25519\n")
    file.chmod(0o600)
    with pytest.raises(SigningKeyError, match="key file of PuTTY") as refused:
        load_signer(str(file), None, None)
    assert str(refused.value.hint).endswith(f"puttygen {file} -O private-openssh -o {tmp_path}/ana_openssh")
