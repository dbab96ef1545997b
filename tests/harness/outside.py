"""The world outside of this machine as far as a test has one: some hosts, which are here, and nobody else."""

import ssl
from collections.abc import Collection
from pathlib import Path

import httpx

from harness.certificates import certify
from harness.egress_proxy import EgressProxy
from harness.server import free_port
from harness.waiting import HANGS_AFTER


class Outside:
    """Hosts that are reached over TLS through a proxy; who plays them listens on `tls_port` with the certificate.

    `egress` is the way out of servers, `browsing` that of people and their clients.
    """

    def __init__(self, directory: Path, hosts: Collection[str]) -> None:
        self.tls_port = free_port()
        self.authority = directory / "authority.pem"
        first, *others = sorted(hosts)
        self.certificate, self.key = certify(first, directory / "server", self.authority, *others)
        self.egress, self.browsing = (EgressProxy(dict.fromkeys(hosts, self.tls_port)) for _ in range(2))

    @property
    def of_servers(self) -> dict[str, str]:
        """The settings of a server that has no other way out, and trusts whom the certificate is by."""
        names = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY")
        return {**dict.fromkeys(names, self.egress.url), "SSL_CERT_FILE": str(self.authority)}

    @property
    def of_players(self) -> dict[str, str]:
        """The settings of who plays the hosts."""
        return {"TLS_PORT": str(self.tls_port), "CERTIFICATE": str(self.certificate), "CERTIFICATE_KEY": str(self.key)}

    def http(self, base_url: str = "") -> httpx.Client:
        """For a client of the server at `base_url` that may ask the hosts, too."""
        trusted = ssl.create_default_context(cafile=self.authority)
        there = httpx.HTTPTransport(proxy=self.browsing.url, verify=trusted)
        return httpx.Client(base_url=base_url, timeout=HANGS_AFTER, mounts={"https://": there})

    def close(self) -> None:
        for proxy in (self.egress, self.browsing):
            proxy.close()
