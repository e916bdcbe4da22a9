"""Every page works in a browser whose network is cut, in three guises, and for every reader.

The first test asks of each page what ``Visit.faults`` lists; fixture pages show that each of those
faults would be noticed. The rest does what readers do: keyboard, no JavaScript, paper.
"""

import re

import plotly.graph_objects as go
import pytest
from browser import FAULTS, GUISES, Tab, serve
from built_site import SITE, pages

from stackkit.atlas import accelerator, model
from stackkit.book.plotly_mime import figure_html
from stackkit.core.figures import new_figure
from stackkit.memory.figures import step_on_roofline

pytestmark = pytest.mark.browser

MEMORY = "chapters/7-memory.html"
LAB = "labs/7-memory.html"
SEARCH = "search.html?q=memory"
PAGES = [*(page for page in pages(SITE) if page != "index.html"), SEARCH]


# Every page


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("guise", GUISES)
@pytest.mark.parametrize("fault", FAULTS)
def test_no_page_shows_a(fault, guise, page, visited):
    found = visited(page, guise).faults()[fault]
    assert not found, "\n".join(found)


def test_pages_with_figures_and_formulas_were_among_them(visited):
    seen = visited(MEMORY, "light")
    assert seen.figures
    assert seen.formulas


def test_the_root_leads_to_the_landing_page(tabs, served):
    tabs["light"].open(served).wait_for_url("**/chapters/index.html")


def test_search_finds_the_chapter(tabs, served):
    page = tabs["light"].open(served + SEARCH)
    page.locator(f"#search-results a[href*='{MEMORY}']").first.wait_for()


# The checks can fail


PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Fixture</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
</head><body><main><h1>Fixture</h1>{}</main></body></html>"""
BROKEN = {
    "foreign request": "<script>fetch('http://example.invalid/x').catch(() => {})</script>",
    "console": "<script>console.error('a complaint')</script>",
    "exception": "<script>throw new Error('uncaught')</script>",
    "failed request": "<img src='gone.png' alt='gone'>",
    "sideways scroll": "<div style='width: 900px'>wide</div>",
    "figure not drawn": "<div class='sk-plotly' style='height: 9px'></div>",
    "formula not set": "<span class='math'>x</span>",
    "axe": "<button></button>",
}


@pytest.fixture
def seen(tabs, tmp_path):
    """What is seen of a page with the given content: ``seen("<p>Hello</p>", "phone")``."""
    with serve(tmp_path) as address:

        def look(content, guise="phone"):
            (tmp_path / "page.html").write_text(PAGE.format(content), encoding="utf-8")
            return tabs[guise].visit(address + "page.html", patience_s=0.2)

        yield look


@pytest.mark.parametrize("guise", GUISES)
def test_a_sound_page_has_no_faults(guise, seen):
    assert not any(seen("<p>All is well.</p>", guise).faults().values())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_page_is_seen_to_have_a(fault, seen):
    assert seen(BROKEN[fault]).faults()[fault]


def test_a_foreign_request_is_stopped_before_any_name_is_looked_up(seen):
    found = seen(BROKEN["foreign request"])
    assert found.foreign == ["http://example.invalid/x"]
    assert "net::ERR_FAILED" in found.console[0]  # not ERR_NAME_NOT_RESOLVED


def test_a_warning_is_seen(seen):
    assert seen("<script>console.warn('careful')</script>").console == ["warning: careful"]


def test_two_buttons_too_small_for_a_finger_are_seen(seen):
    small = "<button style='width: 9px; height: 9px; padding: 0' aria-label='a'></button>"
    assert all(sentence.startswith("target-size") for sentence in seen(2 * small).axe)
    assert seen(2 * small).axe


@pytest.mark.parametrize("guise", ["light", "dark"])
def test_pale_text_is_seen(guise, seen):
    found = seen("<p style='color: #999; background: #fff'>pale</p>", guise)
    assert [sentence.split()[0] for sentence in found.axe] == ["color-contrast"]


def test_pale_text_in_a_fold_is_seen(seen):
    pale = "<p style='color: #999; background: #fff'>pale</p>"
    assert seen(f"<details><summary>Fold</summary>{pale}</details>", "light").axe


# The keyboard


@pytest.fixture
def memory(tabs, served):
    """The chapter on memory, freshly opened in a guise: ``memory("dark")``."""
    return lambda guise="light": tabs[guise].open(served + MEMORY)


def test_tab_reaches_a_number_and_shows_where_it_comes_from(memory):
    page = memory()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skip to the content
    number = page.locator("a.sk-number:focus")
    for _ in range(60):
        page.keyboard.press("Tab")
        if number.count():
            break
    assert content_after(number) == f'"{number.get_attribute("data-tip")}"'


def test_the_keyboard_reaches_code_that_becomes_too_wide(memory):
    """In a fold that is opened, for one: it is narrower then than the theme took it to be."""
    tab_stops = memory().evaluate(
        """async () => {
          const box = [...document.querySelectorAll("main pre")].at(-1);
          const found = [];
          for (const px of [9000, 60, 9000]) {
            box.style.width = px + "px";
            for (let i = 0; i < 2; i++) await new Promise(requestAnimationFrame);
            found.push(box.tabIndex);
          }
          return found;
        }"""
    )
    assert tab_stops == [-1, 0, -1]


@pytest.mark.parametrize("guise", ["light", "phone"])
def test_a_number_leads_to_its_source(guise, memory):
    page = memory(guise)
    number = page.locator("a.sk-number").first
    source = page.locator(number.get_attribute("href"))
    assert not source.is_visible()
    number.press("Enter")
    source.wait_for(state="visible")
    assert is_in_view(source)


def test_an_address_with_a_source_opens_the_fold(tabs, served):
    source = tabs["light"].open(f"{served}{MEMORY}#number-source-1").locator("#number-source-1")
    source.wait_for(state="visible")
    assert is_in_view(source)


def test_the_slider_of_a_figure_moves_with_the_arrow_keys(tabs, site, tmp_path):
    (tmp_path / "_static").symlink_to(site / "_static")
    script = '<script src="_static/stackkit.js"></script>'
    content = figure_html(figure_with_slider().to_plotly_json()) + script
    (tmp_path / "page.html").write_text(PAGE.format(content), encoding="utf-8")
    with serve(tmp_path) as address:
        page = tabs["light"].open(address + "page.html")
        slider = page.get_by_role("slider", name="Power")
        slider.wait_for()
    line = page.locator(".js-line")
    before = line.get_attribute("d")
    assert slider.get_attribute("type") == "range"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == page.locator("output").inner_text() == "2"
    page.wait_for_function(f"before => {LINE} !== before", arg=before)


@pytest.fixture
def playground(tabs, served):
    """The chapter's figure with controls, drawn."""
    page = tabs["light"].open(served + MEMORY)
    holder = page.locator("""xpath=//div[script[contains(text(), '"controls"')]]""")
    holder.scroll_into_view_if_needed()
    holder.locator(".sk-choices").wait_for()
    return holder


def test_the_controls_of_a_figure_are_reached_by_their_labels_and_changed_by_keys(playground):
    said = playground.locator(".sk-said")
    before = said.inner_text()
    slider = playground.get_by_label("Requests")
    assert slider.get_attribute("aria-valuetext") == "32"
    slider.press("ArrowRight")
    assert slider.get_attribute("aria-valuetext") == "64"
    assert said.inner_text() != before
    playground.get_by_label("Chip").select_option(label="NVIDIA B200 SXM (HGX)")
    playground.get_by_label("Model").select_option(label="Llama 3.1 70B")
    assert said.inner_text().startswith("Only ")


def test_the_chosen_combination_is_what_the_library_says(playground):
    playground.get_by_label("Chip").select_option(label="AMD Instinct MI300X")
    playground.get_by_label("Model").select_option(label="Mixtral 8x7B v0.1")
    playground.get_by_label("Requests").fill("7")  # the eighth: 128
    figure, sentence = step_on_roofline(
        accelerator("mi300x"), model("mixtral-8x7b"), 128, context=2048
    )
    assert playground.locator(".sk-said").inner_text() == sentence
    cell = playground.locator("xpath=ancestor::div[contains(@class, 'cell_output')]")
    cell.locator("summary").click()
    rows = cell.locator("tbody tr").all_inner_texts()
    decode = figure.data[1]
    assert rows[3].split("\t") == [decode.name, f"{decode.x[0]:.4g}", f"{decode.y[0]:.4g}"]


