"""compose/redis.yaml, postgres.yaml and entra.yaml with the commands of docs/compose.md."""

import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from container.conftest import SignIn
from harness.container import ROOT, built_image, docker, docker_path, service_image
from harness.identity_provider import IdentityProvider
from harness.oauth import OAuthClient
from harness.proxy_login import AUTHORIZE_PARAMETERS, ProxyPerson
from harness.server import free_port
from harness.waiting import HANGS_AFTER, eventually
from mcp_holdfast.auth.providers import provider_of
from mcp_holdfast.settings import load_settings, read_environment
from test_docs import PROVIDERS, blocks, settings_in

PAGE = ROOT / "docs/compose.md"
MAKE_SECRETS = next(block for block in blocks(PAGE, "sh") if "compose-secrets" in block)
OF_ENTRA, OF_ANY_PROVIDER = blocks(PAGE, "ini")
PROVIDER_PAGES = [page for page in sorted(PROVIDERS.glob("*.md")) if page.name != "README.md"]


@dataclass
class Deployment:
    """One file of compose/, in a directory like a person's clone, on a port and under a name of its own.

    `holdfast` is what its service has here besides. It is asked for its health more often, so that tests are short.
    """

    directory: Path
    file: str
    images: Mapping[str, str] = field(default_factory=dict)
    holdfast: Mapping[str, Any] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"holdfast-test-{uuid.uuid4().hex[:12]}")
    port: int = field(default_factory=free_port)

    def __post_init__(self) -> None:
        untracked = shutil.ignore_patterns("secrets", ".env")
        shutil.copytree(ROOT / "compose", self.directory / "compose", ignore=untracked)
        # Where Compose is missing this brings it, which takes more than what is linked here.
        subprocess.run([ROOT / "scripts/compose.sh", "version"], check=True, capture_output=True)
        for shared in ("scripts", ".cache"):
            (self.directory / shared).symlink_to(ROOT / shared)
        service = {"healthcheck": {"interval": "2s"}, **self.holdfast}
        (self.directory / "compose/override.yaml").write_text(yaml.safe_dump({"services": {"holdfast": service}}))
        self.run(MAKE_SECRETS)

    @property
    def url(self) -> str:
        return f"http://localhost:{self.port}"

    def secret(self, name: str) -> str:
        return (self.directory / "compose/secrets" / name).read_text().strip()

    def secrets(self) -> list[str]:
        return [self.secret(file.name) for file in (self.directory / "compose/secrets").iterdir()]

    def write_secret(self, name: str, value: str) -> None:
        (self.directory / "compose/secrets" / name).write_text(f"{value}\n")

    def up(self, settings: str) -> None:
        """As the page says, with these lines in compose/.env."""
        (self.directory / "compose/.env").write_text(settings)
        (command,) = [block for block in blocks(PAGE, "sh") if f"compose/{self.file}.yaml" in block]
        self.run(command.replace(" up ", " --file compose/override.yaml up "))

    def run(self, command: str) -> str:
        environment = {
            **os.environ,
            "PATH": f"{Path(docker_path()).parent}:{os.environ['PATH']}",
            "COMPOSE_PROJECT_NAME": self.name,
            "VOLUME": self.name,
            "PORT": str(self.port),
            "IMAGE": built_image(),
            **self.images,
        }
        command = command.replace("docker compose", "scripts/compose.sh")
        done = subprocess.run(
            ["bash", "-euc", command], cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def container(self, service: str) -> str:
        return f"{self.name}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        (found,) = json.loads(docker("inspect", self.container(service)))
        assert isinstance(found, dict)
        return found

    def log(self, service: str) -> str:
        command = [docker_path(), "logs", self.container(service)]
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout

    def execute(self, service: str, *command: str) -> str:
        return docker("exec", self.container(service), *command)

    def kill_and_start(self, service: str) -> None:
        """End it as a power cut does, and return when Holdfast is ready again."""
        docker("kill", self.container(service))
        docker("start", self.container(service))
        eventually(self._status, lambda status: status == httpx.codes.OK)

    def _status(self) -> int:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=5).status_code
        except httpx.TransportError:
            return 0

    def remove(self) -> None:
        self.run(f"docker compose --file compose/{self.file}.yaml down --volumes --timeout 2")


