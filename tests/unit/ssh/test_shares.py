"""Places for those whom nobody trusts yet: a table of who comes, who is let in, and who leaves for him."""

from __future__ import annotations

import random

import pytest

from evidencesync.ssh.shares import Share, Waiting, network_of

PATIENCE = 5.0


def of(address: str, key: str | None = None) -> list[Share]:
    shares = [Share(address, 3)]
    return shares if key is None else [*shares, Share(key, 2)]


def test_one_address_gets_its_share_and_not_the_others_places() -> None:
    waiting: Waiting[str] = Waiting(PATIENCE)
    assert [waiting.enter(f"a{n}", of("a"), 10, 0.0) for n in range(60)] == [[], [], []] + [None] * 57
    assert waiting.enter("b", of("b"), 10, 0.0) == []
    assert len(waiting) == 4


def test_who_has_had_his_time_gives_his_place_to_the_next_of_the_same_address() -> None:
    waiting: Waiting[str] = Waiting(PATIENCE)
    for number in range(3):
        waiting.enter(f"a{number}", of("a"), 10, float(number))
    assert waiting.enter("late", of("a"), 10, 4.9) is None
    assert waiting.enter("late", of("a"), 10, 5.0) == ["a0"]
    assert "a0" not in waiting
    assert waiting.enter("later", of("a"), 10, 5.5) is None  # the next one has come at 1.0


def test_a_key_has_a_share_of_its_own_wherever_it_comes_from() -> None:
    waiting: Waiting[str] = Waiting(PATIENCE)
    assert waiting.enter("1", of("a", "k"), 10, 0.0) == []
    assert waiting.enter("2", of("b", "k"), 10, 0.0) == []
    assert waiting.enter("3", of("c", "k"), 10, 0.0) is None
    assert waiting.enter("4", of("c", "other"), 10, 0.0) == []
    assert waiting.enter("5", of("d", "k"), 10, 9.0) == ["1"]


def test_where_all_places_are_taken_the_address_with_the_most_gives_one_up() -> None:
    waiting: Waiting[str] = Waiting(PATIENCE)
    for number in range(3):
        waiting.enter(f"a{number}", of("a"), 5, 1.0)
    waiting.enter("b", of("b"), 5, 0.0)
    waiting.enter("c", of("c"), 5, 0.0)
    assert waiting.enter("d", of("d"), 5, 5.9) is None
    assert waiting.enter("d", of("d"), 5, 6.0) == ["a0"]
    assert len(waiting) == 5


def test_who_leaves_frees_a_place_and_twice_is_once() -> None:
    waiting: Waiting[str] = Waiting(PATIENCE)
    waiting.enter("a", of("a"), 1, 0.0)
    assert waiting.enter("b", of("b"), 1, 0.0) is None
    waiting.leave("a")
    waiting.leave("a")
    assert waiting.enter("b", of("b"), 1, 0.0) == []


def test_no_crowd_of_any_shape_is_let_in_beyond_the_bounds_and_the_honest_come_in() -> None:
    """Two hostile addresses that never stop, and one honest user who comes once a second."""
    chance = random.Random(11)
    waiting: Waiting[int] = Waiting(PATIENCE)
    for step in range(3000):
        now, who = step / 10, chance.choice("xy")
        waiting.enter(step, of(who, who + chance.choice("12")), 5, now)
        assert len(waiting) <= 5
        if step % 10 == 0:
            came_in = waiting.enter(-1, of("honest", "his"), 6, now)
            assert came_in is not None
            waiting.leave(-1)


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_the_network_of_an_address(address: str, network: str) -> None:
    assert network_of(address) == network
