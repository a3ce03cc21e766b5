"""A login by Kerberos, as in many companies: with a real KDC and a real sshd that takes nothing else."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from evidencesync.custody.documents import SshPeer
from evidencesync.errors import AuthenticationError, HostKeyError
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess
from tests.integration.conftest import Sshd, free_port, make_key, running_sshd, wait_for_port

_REALM: Final = "LAB.TEST"
_SERVER: Final = "GSSAPIAuthentication yes\nGSSAPIKeyExchange yes\nGSSAPIStrictAcceptorCheck no\nPubkeyAuthentication no\n"
_CLIENT: Final = "Host *\n  GSSAPIAuthentication yes\n"


@dataclass(frozen=True)
class Realm:
    """A realm whose KDC runs, a server in it, and the user's ticket for it."""

    folder: Path
    sshd: Sshd

    def connect(self, config: str = _CLIENT, known: str | None = None) -> SshPeer:
        """What is on record of a server that one has logged in to."""
        key = " ".join((self.sshd.folder / "host_ed25519.pub").read_text().split()[:2])
        hosts, settings = self.folder / "known_hosts", self.folder / "config"
        hosts.write_text(f"[localhost]:{self.sshd.port} {key}\n" if known is None else known)
        settings.write_text(config)
        options = SshOptions(config=settings, known_hosts=hosts, timeout_seconds=20)
        child = SshProcess(
            find_route(Address.parse(f"ssh://{self.sshd.user}@localhost:{self.sshd.port}/v"), options), options, "echo"
        )
        try:
            return child.wait_ready()
        finally:
            child.kill()
            child.release()


@pytest.fixture(scope="module")
def realm(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[Realm]:
    folder = tmp_path_factory.mktemp("realm")
    programs = {name: require_program(name) for name in ("krb5kdc", "kdb5_util", "kadmin.local", "kinit", "sshd")}
    port = free_port()
    (folder / "krb5.conf").write_text(
        f"[libdefaults]\n default_realm = {_REALM}\n dns_lookup_kdc = false\n dns_canonicalize_hostname = false\n"
        f"[realms]\n {_REALM} = {{\n  kdc = 127.0.0.1:{port}\n }}\n[domain_realm]\n localhost = {_REALM}\n"
    )
    (folder / "kdc.conf").write_text(
        f"[realms]\n {_REALM} = {{\n  database_name = {folder}/principal\n  key_stash_file = {folder}/stash\n"
        f"  kdc_listen = 127.0.0.1:{port}\n  kdc_tcp_listen = 127.0.0.1:{port}\n }}\n[logging]\n kdc = FILE:{folder}/kdc.log\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name, file in (
            ("KRB5_CONFIG", "krb5.conf"),
            ("KRB5_KDC_PROFILE", "kdc.conf"),
            ("KRB5_KTNAME", "keytab"),
            ("KRB5CCNAME", "ticket"),
        ):
            patch.setenv(name, str(folder / file))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        _run(programs["kdb5_util"], "create", "-s", "-P", "master", "-r", _REALM)
        (folder / "server").mkdir()
        make_key(folder / "server" / "host_ed25519")
        with closing(Kdc(programs["krb5kdc"], port, folder)), running_sshd(folder / "server", programs["sshd"], _SERVER) as sshd:
            for query in (
                f"addprinc -pw secret {sshd.user}",
                "addprinc -randkey host/localhost",
                f"ktadd -k {folder}/keytab host/localhost",
            ):
                _run(programs["kadmin.local"], "-q", query)
            _run(programs["kinit"], sshd.user, answer=b"secret\n")
            yield Realm(folder, sshd)


class Kdc:
    """Gives out tickets, until it is closed."""

    def __init__(self, program: str, port: int, folder: Path) -> None:
        self._process = subprocess.Popen([program, "-n"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_port(port, self._process, folder / "kdc.log")

    def close(self) -> None:
        """Ends it."""
        self._process.terminate()
        self._process.wait()


def _run(*command: str, answer: bytes = b"") -> None:
    done = subprocess.run(command, input=answer, capture_output=True, check=False)
    assert done.returncode == 0, done


def test_a_ticket_is_enough_to_log_in(realm: Realm) -> None:
    assert realm.connect().host_key == realm.sshd.host_fingerprint


def test_without_a_ticket_the_login_is_refused_and_says_why(realm: Realm, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KRB5CCNAME", str(realm.folder / "no-ticket"))
    with pytest.raises(AuthenticationError, match="No Kerberos credentials available"):
        realm.connect()


@pytest.mark.parametrize("known", [None, ""], ids=["known", "unknown"])
def test_a_key_exchange_that_shows_no_host_key_is_not_used(realm: Realm, known: str | None) -> None:
    """Kerberos could vouch for the server in its place. But the host key is what is on record."""
    config = _CLIENT + "  GSSAPIKeyExchange yes\n"
    if b"gssapikeyexchange" not in subprocess.run(["ssh", "-G", "localhost"], capture_output=True, check=True).stdout:
        pytest.skip("this ssh has no such key exchange")
    if known is None:
        assert realm.connect(config).host_key == realm.sshd.host_fingerprint
    else:
        with pytest.raises(HostKeyError, match="is not known"):
            realm.connect(config, known)
