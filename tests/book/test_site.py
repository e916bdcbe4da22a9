"""The files of the built site are in order, and each check would notice if they were not."""

import built_site
import pytest

FIGURE = '<div class="sk-plotly" aria-label="A line that rises"></div>'
CAPTION = '<p class="sk-caption">It rises.</p>'
DATA = '<details class="sk-data"><table><tbody><tr><td>1</td></tr></tbody></table></details>'
EMPTY_DATA = '<details class="sk-data"><table><tbody></tbody></table></details>'
STRIP = '<ol class="sk-strip"><li class="sk-here">1</li></ol>'
COLAB = (
    '<a href="https://colab.research.google.com/github/o/r/blob/main/labs/1-one.ipynb">Colab</a>'
)
ERROR = '<div class="cell_output"><div class="output">Traceback ...\nValueError: no</div></div>'

SOUND = {
    "index.html": '<meta http-equiv="Refresh" content="0; url=chapters/1-one.html">',
    "chapters/1-one.html": f"""<h1 id="one">One</h1>{STRIP}
        <div class="onlyprint"><h1>One</h1></div>
        <a href="#one">here</a> <a href="../labs/1-one.html#lab%20one">there</a>
        <a href="https://example.org/paper">a plain link to another host</a>
        <img src="../_static/dot.svg" alt="a dot">
        <img src="../_static/dot.svg" alt="" role="presentation">
        {FIGURE}{CAPTION}{DATA}""",
    "labs/1-one.html": f'<h1 id="lab one">Lab</h1>{COLAB}',
    "_static/dot.svg": "<svg xmlns='http://www.w3.org/2000/svg'/>",
    "_static/style.css": "a { background: url('data:image/svg+xml,<svg/>') } @import 'other.css';",
    "_static/stackkit.js": 'const root = "./"; // a comment',
}

# What is wrong, in which file, and the text that makes it wrong.
BROKEN = [
    ("dead_links", "chapters/1-one.html", '<a href="gone.html">'),
    ("dead_links", "chapters/1-one.html", '<a href="#gone">'),
    ("dead_links", "chapters/1-one.html", '<a href="../labs/1-one.html#gone">'),
    ("dead_links", "chapters/1-one.html", '<a href="../../outside.html">'),
    ("dead_links", "chapters/1-one.html", '<img src="gone.png" alt="gone">'),
    ("dead_links", "other.html", '<h1>Other</h1><meta http-equiv="refresh" content="0;url=gone">'),
    ("foreign_references", "chapters/1-one.html", '<script src="https://cdn.example/x.js">'),
    ("foreign_references", "chapters/1-one.html", '<script src="//cdn.example/x.js">'),
    ("foreign_references", "chapters/1-one.html", '<link rel="stylesheet" href="//cdn.example/x">'),
    ("foreign_references", "chapters/1-one.html", '<link rel="preload" href="//cdn.example/x">'),
    (
        "foreign_references",
        "chapters/1-one.html",
        '<link rel="shortcut icon" href="//cdn.example">',
    ),
    ("foreign_references", "chapters/1-one.html", '<img src="https://badge.example/x" alt="x">'),
    ("foreign_references", "chapters/1-one.html", '<img srcset="//badge.example 2x" alt="x">'),
    ("foreign_references", "chapters/1-one.html", '<iframe src="https://video.example">'),
    ("foreign_references", "chapters/1-one.html", '<p style="background: url(//x.example)">'),
    ("foreign_references", "chapters/1-one.html", '<style>@import "//x.example/a.css"</style>'),
    ("foreign_references", "_static/style.css", "@import 'https://fonts.example/css';"),
    ("foreign_references", "_static/style.css", "a { background: url(//x.example/a.png) }"),
    ("foreign_references", "_static/stackkit.js", 'fetch("https://count.example/hit")'),
    ("foreign_references", "_static/stackkit.js", 'script.src = "//cdn.example/plotly.js"'),
    ("images_without_alt", "chapters/1-one.html", '<img src="../_static/dot.svg">'),
    ("images_without_alt", "chapters/1-one.html", '<img src="../_static/dot.svg" alt="">'),
    ("images_without_alt", "chapters/1-one.html", '<img src="../_static/dot.svg" alt="a/dot.svg">'),
    ("incomplete_figures", "chapters/1-one.html", f'<i class="sk-plotly"></i>{CAPTION}{DATA}'),
    ("incomplete_figures", "chapters/1-one.html", FIGURE + CAPTION),
    ("incomplete_figures", "chapters/1-one.html", FIGURE + CAPTION + EMPTY_DATA),
    ("incomplete_figures", "chapters/1-one.html", FIGURE + DATA),
    ("incomplete_figures", "chapters/1-one.html", FIGURE + CAPTION + FIGURE + CAPTION + DATA),
    ("error_outputs", "chapters/1-one.html", ERROR),
    ("headless_pages", "chapters/1-one.html", "<h1>Another</h1>"),
    ("headless_pages", "other.html", "<h2>No head</h2>"),
    ("chapters_without_strip", "chapters/2-two.html", "<h1>Two</h1>"),
    ("wrong_launch_buttons", "chapters/1-one.html", COLAB),
    ("wrong_launch_buttons", "labs/2-two.html", "<h1>Lab 2</h1>"),
    ("wrong_launch_buttons", "labs/2-two.html", f"<h1>Lab 2</h1>{COLAB}"),  # opens another lab
]


@pytest.fixture
def sound_site(tmp_path):
    """A small site in which nothing is wrong."""
    for name, text in SOUND.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return tmp_path


def faults(site):
    """The faults of a site under the name of the check that found them."""
    found = {check.__name__: check(site) for check in built_site.CHECKS}
    return {name: sentences for name, sentences in found.items() if sentences}


@pytest.mark.parametrize("check", built_site.CHECKS, ids=lambda check: check.__name__)
def test_the_built_site_has_no(check, site):
    found = check(site)
    assert not found, "\n".join(found)


def test_the_built_site_has_pages_of_each_kind(site):
    pages = built_site.pages(site)
    assert {"index.html", "search.html", "chapters/index.html"} <= set(pages)
    assert any(built_site.LAYER_CHAPTER.fullmatch(page) for page in pages)
    assert any(page.startswith("labs/") for page in pages)


def test_a_sound_site_has_no_faults(sound_site):
    assert faults(sound_site) == {}


@pytest.mark.parametrize(("check", "name", "text"), BROKEN)
def test_a_broken_site_has_one_fault_and_it_names_the_file(sound_site, check, name, text):
    path = sound_site / name
    path.write_text((path.read_text() if path.exists() else "") + text)
    found = faults(sound_site)
    assert list(found) == [check]
    assert len(found[check]) == 1
    assert found[check][0].startswith(name)


def test_every_check_is_seen_failing():
    assert {check.__name__ for check in built_site.CHECKS} == {check for check, *_ in BROKEN}
