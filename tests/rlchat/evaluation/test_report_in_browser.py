"""A report in a real browser: it opens, tells what it should, and does nothing else."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rlchat.evaluation.report.page import report
from tests.rlchat.evaluation.conftest import HARM, write_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PACKAGES = ("playwright", "axe_playwright_python")
NAMES = ("chromium", "chromium-browser", "google-chrome")
BROWSER = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)

if not all(importlib.util.find_spec(package) for package in PACKAGES):
    pytest.skip(
        "expected playwright and axe-playwright-python; pip install -e '.[dev]' brings them",
        allow_module_level=True,
    )
if BROWSER is None:
    pytest.skip(
        "expected Chromium, to click through a report; there is none: apt-get install chromium, "
        "or name one in $CHROMIUM",
        allow_module_level=True,
    )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        yield started
        started.close()


class Opened:
    """A page with all that its browser complained of and asked for."""

    def __init__(self, browser: Browser, path: Path, width: int = 1400, scheme: str = "light"):
        self.page: Page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme=scheme,  # type: ignore[arg-type]
        )
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append(dialog.message))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())
        self.url = path.as_uri()

    @property
    def quiet(self) -> bool:
        """Whether it asked for itself alone, and nothing went wrong."""
        harmed = self.page.evaluate("window.harmed !== undefined")
        return not self.complaints and self.requests == [self.url] and not harmed


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of one run."""
    folder = tmp_path_factory.mktemp("single")
    report([write_run(folder)], folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two runs that met the same users."""
    folder = tmp_path_factory.mktemp("several")
    runs = [write_run(folder, "first"), write_run(folder, "second", 0.2, "expert")]
    report(runs, folder / "report.html")
    return folder / "report.html"


def test_somebody_reads_it(single: Path, browser: Browser) -> None:
    """Search, filters, next failure, what was asked for, tokens with what was considered."""
    opened = Opened(browser, single)
    page = opened.page
    count, title = page.locator("#count"), page.locator("#pair h3").first
    assert count.inner_text().startswith("48 of 48 dialogues")

    page.select_option("#outcome", "failed")
    failed = page.locator("#list button").count()
    assert (
        0 < failed < 48
        and count.inner_text() == f"{failed} of 48 dialogues, {failed} of them failed."
    )
    page.select_option("#outcome", "")
    page.select_option("#set", label="iteration 1")
    assert count.inner_text().startswith("8 of 48")
    assert page.locator("#position").inner_text() == "1 of 8"
    page.click("#filters button[type=reset]")
    page.wait_for_function("document.getElementById('count').textContent.startsWith('48 of 48')")

    page.fill("#query", "ONERROR=")
    assert page.locator("#list button").count() == 3
    assert "<img src=x onerror=" in page.locator("#pair").inner_text()
    assert page.locator("#pair img, #pair script").count() == 0
    page.fill("#query", "nobody says this")
    assert count.inner_text().startswith("No dialogue fits") and title.count() == 0
    page.fill("#query", "")

    page.click("#failure")
    first = title.inner_text()
    assert page.locator("#pair .failed").count() == 1
    page.locator("#failure").press("f")
    assert title.inner_text() != first and page.locator("#pair .failed").count() == 1
    page.locator("#failure").press("k")
    page.locator("#failure").press("j")
    assert page.locator("#list [aria-current=true]").count() == 1

    button = page.locator("button[data-fact]").first
    fact = f"{button.get_attribute('data-fact')}: {button.get_attribute('data-value')}"
    button.click()
    assert page.locator("#fact option:checked").inner_text() == fact
    assert page.input_value("#outcome") == "failed"
    assert opened.quiet


def test_tokens_tell_what_the_policy_considered(single: Path, browser: Browser) -> None:
    """By mouse and by keyboard, shaded by each of four numbers."""
    opened = Opened(browser, single)
    page, panel = opened.page, opened.page.locator("#token")
    page.select_option("#outcome", "tokens")
    tokens = page.locator("#pair .token")
    assert tokens.first.inner_text() == "May" and panel.is_hidden()
    tokens.nth(1).hover()
    text = panel.inner_text()
    for told in ("probability", "advantage", "value", "KL to the reference", "+0.10", "</script>"):
        assert told in text
    assert panel.locator("meter").count() == 2
    page.keyboard.press("Escape")
    page.mouse.move(0, 0)
    tokens.first.focus()
    page.keyboard.press("ArrowRight")
    assert panel.is_visible() and panel.locator("strong").first.inner_text() == '" I"'
    page.locator("#pair .token:focus").press("Escape")
    assert panel.is_hidden()
    shaded = set()
    for shade in ("advantage", "value", "kl", "probability", ""):
        page.select_option("#shade", shade)
        shaded.add(tuple(page.eval_on_selector_all(".token", "all => all.map(x => x.className)")))
    assert len(shaded) == 4  # of advantage and value the numbers here are the same
    assert opened.quiet


def test_two_runs_are_read_side_by_side(several: Path, browser: Browser) -> None:
    """The same goal in both."""
    opened = Opened(browser, several)
    page = opened.page
    names = page.locator("#beside option").all_inner_texts()
    assert any(name.startswith("second: iteration 0") for name in names)
    page.select_option("#beside", index=names.index(next(n for n in names if "second" in n)))
    assert page.locator("#pair article").count() == 2
    asked = page.locator("#pair article .user .text").all_inner_texts()
    assert len(asked) > 1 and opened.quiet


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [400, 1400])
def test_everybody_can_read_it(several: Path, browser: Browser, width: int, scheme: str) -> None:
    """Axe finds nothing that is wrong, with a dialogue, its tokens and one beside it shown."""
    from axe_playwright_python.sync_playwright import Axe

    opened = Opened(browser, several, width, scheme)
    page = opened.page
    page.select_option("#outcome", "tokens")
    page.select_option("#beside", index=1)
    for folded in page.locator("details > summary").all():
        folded.click()
    page.locator("#pair .token").first.hover()
    found = Axe().run(page).response["violations"]
    assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.select_option("#theme", "light" if scheme == "dark" else "dark")
    assert [v["id"] for v in Axe().run(page).response["violations"]] == []
    assert opened.quiet


def test_it_opens_at_once(single: Path, browser: Browser) -> None:
    """Within a second; the fastest of a few, as others use the machine too."""
    event = "performance.getEntriesByType('navigation')[0].loadEventEnd"
    assert min(float(Opened(browser, single).page.evaluate(event)) for _ in range(5)) < 1000
    assert len(HARM) == 7


def test_a_page_without_dialogues_says_so(browser: Browser, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"env": "rlchat/Support-v0"}')
    report([tmp_path / "run"], tmp_path / "report.html")
    opened = Opened(browser, tmp_path / "report.html")
    assert "No dialogue fits" in opened.page.locator("#count").inner_text() and opened.quiet


def test_the_numbers_of_a_token_never_lie_on_it(single: Path, browser: Browser) -> None:
    """On a phone they take half of the screen: the other half."""
    opened = Opened(browser, single, 400)
    page = opened.page
    page.select_option("#outcome", "tokens")
    tokens = page.locator("#pair .token")
    for place in range(0, tokens.count(), 5):
        tokens.nth(place).focus()
        token, panel = tokens.nth(place).bounding_box(), page.locator("#token").bounding_box()
        assert token is not None and panel is not None
        assert (
            token["y"] + token["height"] <= panel["y"] or token["y"] >= panel["y"] + panel["height"]
        )
    assert opened.quiet


def test_what_was_searched_for_is_marked_and_what_differs_is_found(
    single: Path, browser: Browser
) -> None:
    opened = Opened(browser, single)
    page = opened.page
    page.fill("#query", "<IMG src")
    assert page.locator("#pair mark").first.inner_text() == "<img src"
    page.fill("#query", "")
    page.select_option("#outcome", "differs")
    unlike = "episodes.some((o) => o.goal === e.goal && o.success !== e.success)"
    expected = int(page.evaluate(f"episodes.filter((e) => {unlike}).length"))
    assert 0 < expected < 48 and page.locator("#list button").count() == expected
    assert opened.quiet


def test_long_names_do_not_widen_the_page_on_a_phone(tmp_path: Path, browser: Browser) -> None:
    """Runs of a sweep are named after their settings."""
    name = "ppo.learning-rate=1e-4,critic.lambda-return=0.95"
    runs = [write_run(tmp_path / name, f"seed-{seed}") for seed in range(2)]
    report(runs, tmp_path / "report.html")
    opened = Opened(browser, tmp_path / "report.html", 400)
    assert opened.page.evaluate("document.documentElement.scrollWidth") <= 400
