"""What can be wrong with a built site, read from its files alone; ``browser`` looks at it drawn.

Each check takes the folder of a site and returns its faults as sentences, none when all is well.
(This is not called ``site``: that name is Python's own module.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

from bs4 import BeautifulSoup, Tag

SITE = Path(__file__).parents[2] / "_build" / "html"

# What a browser fetches without being asked, and where its address stands. A plain link is not.
LOADED = {
    "src": ("script", "img", "iframe", "embed", "source", "video", "audio", "track", "input"),
    "srcset": ("img", "source"),
    "poster": ("video",),
    "data": ("object",),
}
FETCHING_LINKS = {"stylesheet", "icon", "preload", "modulepreload", "prefetch", "preconnect"}
FETCHING_LINKS |= {"dns-prefetch", "apple-touch-icon", "manifest"}
CSS_ADDRESS = re.compile(r"""(?:url\(\s*|@import\s+)['"]?([^'")\s;]+)""", re.IGNORECASE)
SCRIPT_ADDRESS = re.compile(r"""(?:https?|wss?)://[^\s'"`)]+|(?<=['"`])//[\w.-]+""")
LAYER_CHAPTER = re.compile(r"chapters/[1-8]-.*\.html")
FILE_NAME = re.compile(r"\.(png|svg|jpe?g|gif|webp)$", re.IGNORECASE)


def pages(site: Path) -> list[str]:
    """The pages of a site, as paths below it; templates that Sphinx copies along are none."""
    found = sorted(path.relative_to(site) for path in site.rglob("*.html"))
    return [path.as_posix() for path in found if path.parts[0] not in ("_static", "_sources")]


def parse(path: Path) -> BeautifulSoup:
    """A page's tree; each version of a file is parsed once."""
    return _parse(path, path.stat().st_mtime_ns)


@cache
def _parse(path: Path, _version: int) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


def _trees(site: Path) -> Iterator[tuple[str, BeautifulSoup]]:
    for page in pages(site):
        yield page, parse(site / page)


def is_redirect(tree: BeautifulSoup) -> bool:
    """Whether a page only sends its reader on to another."""
    return _refresh_target(tree) is not None


def _refresh_target(tree: BeautifulSoup) -> str | None:
    for meta in tree.find_all("meta", content=re.compile("url=", re.IGNORECASE)):
        if meta.get("http-equiv", "").lower() == "refresh":
            return re.split("url=", meta["content"], flags=re.IGNORECASE)[1].strip(" '\"")
    return None


# Links


def dead_links(site: Path) -> list[str]:
    """Links and loaded files that do not exist, and anchors that their page lacks."""
    faults = []
    for page, tree in _trees(site):
        addresses = [tag[name] for name in ("href", "src") for tag in tree.find_all(**{name: True})]
        addresses += [_refresh_target(tree) or "#"]
        for address in dict.fromkeys(addresses):
            faults += _dead(site, page, address)
    return faults


def _dead(site: Path, page: str, address: str) -> list[str]:
    parts = urlsplit(address)
    if parts.scheme or parts.netloc:
        return []
    target = site / page if not parts.path else (site / page).parent / unquote(parts.path)
    target = (target / "index.html" if target.is_dir() else target).resolve()
    if not target.is_relative_to(site.resolve()):
        return [f"{page} links to {address}, which is not part of the site."]
    if not target.is_file():
        return [f"{page} links to {address}, but there is no such file."]
    anchor = unquote(parts.fragment)
    if target.suffix == ".html" and anchor not in ("", "top") and anchor not in _anchors(target):
        return [f"{page} links to {address}, but nothing there has the id {anchor!r}."]
    return []


def _anchors(path: Path) -> set[str]:
    return _anchors_of(path, path.stat().st_mtime_ns)


@cache
def _anchors_of(path: Path, version: int) -> set[str]:
    tree = _parse(path, version)
    return {tag["id"] for tag in tree.find_all(id=True)} | {
        tag["name"] for tag in tree.find_all("a", attrs={"name": True})
    }


# Other hosts


def foreign_references(site: Path) -> list[str]:
    """What pages, style sheets and our own script would load from another host."""
    faults = []
    for page, tree in _trees(site):
        faults += [
            f"{page} loads {address} from another host."
            for address in _loaded_addresses(tree)
            if _is_foreign(address)
        ]
    for sheet in sorted(site.rglob("*.css")):
        faults += [
            f"{sheet.relative_to(site).as_posix()} loads {address} from another host."
            for address in CSS_ADDRESS.findall(sheet.read_text(encoding="utf-8"))
            if _is_foreign(address)
        ]
    for script in sorted(site.rglob("stackkit*.js")):
        faults += [
            f"{script.relative_to(site).as_posix()} names {address}, another host."
            for address in SCRIPT_ADDRESS.findall(script.read_text(encoding="utf-8"))
        ]
    return faults


def _loaded_addresses(tree: BeautifulSoup) -> Iterator[str]:
    for attribute, names in LOADED.items():
        for tag in tree.find_all(names, attrs={attribute: True}):
            value = tag[attribute]
            yield from value.split() if attribute == "srcset" else [value]
    for tag in tree.find_all("link", href=True):
        if FETCHING_LINKS & {rel.lower() for rel in tag.get("rel", [])}:
            yield tag["href"]
    for tag in tree.find_all(style=True):
        yield from CSS_ADDRESS.findall(tag["style"])
    for tag in tree.find_all("style"):
        yield from CSS_ADDRESS.findall(tag.get_text())


def _is_foreign(address: str) -> bool:
    return bool(urlsplit(address).netloc)


# Pictures and figures


def images_without_alt(site: Path) -> list[str]:
    """Images that say nothing to someone who cannot see them; decoration must be marked so."""
    faults = []
    for page, tree in _trees(site):
        for image in tree.find_all("img"):
            alt = (image.get("alt") or "").strip()
            if FILE_NAME.search(alt):
                faults.append(f"{page}: the alt text of an image is a file name, {alt}.")
            elif not alt and not _is_decoration(image):
                faults.append(f"{page}: the image {image.get('src')} has no alt text.")
    return faults


def _is_decoration(image: Tag) -> bool:
    hidden = any(tag.get("aria-hidden") == "true" for tag in (image, *image.parents))
    return hidden or ("alt" in image.attrs and image.get("role") in ("presentation", "none"))


def incomplete_figures(site: Path) -> list[str]:
    """Plotly figures that lack their alt text, their caption or the table of their data."""
    faults = []
    for page, tree in _trees(site):
        for number, figure in enumerate(tree.select(".sk-plotly"), 1):
            faults += [f"{page}: figure {number} has no {part}." for part in _missing(figure)]
    return faults


def _missing(figure: Tag) -> list[str]:
    missing = [] if figure.get("aria-label", "").strip() else ["alt text (aria-label)"]
    captions = [tag for tag in _followers(figure) if "sk-caption" in tag.get("class", [])]
    tables = [tag for tag in _followers(figure) if "sk-data" in tag.get("class", [])]
    if not any(caption.get_text(strip=True) for caption in captions):
        missing.append("caption")
    if not any(table.name == "details" and table.select("tbody tr") for table in tables):
        missing.append("folded table of its data")
    return missing


def _followers(figure: Tag) -> Iterator[Tag]:
    """What stands between a figure and the next one."""
    for node in figure.next_elements:
        if isinstance(node, Tag):
            if "sk-plotly" in node.get("class", []):
                return
            yield node


# What a page must have, and must not


def error_outputs(site: Path) -> list[str]:
    """Cells whose output is an error."""
    return [
        f"{page}: a cell's output is an error: {output.get_text().strip().splitlines()[-1]}"
        for page, tree in _trees(site)
        for output in tree.select(".cell_output .output, .cell_output > pre")
        if "Traceback" in output.get_text() or "traceback" in output.get("class", [])
    ]


def headless_pages(site: Path) -> list[str]:
    """Pages without exactly one h1. The theme's second one shows on paper alone."""
    faults = []
    for page, tree in _trees(site):
        heads = [head for head in tree.find_all("h1") if not head.find_parent(class_="onlyprint")]
        if len(heads) != 1 and not is_redirect(tree):
            faults.append(f"{page} has {len(heads)} h1 headings; it should have one.")
    return faults


def chapters_without_strip(site: Path) -> list[str]:
    """Chapters of a layer that do not show which layer it is."""
    return [
        f"{page} has no stack strip with its layer lit."
        for page, tree in _trees(site)
        if LAYER_CHAPTER.fullmatch(page) and len(tree.select("ol.sk-strip > li.sk-here")) != 1
    ]


def wrong_launch_buttons(site: Path) -> list[str]:
    """Labs that Colab cannot open, and other pages that offer what it cannot open."""
    faults = []
    for page, tree in _trees(site):
        links = tree.select('a[href^="https://colab.research.google.com/"]')
        wanted = f"/{page.removesuffix('.html')}.ipynb"
        if not page.startswith("labs/"):
            faults += [f"{page} is not a lab, but has a button for Colab."] if links else []
        elif not any(urlsplit(link["href"]).path.endswith(wanted) for link in links):
            faults.append(f"{page} has no button that opens {wanted} in Colab.")
    return faults


CHECKS = (
    dead_links,
    foreign_references,
    images_without_alt,
    incomplete_figures,
    error_outputs,
    headless_pages,
    chapters_without_strip,
    wrong_launch_buttons,
)
