"""The sign-in page in a real browser with JavaScript turned off: on a desk and on a phone, by day and by night."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, FloatRect, Locator, Page, ViewportSize, expect

from harness.chromium import DESKTOP, NARROWEST, PHONE
from harness.oauth import OAuthClient
from harness.server import PIN, Server
from harness.waiting import HANGS_AFTER

SCHEMES = ("light", "dark")

OpenPage = Callable[..., Page]


class Callback(HTTPServer):
    """Where a client on this machine waits for the browser."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), self.Answer)
        self.url = f"http://localhost:{self.server_port}/callback"

    def parameters_of(self, page: Page) -> dict[str, str]:
        """What the browser brought, once it is here."""
        page.wait_for_url(f"{self.url}?**")
        return {name: values[0] for name, values in parse_qs(urlsplit(page.url).query).items()}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    allowed = {"HOLDFAST_REDIRECT_URIS": "https://*.example.com/callback"}
    server = Server(directory / "data", directory / "server.log", **allowed).start()
    yield server
    server.stop()


@pytest.fixture
def client(server: Server) -> Iterator[OAuthClient]:
    with httpx.Client(base_url=server.url, timeout=HANGS_AFTER) as http:
        yield OAuthClient(http)


@pytest.fixture
def callback() -> Iterator[Callback]:
    with Callback() as callback:
        thread = threading.Thread(target=callback.serve_forever)
        thread.start()
        yield callback
        callback.shutdown()
        thread.join()


@pytest.fixture
def url(client: OAuthClient, callback: Callback) -> str:
    """The sign-in page for a client on this machine."""
    return signin_url(client, "Claude Code", callback.url)


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    with ExitStack() as contexts:

        def open_page(url: str, viewport: ViewportSize = DESKTOP, **options: Any) -> Page:
            context = browser.new_context(viewport=viewport, java_script_enabled=False, **options)
            page = contexts.enter_context(context).new_page()
            page.goto(url)
            return page

        yield open_page


def signin_url(client: OAuthClient, name: str, redirect_uri: str) -> str:
    client.register(client_name=name, redirect_uris=[redirect_uri]).raise_for_status()
    return client.authorize(redirect_uri=redirect_uri).headers["location"]


def answer(page: Page, button: str, pin: str = "") -> None:
    page.get_by_label("PIN").fill(pin)
    page.get_by_role("button", name=button).click()


class TestAnswering:
    def test_approve_brings_the_code_to_the_client(
        self, client: OAuthClient, url: str, callback: Callback, open_page: OpenPage
    ) -> None:
        page = open_page(url)
        answer(page, "Approve", PIN)
        code = callback.parameters_of(page)["code"]
        assert client.redeem(code, redirect_uri=callback.url).status_code == 200

    def test_deny_needs_no_pin(self, url: str, callback: Callback, open_page: OpenPage) -> None:
        page = open_page(url)
        answer(page, "Deny")
        assert callback.parameters_of(page)["error"] == "access_denied"

    def test_the_enter_key_approves(self, url: str, callback: Callback, open_page: OpenPage) -> None:
        page = open_page(url)
        expect(page.get_by_label("PIN")).to_be_focused()
        page.keyboard.type(PIN)
        page.keyboard.press("Enter")
        assert "code" in callback.parameters_of(page)

    def test_a_wrong_pin_is_said_and_can_be_corrected(self, url: str, callback: Callback, open_page: OpenPage) -> None:
        page = open_page(url)
        answer(page, "Approve", "not the PIN")
        expect(page.get_by_role("alert")).to_contain_text("not the PIN")
        expect(page.get_by_label("PIN")).to_have_accessible_description(re.compile("not the PIN"))
        expect(page.get_by_label("PIN")).to_have_attribute("aria-invalid", "true")
        answer(page, "Approve", PIN)
        assert "code" in callback.parameters_of(page)

    def test_a_broken_link_says_what_to_do(self, server: Server, open_page: OpenPage) -> None:
        page = open_page(f"{server.url}/signin?request=broken")
        expect(page.get_by_role("heading", level=1)).to_contain_text("link")
        expect(page.get_by_role("main")).to_contain_text("connect again")