def with_engine(engine: str, directory: Path) -> Iterator[Deployment]:
    deployment = Deployment(directory, engine, {f"{engine.upper()}_IMAGE": service_image(engine)})
    try:
        deployment.up("HOLDFAST_SERVER=demo\n")
        yield deployment
    finally:
        deployment.remove()


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from with_engine("redis", tmp_path_factory.mktemp("redis"))


@pytest.fixture(scope="module")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    yield from with_engine("postgres", tmp_path_factory.mktemp("postgres"))


@pytest.fixture(params=["redis", "postgres"])
def deployment(request: pytest.FixtureRequest) -> Deployment:
    found = request.getfixturevalue(request.param)
    assert isinstance(found, Deployment)
    return found


def test_holdfast_and_its_engine_are_as_hardened_as_they_can_be(deployment: Deployment) -> None:
    assert_hardened(deployment, "holdfast")
    assert_hardened(deployment, deployment.file)
    assert not [mount for mount in deployment.inspect("holdfast")["Mounts"] if mount["Type"] == "volume"]
    assert "WARNING" not in deployment.log("holdfast")


def test_this_machine_reaches_holdfast_and_nobody_the_engine(deployment: Deployment) -> None:
    binding = {"HostIp": "127.0.0.1", "HostPort": str(deployment.port)}
    assert deployment.inspect("holdfast")["HostConfig"]["PortBindings"] == {f"{deployment.port}/tcp": [binding]}
    assert deployment.inspect(deployment.file)["HostConfig"]["PortBindings"] == {}
    (network,) = deployment.inspect(deployment.file)["NetworkSettings"]["Networks"]
    assert docker("network", "inspect", network, "--format", "{{.Internal}}") == "true"


def test_a_killed_holdfast_and_a_killed_engine_sign_nobody_out(deployment: Deployment, sign_in: SignIn) -> None:
    client = sign_in(deployment.url, deployment.secret("pin"))
    for service in ("holdfast", deployment.file):
        client.refresh().raise_for_status()
        deployment.kill_and_start(service)
        assert_signed_in(client)


def test_redis_lets_holdfast_alone_use_records_and_no_more_than_that(redis: Deployment) -> None:
    assert redis.execute("redis", "redis-cli", "ping") == "PONG"
    assert redis.execute("redis", "redis-cli", "get", "x").startswith("NOPERM")
    login = ("--no-auth-warning", "-u", redis.secret("redis_url").replace("@redis:", "@localhost:"))
    assert redis.execute("redis", "redis-cli", *login, "get", "x") == ""
    for command in ("flushall", "config get *", "acl list", "keys *", "shutdown"):
        assert redis.execute("redis", "redis-cli", *login, *command.split()).startswith("NOPERM")


def test_holdfast_is_no_superuser_of_postgresql(postgres: Deployment) -> None:
    def ask(url: str, statement: str) -> str:
        return postgres.execute("postgres", "psql", url, "--no-psqlrc", "--tuples-only", "--no-align", "-c", statement)

    url = postgres.secret("postgres_url")
    assert ask(url, "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user") == "holdfast|f"
    assert ask(url, "SHOW data_checksums") == "on"
    with pytest.raises(RuntimeError, match="password authentication failed"):
        ask(url.replace(postgres.secret("postgres_password"), "wrong"), "SELECT 1")


def test_secrets_that_are_there_are_kept(tmp_path: Path) -> None:
    deployment = Deployment(tmp_path, "redis")
    deployment.write_secret("pin", "chosen")
    (tmp_path / "compose/secrets/storage_key").unlink()
    before = deployment.secrets()
    deployment.run(MAKE_SECRETS)
    assert set(before) < set(deployment.secrets())
    assert len(deployment.secret("storage_key")) == 44
    assert (tmp_path / "compose/secrets").stat().st_mode & 0o777 == 0o700


@pytest.fixture
def entra(tmp_path: Path) -> Iterator[Deployment]:
    # Where the provider of one test is; for the other, Entra ID is not to be had, whatever this machine reaches.
    here = {"network_mode": "host", "extra_hosts": ["login.microsoftonline.com:127.0.0.1"]}
    deployment = Deployment(tmp_path / "clone", "entra", holdfast=here)
    yield deployment
    deployment.remove()


