"""The owner at a real browser, which programs open as they open the browser of any user."""

import socket
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Browser

from harness.server import PIN
from harness.waiting import eventually

STAND_INS = Path(__file__).parent / "stand-ins"


class NoSignInPage(Exception):
    """The page that a program opened is another one; the message is its text."""


class Person:
    """Signs in when a program asks for it. `opened` is the file that notes each opening of the browser."""

    def __init__(self, browser: Browser, opened: Path) -> None:
        self.environment = {"BROWSER": str(STAND_INS / "xdg-open"), "OPENED_PAGES": str(opened)}
        self._browser = browser
        self._opened = opened
        self._answered = 0

    @property
    def openings(self) -> int:
        return len(self._pages())

    def is_asked(self) -> bool:
        return self.openings > self._answered

    def sign_in(self) -> None:
        """Give the program that opened the browser what it asks for. Raises NoSignInPage."""
        url = self._pages()[self._answered]
        self._answered += 1
        callback = parse_qs(urlsplit(url).query)["redirect_uri"][0]
        with self._browser.new_context() as context:
            page = context.new_page()
            page.goto(url)
            if not page.get_by_label("PIN").count():
                raise NoSignInPage(page.inner_text("body"))
            page.get_by_label("PIN").fill(PIN)
            # Some programs listen only after the browser is open; people are slower than that.
            eventually(lambda: _is_listening(callback), bool)
            page.get_by_role("button", name="Approve").click()
            page.wait_for_url(f"{callback}?**")

    def _pages(self) -> list[str]:
        return self._opened.read_text().splitlines() if self._opened.exists() else []


def _is_listening(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((str(parts.hostname), parts.port or 80), timeout=5).close()
    except OSError:
        return False
    return True
