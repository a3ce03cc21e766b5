"""What ssh's log says of a connection, and what a hostile server can make of it."""

from __future__ import annotations

import pytest

from evidencesync.ssh.log import ConnectFailure, SshLog, is_for_people

KEY, OTHER = f"SHA256:{'a' * 43}", f"SHA256:{'b' * 43}"
LOGIN = f"""OpenSSH_9.2p1 Debian-2, OpenSSL 3.0
debug1: Connecting to lab [192.0.2.1] port 22.
debug1: Connection established.
debug1: Remote protocol version 2.0, remote software version OpenSSH_9.2p1 Debian-2
debug1: kex: server->client cipher: aes128-gcm@openssh.com MAC: <implicit> compression: none
debug1: kex: client->server cipher: aes256-ctr MAC: hmac-sha2-256-etm@openssh.com compression: none
debug1: Server host key: ssh-ed25519 {KEY}
debug1: SSH2_MSG_NEWKEYS received
debug1: Server accepts key: /home/ana/.ssh/id_ed25519 ED25519 {OTHER} agent
"""
DONE = 'Authenticated to lab ([192.0.2.1]:22) using "publickey".\n'


def log_of(text: str, step: int = 7) -> SshLog:
    """As it comes: with CR LF, in small pieces."""
    log, data = SshLog(), text.replace("\n", "\r\n").encode()
    for start in range(0, len(data), step):
        log.update(data[start : start + step])
    return log


@pytest.mark.parametrize(
    "done",
    [DONE, "Authenticated to lab ([192.0.2.1]:22).\n", 'Authenticated to lab (via proxy) using "keyboard-interactive".\n'],
)
def test_the_facts_of_a_login(done: str) -> None:
    assert not log_of(LOGIN).is_authenticated
    log = log_of(LOGIN + done)
    assert log.is_authenticated
    assert log.host_key is not None
    assert (log.host_key.type, log.host_key.fingerprint, log.login_key) == ("ssh-ed25519", KEY, OTHER)
    assert log.algorithms == {
        "server_version": "SSH-2.0-OpenSSH_9.2p1 Debian-2",
        "recv_cipher": "aes128-gcm@openssh.com",
        "recv_mac": "aes128-gcm@openssh.com",
        "send_cipher": "aes256-ctr",
        "send_mac": "hmac-sha2-256-etm@openssh.com",
    }
    assert (log.refusal, log.messages, log.contradiction) == (None, [], None)


def test_a_certificate_is_the_key_in_it() -> None:
    line = f'debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com {KEY}, serial 0 ID "x" CA ssh-ed25519 {OTHER}'
    log = log_of(line + "\n")
    assert log.host_key is not None
    assert (log.host_key.fingerprint, log.host_key.is_certificate) == (KEY, True)


@pytest.mark.parametrize(
    "lie",
    [
        f"debug1: Server host key: ssh-ed25519 {OTHER}",
        f"debug1: Server host certificate: ssh-ed25519-cert-v01@openssh.com {OTHER}, serial 0",
        "debug1: Remote protocol version 2.0, remote software version Harmless_1",
        "debug1: kex: client->server cipher: chacha20-poly1305@openssh.com MAC: <implicit> compression: none",
    ],
)
def test_a_fact_in_two_ways_is_a_contradiction_whichever_comes_first(lie: str) -> None:
    injected = f"debug1: Remote: well\n{lie}\n"
    assert log_of(injected + LOGIN + DONE).contradiction
    assert log_of(LOGIN + injected + DONE).contradiction
    assert log_of(LOGIN + DONE + injected).contradiction
    assert log_of(LOGIN + "debug1: Remote: well " + lie + "\n" + DONE).contradiction is None  # within a line it is no line


def test_what_is_stated_after_the_other_end_has_spoken_is_no_news() -> None:
    log = log_of(LOGIN + DONE)
    log.end_login()
    log.update(f"debug1: Server host key: ssh-ed25519 {OTHER}\r\n".encode())
    assert log.host_key is not None
    assert (log.host_key.fingerprint, log.contradiction) == (KEY, None)


