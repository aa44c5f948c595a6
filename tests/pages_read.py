"""Reading a page as a browser would, and holding it to what every page promises."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser

VOID = {"meta", "link", "img", "source", "br", "hr"}


class Page(HTMLParser):
    """A page, walked through: its text, its elements, and whether they nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split(" ")).replace("\n", " ")

    def named(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.elements if name == tag]

    def charts(self) -> list[str]:
        """The SVGs of the light page."""
        start = "data:image/svg+xml;base64,"
        uris = [image["src"] for image in self.named("img") if image["src"].startswith(start)]
        return [base64.b64decode(uri.removeprefix(start)).decode() for uri in uris]


def checked(html: str) -> Page:
    """A page that keeps the promises of every page."""
    page = Page(html)
    assert not page.named("script") and not page.named("iframe")
    for _, attributes in page.elements:
        assert not any(name.startswith("on") or name == "style" for name in attributes)
        for name in ("src", "srcset", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
    policy = [m["content"] for m in page.named("meta") if m.get("http-equiv") == "Content-Security-Policy"]
    assert policy == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]
    assert all(image["alt"].strip() for image in page.named("img"))
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {a["href"][1:] for a in page.named("a")} | {s["aria-labeledby"] for s in page.named("section")}
    assert targets <= set(ids)
    assert len(page.named("h1")) == 1
    assert "url(" not in html and "@import" not in html and "\x00" not in html
    for svg in page.charts():
        assert not re.search(r"(href|src)=\"(?!#)", svg) and "<script" not in svg and "<image" not in svg
        assert len(svg) < 60_000
    return page
