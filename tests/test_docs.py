"""README and docs tell what is so: every setting, every command, every path."""

import configparser
import os
import re
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from clients.kinds import KINDS
from harness.container import built_image, docker, docker_path, run_to_end
from harness.server import free_port
from harness.waiting import eventually
from mcp_holdfast.auth.imported.importing import SOURCE_VARIABLES
from mcp_holdfast.auth.providers import provider_of
from mcp_holdfast.settings import (
    Environment,
    Settings,
    load_settings,
    read_environment,
    variable_names,
    variables_of,
)

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
WRITTEN_BY_THE_READER = {"compose/.env", "compose/secrets/client_secret", "kubernetes/mine/kustomization.yaml"}
OBSERVABILITY = ROOT / "docs" / "observability.md"
SUPPLY_CHAIN = ROOT / "docs" / "supply-chain.md"
PROVIDERS = ROOT / "docs" / "providers"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def settings_in(page: Path) -> dict[str, str]:
    """Those of the first example."""
    return settings_of(blocks(page, "ini")[0])


def settings_of(example: str) -> dict[str, str]:
    parser = configparser.ConfigParser(delimiters="=", interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(f"[environment]\n{example}")
    return dict(parser["environment"])


def commands() -> list[str]:
    return [line for page in PAGES for block in blocks(page, "sh") for line in block.splitlines()]


def test_the_readme_tells_every_setting() -> None:
    documented = set(re.findall(r"`([A-Z][A-Z_]+)`", README.read_text()))
    assert variable_names() - documented == set()


def test_every_setting_that_is_told_exists() -> None:
    told = {name for page in PAGES for name in re.findall(r"\b(?:HOLDFAST|OAUTH|MCP_OAUTH)_[A-Z_]+", page.read_text())}
    of_other_servers = set(SOURCE_VARIABLES)
    assert {name.removesuffix("_FILE") for name in told} - variable_names() - of_other_servers == set()


def test_the_readmes_defaults_are_the_codes() -> None:
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| `([^`]+)` \|", README.read_text(), flags=re.MULTILINE))
    names = {name: variables_of(field)[0] for name, field in Settings.model_fields.items()}
    told = {variable: rows[variable] for variable in names.values() if variable in rows}
    given = {name: value for name, value in told.items() if name not in {"HOLDFAST_SERVER", "HOLDFAST_BASE_URL"}}
    assert len(given) > 10
    assert load_settings(Environment(given)) == load_settings(Environment({}))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    links = [link for link in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text) for link in link if link]
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    paths = re.findall(r"`((?:tests|src|compose|deploy|fargate|kubernetes|patches|docs)/[\w./-]*)`", text)
    missing += [path for path in paths if path not in WRITTEN_BY_THE_READER and not (ROOT / path).exists()]
    assert missing == []


def test_the_page_about_clients_tells_which_versions_were_tested() -> None:
    rows = re.findall(r"^\| ([\w -]+) \| (\d[\d.]+) \|", (ROOT / "docs" / "clients.md").read_text(), flags=re.MULTILINE)
    assert dict(rows) == {kind.name: kind.version() for kind in KINDS}


EXAMPLES = [(page, example) for page in sorted(PROVIDERS.glob("*.md")) for example in blocks(page, "ini")]


@pytest.mark.parametrize(("page", "example"), EXAMPLES, ids=lambda part: part.stem if isinstance(part, Path) else "")
def test_every_provider_example_is_complete(page: Path, example: str, tmp_path: Path) -> None:
    environ = settings_of(example)
    (tmp_path / "secret").write_text("a secret\n")
    environ = {name: str(tmp_path / "secret") if name.endswith("_FILE") else environ[name] for name in environ}
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    assert problems + more == []
    assert "FASTMCP_SERVER_AUTH" in environ
    provider_of(settings, environment)


def test_there_is_a_page_for_each_provider_and_the_first_page_leads_to_it() -> None:
    pages = {page.name for page in PROVIDERS.glob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([a-z0-9]+\.md)\)", (PROVIDERS / "README.md").read_text()))


class TestEveryCommandThatIsShown:
    """`make up` is run by tests/container/test_up.py and `make test` runs this; the others are run here.

    All that is about compose/replicas.yaml and its secrets is run by tests/container/test_replicas.py, and what is
    about the other files of compose/ by tests/container/test_compose.py. The clients' are run by tests/clients,
    those about tokens by tests/integration/test_static_tokens.py, those about metrics by
    tests/integration/test_metrics.py, those about what is in an image and who signed it by tests/supply, and the one
    about holdfast:debug by tests/container/test_base_and_debug.py.
    They get another name, port and volume, so that they disturb nothing that runs on this machine.
    """

    name = f"holdfast-test-{uuid.uuid4().hex[:12]}"
    port = str(free_port())

    @pytest.fixture(autouse=True)
    def cleaned_up(self) -> Iterator[None]:
        built_image()
        yield
        subprocess.run([docker_path(), "rm", "--force", self.name], capture_output=True, check=False)
        docker("volume", "rm", "--force", self.name)

    def run(self, command: str) -> str:
        command = (
            command.replace("--name holdfast", f"--name {self.name}")
            .replace("--volume holdfast:", f"--volume {self.name}:")
            .replace(":8000:8000", f":{self.port}:8000")
            .replace("docker logs holdfast", f"docker logs {self.name}")
            .replace("docker exec holdfast", f"docker exec {self.name}")
            .replace("docker compose", str(ROOT / "scripts" / "compose.sh"))
        )
        environment = {
            **os.environ,
            "PATH": f"{Path(docker_path()).parent}:{os.environ['PATH']}",
            "PORT": self.port,
            "VOLUME": self.name,
            "COMPOSE_PROJECT_NAME": self.name,
        }
        done = subprocess.run(
            ["bash", "-euc", command], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )
        return done.stdout + done.stderr

    def ready(self) -> None:
        def status() -> int:
            try:
                return httpx.get(f"http://localhost:{self.port}/readyz", timeout=5).status_code
            except httpx.TransportError:
                return 0

        eventually(status, lambda found: found == 200)

    def test_is_run_by_one_of_these(self) -> None:
        run = {"make up", "make test", "docker logs holdfast", *self.started(), *self.composed(), *self.checked()}
        assert set(commands()) == run | set(self.beside_a_server()) | set(self.about_replicas()) | set(
            self.about_compose()
        ) | set(self.of_clients()) | set(self.about_tokens()) | set(self.about_metrics()) | set(
            self.about_supply_chain()
        ) | set(self.about_debug())

    def started(self) -> list[str]:
        return [command for command in commands() if command.startswith("docker run --detach")]

    def composed(self) -> list[str]:
        return [command for command in commands() if command.startswith("docker compose --file compose/local.yaml")]

    def about_replicas(self) -> list[str]:
        return [command for command in commands() if re.search(r"compose/(replicas\.yaml|secrets)", command)]

    def about_compose(self) -> list[str]:
        return [
            command
            for command in commands()
            if re.search(r"compose/(entra|redis|postgres)\.yaml|-secrets\.sh", command)
        ]

    def about_tokens(self) -> list[str]:
        return [command for command in commands() if re.search(r"holdfast tokens\b", command)]

    def about_debug(self) -> list[str]:
        return [command for command in commands() if "holdfast:debug" in command]

    def of_clients(self) -> list[str]:
        return [command for kind in KINDS for command in kind.documented]

    def about_metrics(self) -> list[str]:
        return [line for block in blocks(OBSERVABILITY, "sh") for line in block.splitlines()]

    def about_supply_chain(self) -> list[str]:
        lines = [line for block in blocks(SUPPLY_CHAIN, "sh") for line in block.splitlines()]
        return [line for line in lines if not line.startswith("docker run")]

    def checked(self) -> list[str]:
        return [command for command in commands() if command.endswith(("holdfast check", "holdfast doctor"))]

    def beside_a_server(self) -> list[str]:
        return [
            command
            for command in commands()
            if command.startswith(("docker exec", "docker run --rm"))
            and command not in (*self.checked(), *self.about_tokens(), *self.about_debug())
        ]

    def test_docker_run(self, open_path: Path) -> None:
        first, *others = self.started()
        self.run(first)
        self.ready()
        assert "Sign-in PIN: " in self.run("docker logs holdfast")
        for command in self.beside_a_server():
            told = self.run(command.replace("holdfast.backup", str(open_path / "backup")))
            assert re.search(r"^(session|client id|now)  |^\d+ records; ", told, flags=re.MULTILINE)
        (open_path / "server.py").write_text("from fastmcp import FastMCP\nmcp = FastMCP('Mine')\n")
        for other in others:
            docker("rm", "--force", self.name)
            self.run(other.replace("$PWD", str(open_path)))
            self.ready()

    def test_docker_compose(self) -> None:
        (command,) = set(self.composed())
        try:
            self.run(command)
            self.ready()
        finally:
            self.run("docker compose --file compose/local.yaml down")

    def test_check(self) -> None:
        check, doctor = self.checked()
        assert "storage  disk in /data" in self.run(check)
        assert re.search(r"^good +volume speed +write and fsync ", self.run(doctor), flags=re.MULTILINE)


def test_the_image_does_the_main_job_without_any_setting() -> None:
    printed = run_to_end(built_image(), "holdfast", "check")
    assert printed.returncode == 0, printed.stderr
    assert "login    local" in printed.stdout
