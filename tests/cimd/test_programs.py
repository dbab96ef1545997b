"""Clients' own libraries, given the URL of a document: they do not register, and sign in once."""

import subprocess
from pathlib import Path

import pytest
from fastmcp import Client
from fastmcp.client.auth import OAuth

from cimd.conftest import Site, StartSite
from harness.identity_provider import NODE
from harness.oauth import answer_parameters
from harness.waiting import HANGS_AFTER

TYPESCRIPT = Path(__file__).with_name("typescript_client.mjs")
NPM_PACKAGES = Path(__file__).parents[1] / "clients/node_modules"


@pytest.fixture(scope="module")
def site(start_site: StartSite) -> Site:
    return start_site(HOLDFAST_CIMD="on")


class SignsIn(OAuth):
    """FastMCP's client, with a person in place of a browser."""

    site: Site

    async def redirect_handler(self, authorization_url: str) -> None:
        page = self.site.http().get(authorization_url).headers["location"]
        self.answer = answer_parameters(self.site.person().approve(page))

    async def callback_handler(self) -> tuple[str, str | None]:
        return self.answer["code"], self.answer["state"]


@pytest.mark.filterwarnings("ignore:Using in-memory token storage")
async def test_fastmcps_client(site: Site) -> None:
    url = site.host.publish(site.url("fastmcp"), redirect_uris=["http://localhost:*/callback"])
    login = SignsIn(client_metadata_url=url)
    login.site = site
    async with Client(f"{site.servers[0].url}/mcp", auth=login) as client:
        assert (await client.call_tool("whoami")).data["client_id"] == url


def test_the_typescript_sdk(site: Site) -> None:
    url = site.host.publish(site.url("typescript"))
    command = [str(NODE), str(TYPESCRIPT), str(NPM_PACKAGES), f"{site.servers[0].url}/mcp", url]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        page = site.http().get(program.stdout.readline().strip()).headers["location"]
        code = answer_parameters(site.person().approve(page))["code"]
        told, _ = program.communicate(f"{code}\n", timeout=HANGS_AFTER)
    assert f'"client_id":"{url}"' in told