def test_whoever_signs_in_is_sent_to_entra_which_need_not_be_there_at_the_start(entra: Deployment) -> None:
    entra.write_secret("client_secret", "a client secret of Entra's")
    entra.up(OF_ENTRA.replace("https://mcp.example.com", entra.url))
    assert_hardened(entra, "holdfast")
    with httpx.Client(base_url=entra.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http)
        client.register().raise_for_status()
        person = ProxyPerson()
        allowed = person.allow(person.open(client.authorize().headers["location"]))
    location = httpx.URL(allowed.headers["location"])
    settings = dict(line.split("=", 1) for line in OF_ENTRA.splitlines())
    tenant = settings["FASTMCP_SERVER_AUTH_AZURE_TENANT_ID"]
    assert (location.host, location.path) == ("login.microsoftonline.com", f"/{tenant}/oauth2/v2.0/authorize")
    assert location.params["client_id"] == settings["FASTMCP_SERVER_AUTH_AZURE_CLIENT_ID"]
    assert location.params["redirect_uri"] == f"{entra.url}/auth/callback"


@pytest.fixture
def provider(tmp_path: Path) -> Iterator[IdentityProvider]:
    provider = IdentityProvider(tmp_path / "provider").start()
    yield provider
    provider.stop()


def test_any_other_provider_signs_people_in_and_a_kill_does_not_sign_them_out(
    entra: Deployment, provider: IdentityProvider
) -> None:
    provider.allow_redirect(f"{entra.url}/auth/callback")
    entra.write_secret("client_secret", provider.client_secret)
    settings = OF_ANY_PROVIDER.replace("https://mcp.example.com", entra.url)
    settings = settings.replace("https://idp.example.com", provider.url)
    settings = settings.replace("CLIENT_ID=holdfast", f"CLIENT_ID={provider.client_id}")
    # The provider here grants refresh tokens only where the person is asked for consent.
    asks = f"FASTMCP_SERVER_AUTH_OAUTHPROXY_EXTRA_AUTHORIZE_PARAMS={AUTHORIZE_PARAMETERS}"
    entra.up(f"{settings}{asks}\nHOLDFAST_SERVER=demo\n")
    with httpx.Client(base_url=entra.url, timeout=HANGS_AFTER) as http:
        client = OAuthClient(http, person=ProxyPerson()).sign_in()
        client.refresh().raise_for_status()
        entra.kill_and_start("holdfast")
        assert_signed_in(client)


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    deployment = Deployment(tmp_path_factory.mktemp("checked") / "clone", "entra")
    deployment.write_secret("client_secret", "a client secret")
    return deployment


@pytest.mark.parametrize("page", PROVIDER_PAGES, ids=lambda page: page.stem)
def test_the_file_that_a_providers_page_names_takes_the_settings_of_the_page(page: Path, checked: Deployment) -> None:
    (checked.directory / "compose/.env").write_text(blocks(page, "ini")[0])
    (command,) = blocks(page, "sh")
    printed = json.loads(checked.run(f"{command.partition(' up ')[0]} config --format json"))
    secrets = str(checked.directory / "compose/secrets")
    variables = printed["services"]["holdfast"]["environment"]
    environment, problems = read_environment(
        {name: value.replace("/run/secrets", secrets) for name, value in variables.items()}
    )
    settings, more = load_settings(environment)
    assert problems + more == []
    assert settings.provider == settings_in(page)["FASTMCP_SERVER_AUTH"]
    provider_of(settings, environment)


def assert_signed_in(client: OAuthClient) -> None:
    """Whoever is told "later" asks again; /readyz may know a little later that an engine is gone."""
    for ask in (lambda: client.call_tool("whoami"), client.refresh):
        answered = eventually(ask, lambda answer: answer.status_code != httpx.codes.SERVICE_UNAVAILABLE)
        assert answered.status_code == httpx.codes.OK, answered.text


def assert_hardened(deployment: Deployment, service: str) -> None:
    container = deployment.inspect(service)
    host = container["HostConfig"]
    assert (host["ReadonlyRootfs"], host["Privileged"], host["CapAdd"]) == (True, False, None)
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert container["Config"]["User"] not in {"", "0", "root"}
    shown = json.dumps(container) + deployment.log(service)
    assert not [secret for secret in deployment.secrets() if secret in shown]