@pytest.mark.parametrize(
    ("line", "refusal"),
    [
        ("Host key verification failed.", ConnectFailure.HOST_KEY_UNKNOWN),
        ("@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @", ConnectFailure.HOST_KEY_CHANGED),
        ("@       WARNING: REVOKED HOST KEY DETECTED!               @", ConnectFailure.HOST_KEY_REVOKED),
        ("ana@lab: Permission denied (publickey,password).", ConnectFailure.DENIED),
        ("Permission denied (publickey).", ConnectFailure.DENIED),
        ("Received disconnect from 192.0.2.1 port 22:2: Too many authentication failures", ConnectFailure.DENIED),
        ("ssh: Could not resolve hostname lab: Name or service not known", ConnectFailure.NAME),
        ("ssh: connect to host lab port 22: Connection refused", ConnectFailure.UNREACHABLE),
        ("ssh: connect to host lab port 22: Connection reset by peer", ConnectFailure.CLOSED),
        ("ssh: connect to host lab port 22: No route to host", ConnectFailure.UNREACHABLE),
        ("ssh: connect to host lab port 22: Connection timed out", ConnectFailure.SILENT),
        ("Connection timed out during banner exchange", ConnectFailure.SILENT),
        ("Timeout, server lab not responding.", ConnectFailure.SILENT),
        ("Unable to negotiate with 192.0.2.1 port 22: no matching cipher found. Their offer: x", ConnectFailure.NO_ALGORITHM),
        ("kex_exchange_identification: Connection closed by remote host", ConnectFailure.CLOSED),
        ("ssh_exchange_identification: read: Connection reset by peer", ConnectFailure.CLOSED),
        ("Connection closed by 192.0.2.1 port 22", ConnectFailure.CLOSED),
        ("client_loop: send disconnect: Broken pipe", ConnectFailure.CLOSED),
        ("Bad packet length 1349676916.", ConnectFailure.NOT_SSH),
        ("kex_exchange_identification: banner line contains invalid characters", ConnectFailure.NOT_SSH),
        ("exec request failed on channel 0", ConnectFailure.SESSION),
        ("channel 0: open failed: connect failed: Connection refused", ConnectFailure.SESSION),
        ("stdio forwarding failed", ConnectFailure.SESSION),
    ],
)
def test_every_refusal_is_told_from_the_others(line: str, refusal: ConnectFailure) -> None:
    log = log_of(LOGIN + line + "\n")
    assert log.refusal is refusal


def test_a_server_cannot_make_an_unknown_host_key_look_like_something_milder() -> None:
    log = log_of(
        LOGIN + "Permission denied (publickey).\nHost key verification failed.\nConnection closed by 192.0.2.1 port 22\n"
    )
    assert log.refusal is ConnectFailure.HOST_KEY_UNKNOWN


def test_a_refused_host_key_is_one_whatever_looks_like_a_login_besides() -> None:
    assert log_of(LOGIN + DONE + "Host key verification failed.\n").host_key_refusal is ConnectFailure.HOST_KEY_UNKNOWN
    assert log_of(LOGIN + "Host key verification failed.\n" + DONE).host_key_refusal is ConnectFailure.HOST_KEY_UNKNOWN
    log = log_of(LOGIN + DONE)
    log.end_login()
    log.update(b"Host key verification failed.\r\n")
    assert log.host_key_refusal is None  # a login there was: the other end has spoken


@pytest.mark.parametrize(
    "before",
    [
        "ssh: connect to host lab port 22: Connection refused\ndebug1: Connection established.\n" + LOGIN + DONE,
        "ssh: connect to host lab port 22: Connection timed out\ndebug1: Connection established.\n" + LOGIN,
        LOGIN + 'Load key "/home/ana/.ssh/id_rsa": invalid format\n',
    ],
)
def test_what_was_overcome_is_not_why_it_ended(before: str) -> None:
    log = log_of(before + "Connection closed by 192.0.2.1 port 22\n")
    assert log.refusal is ConnectFailure.CLOSED
    assert log.last_message == "Connection closed by 192.0.2.1 port 22"


def test_where_another_key_is_recorded_is_told_and_nothing_is_shown_raw() -> None:
    log = log_of(LOGIN + "Offending ED25519 key in /home/ana/.ssh/known_hosts:7\nssh: \x1b[2Jgone\n")
    assert log.offending == ["/home/ana/.ssh/known_hosts:7"]
    assert log.messages[-1] == r"ssh: \x1b[2Jgone"


def test_a_log_without_end_is_not_kept() -> None:
    log = SshLog()
    for _ in range(200):
        log.update(b"x" * 65536)
    for _ in range(5000):
        log.update(b"a word\n")
    assert len(log._rest) <= 16 * 1024
    assert len(log.messages) <= 40


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("debug1: Authenticating to lab:22 as 'ana'", False),
        ("OpenSSH_9.2p1 Debian-2, OpenSSL 3.0.9", False),
        ("Transferred: sent 2, received 3 bytes, in 0.1 seconds", False),
        ("", False),
        ("Warning: Permanently added 'lab' (ED25519) to the list of known hosts.", True),
        ("ssh: connect to host lab port 22: Connection refused", True),
    ],
)
def test_what_ssh_says_only_in_its_verbose_log_is_told_apart(line: str, shown: bool) -> None:
    assert is_for_people(line) is shown