def test_the_keyboard_reaches_everything_in_reading_order(url: str, open_page: OpenPage) -> None:
    page = open_page(url)
    expect(page.get_by_label("PIN")).to_be_focused()
    for button in ("Approve", "Deny"):
        page.keyboard.press("Tab")
        expect(page.get_by_role("button", name=button)).to_be_focused()
        assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"


def test_the_pin_is_not_shown_while_it_is_typed(url: str, open_page: OpenPage) -> None:
    expect(open_page(url).get_by_label("PIN")).to_have_attribute("type", "password")


def test_nothing_is_loaded_from_elsewhere_and_the_policy_is_kept(
    server: Server, url: str, callback: Callback, open_page: OpenPage
) -> None:
    page = open_page("about:blank")
    requested: list[str] = []
    said: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.goto(url)
    answer(page, "Approve", PIN)
    callback.parameters_of(page)
    hosts = {urlsplit(address).netloc for address in requested}
    assert hosts == {urlsplit(server.url).netloc, urlsplit(callback.url).netloc}
    assert not [message for message in said if "Content Security Policy" in message]


@pytest.mark.parametrize("viewport", [DESKTOP, PHONE, NARROWEST], ids=["desktop", "phone", "narrowest"])
@pytest.mark.parametrize("name", ["Claude Code", "A client that goes on and on " * 5, "n" * 150], ids=len)
def test_fits_the_screen(client: OAuthClient, open_page: OpenPage, viewport: ViewportSize, name: str) -> None:
    redirect_uri = "https://a-host-with-a-long-name.department-of-names.example.com/callback"
    page = open_page(signin_url(client, name, redirect_uri), viewport)
    page.get_by_text(name.strip()).wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= viewport["width"]
    for button in page.get_by_role("button").all():
        assert box_of(button)["height"] >= 44  # a fingertip


@pytest.mark.parametrize("scheme", SCHEMES)
class TestReadability:
    """WCAG 2.2, level AA: text has a contrast of 4.5 to 1 (1.4.3), the edge of a field of 3 to 1 (1.4.11)."""

    def test_of_the_question(self, url: str, open_page: OpenPage, scheme: str) -> None:
        page = open_page(url, color_scheme=scheme)
        check_contrast(page)
        edge, ground = page.get_by_label("PIN").evaluate(
            "field => [getComputedStyle(field).borderTopColor, getComputedStyle(field.closest('main')).backgroundColor]"
        )
        assert contrast(edge, ground) >= 3

    def test_of_an_error(self, url: str, callback: Callback, open_page: OpenPage, scheme: str) -> None:
        page = open_page(url, color_scheme=scheme)
        answer(page, "Approve", "not the PIN")
        page.get_by_role("alert").wait_for()
        check_contrast(page)
        answer(page, "Approve", PIN)  # which forgives the wrong one
        callback.parameters_of(page)

    def test_of_a_message(self, server: Server, open_page: OpenPage, scheme: str) -> None:
        check_contrast(open_page(f"{server.url}/signin?request=broken", color_scheme=scheme))


def box_of(element: Locator) -> FloatRect:
    box = element.bounding_box()
    assert box is not None
    return box


# Every element that has text of its own, with the colours of text and ground.
COLOURS_OF_TEXT = """() => {
  const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === "rgba(0, 0, 0, 0)" ? ground(element.parentElement) : colour;
  };
  const hasText = element => [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  return [...document.body.querySelectorAll("*")].filter(hasText)
    .map(element => [element.textContent.trim(), getComputedStyle(element).color, ground(element)]);
}"""


def check_contrast(page: Page) -> None:
    texts = page.evaluate(COLOURS_OF_TEXT)
    assert texts
    too_faint = {text: contrast(colour, ground) for text, colour, ground in texts if contrast(colour, ground) < 4.5}
    assert not too_faint


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two CSS colours, as WCAG 2.2 defines it."""
    darker, lighter = sorted((luminance(one), luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    red, green, blue = (int(value) / 255 for value in re.findall(r"\d+", colour))
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in (red, green, blue)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
