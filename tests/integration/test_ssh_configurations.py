"""Configurations of ssh: each row is gone with plain `ssh` and with ours, and both come to the same place in the same way.

The same server, user, key and number of jump hosts, and the same refusals (in the suite, plain ssh is asked where a row may come
anywhere else than the first one does; SOAK=1 asks it about every row); but where plain ssh would take a host key that nobody
has recorded, ours refuses it, and where a configuration would make ssh do something else than to run our command, ours runs it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from evidencesync.errors import EvidenceSyncError
from evidencesync.ssh.address import Address
from evidencesync.ssh.options import SshOptions, parse_program
from evidencesync.ssh.route import find_route
from evidencesync.ssh.ssh_process import SshProcess
from tests.integration.conftest import make_key, running_sshd
from tests.support.soak import SOAK

if TYPE_CHECKING:
    from tests.integration.conftest import Agent, Sshd

_COMMAND = "echo $USER $SSH_ORIGINAL_COMMAND ${SSH_CONNECTION##* }"
_ACCEPTED = re.compile(rb"Server accepts key: .*?(SHA256:\S+)")
_SERVER = """HostKey {0}/host_rsa
HostCertificate {0}/host_ed25519-cert.pub
TrustedUserCAKeys {0}/user_authority.pub
Banner {0}/banner
MaxAuthTries 3
MaxSessions 20
AllowTcpForwarding yes
"""


@dataclass(frozen=True)
class Row:
    """`config` follows the lines that every server has; `{}` names are those of `World.names`."""

    name: str
    config: str = ""
    address: str = "lab:/v"
    plain: tuple[str, ...] = ("lab",)
    ssh: str = "ssh"
    ours: int | None = None
    """Our exit code, where plain ssh comes to another result; 0 where plain ssh fails. None: the same."""
    before: str = ""
    after: str = ""
    login: str = "  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
    identity: str = "  IdentityFile {id}\n  IdentitiesOnly yes\n"
    known: str = "  UserKnownHostsFile {known}\n"
    agent: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class World:
    """The server of all rows, and the files that they name."""

    sshd: Sshd
    names: dict[str, str]

    @property
    def folder(self) -> Path:
        return self.sshd.folder

    def fill(self, text: str) -> str:
        for name, value in self.names.items():
            text = text.replace("{" + name + "}", value)
        return text


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, require_program: Callable[[str], str]) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("configured")
    for name in ("host_ed25519", "host_authority", "user_authority", "certified", "stranger", "forced", *_OTHERS):
        make_key(folder / name)
    make_key(folder / "host_rsa", "-t", "rsa", "-b", "2048")
    _certify(folder, "host_authority", "host_ed25519", "-h", "-n", "127.0.0.1,localhost,lab-key")
    _certify(folder, "user_authority", "certified", "-n", _account())
    (folder / "banner").write_text("debug1: Server host key: ssh-ed25519 SHA256:" + "A" * 43 + "\nWelcome\n")
    with running_sshd(folder, require_program("sshd"), _SERVER.format(folder)) as sshd:
        with sshd.authorized_keys.open("a") as file:
            file.write(f'command="echo forced noise; echo noise >&2" {(folder / "forced.pub").read_text()}')
        names = {
            "port": str(sshd.port),
            "user": sshd.user,
            "id": str(sshd.identity),
            "known": str(folder / "known"),
            "folder": str(folder),
        }
        made = World(sshd, names)
        _write_files(made)
        yield made


_OTHERS = ("other0", "other1", "other2", "other3")


def _certify(folder: Path, authority: str, key: str, *more: str) -> None:
    line: list[str | Path] = ["ssh-keygen", "-q", "-s", folder / authority, "-I", "test", *more, folder / f"{key}.pub"]
    subprocess.run(line, check=True)


def _account() -> str:
    import pwd

    return pwd.getpwuid(os.geteuid()).pw_name


def _write_files(world: World) -> None:
    folder, port = world.folder, world.sshd.port
    ed25519, rsa, stranger, authority = (
        " ".join((folder / f"{name}.pub").read_text().split()[:2])
        for name in ("host_ed25519", "host_rsa", "stranger", "host_authority")
    )
    names = ("[127.0.0.1]", "[localhost]")
    files = {
        "known": "".join(f"{name}:{port} {ed25519}\n" for name in names),
        "known_rsa": f"[127.0.0.1]:{port} {rsa}\n",
        "known_alias": f"lab-key {ed25519}\n",
        "known_authority": f"@cert-authority [127.0.0.1]:{port} {authority}\n",
        "known_wrong_authority": f"@cert-authority [127.0.0.1]:{port} {stranger}\n",
        "known_no_port": f"127.0.0.1 {ed25519}\n",
        "known_target": f"[localhost]:{port} {ed25519}\n",
        "changed": f"[127.0.0.1]:{port} {stranger}\n",
        "revoked": f"[127.0.0.1]:{port} {ed25519}\n@revoked * {ed25519}\n",
        "hashed": f"[127.0.0.1]:{port} {ed25519}\n",
        "known with blank": f"[127.0.0.1]:{port} {ed25519}\n",
        "empty": "",
        "part1.conf": world.fill("Include {folder}/part2.conf\n"),
        "part2.conf": world.fill("Host lab\n  Port {port}\n"),
        "jump.conf": world.fill(
            "Host jump\n  HostName localhost\n  Port {port}\n  User {user}\n  IdentityFile {id}\n  UserKnownHostsFile {known}\n"
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", folder / "hashed"], check=True, capture_output=True)
    for copy in ("127.0.0.1.key", "key with blank"):
        (folder / copy).write_bytes(world.sshd.identity.read_bytes())
        (folder / copy).chmod(0o600)


# Where plain ssh, and so ours, does not get in. Everywhere else both do.
_REFUSED = frozenset(
    {
        "another_cert_authority",
        "agent_with_few_tries",
        "no_agent",
        "wrong_identity",
        "jump_of_itself",
        "jump_that_is_not_found",
        "jump_to_a_closed_port",
        "proxy_command_that_fails",
        "no_algorithm_in_common",
        "unknown_option",
        "name_that_is_not_found",
        "closed_port",
        "unknown_host_key",
        "changed_host_key",
        "revoked_host_key",
    }
)
_JUMP = (
    "Host jump\n  HostName localhost\n  Port {port}\n  User {user}\n  IdentityFile {id}\n  UserKnownHostsFile {known}\n"
    "Host second\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n  IdentityFile {id}\n  UserKnownHostsFile {known}\n"
)
_LOOSE = "  StrictHostKeyChecking no\n  CheckHostIP no\n  VerifyHostKeyDNS yes\n  NoHostAuthenticationForLocalhost yes\n"

ROWS = (
    Row("plain"),
    Row("another_name", before="Host other\n  Port 1\n"),
    Row("equals_signs", login="  HostName=127.0.0.1\n  Port = {port}\n  User={user}\n"),
    Row("quoted_values", identity='  IdentityFile "{folder}/key with blank"\n'),
    Row("quoted_known_hosts", known='  UserKnownHostsFile "{folder}/known with blank"\n'),
    Row("tabs_and_capitals", login="\tHOSTNAME\t127.0.0.1\n\tpOrT\t{port}\n\tUSER {user}\n"),
    Row("first_value_wins", login="  HostName 127.0.0.1\n  Port {port}\n  Port 1\n  User {user}\n", after="Host *\n  Port 2\n"),
    Row("wildcards", before="Host la? !label\n  Compression yes\n", after="Host *\n  ConnectionAttempts 2\n"),
    Row("match_host", login="", after="Match host lab\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"),
    Row("match_originalhost", login="  HostName 127.0.0.1\n", after="Match originalhost lab\n  Port {port}\n  User {user}\n"),
    Row("match_final", login="  HostName 127.0.0.1\n  User {user}\n", after="Match final host 127.0.0.1\n  Port {port}\n"),
    Row("match_exec", login="  HostName 127.0.0.1\n", after="Match exec true\n  Port {port}\n  User {user}\n"),
    Row(
        "match_exec_with_quotes_and_equals",
        login="  HostName 127.0.0.1\n",
        after="Match host 127.0.0.1 exec \"test 'a=b c' = 'a=b c' && test %h = 127.0.0.1\"\n  Port {port}\n  User {user}\n",
    ),
    Row("match_exec_that_fails", before="Match exec false\n  Port 1\n"),
    Row("match_negated_user", login="  HostName 127.0.0.1\n", after="Match !user nobody\n  Port {port}\n"),
    Row("match_localuser", login="  HostName 127.0.0.1\n", after="Match localuser {user}\n  Port {port}\n"),
    Row("match_all", login="  HostName 127.0.0.1\n", after="Match all\n  Port {port}\n"),
    Row("canonical_names", login="  HostName localhost\n  Port {port}\n", before="CanonicalizeHostname yes\n"),
    Row("include_nested", login="  HostName 127.0.0.1\n  User {user}\n", before="Include {folder}/part1.conf\n"),
    Row("include_globbed", login="  HostName 127.0.0.1\n", before="Include {folder}/part*.conf {folder}/none*.conf\n"),
    Row("include_of_the_system", before="Include /etc/ssh/ssh_config.d/*.conf\n"),
    Row("include_that_is_not_there", before="Include {folder}/no/such/file\n"),
    Row("units_of_time", "  ServerAliveInterval 1m\n  ConnectTimeout 1m30s\n  RekeyLimit 1G 1h\n"),
    Row("comments_at_line_ends", login="  HostName 127.0.0.1 # here\n  Port {port} # there\n  User {user}\n"),
    Row("bytes_in_comments", before="# \udcff\udcfe caf\udce9\n"),
    Row("bytes_in_values", "  SetEnv WORD=caf\udce9\n"),
    Row("variables", identity="  IdentityFile ${KEYS}/identity\n", environment={"KEYS": "{folder}"}),
    Row("tokens", identity="  IdentityFile {folder}/%h.key\n"),
    Row("hashed_known_hosts", known="  UserKnownHostsFile {folder}/hashed\n"),
    Row("two_known_hosts", known="  UserKnownHostsFile {folder}/empty {known}\n"),
    Row("known_hosts_without_the_port", known="  UserKnownHostsFile {folder}/known_no_port\n"),
    Row("known_hosts_of_the_system", known="  UserKnownHostsFile {folder}/empty\n  GlobalKnownHostsFile {known}\n"),
    Row("known_hosts_of_the_system_alone", known="  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile {known}\n"),
    Row("known_hosts_command", known='  UserKnownHostsFile {folder}/empty\n  KnownHostsCommand /bin/cat "{known}"\n'),
    Row("host_key_alias", "  HostKeyAlias lab-key\n", known="  UserKnownHostsFile {folder}/known_alias\n"),
    Row("rsa_is_known", known="  UserKnownHostsFile {folder}/known_rsa\n"),
    Row("cert_authority", known="  UserKnownHostsFile {folder}/known_authority\n"),
    Row("another_cert_authority", known="  UserKnownHostsFile {folder}/known_wrong_authority\n"),
    Row("user_certificate", identity="  IdentityFile {folder}/certified\n  IdentitiesOnly yes\n"),
    Row(
        "user_certificate_named",
        identity="  IdentityFile {folder}/certified\n  CertificateFile {folder}/certified-cert.pub\n  IdentitiesOnly yes\n",
    ),
    Row("user_certificate_in_the_agent", identity="", agent=("certified",)),
    Row("agent", identity="", agent=("identity",)),
    Row("agent_with_few_tries", identity="  IdentityFile {id}\n", agent=_OTHERS),
    Row("agent_with_few_tries_and_a_named_key", agent=(*_OTHERS, "identity")),
    Row("agent_by_name", identity="  IdentityAgent $OTHER_AGENT\n", agent=("identity",), environment={"OTHER_AGENT": "{agent}"}),
    Row("no_agent", identity="  IdentityAgent none\n  IdentityFile {folder}/stranger\n", agent=("identity",)),
    Row("missing_identity", identity="  IdentityFile {folder}/absent\n  IdentityFile {id}\n"),
    Row("wrong_identity", identity="  IdentityFile {folder}/stranger\n  IdentitiesOnly yes\n"),
    Row("forced_command", identity="  IdentityFile {folder}/forced\n  IdentitiesOnly yes\n"),
    Row("jump", "  ProxyJump jump\n", after=_JUMP),
    Row("jump_with_tokens", "  ProxyJump jump-%n\n", after="Host jump-lab\n" + _JUMP.partition("\n")[2]),
    Row("jump_chain", "  ProxyJump second,jump\n", after=_JUMP),
    Row("jump_of_a_jump", "  ProxyJump second\n", after="Host second\n  ProxyJump jump\n" + _JUMP),
    Row(
        "jump_by_address",
        "  ProxyJump {user}@127.0.0.1:{port}\n",
        login="  HostName localhost\n  Port {port}\n  User {user}\n",
        after="Host *\n  IdentityFile {id}\n  UserKnownHostsFile {known}\n"
    ),
    Row("jump_of_itself", after="Host *\n  ProxyJump 127.0.0.1:{port}\n"),
    Row("jump_none", "  ProxyJump none\n", after="Host *\n  ProxyJump nowhere.invalid\n"),
    Row("jump_on_the_command_line", plain=("-J", "jump", "lab"), ssh="ssh -J jump", after=_JUMP),
    Row("jump_none_on_the_command_line", "  ProxyJump jump\n", plain=("-J", "none", "lab"), ssh="ssh -J none", after=_JUMP),
    Row("jump_that_is_not_found", "  ProxyJump nowhere.invalid\n"),
    Row("jump_to_a_closed_port", "  ProxyJump jump\n", login="  HostName 127.0.0.1\n  Port 1\n  User {user}\n", after=_JUMP),
    Row("jump_and_fdpass", "  ProxyJump jump\n  ProxyUseFdpass yes\n", after=_JUMP),
    Row("proxy_command", "  ProxyCommand ssh -F {folder}/jump.conf -W %h:%p jump\n"),
    Row("proxy_command_with_quotes", "  ProxyCommand ssh -F '{folder}/jump.conf' -W \"[%h]:%p\" \"jump\"\n"),
    Row("proxy_command_none", "  ProxyCommand none\n", after="Host *\n  ProxyJump nowhere.invalid\n"),
    Row("proxy_command_that_fails", "  ProxyCommand false\n", ours=23),
    Row("one_cipher", "  Ciphers aes256-ctr\n"),
    Row("fewer_ciphers", "  Ciphers -chacha20*,aes128-gcm*\n"),
    Row("one_mac", "  Ciphers aes128-ctr\n  MACs hmac-sha2-512\n"),
    Row("one_key_exchange", "  KexAlgorithms curve25519-sha256\n"),
    Row("one_host_key_algorithm", "  HostKeyAlgorithms rsa-sha2-256\n", known="  UserKnownHostsFile {folder}/known_rsa\n"),
    Row("no_algorithm_in_common", "  KexAlgorithms diffie-hellman-group1-sha1\n"),
    Row("one_key_algorithm", "  PubkeyAcceptedAlgorithms ssh-ed25519\n"),
    Row("one_login_method", "  PreferredAuthentications publickey\n  PasswordAuthentication no\n"),
    Row("batch_mode", "  BatchMode yes\n  NumberOfPasswordPrompts 0\n"),
    Row("shared_connection", "  ControlMaster auto\n  ControlPath {folder}/c\n  ControlPersist 1\n"),
    Row("quiet_log", "  LogLevel QUIET\n"),
    Row("loud_log", "  LogLevel DEBUG3\n  LogVerbose *\n"),
    Row("terminal", "  RequestTTY force\n  EscapeChar ~\n", ours=0),
    Row("remote_command", "  RemoteCommand echo other\n", ours=0),
    Row("no_input", "  StdinNull yes\n"),
    Row("background", "  ForkAfterAuthentication yes\n  StdinNull yes\n", ours=0),
    Row("no_session", "  SessionType none\n  ExitOnForwardFailure yes\n  RemoteForward 1 127.0.0.1:1\n", ours=0),
    Row("forwardings", "  LocalForward {port} 127.0.0.1:1\n  DynamicForward {port}\n  ForwardAgent yes\n  ForwardX11 yes\n"),
    Row("forwardings_that_must_work", "  LocalForward {port} 127.0.0.1:1\n  ExitOnForwardFailure yes\n", ours=0),
    Row("tunnel", "  Tunnel ethernet\n  ExitOnForwardFailure no\n"),
    Row("local_command", "  PermitLocalCommand yes\n  LocalCommand touch ${LOCAL}/local-command\n"),
    Row("environment", "  SendEnv LANG LC_* EVIDENCE*\n  SetEnv WORD=value\n"),
    Row("pictures_of_keys", "  VisualHostKey yes\n  FingerprintHash md5\n", ours=0),
    Row("address_family", "  AddressFamily inet\n  BindAddress 127.0.0.1\n"),
    Row("updates_of_host_keys", "  UpdateHostKeys yes\n  HashKnownHosts yes\n"),
    Row("compression", "  Compression yes\n  TCPKeepAlive no\n  IPQoS throughput\n"),
    Row("unknown_option", "  NoSuchOption yes\n"),
    Row("unknown_option_to_ignore", "  NoSuchOption yes\n", before="IgnoreUnknown NoSuch*\n"),
    Row(
        "user_of_the_address",
        address="{user}@lab:/v",
        plain=("{user}@lab",), login="  HostName 127.0.0.1\n  Port {port}\n  User x\n"
    ),
    Row(
        "port_of_the_address",
        address="ssh://lab:{port}/v",
        plain=("-p",
        "{port}",
        "lab"),
        login="  HostName 127.0.0.1\n  Port 1\n"
    ),
    Row("port_of_the_program", plain=("-p", "{port}", "lab"), ssh="ssh -p {port}", login="  HostName 127.0.0.1\n  Port 1\n"),
    Row(
        "option_of_the_program",
        "  User x\n",
        plain=("-oUser={user}",
        "lab"),
        ssh="ssh -oUser={user} -q -C",
        login="  HostName 127.0.0.1\n  Port {port}\n"
    ),
    Row("name_that_is_not_found", address="nowhere.invalid:/v", plain=("nowhere.invalid",)),
    Row("closed_port", login="  HostName 127.0.0.1\n  Port 1\n"),
    Row("unknown_host_key", known="  UserKnownHostsFile {folder}/empty\n"),
    Row("changed_host_key", known="  UserKnownHostsFile {folder}/changed\n"),
    Row("revoked_host_key", known="  UserKnownHostsFile {folder}/revoked\n"),
    Row("loose_and_unknown", _LOOSE, known="  UserKnownHostsFile {folder}/empty\n", ours=21),
    Row("loose_and_changed", _LOOSE, known="  UserKnownHostsFile {folder}/changed\n", ours=21),
    Row("loose_and_revoked", _LOOSE, known="  UserKnownHostsFile {folder}/revoked\n", ours=21),
    Row(
        "loose_and_of_another_type",
        _LOOSE + "  HostKeyAlgorithms ssh-ed25519\n",
        known="  UserKnownHostsFile {folder}/known_rsa\n",
        ours=21
    ),
    Row("accept_new", "  StrictHostKeyChecking accept-new\n", known="  UserKnownHostsFile {folder}/empty\n", ours=21),
    Row("no_known_hosts", _LOOSE, known="  UserKnownHostsFile /dev/null\n", ours=21),
    Row("no_known_hosts_by_word", _LOOSE, known="  UserKnownHostsFile none\n", ours=21),
    Row("no_known_hosts_at_all", _LOOSE, known="  UserKnownHostsFile /dev/null\n  GlobalKnownHostsFile /dev/null\n", ours=21),
    Row(
        "known_hosts_command_that_knows_nothing",
        _LOOSE,
        known="  UserKnownHostsFile /dev/null\n  KnownHostsCommand /bin/true\n",
        ours=21
    ),
    Row(
        "loose_jump",
        "  ProxyJump jump\n" + _LOOSE,
        after="Host jump\n  UserKnownHostsFile {folder}/empty\n" + _LOOSE + _JUMP,
        ours=21
    ),
    Row(
        "loose_jump_without_known_hosts",
        "  ProxyJump jump\n",
        after="Host jump\n  UserKnownHostsFile /dev/null\n" + _LOOSE + _JUMP,
        ours=21
    ),
    Row(
        "loose_behind_a_jump",
        "  ProxyJump jump\n" + _LOOSE,
        known="  UserKnownHostsFile {folder}/known_target\n",
        after=_JUMP,
        ours=21
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """What became of an attempt. `code` is ours, or what ours should be for what plain ssh says."""

    code: int
    said: bytes = b""
    key: str = ""
    logins: int = 0


def _code_of(said: bytes) -> int:
    for word, code in (
        (b"Host key verification failed", 21),
        (b"Permission denied (", 22),
        (b"Too many authentication failures", 22),
        (b"Bad configuration option", 2),
        (b"jumphost loop", 2),
        (b"Could not resolve hostname", 20),
    ):
        if word in said:
            return code
    return 23 if b"closed by" in said and b"connect to" not in said and b"refused" not in said else 20


def _plain(world: World, row: Row, config: Path, environment: dict[str, str]) -> Outcome:
    words = [world.fill(word) for word in row.plain]
    line: list[str | Path] = ["ssh", "-v", "-F", config, "-o", "BatchMode=yes", *words, _COMMAND]
    done = subprocess.run(line, stdin=subprocess.DEVNULL, capture_output=True, check=False, env=environment, timeout=30)
    keys = _ACCEPTED.findall(done.stderr)
    if done.returncode == 255:
        return Outcome(_code_of(done.stderr))
    return Outcome(0, done.stdout, keys[-1].decode() if keys else "", done.stderr.count(b"Authenticated to "))


@pytest.fixture(scope="module")
def usual(world: World) -> Outcome:
    """Where plain ssh comes with the first row."""
    config = world.folder / "usual"
    config.write_text(world.fill(_config_of(ROWS[0])))
    return _plain(world, ROWS[0], config, {name: value for name, value in os.environ.items() if name != "SSH_AUTH_SOCK"})


def _config_of(row: Row) -> str:
    return f"{row.before}Host lab\n{row.login}{row.config}{row.identity}{row.known}{row.after}"


def _ours(world: World, row: Row, config: Path) -> Outcome:
    options = SshOptions(config=config, program=parse_program(world.fill(row.ssh)), timeout_seconds=20)
    child = None
    try:
        child = SshProcess(find_route(Address.parse(world.fill(row.address)), options), options, _COMMAND)
        peer = child.wait_ready()
        assert peer.port == world.sshd.port
        said = b""
        while block := os.read(child.source, 65536):
            child.begin_receiving()
            said += block
        assert child.end() is None
        return Outcome(0, said, child.logs[-1].login_key or "", sum(log.is_authenticated for log in child.logs))
    except EvidenceSyncError as error:
        return Outcome(int(error.exit_code))
    finally:
        if child is not None:
            child.kill()
            child.release()


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_ours_comes_where_plain_ssh_comes(
    row: Row, world: World, usual: Outcome, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    if row.agent:
        agent: Agent = request.getfixturevalue("agent")
        for key in row.agent:
            agent.add(world.folder / key)
    for name, value in row.environment.items():
        monkeypatch.setenv(name, world.fill(value).replace("{agent}", os.environ.get("SSH_AUTH_SOCK", "")))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("LOCAL", str(tmp_path))
    config = tmp_path / "config"
    config.write_bytes(os.fsencode(world.fill(_config_of(row))))
    files = {name: (world.folder / name).read_bytes() for name in ("known", "empty", "known_rsa")}
    ours = _ours(world, row, config)
    assert {name: (world.folder / name).read_bytes() for name in files} == files  # nothing is recorded unasked
    assert not (tmp_path / "local-command").exists()
    if row.ours:
        assert ours.code == row.ours
        return
    if row.ours == 0:
        assert (ours.code, ours.logins) == (0, 1)
        assert ours.said.split()[-1] == str(world.sshd.port).encode()
        return
    assert (ours.code != 0) == (row.name in _REFUSED)
    if SOAK or ours != usual:
        assert ours == _plain(world, row, config, dict(os.environ))
