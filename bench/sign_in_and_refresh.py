"""A sign-in and a refresh through an identity provider: Holdfast beside stock FastMCP, in alternating rounds.

Prints the median time of each, in milliseconds, and the ratio, stock to Holdfast: above 1 Holdfast is the faster one.
Run it by `make bench`.
"""

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson, proxy_environment
from harness.server import Server, ServerProcess
from harness.stock import StockServer

ROUNDS = 15
REFRESHES_A_ROUND = 5


def measure(step: Callable[[], httpx.Response]) -> float:
    """The milliseconds that a step takes that must succeed."""
    began = time.perf_counter()
    step().raise_for_status()
    return 1000 * (time.perf_counter() - began)


def one_round(server: ServerProcess, number: int) -> dict[str, list[float]]:
    with httpx.Client(base_url=server.url, timeout=30) as http:
        client = OAuthClient(http, person=ProxyPerson(quick=True))

        def sign_in() -> httpx.Response:
            client.register(client_name=f"Client {number}").raise_for_status()
            return client.redeem(client.code())

        return {
            "sign-in": [measure(sign_in)],
            "refresh": [measure(client.refresh) for _ in range(REFRESHES_A_ROUND)],
        }


def main() -> None:
    with ExitStack() as running:
        directory = Path(running.enter_context(tempfile.TemporaryDirectory()))
        provider = IdentityProvider(directory / "identity-provider").start()
        running.callback(provider.stop)
        times: dict[str, dict[str, list[float]]] = {}
        servers: dict[str, ServerProcess] = {
            "stock": StockServer(directory / "stock", directory / "stock.log"),
            "holdfast": Server(directory / "holdfast", directory / "holdfast.log"),
        }
        for server in servers.values():
            server.environment.update(proxy_environment(provider, server.url))
            running.callback(server.stop)
            server.start()
        for number in range(ROUNDS + 1):
            for name, server in servers.items():
                for step, taken in one_round(server, number).items():
                    # The first round pays for what is loaded once.
                    if number:
                        times.setdefault(step, {}).setdefault(name, []).extend(taken)
    print(f"{'step':10}{'stock ms':>10}{'holdfast ms':>13}{'ratio':>8}")
    for step, of in times.items():
        stock, holdfast = statistics.median(of["stock"]), statistics.median(of["holdfast"])
        print(f"{step:10}{stock:10.1f}{holdfast:13.1f}{stock / holdfast:8.2f}")


if __name__ == "__main__":
    main()
