"""`python -m tests.support.proxy`: the proxy by itself, for trying things out by hand."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
import sys
from collections.abc import Callable
from typing import Final

from tests.support.line import NetworkLine
from tests.support.proxy import Address, Proxy, Trip, Trouble

_UNITS: Final = {"": 1, "K": 1_000, "M": 1_000_000, "G": 1_000_000_000}


def main() -> int:
    """Runs until its standard input ends."""
    options = _parse()
    line = NetworkLine(options.delay_ms / 1000, options.rate)
    troubles: list[Trouble] = []
    if options.reset_after is not None:
        troubles = [Trouble("reset", options.reset_after)]
    elif options.stall_after is not None:
        troubles = [Trouble("stall", options.stall_after)]
    proxy = Proxy(
        options.to,
        line,
        troubles=troubles * options.times,
        listen=options.listen,
        keep_log=options.log,
        on_end=_teller(json_lines=options.json),
    )
    with proxy:
        _say({"listening": f"{options.listen[0]}:{proxy.port}"}, json_lines=options.json)
        commands = {name: getattr(proxy, name) for name in ("reset", "stall", "go", "refuse", "accept")}
        for command in sys.stdin:
            commands.get(command.strip(), lambda: _say({"commands": " ".join(commands)}, json_lines=options.json))()
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.support.proxy", description=__doc__)
    parser.add_argument("--listen", type=_address, default=("127.0.0.1", 0), help="HOST:PORT (default: a free port)")
    parser.add_argument("--to", type=_address, required=True, help="HOST:PORT of the server")
    parser.add_argument("--delay-ms", type=float, default=0, help="of a round trip, in milliseconds")
    parser.add_argument("--rate", type=_count, help="bytes a second each way, such as 12.5M")
    trouble = parser.add_mutually_exclusive_group()
    trouble.add_argument("--reset-after", type=_count, help="bytes from the client")
    trouble.add_argument("--stall-after", type=_count, help="bytes from the client")
    parser.add_argument("--times", type=int, default=1, help="how many connections meet that (default 1)")
    parser.add_argument("--log", action="store_true", help="with --json: when what was delivered")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    return parser.parse_args()


def _teller(*, json_lines: bool) -> Callable[[Trip], None]:
    def tell(trip: Trip) -> None:
        facts = dataclasses.asdict(trip)
        if not (json_lines and trip.log):
            del facts["log"]
        _say(facts, json_lines=json_lines)

    return tell


def _say(facts: dict[str, object], *, json_lines: bool) -> None:
    text = json.dumps(facts) if json_lines else "  ".join(f"{name} {value}" for name, value in facts.items())
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _address(text: str) -> Address:
    host, _, port = text.rpartition(":")
    return host or "127.0.0.1", int(port)


def _count(text: str) -> int:
    found = re.fullmatch(r"([0-9.]+)([KMG]?)", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"not a number of bytes: {text}")
    return int(float(found[1]) * _UNITS[found[2]])
