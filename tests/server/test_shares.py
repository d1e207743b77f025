"""What is limited is shared among clients, and queues serve them in turn."""

from __future__ import annotations

import pytest

from twinlens.search.query.parts import Image, Not
from twinlens.search.query.request import SearchRequest
from twinlens.server.costs import cost_of
from twinlens.server.shares import FairQueue, Places, Shares


def test_a_client_may_use_as_much_as_is_free() -> None:
    shares = Shares(100)
    used = {}
    for client in ("a", "b", "c"):
        while shares.take(client):
            pass
        used[client] = shares.of(client)
    assert used == {"a": 50, "b": 25, "c": 13}
    assert shares.take("newcomer")
    shares.give_back("a", 50)
    assert shares.take("b")
    assert shares.largest() == "b"


def test_nobody_gets_more_than_the_total() -> None:
    shares = Shares(10)
    assert not shares.take("a", 11)
    assert shares.take("a", 10)
    assert not shares.take("b")
    shares.give_back("a", 10)
    assert (shares.used, shares.of("a"), shares.largest()) == (0, 0, "")


def test_the_whole_rest_may_be_taken_where_that_is_said() -> None:
    shares = Shares(10)
    assert shares.take("a", 6)
    assert not shares.take("a")
    assert shares.take("a", 4, whole=True)
    assert not shares.take("a", 1, whole=True)


def test_a_new_use_takes_the_place_of_the_clients_oldest() -> None:
    places, evicted = Places(8), []
    for number in range(6):
        places.enter("a", number, 1, lambda number=number: evicted.append(number))
    assert evicted == [0, 1]
    places.leave("a", 0)  # it is gone already
    assert places.used == 4
    places.leave("a", 2)
    places.enter("a", 6, 1, lambda: evicted.append(6))
    assert evicted == [0, 1]


def test_if_others_have_taken_everything_the_one_with_the_most_gives_way() -> None:
    places, evicted = Places(4), []
    for client in ("a", "a", "b", "c", "d"):
        name = f"{client}{places.used}"
        places.enter(client, name, 1, lambda name=name: evicted.append(name))
    assert evicted == ["a0"]
    assert places.used == 4


def test_what_is_larger_than_everything_evicts_all_and_is_let_through() -> None:
    places, evicted = Places(4), []
    places.enter("a", 1, 2, lambda: evicted.append(1))
    places.enter("b", 2, 9, lambda: evicted.append(2))
    assert (evicted, places.used) == ([1], 0)
    places.leave("b", 2)
    assert places.used == 0


def test_a_queue_serves_clients_in_turn() -> None:
    queue: FairQueue[str] = FairQueue()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        queue.put(item[0], item)
    assert len(queue) == 6
    assert [queue.get() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    with pytest.raises(IndexError):
        queue.get()


def test_an_expensive_search_counts_several_times() -> None:
    assert cost_of(SearchRequest.of("red"), 512) == 1
    assert cost_of(SearchRequest.of("red", limit=1_000), 512) == 5
    assert cost_of(SearchRequest.of("red", limit=500, offset=500), 512) == 5
    assert cost_of(SearchRequest.of("red", limit=1_000, collapse=0.9), 512) == 13
    assert cost_of(SearchRequest.of("red", limit=1_000, mode="hybrid"), 256) == 9
    pictures = [Image(b"a"), Not(Image(b"b"))]
    assert cost_of(SearchRequest.of(["red", *pictures]), 512) == 3
