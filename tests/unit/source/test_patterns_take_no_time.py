"""What a pattern matches, beside a plain reading of it; and that no pattern and no name makes the answer take long.

Patterns come from whoever pulls, names from whoever made the evidence: none of them may hold the other for ever.
"""

from __future__ import annotations

import random
import subprocess
import sys
from functools import cache

import pytest

from evidencesync.source.filters import parse_pattern
from tests.support.patience import PATIENCE_SECONDS


@cache
def name_fits(pattern: str, name: str) -> bool:
    """`*` and `?` as anybody would write it down, whatever it costs."""
    if not pattern:
        return not name
    if pattern[0] == "*":
        return name_fits(pattern[1:], name) or (bool(name) and name_fits(pattern, name[1:]))
    return bool(name) and pattern[0] in ("?", name[0]) and name_fits(pattern[1:], name[1:])


def path_fits(steps: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """The same for a path; `**` at the end needs something that lies there."""
    if not steps:
        return not names
    if steps[0] == "**":
        if len(steps) == 1:
            return bool(names)
        return path_fits(steps[1:], names) or (bool(names) and path_fits(steps, names[1:]))
    return bool(names) and name_fits(steps[0], names[0]) and path_fits(steps[1:], names[1:])


@pytest.mark.slow
def test_a_pattern_matches_what_a_plain_reading_of_it_says() -> None:
    chance = random.Random(20)
    outcomes = {True: 0, False: 0}
    for _ in range(3000):
        steps = tuple(
            "**" if chance.random() < 0.4 else "".join(chance.choices("ab*?", k=chance.randint(1, 5)))
            for _ in range(chance.randint(1, 5))
        )
        if any(set(step) == {"*"} and len(step) > 1 and step != "**" for step in steps):
            continue  # three stars and more: not a question for this test
        pattern = parse_pattern("/" + "/".join(steps))
        for _ in range(8):
            names = tuple("".join(chance.choices("ab", k=chance.randint(1, 4))) for _ in range(chance.randint(1, 6)))
            expected = path_fits(steps, names)
            outcomes[expected] += 1
            assert pattern.matches("/".join(names), is_folder=False) is expected, (steps, names)
    assert min(outcomes.values()) > 1000


@pytest.mark.parametrize(
    ("pattern", "path"),
    [
        ("*?*?*?*?*?*?*?*?*?*?*?*?x", "a" * 255),
        ("*a*a*a*a*a*a*a*a*a*a*a*a*[b]", "a" * 255),
        ("/" + "**/a/" * 20 + "b", "a/" * 2000 + "c"),
        ("/" + "**/*a*a*/" * 20 + "b", ("a" * 30 + "/") * 200 + "c"),
        ("**/" * 100 + "b", "a/" * 2000 + "c"),
    ],
)
def test_no_pattern_takes_long_for_a_path_that_it_nearly_matches(pattern: str, path: str) -> None:
    program = (
        "import sys; from evidencesync.source.filters import parse_pattern; p = parse_pattern(sys.argv[1]);"
        "sys.exit(p.matches(sys.argv[2], is_folder=False) or any(p.may_match_below(n) for n in sys.argv[2].split('/')) * 0)"
    )
    done = subprocess.run([sys.executable, "-c", program, pattern, path], timeout=PATIENCE_SECONDS, check=False)
    assert done.returncode == 0
