from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evidencesync.errors import UsageError
from evidencesync.evidence.display import is_unsafe
from evidencesync.ssh.address import Address, parse_server


def remote(user: str | None, host: str, port: int | None, path: str) -> Address:
    return Address(user, host, port, path, local=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lab:/vault", remote(None, "lab", None, "/vault")),
        ("lab:vault", remote(None, "lab", None, "vault")),
        ("lab:", remote(None, "lab", None, "")),
        ("ana@lab.example:/v/a b", remote("ana", "lab.example", None, "/v/a b")),
        ("ana@192.0.2.7:/v", remote("ana", "192.0.2.7", None, "/v")),
        ("[::1]:/v", remote(None, "::1", None, "/v")),
        ("ana@[fe80::1%eth0]:/v", remote("ana", "fe80::1%eth0", None, "/v")),
        ("lab:/v:with:colons", remote(None, "lab", None, "/v:with:colons")),
        ("lab:~/vault", remote(None, "lab", None, "vault")),
        ("lab:~", remote(None, "lab", None, ".")),
        ("h:relative", remote(None, "h", None, "relative")),
        ("under_score:/v", remote(None, "under_score", None, "/v")),
        ("прокуратура.example:/сейф", remote(None, "прокуратура.example", None, "/сейф")),
        ("ssh://lab/vault", remote(None, "lab", None, "/vault")),
        ("ssh://lab", remote(None, "lab", None, "")),
        ("ssh://lab/", remote(None, "lab", None, "")),
        ("ssh://ana@lab:2222/v", remote("ana", "lab", 2222, "/v")),
        ("ssh://ana@[::1]:2222/v", remote("ana", "::1", 2222, "/v")),
        ("ssh://[2001:db8::7]/v", remote(None, "2001:db8::7", None, "/v")),
        ("ssh://lab/~/vault", remote(None, "lab", None, "vault")),
        ("ssh://lab/with%20space", remote(None, "lab", None, "/with space")),
    ],
)
def test_remote_forms(text: str, expected: object) -> None:
    assert Address.parse(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "/vault",
        "vault",
        "./lab:/vault",
        "a/b:c",
        "C:\\vault",
        "c:/vault",
        "-vault",
        ".",
        "with\nnewline",
        "\udcff",
        "@lab",
        "[x]",
    ],
)
def test_local_forms_are_taken_as_they_are(text: str) -> None:
    assert Address.parse(text) == Address(None, "", None, text, local=True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":/vault",
        "@lab:/v",
        "ana@:/v",
        "-oProxyCommand=id:/v",
        "-lab:/v",
        "ana@-lab:/v",
        "-ana@lab:/v",
        "ssh://-oProxyCommand=id/v",
        "ssh://-ana@lab/v",
        "ssh:///v",
        "ssh://",
        "ssh://lab:0/v",
        "ssh://lab:65536/v",
        "ssh://lab:/v",
        "ssh://lab:22x/v",
        "ssh://lab:٢٢/v",
        "ssh://::1/v",
        "ssh://[::1/v",
        "ssh://[lab]/v",
        "ssh://[::1]x/v",
        "ssh://a b/v",
        "la\x1b[2Jb:/v",
        "lab\n:/v",
        "lab:/v\x1b[2J",
        "lab:/v\n",
        "lab:/\u202egnp.exe",
        "lab:/\udcff",
        "lab:~root/v",
        "ssh://lab/a%0ab",
        "ssh://lab/a%ff",
        "a;b@lab:/v",
        "$(id)@lab:/v",
        "lab;id:/v",
        "zero\0byte",
        "x" * 70_000,
    ],
)
def test_hostile_and_empty_parts_are_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Address.parse(text)
    assert not any(map(is_unsafe, caught.value.message))


@pytest.mark.parametrize(
    "text",
    [
        "lab:/vault",
        "ana@lab:v",
        "/local/path",
        "[::1]:/v",
        "ssh://ana@[::1]:22/v",
        "ssh://lab:2222",
        "ssh://l:1/~/v",
        "ssh://l:1/a%2520b",
    ],
)
def test_what_is_shown_parses_to_the_same_address(text: str) -> None:
    address = Address.parse(text)
    assert Address.parse(address.display()) == address


@given(st.text(max_size=60) | st.from_regex(re.compile(r"(ssh://)?[a-z@:\[\]/.~%-]{0,30}"), fullmatch=True))
def test_any_text_is_an_address_that_is_safe_or_a_usage_error(text: str) -> None:
    try:
        address = Address.parse(text)
    except UsageError as refused:
        message = refused.message
    else:
        message = address.display()
    assert not any(map(is_unsafe, message))


@given(st.from_regex(re.compile(r"(ssh://)?([a-z-]{1,5}@)?[a-z\[\]:~%.-]{1,20}:?/?[ -~]{0,10}"), fullmatch=True))
def test_a_remote_address_holds_nothing_that_a_program_could_misread(text: str) -> None:
    try:
        address = Address.parse(text)
    except UsageError:
        return
    if not address.local:
        assert address.host
        assert not address.host.startswith("-")
        assert not (address.user or "x").startswith("-")
        assert not any(map(is_unsafe, address.host + (address.user or "") + address.path))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("jump", (None, "jump", None)),
        ("ana@jump:2222", ("ana", "jump", 2222)),
        ("ssh://ana@jump:22", ("ana", "jump", 22)),
        ("[::1]:22", (None, "::1", 22)),
        ("[::1]", (None, "::1", None)),
    ],
)
def test_jump_hosts(text: str, expected: object) -> None:
    assert parse_server(text) == expected


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("http://host/path", "ssh://host/path"),
        ("https://ana@lab.example:8443/srv/vault", "ssh://ana@lab.example/srv/vault"),
        ("scp://host", "ssh://host/path"),
        ("file:///srv/my%20vault", "'/srv/my vault'"),
        ("ssh:/ana@lab/srv/v", "ssh://ana@lab/srv/v"),
        ("fe80::1:/srv", "'[fe80::1]:/srv'"),
        ("ana@2001:db8::7:/srv", "'ana@[2001:db8::7]:/srv'"),
        ("ssh://ana@lab:/srv/v", "ssh://ana@lab/srv/v"),
        ("lab:2222:/srv", "ssh://lab:2222/srv"),
    ],
)
def test_a_likely_mistake_is_named_with_the_right_form(text: str, right: str) -> None:
    with pytest.raises(UsageError) as refused:
        Address.parse(text)
    assert refused.value.message.startswith(f"{text}: ")
    assert refused.value.hint == f"Write it as: {right}"


@pytest.mark.parametrize(
    ("text", "right", "only"),
    [
        ("lab:", "lab:/path", "lab:/"),
        ("ana@[::1]:", "'ana@[::1]:/path'", "'ana@[::1]:/'"),
        ("ssh://lab:22", "ssh://lab:22/path", "lab:/ --port 22"),
    ],
)
def test_a_server_without_a_path_is_said_how_to_be_completed(text: str, right: str, only: str) -> None:
    address = Address.parse(text)
    assert address.without_path("vault").hint == f"Add the vault's path: {right}. The one vault that a server serves: {only}"
    assert address.without_path("source").hint == f"Add the source's path: {right}"
