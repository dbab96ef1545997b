"""A sign-in (register, authorize, consent, callback, code) and a refresh through an identity provider.

The person and the client are as quick as the machine. A ratio is the median time of stock FastMCP to that of Holdfast
on the same store, above 1 where Holdfast is the faster one.
"""

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Mapping

import httpx

from bench.result import Progress, Result, Scale, Verdict
from bench.servers import SLOW, Kind, running
from harness.oauth import OAuthClient
from harness.proxy_login import ProxyPerson
from harness.server import ServerProcess

SIGN_INS_A_ROUND, REFRESHES_A_ROUND = 2, 5
STEPS = ("sign-in", "refresh")
IN_MEMORY = {"EXA_MCP_STORAGE_BACKEND": "memory", "HOLDFAST_REPLICAS": "false"}
STORES: Mapping[str, tuple[Kind, Kind]] = {
    "memory": (Kind(True, {"STOCK_STORE": "memory"}), Kind(False, IN_MEMORY)),
    "filetree": (Kind(True, {}), Kind(False, {})),
    "filetree, 2 ms": (Kind(True, SLOW), Kind(False, SLOW)),
}

Times = dict[str, dict[str, list[float]]]


def measure(scale: Scale, progress: Progress) -> Result:
    times: dict[str, Times] = {}
    for store, (stock, ours) in STORES.items():
        times[store] = defaultdict(lambda: defaultdict(list))
        with running({"stock": stock, "holdfast": ours}, progress) as started:
            for number in scale.numbers:
                progress(f"{store}, round {number} of {scale.rounds}")
                for name, one in started.items():
                    for step, taken in one_round(one.server, number).items():
                        # The first round pays for what is loaded once.
                        if number:
                            times[store][step][name] += taken
    return result(times)


def one_round(server: ServerProcess, number: int) -> dict[str, list[float]]:
    """The milliseconds that each step took."""
    with httpx.Client(base_url=server.url, timeout=30) as http:
        client = OAuthClient(http, person=ProxyPerson(quick=True))

        def sign_in() -> httpx.Response:
            client.register(client_name=f"Client {number}").raise_for_status()
            return client.redeem(client.code())

        return {
            "sign-in": [measured(sign_in) for _ in range(SIGN_INS_A_ROUND)],
            "refresh": [measured(client.refresh) for _ in range(REFRESHES_A_ROUND)],
        }


def measured(step: Callable[[], httpx.Response]) -> float:
    """The milliseconds that a step takes that must succeed."""
    began = time.perf_counter()
    step().raise_for_status()
    return 1000 * (time.perf_counter() - began)


def result(times: dict[str, Times]) -> Result:
    rows = [["step", "store", "stock, ms", "holdfast, ms", "ratio"]]
    ratios: dict[str, list[float]] = defaultdict(list)
    for store, steps in times.items():
        for step in STEPS:
            stock, holdfast = (statistics.median(steps[step][name]) for name in ("stock", "holdfast"))
            ratios[step].append(stock / holdfast)
            rows.append([step, store, f"{stock:.1f}", f"{holdfast:.1f}", f"{stock / holdfast:.2f}"])
    stores = " / ".join(STORES)
    verdicts = [Verdict(f"{step}, against stock, on {stores}", "at least", 1.0, ratios[step]) for step in STEPS]
    raw = {store: {step: dict(of) for step, of in steps.items()} for store, steps in times.items()}
    return Result("Sign-in and refresh", (__doc__ or "").partition("\n\n")[2], verdicts, [rows], raw)
