"""Debian's Chromium, driven by playwright, and the pages that a person answers with it to sign in."""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser, ProxySettings, ViewportSize, sync_playwright

from harness.oauth import REDIRECT_URI

# Without a screen, as root and without a word to hosts of its maker.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=390, height=844)
NARROWEST = ViewportSize(width=320, height=640)  # WCAG 2.2, 1.4.10 Reflow


@contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)


@dataclass(frozen=True)
class Answer:
    """What a person does on a page that shows `button`: they fill fields in, each found by a selector, and press it."""

    name: str
    button: str
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chromium:
    """Signs in at any provider, through `proxy` where that is not on this machine; pictures show each page."""

    browser: Browser
    pictures: Path
    proxy: str = ""

    def sign_in(self, url: str, answers: Sequence[Answer]) -> str:
        """Open what a client asks for and answer each page; returns the code that is brought back to the client."""
        proxy = ProxySettings(server=self.proxy, bypass="localhost") if self.proxy else None
        with self.browser.new_context(proxy=proxy, ignore_https_errors=True) as context:
            page = context.new_page()
            with page.expect_request(f"{REDIRECT_URI}?**") as brought_back:
                page.goto(url)
                for number, answer in enumerate(answers):
                    button = page.locator(answer.button)
                    button.wait_for()
                    page.screenshot(path=self.pictures / f"{number}-{answer.name}.png")
                    for selector, value in answer.fields.items():
                        page.locator(selector).fill(value)
                    button.click()
            return parse_qs(urlsplit(brought_back.value.url).query)["code"][0]
