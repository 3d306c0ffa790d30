from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from _site import ROOT, build_site

import sae_lab

# Where a browser loads something as soon as it reads the tag. Links that one must click (a, form) are not among them.
LOADS = {
    ("script", "src"), ("img", "src"), ("img", "srcset"), ("iframe", "src"), ("embed", "src"), ("object", "data"),
    ("video", "src"), ("video", "poster"), ("audio", "src"), ("source", "src"), ("source", "srcset"), ("track", "src"),
    ("link", "href"), ("input", "src"), ("image", "href"), ("use", "href"),
}  # fmt: skip
NOT_LOADED = {"canonical", "author", "license", "search", "index", "next", "prev", "up", "help", "copyright"}
OUTSIDE = re.compile(r"^\s*(https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(r"""(?:url\(|@import)\s*['"]?\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE)


class Loads(HTMLParser):
    """Collects the addresses that a page loads from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self._in_style = tag == "style"
        if tag == "link" and set((values.get("rel") or "").split()) <= NOT_LOADED:
            return
        for name, value in attrs:
            if (tag, name) in LOADS and OUTSIDE.match(value or ""):
                self.outside.append(f"<{tag} {name}={value}>")
            if name == "style":
                self.outside += IN_STYLE.findall(value or "")

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.outside += IN_STYLE.findall(data)


def loaded_from_outside(text: str) -> list[str]:
    parser = Loads()
    parser.feed(text)
    parser.close()
    return parser.outside


@pytest.mark.parametrize(
    "text",
    [
        '<script src="https://cdn.example/require.js"></script>',
        '<link rel="stylesheet" href="//fonts.example/css">',
        '<link rel="preconnect" href="https://fonts.example">',
        "<style>@import 'https://fonts.example/a.css'; p { color: red }</style>",
        '<p style="background: url(http://a.example/x.png)">',
        '<img srcset="https://a.example/x.png 2x" src="x.png">',
    ],
)
def test_a_page_that_loads_from_outside_is_caught(text):
    assert len(loaded_from_outside(text)) == 1


def test_what_loads_nothing_is_let_through():
    text = '<a href="https://a.example">x</a><script src="_static/x.js"></script><link rel="canonical" href="https://a.example">'
    assert loaded_from_outside(text) == []


def test_every_public_name_stands_in_the_reference():
    listed = set(re.findall(r"^   (\w+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE))
    assert listed == set(sae_lab.__all__)


@pytest.fixture(scope="module")
def site() -> Path:
    return build_site()


def pages(site: Path) -> Iterator[Path]:
    return (path for path in site.rglob("*.html") if "_static" not in path.parts)


@pytest.mark.slow
def test_the_built_pages_load_nothing_from_outside(site):
    found = {str(page.relative_to(site)): loaded_from_outside(page.read_text()) for page in pages(site)}
    assert {"index.html", "quickstart.html", "api.html", "testing.html"} <= found.keys()
    assert {page: outside for page, outside in found.items() if outside} == {}


@pytest.mark.slow
def test_the_sites_styles_load_nothing_from_outside(site):
    found = {path.name: IN_STYLE.findall(path.read_text()) for path in site.rglob("*.css")}
    assert len(found) > 1
    assert {name: outside for name, outside in found.items() if outside} == {}


@pytest.mark.slow
def test_every_local_file_that_a_page_loads_is_there(site):
    missing = []
    for page in pages(site):
        for address in re.findall(r'<(?:script|link|img)[^>]*?(?:src|href)="([^"#?]+)', page.read_text()):
            if not OUTSIDE.match(address) and not address.startswith("data:") and not (page.parent / address).exists():
                missing.append(f"{page.relative_to(site)}: {address}")
    assert missing == []


@pytest.mark.slow
def test_the_home_page_carries_a_dashboard_and_what_draws_it(site):
    home = (site / "index.html").read_text()
    assert home.count("application/vnd.jupyter.widget-view+json") == 1
    assert "_static/sael-host.js" in home
    assert home.index("widget-view+json") < home.index('id="start"'), "the dashboard stands above the instructions"
    host = (ROOT / "sae_lab" / "widgets" / "static" / "host.js").read_text()
    assert (site / "_static" / "sael-host.js").read_text() == host


@pytest.mark.slow
def test_the_gallery_carries_every_widget_and_is_not_heavy(site):
    gallery = (site / "gallery.html").read_text()
    assert gallery.count("application/vnd.jupyter.widget-view+json") == 7
    for name in ("dashboard", "map_view", "tree_view", "curve_view", "split_view", "monitor", "sweep_monitor"):
        assert (ROOT / "sae_lab" / "widgets" / "static" / f"{name}.js").read_text()[:200].splitlines()[0] in gallery
    assert len(gallery) < 5_000_000
    explorer = site / "_static" / "explorer.html"
    assert explorer.stat().st_size < 5_000_000
    assert loaded_from_outside(explorer.read_text()) == []


@pytest.mark.slow
def test_every_public_name_has_a_page(site):
    missing = [name for name in sae_lab.__all__ if not (site / "reference" / f"sae_lab.{name}.html").is_file()]
    assert missing == []
