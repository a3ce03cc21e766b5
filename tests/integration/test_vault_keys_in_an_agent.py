"""A vault whose own key lives in an ssh-agent, from its making or since; and what it says where the agent is not there."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evidencesync.custody.publickey import PublicKey
from evidencesync.errors import SigningKeyError, UsageError
from evidencesync.evidence.identity import ItemName, Title
from evidencesync.ssh_agent import AgentSigner
from evidencesync.vault.create import create_vault
from evidencesync.vault.key_change import ChangedKey, change_key
from evidencesync.vault.key_files import require_usable
from evidencesync.vault.vault import Vault
from evidencesync.verify.audit import audit_vault
from tests.integration.conftest import Agent
from tests.support.bench_of_evidence import Bench, make_bench, new_signer
from tests.unit.vault.test_key_changes import killed_before

KINDS = {"ed25519": ("ed25519", "256"), "ecdsa": ("ecdsa", "384"), "rsa": ("rsa", "3072")}
MakeKey = Callable[..., AgentSigner]


@pytest.fixture
def held(agent: Agent, tmp_path: Path, require_program: Callable[[str], str]) -> MakeKey:
    """Makes a key of a kind, loads it into the agent, and removes its file."""
    program = require_program("ssh-keygen")

    def make(kind: str = "ed25519") -> AgentSigner:
        file = tmp_path / f"{kind}-{len(os.listdir(tmp_path))}"
        name, bits = KINDS[kind]
        subprocess.run([program, "-q", "-t", name, "-b", bits, "-N", "", "-f", file], check=True)
        agent.add(file)
        file.unlink()
        return AgentSigner(PublicKey.from_line(file.with_suffix(".pub").read_bytes()))

    return make


def made(folder: Path, key: AgentSigner) -> Bench:
    signer = new_signer()
    (folder / "source").mkdir()
    (folder / "source" / "file").write_bytes(b"evidence")
    vault = create_vault(folder / "vault", "test", [(signer.public_key, "ana@lab")], in_agent=key)
    return Bench(vault, signer, folder / "source", ItemName(Title("2026/11"), Title("E1")))


def passes(vault: Vault) -> bool:
    return audit_vault(vault.layout.root, now_ns=time.time_ns()).exit_code == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_vault_is_made_with_a_key_in_an_agent_and_signs_with_it(tmp_path: Path, held: MakeKey, kind: str) -> None:
    key = held(kind)
    bench = made(tmp_path, key)
    bench.push()
    bench.vault = Vault.open(bench.vault.layout.root)  # as another process finds it
    bench.push()
    assert not (bench.vault.layout.root / "vault_key").exists()
    assert bench.vault.keys.all == (key.public_key.fingerprint,)
    assert passes(bench.vault)


def test_a_key_moves_from_a_file_into_an_agent_to_another_one_there_and_back(tmp_path: Path, held: MakeKey) -> None:
    bench = make_bench(tmp_path)
    for key in (held(), held("ecdsa"), None):
        (bench.source / "file").write_bytes(os.urandom(100))
        bench.push()
        change_key(bench.vault, bench.vault.keys.current, key)
        assert (bench.vault.layout.root / "vault_key").exists() == (key is None)
        bench.push()
        assert passes(bench.vault)
    assert len({*bench.vault.keys.all}) == 4
    signers = (bench.vault.layout.root / "trusted_signers").read_bytes()
    assert signers.count(b"vault ") == 4


@pytest.mark.parametrize("gone", ["agent", "key", "public key"])
def test_without_its_key_the_vault_refuses_before_anything_travels_and_makes_no_other(
    tmp_path: Path, held: MakeKey, agent: Agent, monkeypatch: pytest.MonkeyPatch, gone: str
) -> None:
    bench = made(tmp_path, held())
    before = sorted(os.listdir(bench.vault.layout.root))
    if gone == "agent":
        monkeypatch.setenv("SSH_AUTH_SOCK", str(tmp_path / "nobody"))
    elif gone == "key":
        subprocess.run(["ssh-add", "-q", "-D"], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent.socket)})
    else:
        (bench.vault.layout.root / "vault_key.pub").write_bytes(new_signer().public_key.line().encode())
    bench.vault = Vault.open(bench.vault.layout.root)
    with pytest.raises(SigningKeyError, match="ssh-agent") as raised:
        bench.push()
    assert ("vault_key.pub" if gone == "public key" else "SSH_AUTH_SOCK") in str(raised.value.hint)
    assert bench.acquisitions() == []
    with pytest.raises(SigningKeyError):
        change_key(bench.vault, bench.vault.keys.current)
    assert sorted(os.listdir(bench.vault.layout.root)) == before


def test_a_key_that_the_agent_does_not_hold_any_more_never_becomes_the_vaults(
    tmp_path: Path, held: MakeKey, agent: Agent
) -> None:
    bench, key = make_bench(tmp_path), held()
    subprocess.run(["ssh-add", "-q", "-D"], check=True, env={**os.environ, "SSH_AUTH_SOCK": str(agent.socket)})
    with pytest.raises(SigningKeyError):
        change_key(bench.vault, bench.vault.keys.current, key)
    assert len(bench.vault.keys.all) == 1


def test_the_same_command_again_changes_nothing_and_the_key_it_has_is_refused(tmp_path: Path, held: MakeKey) -> None:
    bench, key = make_bench(tmp_path), held()
    done = [change_key(bench.vault, bench.vault.keys.current, key) for _ in range(2)]
    assert [one.completed for one in done] == [False, True]
    assert len(bench.vault.keys.all) == 2
    (tmp_path / "other").mkdir()
    other = made(tmp_path / "other", held())
    with pytest.raises(UsageError):
        change_key(other.vault, other.vault.keys.current, AgentSigner(other.vault.signer.public_key))


def test_a_private_key_that_an_interruption_left_is_removed_by_the_same_command(tmp_path: Path, held: MakeKey) -> None:
    bench, key = make_bench(tmp_path), held()
    left = (bench.vault.layout.root / "vault_key").read_bytes()
    change_key(bench.vault, bench.vault.keys.current, key)
    (bench.vault.layout.root / "vault_key").write_bytes(left)
    (bench.vault.layout.root / "vault_key").chmod(0o600)
    assert change_key(bench.vault, bench.vault.keys.current, key).completed
    assert not (bench.vault.layout.root / "vault_key").exists()


@pytest.mark.slow
def test_a_change_into_an_agent_that_is_killed_anywhere_is_completed_by_the_same_command(
    tmp_path_factory: pytest.TempPathFactory, tmp_path: Path, held: MakeKey
) -> None:
    bench, key = make_bench(tmp_path_factory.mktemp("bench")), held()
    (bench.source / "file").write_bytes(b"evidence")
    bench.push()
    old, copy, step = bench.vault.keys.current, tmp_path / "copy", 0

    def change(path: Path) -> ChangedKey:
        vault = Vault.open(path)
        return change_key(vault, vault.keys.current, key)

    while True:
        shutil.copytree(bench.vault.layout.root, copy, symlinks=True)
        was_killed = killed_before(step, copy, change)
        assert passes(Vault.open(copy)), step
        change(copy)
        assert Vault.open(copy).keys.all == (old, key.public_key.fingerprint)
        assert not (copy / "vault_key").exists()
        assert passes(Vault.open(copy)), step
        if not was_killed:
            break
        shutil.rmtree(copy)
        step += 1


def test_a_key_that_asks_for_a_touch_is_no_vaults() -> None:
    blob = b"".join(
        len(part).to_bytes(4, "big") + part
        for part in (b"sk-ssh-ed25519@openssh.com", new_signer().public_key.blob[-32:], b"ssh:")
    )
    with pytest.raises(SigningKeyError, match="touched"):
        require_usable(PublicKey.from_blob(blob))
