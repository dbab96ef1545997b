"""A real Prometheus as a process of its own, which scrapes and evaluates every second."""

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import yaml

from harness.server import ServerProcess
from harness.waiting import HANGS_AFTER

ROOT = Path(__file__).parents[2]


def program(name: str) -> Path:
    """Where `prometheus` or `promtool` is, fetched where there is none."""
    found = subprocess.run([ROOT / "scripts" / "prometheus.sh"], check=True, capture_output=True, text=True).stdout
    return Path(found.strip()) / name


class Prometheus(ServerProcess):
    """Started with the configuration of somebody, to which only the intervals and the rules are added."""

    host = "127.0.0.1"
    ready_path = "/-/ready"

    def __init__(self, directory: Path, configuration: Mapping[str, Any], rules: Path) -> None:
        super().__init__(directory / "prometheus.log", {})
        self._directory = directory
        intervals = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        whole = {"global": intervals, "rule_files": [str(rules)], **configuration}
        (directory / "prometheus.yaml").write_text(yaml.safe_dump(whole))

    def command(self) -> Sequence[str]:
        return [
            str(program("prometheus")),
            f"--config.file={self._directory / 'prometheus.yaml'}",
            f"--storage.tsdb.path={self._directory / 'prometheus'}",
            f"--web.listen-address={self.host}:{self.port}",
        ]

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API (https://prometheus.io/docs/prometheus/latest/querying/api/)."""
        response = httpx.get(f"{self.url}/api/v1/{path}", params=parameters, timeout=HANGS_AFTER)
        answer = response.json()
        assert answer["status"] == "success", answer
        return answer["data"]
