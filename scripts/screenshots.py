"""Take the pictures of the README from a run's report: ``python scripts/screenshots.py RUN…``."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from rlchat.evaluation.report.page import report

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "images"
NAMES = ("chromium", "chromium-browser", "google-chrome")


def main(runs: list[Path]) -> None:
    """Write the report of some runs, and pictures of it in light and in dark."""
    browser = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if not runs or browser is None:
        sys.exit("expected run folders, and Chromium or its path in $CHROMIUM; name them")
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        out = Path(folder) / "report.html"
        report(runs, out)
        started = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        wide = {"width": 1200, "height": 760}
        page = started.new_page(viewport=wide, color_scheme="light")  # type: ignore[arg-type]
        page.goto(out.as_uri())
        show(page, "#results")
        page.screenshot(path=FOLDER / "report.png")
        failure_with_tokens(page)
        page.screenshot(path=FOLDER / "report-transcript.png")
        narrow = {"width": 400, "height": 760}
        page = started.new_page(viewport=narrow, color_scheme="dark")  # type: ignore[arg-type]
        page.goto(out.as_uri())
        failure_with_tokens(page)
        page.screenshot(path=FOLDER / "report-phone.png")
        started.close()


def show(page: Page, place: str) -> None:
    """Scroll an element to the top."""
    page.evaluate("place => document.querySelector(place).scrollIntoView()", place)


def failure_with_tokens(page: Page) -> None:
    """Show the last dialogue that failed and has tokens, with the least certain one's alternatives.

    Alternatives are recorded of some episodes alone.
    """
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
    show(page, ".dialogue")
    page.locator("#pair .token").nth(chosen[1]).focus()


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
