"""Which served entity gets a request."""

from millpond.serving.domain import Route
from millpond.serving.routing import choose_by_key, entity_for

KEYS = [f"user-{number}" for number in range(4000)]


def routes(**shares: int) -> list[Route]:
    return [Route(entity=name, percent=share) for name, share in shares.items()]


def test_keys_are_shared_out_as_the_routes_say() -> None:
    chosen = [choose_by_key(routes(a=70, b=25, c=5, d=0), key) for key in KEYS]
    for name, share in (("a", 0.7), ("b", 0.25), ("c", 0.05), ("d", 0.0)):
        assert abs(chosen.count(name) / len(KEYS) - share) < 0.03


def test_few_keys_move_and_none_to_who_gets_less() -> None:
    before = {key: choose_by_key(routes(a=60, b=30, c=10), key) for key in KEYS}
    after = {key: choose_by_key(routes(a=50, b=30, c=20), key) for key in KEYS}
    moved = [(before[key], after[key]) for key in KEYS if before[key] != after[key]]
    assert "a" not in {to for _, to in moved}
    assert 0.05 < len(moved) / len(KEYS) < 0.15
    of_two = [(choose_by_key(routes(a=90, b=10), key), choose_by_key(routes(a=80, b=20), key)) for key in KEYS]
    assert {pair for pair in of_two if pair[0] != pair[1]} == {("a", "b")}


def test_the_order_of_the_routes_does_not_matter() -> None:
    assert [choose_by_key(routes(a=50, b=50), key) for key in KEYS] == [
        choose_by_key(routes(b=50, a=50), key) for key in KEYS
    ]


def test_endpoints_share_keys_out_each_in_its_own_way() -> None:
    one, other = ([entity_for(routes(a=50, b=50), endpoint_id=each, key=key) for key in KEYS] for each in "12")
    assert one != other


def test_without_a_key_chance_decides() -> None:
    chosen = [entity_for(routes(a=50, b=50), endpoint_id="1", key=None) for _ in range(400)]
    assert 100 < chosen.count("a") < 300
