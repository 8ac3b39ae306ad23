"""Pages in a real browser; tests that need one are skipped where there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, Page

from dev.pictures.browser import CHROMIUM, MISSING

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason=MISSING)
PATIENCE_MS = 30_000  # A slow page of a busy machine is no failure.
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}


@asynccontextmanager
async def opened_page(browser: Browser, base_url: str) -> AsyncIterator[Page]:
    """A page with nothing stored; fails if a script or the policy of the page reports an error."""
    context = await browser.new_context(base_url=base_url, viewport={"width": 1280, "height": 900})
    context.set_default_timeout(PATIENCE_MS)
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on(
        "console",
        lambda message: (
            complaints.append(message.text)
            if message.type == "error" and "Failed to load resource" not in message.text
            else None
        ),
    )
    outside: list[str] = []
    page.on(
        "request",
        lambda request: None if request.url.startswith(base_url) else outside.append(request.url),
    )
    page.on("dialog", lambda dialog: complaints.append(f"a dialog: {dialog.message}"))
    yield page
    assert (complaints, outside) == ([], [])
    assert await page.evaluate("localStorage.length + sessionStorage.length") == 0
    assert await context.cookies() == []
    await context.close()


async def violations(page: Page) -> list[str]:
    """What a page lacks for WCAG 2.2 AA, as far as a program can tell."""
    found = await Axe().run(page, options=RULES)
    return [
        f"{one['id']}: {node['html'][:200]}"
        for one in found.response["violations"]
        for node in one["nodes"]
    ]
