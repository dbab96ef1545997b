"""What the store promises to processes on several machines, with what a real NFS client does to it."""

import os
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from uuid import uuid4

import pytest

from harness.waiting import HANGS_AFTER, eventually
from nfs import lossy_line
from nfs.lab import BootMachine, machines, nfs_server
from nfs.lossy_line import LossyLine
from nfs.machine import CLOCKS_DIFFER_BY, MOUNT_POINT
from nfs.network import private_network
from nfs.server import NFSServer
from nfs.store import DIRECTORY, StoreOnMachine

ROUNDS = 30
SERVER_KILLS = int(os.environ.get("NFS_SERVER_KILLS", "2"))
LIFETIME = 0.5

Stores = list[StoreOnMachine]


@dataclass(frozen=True)
class Shared:
    """A server and two machines that tests use one after the other, if they leave them in good health."""

    server: NFSServer
    stores: Stores


@pytest.fixture(scope="module")
def shared(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    directory = tmp_path_factory.mktemp("shared")
    with private_network(), nfs_server(directory) as server, machines(directory) as boot:
        yield Shared(server, [StoreOnMachine(boot()) for _ in range(2)])


@pytest.fixture
def stores(shared: Shared) -> Stores:
    """Stores with a collection, which is a directory, for this test alone."""
    collection = uuid4().hex
    for store in shared.stores:
        store.collection = collection
    return shared.stores


def at_once(stores: Stores, operation: Callable[[StoreOnMachine], Any]) -> list[Any]:
    """What the machines get for the same operation at the same time."""
    together = threading.Barrier(len(stores))

    def take_part(store: StoreOnMachine) -> Any:
        together.wait()
        return operation(store)

    with ThreadPoolExecutor(len(stores)) as threads:
        return list(threads.map(take_part, stores))


def test_one_of_the_machines_that_add_a_record_at_once_has_added_it(stores: Stores) -> None:
    for number in range(ROUNDS):
        key = f"record {number}"
        added = at_once(stores, lambda store, key=key: store.add(key, {"by": id(store)}))  # type: ignore[misc]
        assert sorted(added) == [False, True]
        winner = stores[added.index(True)]
        assert [store.get(key) for store in stores] == [{"by": id(winner)}] * 2


def test_one_of_the_machines_that_take_the_place_of_an_expired_record_at_once_has_it(stores: Stores) -> None:
    for number in range(ROUNDS):
        key = f"record {number}"
        stores[number % 2].put(key, {"by": "nobody"}, ttl=LIFETIME)
        eventually(lambda key=key: stores[0].get(key), lambda found: found is None)  # type: ignore[misc]
        added = at_once(stores, lambda store, key=key: store.add(key, {"by": id(store)}))  # type: ignore[misc]
        assert added.count(True) <= 1
        # Both may find it in the other one's hands, and then one of them has it at the next try.
        if True not in added:
            assert stores[0].add(key, {"by": id(stores[0])})


def test_a_record_that_expires_again_and_again_is_never_two_machines_own(stores: Stores) -> None:
    """To replace a file that it has open itself, an NFS client renames that away first: then the name is free."""
    owners: list[Owner] = []
    with ThreadPoolExecutor(len(stores)) as threads:
        for ended in [threads.submit(own_again_and_again, store, owners) for store in stores]:
            ended.result()
    assert [(one, other) for one, other in combinations(owners, 2) if one.owned_while(other)] == []


@dataclass(frozen=True)
class Owner:
    """Who owns a record since when, by the clock of the test."""

    store: StoreOnMachine
    at_the_earliest: float
    at_the_latest: float

    def owned_while(self, other: "Owner") -> bool:
        """Whether neither can have begun when the other's record had expired."""
        apart = max(self.at_the_latest - other.at_the_earliest, other.at_the_latest - self.at_the_earliest)
        return apart < LIFETIME - CLOCKS_DIFFER_BY


def own_again_and_again(store: StoreOnMachine, owners: list[Owner]) -> None:
    while len(owners) < ROUNDS:
        asked = time.monotonic()
        if store.add("record", {}, ttl=LIFETIME):
            owners.append(Owner(store, asked, time.monotonic()))


def test_a_record_is_found_where_it_was_looked_for_before_it_was_there(stores: Stores) -> None:
    writer, reader = stores
    for number in range(ROUNDS):
        key = f"record {number}"
        assert reader.get(key) is None
        writer.put(key, {"number": number})
        assert reader.get(key) == {"number": number}


def test_a_record_that_was_replaced_is_read_anew(stores: Stores) -> None:
    writer, reader = stores
    for number in range(ROUNDS):
        writer.put("record", {"number": number})
        assert reader.get("record") == {"number": number}


@pytest.mark.parametrize("holder", [0, 1], ids=["where it is written", "where it is read"])
def test_a_file_that_somebody_has_open_is_not_read_once_it_was_replaced(
    stores: Stores, shared: Shared, holder: int
) -> None:
    """An NFS client opens a file that it knows without asking what its name belongs to now."""
    writer, reader = stores
    export = shared.server.export
    writer.put("record", {"is": "old"})
    assert reader.get("record") == {"is": "old"}
    (file,) = (export / DIRECTORY / writer.collection).iterdir()
    opened = f"{MOUNT_POINT}/{file.relative_to(export)}"
    stores[holder].machine.run("sh", "-c", 'exec 3<"$0"; sleep 600 >/dev/null 2>&1 &', opened)
    writer.put("record", {"is": "new"})
    assert reader.get("record") == {"is": "new"}
    writer.delete("record")
    assert reader.get("record") is None


def test_a_record_that_was_deleted_is_gone_everywhere(stores: Stores) -> None:
    writer, reader = stores
    for number in range(ROUNDS):
        key = f"record {number}"
        writer.put(key, {"number": number})
        assert reader.get(key) == {"number": number}
        writer.delete(key)
        assert reader.get(key) is None


def test_no_operation_fails_or_lies_while_the_server_is_killed(boot_machine: BootMachine, server: NFSServer) -> None:
    """A request whose reply was lost with the server is repeated by the client, and says then that it cannot be."""
    stores = [StoreOnMachine(boot_machine()) for _ in range(2)]
    with at_work(stores) as wrong:
        for _ in range(SERVER_KILLS):
            served = uuid4().hex
            server.kill()
            server.start()
            for store in stores:
                store.put(f"served {served}", {})
    assert wrong == []


@pytest.fixture
def line(network: None) -> Iterator[LossyLine]:
    line = LossyLine()
    yield line
    line.close()


@pytest.fixture
def store(line: LossyLine, boot_machine: BootMachine) -> StoreOnMachine:
    """A store on a machine that reaches the server through a lossy line."""
    return StoreOnMachine(boot_machine(server_port=lossy_line.PORT))


def have_one(store: StoreOnMachine) -> None:
    store.put("record", {"is": "old"})


def have_an_expired_one(store: StoreOnMachine) -> None:
    store.put("record", {"is": "old"}, ttl=LIFETIME)
    eventually(lambda: store.get("record"), lambda found: found is None)


def put(store: StoreOnMachine) -> None:
    store.put("record", {"is": "new"})


def add(store: StoreOnMachine) -> None:
    assert store.add("record", {"is": "new"})


def have_none(_: StoreOnMachine) -> None:
    pass


@pytest.mark.parametrize(
    ("before", "operation", "request_without_reply", "record"),
    [
        pytest.param(have_none, put, lossy_line.RENAME, {"is": "new"}, id="renaming a new record to its name"),
        pytest.param(have_one, put, lossy_line.RENAME, {"is": "new"}, id="renaming one over an old one"),
        pytest.param(have_none, add, lossy_line.LINK, {"is": "new"}, id="linking an added record to its name"),
        pytest.param(have_none, add, lossy_line.REMOVE, {"is": "new"}, id="removing its temporary name"),
        pytest.param(have_an_expired_one, add, lossy_line.RENAME, {"is": "new"}, id="renaming one over an expired one"),
        pytest.param(have_one, lambda store: store.delete("record"), lossy_line.REMOVE, None, id="removing a record"),
    ],
)
def test_an_operation_succeeds_although_the_server_does_one_of_its_requests_twice(
    store: StoreOnMachine,
    line: LossyLine,
    server: NFSServer,
    before: Callable[[StoreOnMachine], None],
    operation: Callable[[StoreOnMachine], None],
    request_without_reply: re.Pattern[bytes],
    record: dict[str, str] | None,
) -> None:
    before(store)
    line.lose_reply_to(request_without_reply)
    with ThreadPoolExecutor(1) as thread:
        done = thread.submit(operation, store)
        assert line.lost.wait(HANGS_AFTER)
        server.kill()
        server.start()
        done.result()
    assert store.get("record") == record


def test_the_place_of_an_expired_record_is_not_taken_twice(
    store: StoreOnMachine, line: LossyLine, boot_machine: BootMachine
) -> None:
    """To replace a file that it has open itself, an NFS client renames that away first: then the name is free."""
    other = StoreOnMachine(boot_machine())
    have_an_expired_one(store)
    line.hold(lossy_line.TAKE_A_NAME)
    with ThreadPoolExecutor(1) as thread:
        added = thread.submit(store.add, "record", {"by": "the first"})
        assert line.held.wait(HANGS_AFTER)
        added_meanwhile = other.add("record", {"by": "the other"})
        line.release()
        assert (added.result(), added_meanwhile) == (False, True)
    assert [each.get("record") for each in (store, other)] == [{"by": "the other"}] * 2


def test_a_record_is_read_although_its_file_was_replaced_between_opening_and_reading(
    store: StoreOnMachine, line: LossyLine, server: NFSServer, boot_machine: BootMachine
) -> None:
    """The server, restarted meanwhile, does not know the file any more that was opened: ESTALE."""
    StoreOnMachine(boot_machine()).put("record", {"is": "new"})
    assert store.get("another") is None
    line.lose_reply_to(lossy_line.READ)
    with ThreadPoolExecutor(1) as thread:
        found = thread.submit(store.get, "record")
        assert line.lost.wait(HANGS_AFTER)
        server.kill()
        for file in (server.export / DIRECTORY / store.collection).iterdir():
            shutil.copy2(file, copy := file.with_suffix(".copy"))
            copy.rename(file)
        server.start()
        assert found.result() == {"is": "new"}


@contextmanager
def at_work(stores: Stores) -> Iterator[list[str]]:
    """Have each machine add, replace and delete records of its own meanwhile; tells what did not work."""
    wrong: list[str] = []
    stopping = threading.Event()

    def work(number: int) -> None:
        store = stores[number % len(stores)]
        while not stopping.is_set():
            key = f"{number} {uuid4()}"
            try:
                if not store.add(key, {"version": 1}):
                    wrong.append("a record that nobody else knows was not added")
                store.put(key, {"version": 2})
                if (found := store.get(key)) != {"version": 2}:
                    wrong.append(f"read {found}")
                store.delete(key)
                store.put("everybody's", {"version": 2})
                if (found := store.get("everybody's")) != {"version": 2}:
                    wrong.append(f"read {found} of everybody's")
            except Exception as error:  # noqa: BLE001  # whatever it is, it is wrong
                wrong.append(repr(error))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(3 * len(stores))]
    for worker in workers:
        worker.start()
    try:
        yield wrong
    finally:
        stopping.set()
        for worker in workers:
            worker.join()
