"""Pages in a headless Chromium, wide and narrow, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import PATIENCE


@dataclass
class Opened:
    """A page on the screen."""

    page: Any
    """Playwright's."""
    width: int
    """Pixels of the window."""
    problems: list[str] = field(default_factory=list)
    """What the console says."""
    requests: list[str] = field(default_factory=list)

    @property
    def fetched(self) -> list[str]:
        """URLs that were asked for and are not part of the page."""
        return [url for url in self.requests if not url.startswith("data:")]


def look_at(page_file: Path, height: int, check: Callable[[Opened], object]) -> None:
    """Open the page as each of two readers has it, and have it checked."""
    from playwright.sync_api import sync_playwright

    from tools.browser import install

    executable, environment = install()
    patience = 1000 * PATIENCE
    with sync_playwright() as play:
        options: dict[str, Any] = {"executable_path": executable, "env": environment, "args": ["--no-sandbox"]}
        browser: Any = play.chromium.launch(**options, timeout=patience)
        for width, scheme in ((1280, "light"), (390, "dark")):
            page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
            page.set_default_timeout(patience)
            one = Opened(page, width)
            page.on("console", lambda message, one=one: one.problems.append(message.text))
            page.on("pageerror", lambda error, one=one: one.problems.append(str(error)))
            page.on("request", lambda request, one=one: one.requests.append(request.url))
            page.goto(page_file.as_uri())
            check(one)
            page.close()
        browser.close()
