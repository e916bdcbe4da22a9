"""What tests of the built book share: the site, and one browser for a module's tests."""

from functools import cache

import pytest
from browser import GUISES, Tab, launched, serve
from built_site import SITE


@pytest.fixture(scope="session")
def site():
    """The folder of the built site."""
    if not (SITE / "index.html").exists():
        pytest.fail("The site is not built: run `make book` first.", pytrace=False)
    return SITE


@pytest.fixture(scope="module")
def chromium():
    """A headless browser. It ends with its module: while Playwright's event loop runs, no later
    test in this process could call ``asyncio.run``."""
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def served(site):
    """The address of the built site."""
    with serve(site) as address:
        yield address


@pytest.fixture(scope="module")
def tabs(chromium):
    """A tab in each guise: ``tabs["phone"]``. Tests share them; none leaves a trace in storage."""
    return {guise: Tab(chromium, guise) for guise in GUISES}


@pytest.fixture(scope="module")
def visited(tabs, served):
    """What a page did in a guise: ``visited("search.html", "dark")``; each pair is seen once."""
    return cache(lambda page, guise: tabs[guise].visit(served + page))
