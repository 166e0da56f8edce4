"""``/docs`` in a real browser: shown and tried out, under the gateway's own policy, asking nobody else."""

import re

import pytest

from tests.browser import Scheme, chromium, opened
from tests.conftest import SAMPLE

SIZES: dict[str, tuple[tuple[int, int], Scheme]] = {"wide": ((1280, 900), "light"), "narrow": ((390, 800), "dark")}


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.mark.parametrize("reader", SIZES)
def test_it_shows_every_operation(browser, web, reader):
    size, scheme = SIZES[reader]
    with opened(browser, f"{web.url}/docs", size, scheme, patience=15) as shown:
        page = shown.page
        page.wait_for_selector("#operations-recognition-recognise")
        summaries = page.locator(".opblock-summary-path").all_inner_texts()
        assert [re.sub(r"\W*$", "", text.replace("\u200b", "")) for text in summaries] == [
            *("/v1/recognise", "/v1/annotate", "/v1/explain", "/v1/model"),
            *("/healthz", "/readyz", "/metrics"),
        ]
        assert "Intended use" in page.inner_text(".info")
        is_dark = page.evaluate("document.documentElement.classList.contains('dark-mode')")
        assert is_dark == (scheme == "dark")
        assert shown.problems == []
        assert {url.removeprefix(web.url) for url in shown.fetched} - {"/docs/favicon-32x32.png"} == {
            *("/docs", "/docs/swagger-ui.css", "/docs/own.css", "/docs/swagger-ui-bundle.js", "/docs/start.js"),
            "/openapi.json",
        }


@pytest.mark.parametrize(("name", "shows"), [("recognise", ".highlight-code"), ("annotate", "img")])
def test_a_file_is_tried_out(browser, web, name, shows):
    with opened(browser, f"{web.url}/docs#/recognition/{name}", (1280, 900), patience=15) as shown:
        page = shown.page
        block = page.locator(f"#operations-recognition-{name}")
        block.locator("input[type=file]").set_input_files(SAMPLE)
        block.locator("button.execute").click()
        answer = block.locator(".live-responses-table")
        answer.locator(".response-col_status", has_text="200").first.wait_for()
        answer.locator(shows).first.wait_for()
        if shows == "img":
            drawn = answer.locator("img").first
            page.wait_for_function("image => image.naturalWidth >= 512", arg=drawn.element_handle())
        else:
            assert '"emo_process"' in answer.inner_text()
        assert shown.problems == []
        assert all(url.startswith((web.url, f"blob:{web.url}")) for url in shown.fetched)
