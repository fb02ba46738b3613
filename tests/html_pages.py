"""HTML as a browser would take it apart, strictly."""

from html.parser import HTMLParser
from typing import NamedTuple

VOID = {"br", "hr", "meta"}
# Elements whose text is no text of the page.
SILENT = {"style", "title"}


class Element(NamedTuple):
    tag: str
    attributes: dict


class Page(HTMLParser):
    """Elements, texts and table rows of a page; its tags must be balanced."""

    def __init__(self, source):
        super().__init__()
        self.elements = []
        self.text = ""
        self.styles = ""
        self.tables = []
        self._open = []
        self.feed(source)
        self.close()
        assert self._open == []

    def tags(self):
        return {element.tag for element in self.elements}

    def attributes(self, name):
        """Values of an attribute, wherever it stands."""
        return [e.attributes[name] for e in self.elements if name in e.attributes]

    def handle_starttag(self, tag, attrs):
        assert len(dict(attrs)) == len(attrs), f"repeated attribute in <{tag}>"
        self.elements.append(Element(tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
        elif tag == "br":
            self._take("\n")

    def handle_startendtag(self, tag, attrs):
        # Within SVG elements may end where they start.
        assert "svg" in self._open, f"<{tag}/>"
        self.elements.append(Element(tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open, f"</{tag}> closes nothing"
        assert self._open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, data):
        if "style" in self._open:
            self.styles += data
        elif not SILENT & set(self._open):
            self._take(data)

    def _take(self, data):
        self.text += data
        if {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data
