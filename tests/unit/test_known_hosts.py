"""HOLDFAST_ALLOWED_HOSTS and HOLDFAST_ALLOWED_ORIGINS: names and origins as browsers send them, and nothing wider."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from mcp_holdfast.http.hosts import KnownHosts, host_of
from mcp_holdfast.settings import Settings, load_settings, origin_of, read_environment

HOSTS, ORIGINS = "HOLDFAST_ALLOWED_HOSTS", "HOLDFAST_ALLOWED_ORIGINS"


def settings_of(**environ: str) -> tuple[Settings, list[str]]:
    environment, problems = read_environment(environ)
    settings, more = load_settings(environment)
    return settings, [str(problem) for problem in [*problems, *more]]


@pytest.mark.parametrize("wrong", ["*", "*.example.com", "https://mcp.internal", "mcp.internal:80", "a/b", "a@b", "."])
def test_what_is_no_name_of_a_host_is_told(wrong: str) -> None:
    (problem,) = settings_of(**{HOSTS: f"holdfast, {wrong}"})[1]
    assert problem.startswith(f"{HOSTS}: ")
    assert "as in mcp.internal" in problem


@pytest.mark.parametrize(
    "wrong", ["*", "app.example.com", "https://app.example.com/", "https://*.example.com", "null", "https://u@host"]
)
def test_what_is_no_origin_is_told(wrong: str) -> None:
    (problem,) = settings_of(**{ORIGINS: wrong})[1]
    assert problem.startswith(f"{ORIGINS}: ")
    assert "as in https://app.example.com" in problem


def test_they_are_compared_as_browsers_send_them() -> None:
    settings, problems = settings_of(**{HOSTS: "Holdfast,mcp.internal", ORIGINS: "HTTPS://App.example.com:443"})
    assert problems == []
    assert settings.allowed_hosts == ("holdfast", "mcp.internal")
    assert settings.allowed_origins == ("https://app.example.com",)
    assert origin_of("https://MCP.example.com:443/path") == "https://mcp.example.com"
    assert origin_of("http://localhost:8000") == "http://localhost:8000"


@pytest.mark.parametrize(
    ("authority", "host"),
    [
        ("MCP.example.com:8443", "mcp.example.com"),
        ("mcp.example.com.", "mcp.example.com"),
        ("[::1]:80", "::1"),
        ("localhost:", "localhost"),
        ("", None),
        ("a b", None),
        ("localhost@evil.test", None),
        ("evil.test#localhost", None),
        ("localhost:80:80", None),
        ("[localhost]", None),
    ],
)
def test_a_host_header_is_read_in_one_way(authority: str, host: str | None) -> None:
    assert host_of(authority) == host


@pytest.mark.parametrize(
    ("host", "scheme"),
    [
        ("mcp.example.com", "https"),
        ("MCP.example.com:443", "https"),
        ("mcp.example.org:8443", "https"),
        ("mcp.internal", "http"),
        ("127.0.0.1:8000", "http"),
    ],
)
async def test_who_came_by_https_is_not_sent_on_to_http(host: str, scheme: str) -> None:
    payload = Starlette(routes=[Route("/own", PlainTextResponse("own"))])
    hosts = ["mcp.example.com", "mcp.example.org", "mcp.internal"]
    known = KnownHosts(payload, hosts=hosts, https=["mcp.example.com", "mcp.example.org:8443"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(known), base_url="http://replica") as client:
        redirect = await client.get("/own/", headers={"Host": host})
    assert httpx.URL(redirect.headers["location"]).scheme == scheme
