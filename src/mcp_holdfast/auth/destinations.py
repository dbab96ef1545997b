"""Where the browser is sent after a sign-in, told so that a person can judge it."""

from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from mcp_holdfast.settings import is_loopback


@dataclass(frozen=True)
class Destination:
    """A client's redirect URI, which is one that it has registered."""

    uri: str

    @property
    def host(self) -> str:
        """Host and port without what may stand before them, which could look like another host; or a kind of link."""
        parts = self._parts
        return parts.netloc.rpartition("@")[2] if self._is_web else f"{parts.scheme}:"

    @property
    def description(self) -> str:
        if not self._is_web:
            return f"the app that opens {self.host} links"
        return f"a program on this computer ({self.host})" if self._is_this_computer else self.host

    @property
    def warning(self) -> str:
        """What speaks against sending access there, if anything: others could get it (RFC 8252, sections 7 and 8)."""
        if not self._is_web:
            return f"Any app on this device can claim {self.host} links. Approve only if you trust them all."
        if self._parts.scheme == "http" and not self._is_this_computer:
            return f"The way to {self.host} is not encrypted: others on it could take the access over."
        return ""

    @property
    def _parts(self) -> SplitResult:
        return urlsplit(self.uri)

    @property
    def _is_web(self) -> bool:
        return self._parts.scheme in {"http", "https"}

    @property
    def _is_this_computer(self) -> bool:
        """Whether that is the person's own machine, as with clients that run beside the browser."""
        return self._parts.scheme == "http" and is_loopback(self._parts.hostname or "")
