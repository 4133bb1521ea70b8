"""Check that links between the built pages lead somewhere, without a network.

``python docs/check_links.py docs/_build/html`` names every link to a file, or to a
place in one, that is not there, and exits with 1 if there are any.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """The links and the places of one page."""

    def __init__(self, path):
        super().__init__()
        self.links, self.places = set(), {""}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        """Keep where the tag leads, and its place."""
        attributes = dict(attributes)
        self.places.add(attributes.get("id"))
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
            is_there = target.exists()
            if target in pages:
                is_there = unquote(parts.fragment) in pages[target].places
            if not is_there:
                dead.append((path.name, link))
    return dead


if __name__ == "__main__":
    dead = dead_links(Path(sys.argv[1]))
    for page, link in dead:
        print(f"{page}: {link} leads nowhere")
    sys.exit(bool(dead))
