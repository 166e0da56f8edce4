"""Pages in a headless Chromium, wide and narrow, light and dark."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tests.waiting import PATIENCE

Scheme = Literal["light", "dark"]


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

    @property
    def sticking_out(self) -> list[str]:
        """Elements for which the page has to be scrolled sideways."""
        found: list[str] = self.page.evaluate(STICKING_OUT)
        return found


STICKING_OUT = """() => {
    if (document.documentElement.scrollWidth <= innerWidth) return [];
    const names = [...document.querySelectorAll("body *")]
        .filter(one => one.getBoundingClientRect().right > innerWidth)
        .map(one => `${one.localName}#${one.id}.${one.getAttribute("class")}`);
    return ["the page", ...names];
}"""


@contextlib.contextmanager
def chromium(*arguments: str) -> Iterator[Any]:
    """Playwright's browser, with more arguments of Chromium's."""
    from playwright.sync_api import sync_playwright

    from tools.browser import install

    executable, environment = install()
    with sync_playwright() as play:
        options: dict[str, Any] = {"executable_path": executable, "env": environment}
        browser = play.chromium.launch(**options, args=["--no-sandbox", *arguments], timeout=1000 * PATIENCE)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(
    browser: Any,
    url: str,
    size: tuple[int, int],
    scheme: Scheme = "light",
    permissions: Sequence[str] = (),
    patience: float = PATIENCE,
) -> Iterator[Opened]:
    """A page in a browser of its own settings; closed with the block.

    Args:
        browser: as ``chromium`` gives it.
        url: of a file or of a server.
        size: width and height of the window, pixels.
        scheme: what the reader prefers.
        permissions: that it has without asking.
        patience: seconds for anything on it.
    """
    width, height = size
    context = browser.new_context(
        viewport={"width": width, "height": height}, color_scheme=scheme, permissions=list(permissions)
    )
    page = context.new_page()
    page.set_default_timeout(1000 * patience)
    one = Opened(page, width)
    page.on("console", lambda message: one.problems.append(message.text))
    page.on("pageerror", lambda error: one.problems.append(str(error)))
    page.on("request", lambda request: one.requests.append(request.url))
    page.goto(url)
    try:
        yield one
    finally:
        context.close()


def look_at(page_file: Path, height: int, check: Callable[[Opened], object]) -> None:
    """Open the page as each of two readers has it, and have it checked."""
    readers: tuple[tuple[int, Scheme], ...] = ((1280, "light"), (390, "dark"))
    with chromium() as browser:
        for width, scheme in readers:
            with opened(browser, page_file.as_uri(), (width, height), scheme) as one:
                check(one)


def axe_finds(page: Any) -> list[str]:
    """What axe-core objects to."""
    from axe_playwright_python.sync_playwright import Axe

    found = Axe().run(page).response["violations"]
    return [f"{one['id']}: {[node['target'] for node in one['nodes']]}" for one in found]
