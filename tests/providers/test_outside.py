"""The proxy that the flows go out through would notice whoever asks for another host."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from harness.outside import Outside


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Outside]:
    outside = Outside(tmp_path, ["idp.example.com"])
    yield outside
    outside.close()


@pytest.mark.parametrize("host", ["other.example.com:443", "idp.example.com:80", "sub.idp.example.com:443"])
def test_it_refuses_other_hosts_and_ports_and_notes_them(outside: Outside, host: str) -> None:
    with httpx.Client(proxy=outside.egress.url) as http, pytest.raises(httpx.ProxyError, match="403"):
        http.get(f"https://{host}/")
    assert outside.egress.refused == [host]
    assert outside.egress.reached == set()


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST"])
def test_it_refuses_what_is_not_encrypted_and_notes_it(outside: Outside, method: str) -> None:
    with httpx.Client(proxy=outside.egress.url) as http:
        assert http.request(method, "http://idp.example.com/token").status_code == httpx.codes.FORBIDDEN
    assert outside.egress.refused == ["http://idp.example.com/token"]
