"""What clients send to /authorize, /token and /revoke, read strictly (RFC 6749, sections 3.1 and 3.2)."""

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, unquote, urlencode

from starlette.exceptions import HTTPException
from starlette.requests import Request

from mcp_holdfast.asgi import replay

FORM = "application/x-www-form-urlencoded"
RESOURCE = "resource"
"""The one parameter that may be there more than once (RFC 8707, section 2)."""

Parameters = list[tuple[str, str]]


class MalformedRequest(Exception):
    """Says what is wrong with a request, and by which error code clients are told (RFC 6749, section 5.2)."""

    def __init__(self, description: str, *, error: str = "invalid_request") -> None:
        super().__init__(description)
        self.error = error


@dataclass(frozen=True)
class Form:
    """A form as its client meant it, and as a body that says so: it names the client, too."""

    body: bytes
    parameters: Mapping[str, str]
    resources: Sequence[str]

    def required(self, name: str) -> str:
        """The value of a parameter.

        Raises:
            MalformedRequest: there is none.

        """
        if name not in self.parameters:
            raise MalformedRequest(f"{name} is missing")
        return self.parameters[name]

    def with_parameter(self, name: str, value: str) -> "Form":
        """The same form with one parameter set to this value, and with it only."""
        others = [parameter for parameter in parse_qsl(self.body.decode()) if parameter[0] != name]
        return replace(
            self, body=urlencode([*others, (name, value)]).encode(), parameters={**self.parameters, name: value}
        )


async def read_form(http: Request) -> Form:
    """Read the form of a client that authenticates, by its body or by HTTP Basic (RFC 6749, section 2.3.1).

    Raises:
        MalformedRequest: it is no form, has a parameter twice, or does not tell whose it is.

    """
    body = await http.body()
    if http.headers.get("content-type", "").partition(";")[0].strip().lower() != FORM:
        raise MalformedRequest(f"the body is not {FORM} (RFC 6749, appendix B)")
    try:
        fields = (await Request(http.scope, replay(body, http.receive)).form()).multi_items()
    except HTTPException as error:
        raise MalformedRequest(error.detail) from error
    parameters = given_in(fields)
    refuse_repeated(parameters)
    if "client_id" not in dict(parameters):
        parameters.append(("client_id", _client_of(http)))
    resources = [value for name, value in parameters if name == RESOURCE]
    return Form(urlencode(parameters).encode(), dict(parameters), resources)


def given_in(fields: Iterable[tuple[str, object]]) -> Parameters:
    """The parameters that have a value; one without counts as left out (RFC 6749, section 3.1)."""
    return [(name, value) for name, value in fields if isinstance(value, str) and value]


def refuse_repeated(parameters: Parameters) -> None:
    """Refuse what could be read in two ways.

    Raises:
        MalformedRequest: a parameter is there twice.

    """
    names = [name for name, _ in parameters if name != RESOURCE]
    if len(names) != len(set(names)):
        raise MalformedRequest("a parameter is there more than once")


def basic_credentials(http: Request) -> tuple[str, str] | None:
    """Who authenticates by HTTP Basic, and with which secret (RFC 6749, section 2.3.1); None where nobody does.

    Raises:
        MalformedRequest: the Authorization header is no such thing.

    """
    scheme, _, credentials = http.headers.get("authorization", "").partition(" ")
    if not scheme:
        return None
    try:
        client_id, _, secret = b64decode(credentials, validate=True).decode().partition(":")
    except ValueError:
        client_id, secret = "", ""
    if scheme.lower() != "basic" or not client_id:
        raise MalformedRequest("the Authorization header names no client", error="invalid_client")
    return unquote(client_id), unquote(secret)


def _client_of(http: Request) -> str:
    """Whom the Authorization header names.

    Raises:
        MalformedRequest: nobody.

    """
    credentials = basic_credentials(http)
    if credentials is None:
        raise MalformedRequest("client_id is missing")
    return credentials[0]
