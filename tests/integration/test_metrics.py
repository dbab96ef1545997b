"""/metrics: what Prometheus is told, by whichever worker it happens to ask, and who is told at all."""

import json
import os
import re
import signal
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from harness.oauth import OAuthClient
from harness.prometheus import ROOT, Prometheus, program
from harness.scraping import Scrape
from harness.server import Server
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.settings import Environment, load_settings

PAGE = ROOT / "docs" / "observability.md"
RULES = ROOT / "deploy" / "prometheus-rules.yaml"
DASHBOARD = ROOT / "deploy" / "grafana-dashboard.json"
TOKEN = "a-token-of-more-than-thirty-two-characters"


class Observed:
    """A server with two workers, and what it tells Prometheus."""

    def __init__(self, server: Server, directory: Path) -> None:
        self.server = server
        self.temporary = directory / "tmp"
        self.records = directory / "data" / "oauth-proxy"

    def ask(self, authorization: str | None = f"Bearer {TOKEN}", method: str = "GET") -> httpx.Response:
        headers = {} if authorization is None else {"Authorization": authorization}
        return httpx.request(method, f"{self.server.url}/metrics", headers=headers, timeout=HANGS_AFTER)

    def scrape(self) -> Scrape:
        response = self.ask()
        response.raise_for_status()
        return Scrape(response.text)

    def value(self, name: str, **labels: str) -> float:
        return self.scrape().value(name, **labels)

    def workers(self) -> list[int]:
        master = self.server.process_id
        return [int(child) for child in Path(f"/proc/{master}/task/{master}/children").read_text().split()]

    def counting(self) -> Path:
        """The directory in which the workers count."""
        (directory,) = self.temporary.glob("holdfast-metrics-*")
        return directory


@pytest.fixture(scope="module")
def observed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Observed]:
    directory = tmp_path_factory.mktemp("observed")
    (directory / "tmp").mkdir()
    (directory / "token").write_text(f"{TOKEN}\n")
    server = Server(
        directory / "data",
        directory / "server.log",
        TMPDIR=str(directory / "tmp"),
        WEB_CONCURRENCY="2",
        HOLDFAST_METRICS_TOKEN_FILE=str(directory / "token"),
        HOLDFAST_REFRESH_GRACE="1s",
        HOLDFAST_SWEEP_INTERVAL="1s",
        HOLDFAST_AUDIT_LOG="false",
    )
    yield Observed(server.start(), directory)
    server.stop()


@pytest.fixture
def client(observed: Observed) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=observed.server.url, timeout=HANGS_AFTER) as http:
        yield OAuthClient(http)


