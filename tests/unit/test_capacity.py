"""What a task serves on paper follows from what requests cost."""

import pytest
from bench.capacity import DATA, METADATA, SHARE, Capacity, Cost, Costs, Task, User, capacity

WHOLE_PROCESSOR = Task(1 / SHARE, 2)
COSTS = Costs(call=Cost(0.5), lookup=Cost(1.5, opened=4), refresh=Cost(20, opened=10, written=3, others=7))


def of(user: User, *, remembered: float = 0, workers: int = 1, costs: Costs = COSTS) -> Capacity:
    return capacity(WHOLE_PROCESSOR, costs, user, remembered=remembered, workers=workers)


def test_a_second_of_a_processor_is_shared_by_all_that_users_ask() -> None:
    # 0.1 calls of 0.5 ms, as many look-ups of 1.5 ms, and 0.01 refreshes of 20 ms are 0.4 ms a second.
    assert of(User(calls=0.1, refreshes=0.01)).users == pytest.approx(2500)


def test_calls_alone_have_their_tokens_remembered() -> None:
    assert of(User(calls=1, refreshes=0)).calls == pytest.approx(2000)


def test_a_smaller_task_serves_less_in_proportion() -> None:
    user = User(calls=0.1, refreshes=0.01)
    quarter = capacity(Task(0.25, 0.5), COSTS, user, remembered=0)
    assert quarter.users == pytest.approx(of(user).users * 0.25 * SHARE)


@pytest.mark.parametrize(
    ("workers", "looked_up"),
    [(1, 1 / 11), (10, 1 / 2), (1_000_000, 1)],
    ids=["one worker: once, then ten calls find it", "ten workers: every second call", "each call another worker"],
)
def test_each_worker_remembers_tokens_for_itself(workers: int, looked_up: float) -> None:
    assert User(calls=1, refreshes=0).lookups(remembered=10, workers=workers) == pytest.approx(looked_up, rel=1e-4)


def test_nothing_remembered_is_a_look_up_a_call() -> None:
    assert User(calls=0.25, refreshes=0).lookups(remembered=0) == 0.25


def test_reads_and_writes_count_beside_the_names_of_files() -> None:
    cost = Cost(1, opened=4, written=1, others=3)
    assert cost.operations == 4 + 2 + 1 + 1 + 3
    assert cost.metered == (4 + 1 + 3) * METADATA + (2 + 1) * DATA


def test_the_file_system_gets_what_all_users_do_to_it() -> None:
    found = of(User(calls=0.1, refreshes=0.01))
    assert found.operations == pytest.approx(found.users * (0.1 * 6 + 0.01 * 28))
    assert found.metered == pytest.approx(found.users * (0.1 * COSTS.lookup.metered + 0.01 * COSTS.refresh.metered))
