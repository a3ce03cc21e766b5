"""The same file, the same keys, and OpenSSH's own sshd: whom it refuses, our server refuses."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Final

import asyncssh

from evidencesync.ssh.authorized_keys import authorized_keys_of
from tests.integration.conftest import Sshd

HERE: Final = "127.0.0.1"
TAKEN: Final = [  # by both
    "",
    "restrict,no-pty",
    'from="127.0.0.1"',
    'from="127.0.0.0/8,!127.0.0.2"',
    'from="*.0.0.1"',
    'from="127.0.0.?,HOST"',
    'from="2001:DB8::/32,127.0.0.1"',
    'expiry-time="20990101Z"',
    'expiry-time="209901010000utc"',
    'environment="A_1=b=c",environment="A_1=c"',
    'permitopen="host:22",permitopen="[::1]:*",permitopen=":80"',
    'permitlisten="8080",permitlisten="*:*",permitlisten="localhost:1"',
    'tunnel="any",tunnel="0",tunnel="2147483645"',
    'command="say \\"a\\" # \\n, b"',
]
DOUBTFUL: Final = [  # what sshd refuses of these is known only to sshd
    'from=""',
    'from="127.0.0.1,"',
    'from=",127.0.0.1"',
    'from="127.0.0.1,!"',
    'from="127.0.0.1/8"',
    'from="127.0.0.1,10.0.0.1/8"',
    'from="127.0.0.1/33"',
    'from="127.0.0.0/255.0.0.0"',
    'from="127.0.0.0/+8"',
    'from="127.1"',
    'from="*,!127.1"',
    'from="*,!0x7f000001"',
    'from="*,!2130706433"',
    'from="*,!127.0.0.1 "',
    'from="*,!127.0.0.*"',
    'from="!127.0.0.1"',
    'from="!!127.0.0.1"',
    'from="[0-9]*"',
    'from="127.0.0.[1]"',
    'from="127.0.0.1\\\\"',
    'from=127.0.0.1',
    'principals="*"',
    'expiry-time="20990101ZUTC"',
    'expiry-time="20990101 "',
    'expiry-time="2099-01-01"',
    'expiry-time="20991301"',
    'expiry-time="20200101"',
    'expiry-time="19700101Z"',
    'expiry-time="Z"',
    'expiry-time=""',
    'expiry-time="209901"',
    'expiry-time="２０９９0101"',
    'expiry-time="20990101",expiry-time="20200101"',
    'environment="A"',
    'environment="=b"',
    'environment="A-B=c"',
    'environment="Ä=c"',
    'environment=""',
    'permitopen="22"',
    'permitopen="host"',
    'permitopen="host:"',
    'permitopen="host:0"',
    'permitopen="host:65536"',
    'permitopen="host:no-such-service"',
    'permitopen="::1:22"',
    'permitopen="[::1:22"',
    'permitopen=""',
    'permitlisten=""',
    'permitlisten="0"',
    'permitlisten="host:"',
    'permitlisten="-1"',
    'tunnel=""',
    'tunnel="-1"',
    'tunnel="2147483646"',
    'tunnel="1:1"',
    'tunnel="some"',
    'command="a\\\\" restrict"',
    'command="a\\\\"',
    'command="a',
    'command=',
    "pty,",
    ",pty",
    "pty,,restrict",
    "no-restrict",
    "no-cert-authority",
    "cert-authority",
    'restrict="yes"',
    "unknown",
]  # fmt: skip


async def _lets_in(sshd: Sshd, key: asyncssh.SSHKey, gate: asyncio.Semaphore) -> bool:
    async with gate:
        try:
            connection = asyncssh.connect(
                HERE, sshd.port, username=sshd.user, client_keys=[key], known_hosts=None, config=None, agent_path=None
            )
            async with connection:
                return True
        except asyncssh.PermissionDenied:
            return False


async def _judge(sshd: Sshd, keys: list[asyncssh.SSHKey]) -> list[bool]:
    gate = asyncio.Semaphore(4)
    return await asyncio.gather(*(_lets_in(sshd, key, gate) for key in keys))


def test_whom_sshd_refuses_our_server_refuses(sshd: Sshd) -> None:
    options = [*TAKEN, *DOUBTFUL]
    keys = [asyncssh.generate_private_key("ssh-ed25519") for _ in options]
    lines = [f"{one} {key.export_public_key().decode().strip()}".strip() for one, key in zip(options, keys, strict=True)]
    before = sshd.authorized_keys.read_bytes()
    text = "\n".join([before.decode().strip(), *lines, ""])
    sshd.authorized_keys.write_text(text)
    try:
        theirs = asyncio.run(_judge(sshd, keys))
    finally:
        sshd.authorized_keys.write_bytes(before)
    known = authorized_keys_of(text, datetime.now(UTC))
    ours = [known.validate(key.convert_to_public(), "", HERE) is not None for key in keys]
    laxer = [one for one, we, they in zip(options, ours, theirs, strict=True) if we and not they]
    assert laxer == []
    both = [one for one, we, they in zip(options, ours, theirs, strict=True) if we and they]
    assert both[: len(TAKEN)] == TAKEN
