from __future__ import annotations

import pytest

from evidencesync.cli.app import main
from evidencesync.cli.serve_command import parse_endpoint
from evidencesync.errors import UsageError


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("127.0.0.1:0", ("127.0.0.1", 0)),
        ("[::]:2222", ("::", 2222)),
        ("lab.example:65535", ("lab.example", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_endpoint_is_host_and_port(text: str, endpoint: tuple[str, int]) -> None:
    assert parse_endpoint(text) == endpoint


@pytest.mark.parametrize("text", ["", "host", ":22", "host:", "host:65536", "host:x", "::1:22", "[::1]", "a b:1", "host:22\n"])
def test_what_is_no_endpoint_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_endpoint(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["serve"],
        ["serve", "--vault", "v", "--json"],
        ["serve", "--vault", "v", "--authorized-keys", "k"],
        ["serve", "--vault", "v", "--listen", "127.0.0.1:0"],
        ["serve", "--vault", "v", "--listen", "nonsense", "--authorized-keys", "k"],
    ],
)
def test_options_that_do_not_go_together_are_2(arguments: list[str], private_home: object) -> None:
    assert main(arguments) == 2
