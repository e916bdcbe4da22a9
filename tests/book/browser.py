"""Open pages of a built site in a real browser, with the network cut, and say what was seen.

A page is visited once in each guise: a wide window in light and in dark, and a phone. A visit
notes everything worth asserting, so tests share it. Nothing but loopback is reachable: other
requests are aborted and reported, and the browser resolves no other name.
"""

from __future__ import annotations

import functools
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

WIDE = {"width": 1280, "height": 900}
GUISES = {
    "light": {"viewport": WIDE, "color_scheme": "light"},
    "dark": {"viewport": WIDE, "color_scheme": "dark"},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
NOT_LOOPBACK = re.compile(r"^(?!(http://127\.0\.0\.1[:/]|data:|blob:|about:))")

# Axe leaves off the rule that a target is large enough to hit (WCAG 2.2 AA). Its slowest rule is
# contrast, which only the theme changes: light asks all rules, dark that one, a phone the others.
TARGETS = {"target-size": {"enabled": True}}
AXE_OPTIONS: dict[str, dict[str, Any]] = {
    "light": {"rules": TARGETS},
    "dark": {"runOnly": ["color-contrast"]},
    "phone": {"rules": TARGETS | {"color-contrast": {"enabled": False}}},
}
# A thousand tokens of code and rows of data have the colours of a few: axe looks at those.
MARK_THE_ALIKE = """() => {
  const seen = new Set();
  document.querySelectorAll(".highlight span[class]").forEach((token) => {
    const kind = token.className + token.closest("div[class*=highlight-]")?.className;
    if (seen.has(kind)) token.dataset.alike = "";
    seen.add(kind);
  });
  document.querySelectorAll(".sk-data tbody tr:nth-child(n + 4)").forEach((row) => {
    row.dataset.alike = "";
  });
}"""


@dataclass
class Visit:
    """What one page did in one guise."""

    foreign: list[str] = field(default_factory=list)  # requests to another host, all aborted
    console: list[str] = field(default_factory=list)  # errors and warnings
    exceptions: list[str] = field(default_factory=list)  # that nobody caught
    failed: list[str] = field(default_factory=list)  # requests to this site that got no file
    sideways_px: int = 0  # how far the page scrolls to the side, folds closed or open
    figures: int = 0
    drawn: int = 0
    formulas: int = 0
    rendered: int = 0  # formulas that MathJax set
    axe: list[str] = field(default_factory=list)  # violations, one sentence for each element

    def faults(self) -> dict[str, list[str]]:
        """Sentences under each of ``FAULTS``; a page in order has none."""
        undrawn, unset = self.figures - self.drawn, self.formulas - self.rendered
        sideways = [f"scrolls {self.sideways_px} px to the side"] if self.sideways_px > 0 else []
        return {
            "foreign request": self.foreign,
            "console": self.console,
            "exception": self.exceptions,
            "failed request": self.failed,
            "sideways scroll": sideways,
            "figure not drawn": [f"{undrawn} of {self.figures} figures"] if undrawn else [],
            "formula not set": [f"{unset} of {self.formulas} formulas"] if unset else [],
            "axe": self.axe,
        }


FAULTS = tuple(Visit().faults())


@contextmanager
def serve(folder: Path) -> Iterator[str]:
    """Serve a folder on a free port of 127.0.0.1; yields the address, ending in a slash."""
    handler = functools.partial(_QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        """Say nothing: the visit reports what failed."""


@contextmanager
def launched() -> Iterator[Any]:
    """Headless Chromium; skips the test with a sentence where it cannot be had."""
    try:
        from playwright.sync_api import sync_playwright
    except ModuleNotFoundError:
        pytest.skip("Tests in a browser need Playwright: pip install 'stackkit[test]'.")
    path = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if path is None:
        pytest.skip("Tests in a browser need Chromium: install it (Debian: apt install chromium).")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


class Tab:
    """One tab of the browser in one guise; ``seen`` notes what goes wrong on the page in it.

    Opening page after page in one tab takes a third of the time of a new tab for each.
    """

    def __init__(self, browser: Any, guise: str, **more: Any) -> None:
        self.guise = guise
        self.seen = Visit()
        self._context = browser.new_context(service_workers="block", **GUISES[guise], **more)
        self._context.route(NOT_LOOPBACK, self._abort)
        self.page = self._context.new_page()
        self.page.on("console", self._note_message)
        self.page.on("pageerror", lambda error: self.seen.exceptions.append(str(error)))
        self.page.on("websocket", lambda socket: self.seen.foreign.append(socket.url))
        self.page.on("response", self._note_response)
        self.page.on("requestfailed", self._note_failure)

    def open(self, address: str) -> Any:
        """Playwright's page, as soon as the browser has read it."""
        self.page.goto("about:blank")  # what the last page left undone is not this one's fault
        self.page.emulate_media(media="screen")
        self.seen = Visit()
        self.page.goto(address, wait_until="domcontentloaded")
        return self.page

    def visit(self, address: str, *, patience_s: float = 10) -> Visit:
        """Open a page, wait for its formulas, draw its figures, open its folds, ask axe.

        Args:
            address: of the page.
            patience_s: how long to wait for one figure.
        """
        page = self.open(address)
        page.wait_for_load_state("load")
        page.evaluate("window.MathJax?.startup?.promise")
        self.seen.figures, self.seen.drawn = _draw_figures(page, patience_s)
        self.seen.formulas = page.locator(".math").count()
        self.seen.rendered = page.locator(".math:has(mjx-container)").count()
        folded_px = _sideways_px(page)
        open_folds(page)
        self.seen.sideways_px = max(folded_px, _sideways_px(page))
        self.seen.axe = _ask_axe(page, self.guise)
        return self.seen

    def close(self) -> None:
        self._context.close()

    def _abort(self, route: Any) -> None:
        self.seen.foreign.append(route.request.url)
        route.abort()

    def _note_message(self, message: Any) -> None:
        if message.type in ("error", "warning"):
            self.seen.console.append(f"{message.type}: {message.text}")

    def _note_response(self, response: Any) -> None:
        if response.status >= 400:
            self.seen.failed.append(f"{response.status} {response.url}")

    def _note_failure(self, request: Any) -> None:
        if not NOT_LOOPBACK.match(request.url):
            self.seen.failed.append(f"{request.failure} {request.url}")


def _draw_figures(page: Any, patience_s: float) -> tuple[int, int]:
    """Scroll to each figure and wait for its drawing; how many there are, and how many appeared."""
    from playwright.sync_api import TimeoutError

    figures = page.locator(".sk-plotly").all()
    drawn = 0
    for figure in figures:
        figure.scroll_into_view_if_needed()
        done = figure.and_(page.locator("[data-drawn=done]")).locator(".main-svg").first
        with suppress(TimeoutError):
            done.wait_for(timeout=1000 * patience_s)
            drawn += 1
    page.evaluate("window.scrollTo(0, 0)")
    return len(figures), drawn


def _sideways_px(page: Any) -> int:
    root = "document.documentElement"
    return page.evaluate(f"{root}.scrollWidth - {root}.clientWidth")


def open_folds(page: Any) -> None:
    """Open everything that a reader can open, at once: folded tables, sources, solutions; and
    leave the page's script a moment to see it."""
    page.evaluate(
        """async () => {
          document.querySelectorAll("main details").forEach((fold) => { fold.open = true; });
          document.querySelectorAll("button.toggle-button-hidden").forEach((b) => b.click());
          document.getAnimations().forEach((fading) => {
            if (fading.effect.getComputedTiming().endTime < Infinity) fading.finish();
          });
          for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
        }"""
    )


def _ask_axe(page: Any, guise: str) -> list[str]:
    try:
        from axe_playwright_python.sync_playwright import Axe
    except ModuleNotFoundError:
        pytest.skip("Tests of accessibility need axe: pip install 'stackkit[test]'.")
    page.evaluate(MARK_THE_ALIKE)
    page.evaluate(Axe().axe_script)
    options = {"resultTypes": ["violations"], "preload": False, **AXE_OPTIONS[guise]}
    found = page.evaluate(
        "options => axe.run({exclude: ['[data-alike]']}, options)",
        options,
    )
    return [
        f"{rule['id']} ({rule['impact']}): {' '.join(map(str, node['target']))}: "
        f"{' '.join(node['failureSummary'].split())} In {node['html'][:200]}"
        for rule in found["violations"]
        for node in rule["nodes"]
    ]
