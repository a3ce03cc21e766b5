"""What a line of authorized_keys forbids, our own server forbids; what it cannot keep lets nobody in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import asyncssh
import pytest

from evidencesync.ssh.authorized_keys import authorized_keys_of

NOW = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
HERE = "192.0.2.7"
KEY = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
OTHER = asyncssh.generate_private_key("ssh-ed25519").convert_to_public()
LINE = KEY.export_public_key().decode().strip()
OTHERS = OTHER.export_public_key().decode().strip()


def lets_in(text: str) -> bool:
    """Whether the key may log in, beside another one that always may."""
    return authorized_keys_of(f"{OTHERS}\n{text}\n", NOW).validate(KEY, "", HERE) is not None


@pytest.mark.parametrize(
    "options",
    [
        "",
        "restrict ",
        "Restrict,No-PTY ",
        'restrict,command="evidencesync serve --vault /srv/vault" ',
        'command="say \\"a, b\\" # c",no-port-forwarding\t',
        f'from="{HERE}" ',
        'from="192.0.2.0/24,!192.0.2.9",restrict ',
        'FROM="192.0.2.*" ',
        'expiry-time="20270101" ',
        'expiry-time="20261127120001Z" ',
        'Expiry-Time="209912312359" ',
        'environment="A=b",permitopen="host:22",tunnel="0",permitlisten="8080" ',
        "no-touch-required ",
        "touch-required,no-verify-required ",
        'expiry-time="20261127120001utc" ',
    ],
)
def test_a_line_that_allows_it_lets_its_key_in(options: str) -> None:
    assert lets_in(options + LINE)
    assert lets_in("  " + options + LINE + " ana@lab\r")


@pytest.mark.parametrize(
    "line",
    [
        'from="192.0.2.8" {key}',
        'From="192.0.2.8" {key}',
        'restrict,FROM="10.0.0.0/8",no-pty {key}',
        'from="192.0.2.*,!192.0.2.7" {key}',
        'expiry-time="20200101" {key}',
        'expiry-time="20261127115959Z" {key}',
        'EXPIRY-TIME="20200101",restrict {key}',
        'expiry-time="some day" {key}',
        'expiry-time="" {key}',
        "expiry-time {key}",
        "verify-required {key}",
        'from="192.0.2.7",FROM="192.0.2.7" {key}',
        'command="a",command="b" {key}',
        'principals="x" {key}',
        'expiry-time="20261127115959UTC" {key}',
        "something-new {key}",
        'something-new="x" {key}',
        "from {key}",
        'restrict="yes" {key}',
        "from=192.0.2.7 {key}",
        'from="192.0.2.7 {key}',
        "cert-authority {key}",
        "# {key}",
        "# taken out\u2028{key}",
        "# taken out\x0c{key}",
        "# taken out\x85{key}",
        "restrict, {key}",
        'from="192.0.2.7/24,192.0.2.7" {key}',
        'from="192.0.2.0/255.255.255.0" {key}',
        'from="*,!192.0.519" {key}',
        'from="" {key}',
        'from="192.0.2.7," {key}',
        'from="*,!192.0.2.7%lo" {key}',
        'cert-authority,principals="*" {key}',
        'expiry-time="20990101ZUTC" {key}',
        'expiry-time="\uff12\uff10990101" {key}',
        'environment="A-B=c" {key}',
        'environment="A" {key}',
        'permitopen="host:0" {key}',
        'permitopen="host" {key}',
        'permitlisten="" {key}',
        'tunnel="2147483646" {key}',
        'command="a\\\\" {key}',
    ],
)
def test_a_line_that_does_not_lets_nobody_in(line: str) -> None:
    assert not lets_in(line.format(key=LINE))


@pytest.mark.parametrize("text", ["", "# nobody\n", f'expiry-time="20200101" {LINE}\n'])
def test_a_file_that_lets_nobody_in_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="no line"):
        authorized_keys_of(text, NOW)


def test_a_time_without_a_zone_is_local_time() -> None:
    local = NOW.astimezone()
    for later, expected in ((timedelta(minutes=1), True), (timedelta(minutes=-1), False)):
        assert lets_in(f'expiry-time="{local + later:%Y%m%d%H%M%S}" {LINE}') is expected
