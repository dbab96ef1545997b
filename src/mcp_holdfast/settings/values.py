"""The kinds of values that settings have, each with what makes a value wrong."""

import ipaddress
import re
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, AnyUrl, BeforeValidator, Field, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

from mcp_holdfast.settings.engine_urls import BACKEND_OF_SCHEME, backend_of

SHORTEST_KEY = 32
SHORTEST_PIN = 6
UNITS = ((86400, "d"), (3600, "h"), (60, "m"))

PLAIN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")

PLAIN_HOSTS = ("localhost", "127.0.0.1", "::1")
"""Those that FastMCP's routes take without https; names under localhost are the others."""

USUAL_PORTS = {"http": ":80", "https": ":443"}

BROWSERS_OWN_SCHEMES = frozenset(
    {"about", "blob", "data", "file", "filesystem", "javascript", "vbscript", "view-source"}
)
REDIRECT_HOST = re.compile(
    r"(\*(\.[A-Za-z0-9_-]+){2,}|[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*|\[[0-9A-Fa-f:.]+\])(:(\*|\d{1,5}))?"
)


def parse_duration(value: Any) -> Any:
    """Turn `600`, `10m`, `1h` or `30d` into seconds."""
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\d+)\s*([smhd]?)", value.strip().lower())
    if match is None:
        raise PydanticCustomError(
            "duration", "is not a duration; write seconds, or a number with s, m, h or d as in 30d"
        )
    return int(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def is_duration(setting: FieldInfo) -> bool:
    members = [item for kind in get_args(setting.annotation) for item in getattr(kind, "__metadata__", ())]
    return BeforeValidator(parse_duration) in [*setting.metadata, *members]


def in_largest_unit(seconds: int) -> str:
    """A number of seconds as a variable may say it."""
    for size, unit in UNITS:
        if seconds and seconds % size == 0:
            return f"{seconds // size}{unit}"
    return f"{seconds}s" if seconds else "0"


def lowered(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


def backend_name(value: Any) -> Any:
    name = lowered(value)
    return "disk" if name == "sqlite" else name


def is_loopback(host: str) -> bool:
    """Whether a host name or address of a URL can only be this machine."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(value: str) -> str:
    url = value.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        parts, port_is_valid = urlsplit(""), False
    is_plain = re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:.]+", parts.hostname or "") and PLAIN_PATH.fullmatch(parts.path)
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise PydanticCustomError("url", "must not have a query, a fragment or credentials")
    if parts.scheme not in {"http", "https"} or not is_plain or not port_is_valid:
        raise PydanticCustomError("url", "is not an http or https URL such as https://mcp.example.com")
    host = parts.hostname or ""
    if parts.scheme == "http" and host not in PLAIN_HOSTS and not host.endswith(".localhost"):
        raise PydanticCustomError(
            "url", "must be https: OAuth clients refuse plain http for any host but localhost (RFC 8414, section 2)"
        )
    # As everyone writes it (RFC 3986, sections 6.2.2.1 and 6.2.3): what was issued under a URL is known by it.
    return parts._replace(netloc=parts.netloc.lower().removesuffix(USUAL_PORTS[parts.scheme])).geturl()


def authority_of(url: str) -> str:
    """The host of a URL, with its port where that is not the usual one, as clients send it (RFC 9110, section 7.2)."""
    return without_usual_port(urlsplit(url).netloc)


def origin_of(url: str) -> str:
    """The origin of a URL as browsers send it (RFC 6454, section 6.2)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.lower().removesuffix(USUAL_PORTS.get(parts.scheme, ''))}"


def without_usual_port(authority: str) -> str:
    return re.sub(r":(80|443)?$", "", authority.lower())


def check_base_urls(urls: tuple[str, ...]) -> tuple[str, ...]:
    if len({authority_of(url) for url in urls}) < len(urls):
        raise PydanticCustomError("url", "names a host twice; requests are told apart by their host")
    return urls


def _check_host(value: str) -> str:
    name = value.lower()
    if not re.fullmatch(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*", name):
        raise PydanticCustomError("url", "is not the name of a host, as in mcp.internal, without scheme, port or *")
    return name


def _check_origin(value: str) -> str:
    origin = value.lower()
    if not re.fullmatch(r"https?://([a-z0-9_-]+(\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(:\d{1,5})?", origin):
        raise PydanticCustomError("url", "is not an origin such as https://app.example.com, without path or *")
    return origin.removesuffix(USUAL_PORTS[origin.partition(":")[0]])


def check_key(key: SecretStr) -> SecretStr:
    value = key.get_secret_value()
    if len(value) < SHORTEST_KEY:
        raise PydanticCustomError(
            "key",
            "is shorter than {shortest} characters",
            {"shortest": SHORTEST_KEY},
        )
    if re.search(r"[\s,]", value):
        raise PydanticCustomError("key", "must not contain spaces or commas")
    return key


def whole_number(value: Any) -> Any:
    if isinstance(value, str) and not re.fullmatch(r"\s*\d{1,9}\s*", value):
        raise PydanticCustomError("number", "is not a whole number")
    return value


def check_proxies(value: str) -> str:
    for proxy in value.split(","):
        if proxy.strip() == "*":
            continue
        try:
            ipaddress.ip_network(proxy.strip())
        except ValueError:
            raise PydanticCustomError("proxies", "must list addresses or networks, or be *") from None
    return value


def check_storage_url(url: SecretStr) -> SecretStr:
    if backend_of(url.get_secret_value()) is None:
        schemes = ", ".join(BACKEND_OF_SCHEME)
        raise PydanticCustomError("url", "does not begin with one of {schemes} and ://", {"schemes": schemes})
    return url


def split(value: Any) -> Any:
    return [part for part in re.split(r"[\s,]+", value) if part] if isinstance(value, str) else value


def _check_redirect_pattern(pattern: str) -> str:
    """Refuse what would let codes go anywhere, and what FastMCP's matching would pass over in silence."""
    scheme, _, rest = pattern.partition(":")
    authority = rest[2:].partition("/")[0] if rest.startswith("//") else ""
    path = rest.removeprefix(f"//{authority}")
    is_web = scheme.lower() in {"http", "https"}
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme) or not rest.startswith("/"):
        raise _redirect_problem(pattern, "is no URI with a scheme such as https://")
    if scheme.lower() in BROWSERS_OWN_SCHEMES:
        raise _redirect_problem(pattern, "has a scheme that browsers act on themselves")
    if not REDIRECT_HOST.fullmatch(authority) and (is_web or authority or not path.strip("/*")):
        raise _redirect_problem(pattern, "must name its host; only subdomains can be left open, as in *.example.com")
    if re.search(r"[?#;\[\]]", path):
        raise _redirect_problem(pattern, "has a query, fragment or bracket; only scheme, host, port and path count")
    if scheme.lower() == "http" and not is_loopback(re.sub(r":[\d*]+$", "", authority).strip("[]")):
        raise _redirect_problem(pattern, "must be https, unless its host is localhost (RFC 8252, section 7.3)")
    return pattern


def _redirect_problem(pattern: str, what: str) -> PydanticCustomError:
    return PydanticCustomError("redirect", "{pattern} {what}", {"pattern": pattern, "what": what})


def redirect_uri_problem(uri: AnyUrl) -> str:
    """Why a client must not have its codes sent there (RFC 9700, section 4.1.1); empty where it may."""
    if uri.scheme in BROWSERS_OWN_SCHEMES:
        return f"must not have the scheme {uri.scheme}"
    if uri.fragment is not None:
        return "must not have a fragment (RFC 6749, section 3.1.2)"
    if uri.username is not None or uri.password is not None:
        return "must not carry a user name or password, which hide the host from people"
    if uri.scheme == "http" and not is_loopback((uri.host or "").strip("[]")):
        return "must be https, unless its host is localhost (RFC 8252, section 7.3)"
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", uri.scheme):
        return "has no valid scheme"
    return ""


def normal_pin(pin: str) -> str:
    """The PIN as it is compared: digits may be typed with or without separators."""
    digits = pin.strip().replace("-", "").replace(" ", "")
    return digits if digits.isdigit() else pin.strip()


def check_pin(pin: SecretStr) -> SecretStr:
    value = normal_pin(pin.get_secret_value())
    if len(value) < SHORTEST_PIN:
        raise PydanticCustomError(
            "pin",
            "is shorter than {shortest} characters; choose a longer PIN or a passphrase",
            {"shortest": SHORTEST_PIN},
        )
    steps = {ord(after) - ord(before) for before, after in pairwise(value)}
    if len(steps) == 1 and steps <= {-1, 0, 1}:
        raise PydanticCustomError("pin", "is among the first that anyone tries; choose one without a pattern")
    return pin


Duration = Annotated[int, BeforeValidator(parse_duration), Field(ge=1, le=10 * 365 * 86400)]
"""A number of seconds."""

DurationOrOff = Annotated[int, BeforeValidator(parse_duration), Field(ge=0, le=10 * 365 * 86400)]
"""A number of seconds, 0 for none."""

BaseUrls = Annotated[
    tuple[Annotated[str, AfterValidator(check_base_url)], ...], BeforeValidator(split), AfterValidator(check_base_urls)
]
HostNames = Annotated[tuple[Annotated[str, AfterValidator(_check_host)], ...], BeforeValidator(split)]
Origins = Annotated[tuple[Annotated[str, AfterValidator(_check_origin)], ...], BeforeValidator(split)]
Key = Annotated[SecretStr, AfterValidator(check_key)]
Keys = Annotated[tuple[Key, ...], BeforeValidator(split)]
RedirectPatterns = Annotated[
    tuple[Annotated[str, AfterValidator(_check_redirect_pattern)], ...], BeforeValidator(split)
]
Backend = Literal["filetree", "memory", "disk", "redis", "valkey", "postgresql", "dynamodb", "mongodb"]
