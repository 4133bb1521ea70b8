"""Check the links between the built pages, without a network.

``python docs/check_links.py docs/_build/html`` prints every link to a file or an anchor
that does not exist, and exits with 1 if there are any.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the anchors of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.anchors = set(), {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Store the link and the anchor of the tag."""
        attributes = dict(attributes)
        self.anchors.add(attributes.get("id"))
        self.links |= {attributes.get(name) for name in ("href", "src")} - {None}


def dead_links(folder):
    """List (page, link) for every dead link in a folder of pages."""
    pages = {
        path.resolve(): Page(path)
        for path in folder.rglob("*.html")
        if "_static" not in path.parts  # the theme's own templates
    }
    dead = []
    for path, page in pages.items():
        for link in sorted(page.links):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = path
            if parts.path:
                target = (path.parent / unquote(parts.path)).resolve()
            exists = target.exists()
            if target in pages:
                exists = unquote(parts.fragment) in pages[target].anchors
            if not exists:
                dead.append((path.name, link))
    return dead


if __name__ == "__main__":
    dead = dead_links(Path(sys.argv[1]))
    for page, link in dead:
        print(f"{page}: dead link {link}")
    sys.exit(bool(dead))