@pytest.mark.parametrize(
    "authorization",
    [None, "Bearer", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer \xfc"],
    ids=["none", "no token", "longer", "shorter", "another scheme", "no scheme", "not ASCII"],
)
def test_who_has_not_the_token_is_told_nothing(observed: Observed, authorization: str | None) -> None:
    given = [] if authorization is None else [(b"Authorization", authorization.encode("latin-1"))]
    response = httpx.get(f"{observed.server.url}/metrics", headers=given)
    assert response.status_code == 401
    assert response.headers["www-authenticate"] == "Bearer"
    assert "holdfast" not in response.text


def test_who_has_the_token_may_only_read(observed: Observed) -> None:
    assert observed.ask().headers["content-type"].startswith("text/plain; version=")
    assert observed.ask(f"bearer {TOKEN}").status_code == 200
    refused = observed.ask(method="POST")
    assert (refused.status_code, refused.headers["allow"]) == (405, "GET, HEAD")


def test_the_documented_commands_make_a_token_and_use_it(observed: Observed, tmp_path: Path) -> None:
    block, _ = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    make, use = block.replace("http://localhost:8000", observed.server.url).splitlines()
    subprocess.run(["bash", "-euc", make], cwd=tmp_path, check=True)
    made, problems = load_settings(
        Environment({"HOLDFAST_METRICS_TOKEN": (tmp_path / "metrics-token").read_text()[:-1]})
    )
    assert made.metrics_token is not None
    assert problems == []
    (tmp_path / "metrics-token").write_text(f"{TOKEN}\n")
    told = subprocess.run(["bash", "-euc", use], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    documented = set(re.findall(r"^\| `(holdfast_\w+)` \|", PAGE.read_text(), flags=re.MULTILINE))
    assert documented == set(re.findall(r"^# TYPE (\w+) ", told, flags=re.MULTILINE))


def test_every_worker_tells_of_all(observed: Observed, client: OAuthClient) -> None:
    before = observed.value("http_requests_total", endpoint="health", status="2xx")
    for _ in range(10):
        # Another connection, so another worker now and then.
        httpx.get(f"{observed.server.url}/livez").raise_for_status()
    assert observed.value("http_requests_total", endpoint="health", status="2xx") == before + 10
    counting = {int(file.stem.rpartition("_")[2]) for file in observed.counting().glob("counter_*.db")}
    assert counting > set(observed.workers())


def test_requests_are_told_by_their_kind_and_never_by_what_strangers_choose(
    observed: Observed, client: OAuthClient
) -> None:
    before = observed.scrape()
    client.sign_in()
    client.call().raise_for_status()
    client.call("not-a-token")
    client.revoke(client.tokens["access_token"])
    client.http.get("/.well-known/oauth-authorization-server")
    client.http.get("/a-path-that-a-stranger-chose", params={"a": "query"})
    client.http.request("PROPFIND", "/token")
    after = observed.scrape()
    requests = after.increases_since(before, "http_requests_total")
    del requests["metrics", "2xx"]
    assert requests == {
        ("register", "2xx"): 1,
        ("authorize", "3xx"): 1,
        ("signin", "2xx"): 1,
        ("signin", "3xx"): 1,
        ("token", "2xx"): 1,
        ("token", "4xx"): 1,
        ("mcp", "2xx"): 1,
        ("mcp", "4xx"): 1,
        ("revoke", "2xx"): 1,
        ("metadata", "2xx"): 1,
        ("other", "4xx"): 1,
    }
    assert after.values.keys() == before.values.keys()
    text = observed.ask().text
    assert client.client_id not in text
    assert "stranger" not in text


def test_the_audit_log_can_be_turned_off(observed: Observed, client: OAuthClient) -> None:
    client.sign_in()
    assert '"event"' not in observed.server.output()


def test_exchanges_are_told_by_what_became_of_them(observed: Observed, client: OAuthClient) -> None:
    before = observed.scrape()
    client.sign_in()
    first = client.tokens["refresh_token"]
    client.refresh(first).raise_for_status()
    client.refresh(first).raise_for_status()
    eventually(lambda: client.refresh(first).status_code, lambda status: status == 400)
    after = observed.scrape()

    exchanges = after.increases_since(before, "exchanges_total")
    assert exchanges.pop(("refresh_token", "replayed")) >= 1
    assert exchanges == {
        ("authorization_code", "issued"): 1,
        ("refresh_token", "issued"): 1,
        ("refresh_token", "refused"): 1,
    }
    assert after.increases_since(before, "reuse_detected_total") == {("refresh_token",): 1}
    assert after.increases_since(before, "claims_lost_total") == {}
    assert after.increases_since(before, "store_operations_total").keys() >= {("put", "done"), ("get", "done")}


def test_a_record_that_was_damaged_or_planted_is_told(observed: Observed, client: OAuthClient) -> None:
    damaged = observed.value("records_quarantined_total", reason="damaged")
    planted = observed.value("records_quarantined_total", reason="unsealed")
    for content in ("{", '{"version": 1, "value": {"planted": true}, "created_at": "2026-11-01T00:00:00+00:00"}'):
        client.sign_in()
        grants = observed.records.glob("*grants*/*.json")
        newest = max(grants, key=lambda file: file.stat().st_mtime_ns)
        newest.write_text(content)
        assert client.refresh().status_code == 400
    assert observed.value("records_quarantined_total", reason="damaged") == damaged + 1
    assert observed.value("records_quarantined_total", reason="unsealed") == planted + 1


def test_the_sweeper_and_the_event_loops_are_told(observed: Observed, client: OAuthClient) -> None:
    client.sign_in()
    eventually(lambda: observed.value("sweep_examined_total"), lambda examined: examined > 0)
    eventually(lambda: observed.value("event_loop_lag_seconds_count"), lambda count: count > 0)
    assert observed.value("sweeps_total") > 0


@pytest.fixture(scope="class")
def prometheus(observed: Observed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    (directory / "metrics-token").write_text(f"{TOKEN}\n")
    (documented,) = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)
    configuration = yaml.safe_load(documented.replace("localhost:8000", observed.server.url.partition("//")[2]))
    prometheus = Prometheus(directory, configuration, RULES).start()
    yield prometheus
    prometheus.stop()


class TestAskedByPrometheus:
    """What deploy/ has, as the documentation says to use it."""

    def test_every_rule_is_evaluated_and_none_fires_for_a_server_that_is_well(self, prometheus: Prometheus) -> None:
        def rules() -> list[dict[str, Any]]:
            return [rule for group in prometheus.ask("rules")["groups"] for rule in group["rules"]]

        (target,) = eventually(
            lambda: prometheus.ask("targets")["activeTargets"], lambda found: found and found[0]["health"] != "unknown"
        )
        assert (target["health"], target["lastError"]) == ("up", "")
        told = eventually(rules, lambda found: {rule["health"] for rule in found} <= {"ok", "err"})
        assert [rule["lastError"] for rule in told if rule["health"] != "ok"] == []
        assert {rule["name"] for rule in told} == {rule["alert"] for rule in _rules()}
        critical = [rule for rule in told if rule["labels"]["severity"] == "critical"]
        assert {rule["state"] for rule in critical} == {"inactive"}

    def test_every_panel_of_the_dashboard_can_be_drawn(self, prometheus: Prometheus) -> None:
        for expression in _expressions_of_panels():
            expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*")
            prometheus.ask("query", query=expression)

    def test_the_documented_check_of_the_rules_succeeds(self) -> None:
        command = re.findall(r"```sh\n(.*?)```", PAGE.read_text(), flags=re.DOTALL)[1]
        path = f"{program('promtool').parent}:{os.environ['PATH']}"
        done = subprocess.run(["bash", "-euc", command], cwd=ROOT, env={"PATH": path}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr

    def test_names_and_texts_are_as_prometheus_wants_them(self, observed: Observed) -> None:
        told = subprocess.run(
            [program("promtool"), "check", "metrics"], input=observed.ask().content, capture_output=True, check=False
        )
        assert (told.returncode, told.stdout + told.stderr) == (0, b"")


def test_rules_and_dashboard_ask_for_what_there_is(observed: Observed) -> None:
    told = {f"holdfast_{name}" for name, _ in observed.scrape().values}
    expressions = [*_expressions_of_panels(), *(rule["expr"] for rule in _rules())]
    asked = {name for expression in expressions for name in re.findall(r"holdfast_\w+", expression)}
    assert len(asked) > 10
    assert asked - told == set()


def test_every_panel_and_rule_is_told_apart() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    assert len({rule["alert"] for rule in _rules()}) == len(_rules())
    assert all({"summary", "description"} == rule["annotations"].keys() for rule in _rules())


def _rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def _expressions_of_panels() -> list[str]:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [target["expr"] for panel in panels for target in panel["targets"]]


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL], ids=["SIGTERM", "SIGKILL"])
def test_what_a_worker_counted_stays_counted_when_it_ends(observed: Observed, end: signal.Signals) -> None:
    before = observed.scrape()
    dead = observed.workers()[0]
    os.kill(dead, end)
    eventually(observed.workers, lambda workers: dead not in workers and len(workers) == 2)
    after = observed.scrape()
    counters = {series: value for series, value in before.values.items() if series[0].endswith(("_total", "_count"))}
    assert [series for series, value in counters.items() if after.values[series] < value] == []
    assert list(observed.counting().glob(f"gauge_live*_{dead}.db")) == []


def test_the_sessions_are_told(observed: Observed, client: OAuthClient) -> None:
    # By the workers that came after the others: each counts when it is first asked.
    assert eventually(lambda: observed.value("sessions"), lambda found: found > 0) == len(
        list(observed.records.glob("holdfast_sessions*/*.json"))
    )


def test_only_the_server_can_read_where_it_counts_and_nothing_is_left_of_it(observed: Observed) -> None:
    assert stat.S_IMODE(observed.counting().stat().st_mode) == 0o700
    observed.server.terminate()
    assert observed.server.wait_for_exit() == 0
    assert list(observed.temporary.iterdir()) == []
