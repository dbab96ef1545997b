"""The store on each engine beside the store on a volume, on one machine, in alternating rounds.

First single operations of the sealed store, one after the other: the median in milliseconds. Then servers with two
workers and the built-in login, and CLIENTS clients at once: refreshes, and calls that ask the store each time whether
the token is good, in requests a second and as a ratio to filetree's. Run it by `make bench-engines`.

What stands in for DynamoDB and MongoDB in tests says nothing about their speed, so they are left out.
"""

import asyncio
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from bench.rows.store import KEYS, one_round
from harness.engines import PostgreSQLServer, RedisServer, ValkeyServer
from harness.oauth import OAuthClient
from harness.server import Server
from mcp_holdfast.storage import open_store
from mcp_holdfast.storage.atomic import AtomicStore
from mcp_holdfast.storage.backends import open_engine
from mcp_holdfast.storage.sealing import SealedStore

ENGINES = (RedisServer, ValkeyServer, PostgreSQLServer)
ROUNDS = 7
CLIENTS = 16
SECONDS = 3.0
COLUMNS = ("put", "get", "delete")


async def time_operations(stores: dict[str, AtomicStore]) -> None:
    times: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(ROUNDS + 1):
        for name, store in stores.items():
            for operation, taken in (await one_round(store)).items():
                # The first round pays for what is loaded once.
                if number:
                    times[name][operation] += taken
    print(f"{'operation, ms':16}" + "".join(f"{column:>10}" for column in COLUMNS))
    for name, of in times.items():
        print(f"{name:16}" + "".join(f"{statistics.median(of[column]):10.2f}" for column in COLUMNS))
    for store in stores.values():
        await store.close()  # type: ignore[attr-defined]


def rate(clients: list[OAuthClient], step: Callable[[OAuthClient], httpx.Response]) -> float:
    """How often a second all clients together do a step that must succeed."""
    end = time.perf_counter() + SECONDS

    def work(client: OAuthClient) -> int:
        done = 0
        while time.perf_counter() < end:
            step(client).raise_for_status()
            done += 1
        return done

    with ThreadPoolExecutor(len(clients)) as pool:
        return sum(pool.map(work, clients)) / SECONDS


def time_servers(servers: dict[str, Server], running: ExitStack) -> None:
    clients: dict[str, list[OAuthClient]] = {}
    for name, server in servers.items():
        running.callback(server.start().stop)
        clients[name] = []
        for _ in range(CLIENTS):
            http = running.enter_context(httpx.Client(base_url=server.url, timeout=30))
            clients[name].append(OAuthClient(http).sign_in())
    rates: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for number in range(ROUNDS):
        for name in servers:
            rates[name]["refresh"].append(rate(clients[name], OAuthClient.refresh))
            rates[name]["call"].append(rate(clients[name], OAuthClient.call))
        print(f"round {number + 1} of {ROUNDS}", file=sys.stderr)
    print(f"\n{f'{CLIENTS} clients':16}{'refresh/s':>12}{'ratio':>8}{'call/s':>12}{'ratio':>8}")
    of_files = {step: statistics.median(taken) for step, taken in rates["filetree"].items()}
    for name, taken in rates.items():
        refresh, call = statistics.median(taken["refresh"]), statistics.median(taken["call"])
        ratios = refresh / of_files["refresh"], call / of_files["call"]
        print(f"{name:16}{refresh:12.0f}{ratios[0]:8.2f}{call:12.0f}{ratios[1]:8.2f}")


def main() -> None:
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
        engines = [engine(directory / engine.backend).start() for engine in ENGINES]
        for engine in engines:
            running.callback(engine.kill)
        stores: dict[str, AtomicStore] = {"filetree": open_store("filetree", path=directory / "tree", keys=KEYS)}
        stores |= {engine.backend: SealedStore(open_engine(engine.url), KEYS) for engine in engines}
        asyncio.run(time_operations(stores))
        for engine in engines:
            engine.empty()
        settings = {"HOLDFAST_TOKEN_CACHE": "0", "WEB_CONCURRENCY": "2"}
        servers = {"filetree": Server(directory / "home", directory / "filetree.log", **settings)}
        for engine in engines:
            log = directory / f"{engine.backend}.log"
            servers[engine.backend] = Server(directory / "none", log, **settings, **engine.settings())
        time_servers(servers, running)


if __name__ == "__main__":
    main()
