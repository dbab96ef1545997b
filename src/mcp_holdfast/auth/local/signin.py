"""The sign-in page: shows which client asks for what and, given the PIN, approves it."""

import time
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode, urlsplit

from mcp.server.auth.provider import construct_redirect_uri
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from mcp_holdfast import audit
from mcp_holdfast.auth.destinations import Destination
from mcp_holdfast.auth.local.grants import Issuer
from mcp_holdfast.auth.local.pin import PinCheck, TooManyTries, WrongPin
from mcp_holdfast.auth.local.tokens import AUTHORIZATION_REQUEST, ExpiredToken, InvalidToken, TokenSigner
from mcp_holdfast.pages import page


class AuthorizationRequest(BaseModel):
    """What a client asked for at /authorize. It travels, signed, in the page's URL: nothing is stored for strangers."""

    client_id: str
    client_name: str
    redirect_uri: str
    redirect_uri_provided_explicitly: bool
    code_challenge: str
    scopes: list[str]
    state: str | None
    issuer: str | None = None

    @property
    def destination(self) -> Destination:
        return Destination(self.redirect_uri)


class SigninPage:
    """GET shows the page, POST takes the owner's answer."""

    def __init__(
        self,
        *,
        issuer: Issuer,
        server_name: str,
        signer: TokenSigner,
        pin: PinCheck,
        open_grant: Callable[[AuthorizationRequest], Awaitable[str]],
    ) -> None:
        self._server_name = server_name
        self._issuer = issuer
        self._signer = signer
        self._pin = pin
        self._open_grant = open_grant

    def url(self, request: AuthorizationRequest, *, lifetime: int) -> str:
        """The page's URL for a request, good for `lifetime` seconds and across restarts."""
        claims = {"request": request.model_dump(), "exp": int(time.time()) + lifetime}
        return f"{self._issuer.url}/signin?{urlencode({'request': self._signer.sign(AUTHORIZATION_REQUEST, claims)})}"

    async def handle(self, http: Request) -> Response:
        form = await _form(http) if http.method == "POST" else dict(http.query_params)
        try:
            claims = self._signer.verify(AUTHORIZATION_REQUEST, form.get("request", ""))
        except ExpiredToken as error:
            raise HTTPException(410, "this sign-in page has expired") from error
        except InvalidToken as error:
            raise HTTPException(400, "this sign-in link is incomplete or was changed") from error
        request = AuthorizationRequest.model_validate(claims["request"])
        audit.know("client_id", request.client_id)
        audit.know("client_name", request.client_name)
        if not self._issuer.issued(request.issuer):
            raise HTTPException(400, "this sign-in link is of another host of this server")
        answer = form.get("answer") if http.method == "POST" and not _comes_from_elsewhere(http) else None
        if answer not in {"approve", "deny"}:
            return self._page(request, form["request"])
        if answer == "deny":
            return _send_back(request, error="access_denied", error_description="The owner denied the request")
        return await self._approve(request, form, http.client.host if http.client else "unknown")

    async def _approve(self, request: AuthorizationRequest, form: dict[str, str], address: str) -> Response:
        try:
            await self._pin.check(form.get("pin", ""), address)
        except WrongPin:
            audit.record("pin_refused", reason="wrong_pin", host=request.destination.host)
            return self._page(request, form["request"], error="That is not the PIN. Try again.", status=403)
        except TooManyTries as refusal:
            audit.record("pin_refused", reason="too_many_tries", host=request.destination.host)
            error = f"Too many wrong PINs. Try again in {_duration(refusal.retry_after)}."
            response = self._page(request, form["request"], error=error, status=429)
            response.headers["Retry-After"] = str(refusal.retry_after)
            return response
        code = await self._open_grant(request)
        return _send_back(request, code=code)

    def _page(self, request: AuthorizationRequest, signed: str, *, error: str = "", status: int = 200) -> Response:
        return page(
            "signin.html",
            server_name=self._server_name,
            status=status,
            form_targets=_form_targets(request.redirect_uri),
            client_name=request.client_name,
            published_at=None,
            destination=request.destination,
            scopes=request.scopes,
            signed=signed,
            error=error,
        )


def _comes_from_elsewhere(http: Request) -> bool:
    """Whether another site's page made the browser send this: it must not use up tries for the PIN."""
    return http.headers.get("sec-fetch-site") in {"cross-site", "same-site"}


async def _form(http: Request) -> dict[str, str]:
    async with http.form(max_files=0, max_fields=10) as form:
        return {name: value for name, value in form.items() if isinstance(value, str)}


def _send_back(request: AuthorizationRequest, **parameters: str) -> Response:
    answer = {**parameters, "state": request.state} if request.state is not None else parameters
    location = construct_redirect_uri(request.redirect_uri, **answer)
    return RedirectResponse(location, 303, {"Cache-Control": "no-store", "Referrer-Policy": "no-referrer"})


def _form_targets(redirect_uri: str) -> str:
    """What form-action must allow: browsers apply it to every redirect that follows, and a website may send on."""
    parts = urlsplit(redirect_uri)
    if parts.scheme == "http" and "[" not in parts.netloc:  # the syntax of CSP has no IPv6 addresses
        return f"http://{parts.netloc}"
    return f"{parts.scheme}:"


def _duration(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} second{'s' if seconds > 1 else ''}"
    return f"{-(-seconds // 60)} minutes"