LINE = "document.querySelector('.js-line').getAttribute('d')"


def figure_with_slider():
    """A line in two frames, and the slider that chooses between them."""
    figure = new_figure("Powers", "base (1)", "power (1)")
    curves = {"1": [1, 2, 3], "2": [1, 4, 9]}
    figure.add_scatter(x=[1, 2, 3], y=curves["1"], mode="lines")
    figure.frames = [go.Frame(name=name, data=[{"y": y}]) for name, y in curves.items()]
    at_once = {"mode": "immediate", "frame": {"duration": 0}, "transition": {"duration": 0}}
    steps = [{"label": k, "method": "animate", "args": [[k], at_once]} for k in curves]
    slider = {"currentvalue": {"prefix": "Power "}, "steps": steps}
    return figure.update_layout(sliders=[slider], meta={"alt": "A line that bends upwards."})


# The theme, and no JavaScript


def test_the_light_and_dark_switch_recolours_a_drawn_figure(chromium, served):
    page = Tab(chromium, "light").open(served + MEMORY)
    draw_first_figure(page)
    before = page.evaluate(INK)
    switch = page.locator(".theme-switch-button:visible").first
    for _ in range(3):  # its three states
        if page.locator("html[data-theme=dark]").count() == 0:
            switch.click()
    page.wait_for_function(f"before => {INK} !== before", arg=before)


def test_without_javascript_the_data_of_a_figure_are_there(chromium, served):
    page = Tab(chromium, "light", java_script_enabled=False).open(served + MEMORY)
    sentence = page.locator(".sk-plotly noscript").first
    assert sentence.is_visible()
    assert "drawn with JavaScript" in sentence.inner_text()
    table = page.locator("details.sk-data").first
    table.locator("summary").click()
    assert table.locator("tbody td").first.is_visible()


# Paper


def test_on_paper_a_number_has_a_footnote(memory):
    page = memory()
    page.emulate_media(media="print")
    number = page.locator("a.sk-number").first
    index = number.get_attribute("data-index")
    assert re.sub(r'[" ]', "", content_after(number)) == f"[{index}]"


def test_printing_opens_the_folds_and_draws_the_figures(memory):
    page = memory()
    print_out(page)
    assert page.locator("main details:not([open])").count() == 0
    assert page.locator("details.sk-sources li").last.is_visible()
    page.locator(".sk-plotly[data-drawn=done]").last.wait_for()


def test_a_figure_that_nobody_scrolled_to_is_drawn_before_the_printer_asks(tabs, served):
    page = tabs["phone"].open(served + LAB)
    page.wait_for_load_state("networkidle")
    assert page.locator(".sk-plotly[data-drawn]").count() == 0
    print_out(page)
    drawn = page.locator(".sk-plotly[data-drawn=done]").count()  # now: a printer does not wait
    assert drawn == page.locator(".sk-plotly").count() > 0


def test_a_figure_drawn_in_the_dark_is_printed_in_dark_ink(memory, luminance):
    page = memory("dark")
    draw_first_figure(page)
    print_out(page)
    red, green, blue = (int(part) for part in re.findall(r"\d+", page.evaluate(INK))[:3])
    assert luminance(f"#{red:02x}{green:02x}{blue:02x}") < 0.2


# Helpers

INK = "getComputedStyle(document.querySelector('.main-svg .xtick text')).fill"


def draw_first_figure(page):
    figure = page.locator(".sk-plotly").first
    figure.scroll_into_view_if_needed()
    figure.and_(page.locator("[data-drawn=done]")).wait_for()


def print_out(page):
    """What a browser does before it prints; making the PDF itself takes a second or two."""
    page.emulate_media(media="print")
    page.evaluate("window.dispatchEvent(new Event('beforeprint'))")


def content_after(locator):
    return locator.evaluate("element => getComputedStyle(element, '::after').content")


def is_in_view(locator):
    """Whether the top of an element is on the screen, and nothing lies over it."""
    return locator.evaluate(
        """element => {
          const box = element.getBoundingClientRect();
          const there = document.elementFromPoint(box.left + 5, box.top + 5);
          return there !== null && (element.contains(there) || there.contains(element));
        }"""
    )
