"""The pages of a sign-in in a real browser, judged by axe-core: WCAG 2.2, levels A and AA, and its best practices."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, FloatRect, Page, expect

from harness.chromium import DESKTOP, NARROWEST, PHONE, chromium
from pages.situations import SITUATIONS, Sites, Visit, question

AXE = (Path(__file__).parent / "node_modules/axe-core/axe.min.js").read_text()
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
JUDGE = "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']}).then(found => found.violations)"

IMAGES = Path(__file__).parents[2] / "docs/images"
PICTURES = {
    "sign-in-desktop": ("sign-in", "desktop"),
    "sign-in-phone": ("sign-in", "phone"),
    "consent-desktop": ("consent", "desktop"),
    "consent-phone": ("consent for an app", "phone"),
    "unknown-application": ("unknown application", "desktop"),
    "wrong-address": ("wrong address", "desktop"),
    "expired": ("expired sign-in", "desktop"),
    "another-browser": ("another browser", "desktop"),
    "denied": ("denied", "desktop"),
    "provider-refused": ("refused code", "desktop"),
    "later": ("provider down", "phone"),
}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    with browser.new_context(viewport=NARROWEST, color_scheme="light") as context:
        yield context


def show(context: BrowserContext, visit: Visit) -> Page:
    """Open a link as the browser in which its sign-in began."""
    for cookie in visit.http.cookies.jar:
        context.add_cookies([{"name": cookie.name, "value": cookie.value or "", "url": visit.server.url}])
    page = context.new_page()
    page.goto(visit.url)
    return page


def violations(page: Page) -> list[tuple[str, list[str]]]:
    """What axe-core objects to by day, and which colours it objects to by night."""
    page.evaluate(AXE)
    found: list[Any] = page.evaluate(JUDGE, RULES)
    page.emulate_media(color_scheme="dark")
    found += page.evaluate(JUDGE, ["color-contrast"])
    return [(violation["id"], [node["html"] for node in violation["nodes"]]) for violation in found]


@pytest.mark.parametrize("name", SITUATIONS)
def test_is_accessible_fits_the_screen_and_loads_nothing_from_elsewhere(
    context: BrowserContext, sites: Sites, name: str
) -> None:
    visit = SITUATIONS[name].reach(sites)
    requested: list[str] = []
    said: list[str] = []
    context.on("request", lambda request: requested.append(request.url))
    context.on("console", lambda message: said.append(message.text))
    page = show(context, visit)
    expect(page.get_by_role("heading", level=1)).to_contain_text(SITUATIONS[name].heading)
    assert page.evaluate("document.documentElement.scrollWidth") <= NARROWEST["width"]
    assert violations(page) == []
    assert {urlsplit(url).netloc for url in requested} == {urlsplit(visit.server.url).netloc}
    assert not [line for line in said if "Content Security Policy" in line]


def test_a_refused_pin_is_accessible(context: BrowserContext, sites: Sites) -> None:
    page = show(context, question(sites.local))
    page.get_by_label("PIN").fill("not the PIN")
    page.get_by_role("button", name="Approve").click()
    page.get_by_role("alert").wait_for()
    assert violations(page) == []


@pytest.mark.parametrize("keys", [["Tab", "Enter"], ["Tab", "Tab", "Shift+Tab", "Space"]], ids=" ".join)
def test_consent_is_given_by_keyboard_and_without_javascript(browser: Browser, sites: Sites, keys: list[str]) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = show(context, question(sites.proxy))
        for key in keys[:-1]:
            page.keyboard.press(key)
        focused = page.get_by_role("button", name="Approve")
        expect(focused).to_be_focused()
        assert focused.evaluate("button => getComputedStyle(button).outlineStyle") != "none"
        page.keyboard.press(keys[-1])
        page.wait_for_url(f"{sites.provider.url}/**")


@pytest.mark.parametrize("name", PICTURES)
def test_the_pictures_in_the_documentation_can_be_taken(
    browser: Browser, sites: Sites, tmp_path: Path, name: str
) -> None:
    """With HOLDFAST_UPDATE_IMAGES=1 they are taken anew (make images)."""
    directory = IMAGES if os.environ.get("HOLDFAST_UPDATE_IMAGES") else tmp_path
    situation, device = PICTURES[name]
    viewport, scheme = (PHONE, "dark") if device == "phone" else (DESKTOP, "light")
    with browser.new_context(viewport=viewport, color_scheme=scheme) as context:  # type: ignore[arg-type]
        page = show(context, SITUATIONS[situation].reach(sites))
        card = page.get_by_role("main").bounding_box()
        assert card is not None
        around = FloatRect(
            x=max(card["x"] - 48, 0),
            y=max(card["y"] - 32, 0),
            width=min(card["width"] + 96, viewport["width"]),
            height=min(card["height"] + 64, viewport["height"]),
        )
        page.screenshot(path=directory / f"{name}.png", clip=around)
    assert (IMAGES / f"{name}.png").exists()
