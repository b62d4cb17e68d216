"""Take the pictures of the README from reports: ``python scripts/screenshots.py RUN [RUN]``.

The first run's numbers are shown, and a dialogue of the second, or else of the first, too.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

from rlchat.evaluation.report.page import report

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def main(runs: list[Path]) -> None:
    """Write the reports of one run or two, and pictures of them in light and in dark."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not runs or browser is None:
        sys.exit("expected run folders, and Chromium or its path in $CHROMIUM; name them")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        out = Path(folder) / "report.html"
        report(runs[:1], out)
        page = opened(started, out, 1200, 1100, "light")
        page.evaluate("document.querySelector('#results').scrollIntoView()")
        page.screenshot(path=FOLDER / "report.png")
        report(runs[-1:], out)
        for name, width, scheme in (("transcript", 1100, "light"), ("phone", 400, "dark")):
            page = opened(started, out, width, 720, scheme)
            failure_with_tokens(page)
            page.screenshot(path=FOLDER / f"report-{name}.png")
        started.close()


def opened(browser: Browser, out: Path, width: int, height: int, scheme: str) -> Page:
    """Open a report."""
    size: Any = {"width": width, "height": height}
    shown: Any = scheme
    page = browser.new_page(viewport=size, color_scheme=shown)
    page.goto(out.as_uri())
    return page


def failure_with_tokens(page: Page) -> None:
    """Show the dialogue that failed with the least certain token, and what else was considered."""
    page.select_option("#outcome", "tokens")
    found = page.locator("#list button:has(.failed)")
    best, chosen = 1.0, (0, 0)
    for number in range(found.count()):
        found.nth(number).click()
        for place in range(page.locator("#pair .token").count()):
            page.locator("#pair .token").nth(place).focus()
            shares = page.eval_on_selector_all("#token meter", "all => all.map(x => x.value)")
            if shares and shares[0] < best:
                best, chosen = shares[0], (number, place)
    found.nth(chosen[0]).click()
    page.locator("#pair .token").nth(chosen[1]).focus()


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
