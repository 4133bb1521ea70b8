"""Check in a browser that no built page is wider than its window.

``python docs/check_widths.py docs/_build/html`` opens every page in headless Chromium,
in the widths of a desktop window and of a phone, prints the pages that need horizontal
scrolling, and exits with 1 if there are any. It is not part of ``.ci/run``, because it
needs ``chromium``.
"""

import functools
import json
import re
import subprocess
import sys
import tempfile
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

WIDTHS = [1300, 412]
PROBE = "widths.html"
# Opens the pages one after the other in a frame, and writes their widths.
SCRIPT = """<body><script>
async function measure(pages, widths) {
  const results = [];
  for (const width of widths) for (const page of pages) {
    const frame = document.createElement("iframe");
    frame.style.width = width + "px";
    frame.src = "/" + page;
    document.body.appendChild(frame);
    await new Promise(loaded => frame.onload = loaded);
    await new Promise(drawn => setTimeout(drawn, 50));
    const wide = frame.contentDocument.documentElement.scrollWidth;
    results.push([page, width, wide]);
    frame.remove();
  }
  document.body.innerText = "measured " + JSON.stringify(results);
}
measure(%s, %s);
</script></body>"""


class Handler(SimpleHTTPRequestHandler):
    """Serves the pages and the probe, without logging."""

    def do_GET(self):
        """Send a file, or the probe."""
        if self.path.strip("/") != PROBE:
            super().do_GET()
            return
        body = (SCRIPT % tuple(map(json.dumps, (self.server.pages, WIDTHS)))).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Do not log requests."""


def measure(folder):
    """List (page, width of the window, width of the page) for all pages."""
    server = ThreadingHTTPServer(
        ("localhost", 0), functools.partial(Handler, directory=folder)
    )
    # Exclude the templates of the theme and the source listings.
    server.pages = [
        str(path.relative_to(folder))
        for path in sorted(folder.rglob("*.html"))
        if not {"_static", "_modules"} & set(path.parts)
    ]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as profile:
        page = subprocess.run(
            [
                "chromium",
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                f"--user-data-dir={profile}",
                f"--window-size={max(WIDTHS) + 100},1000",
                "--virtual-time-budget=300000",
                "--dump-dom",
                f"http://localhost:{server.server_port}/{PROBE}",
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    server.shutdown()
    return json.loads(re.search(r"measured (\[.*\])", page).group(1))


if __name__ == "__main__":
    measured = measure(Path(sys.argv[1]))
    wide = [result for result in measured if result[2] > result[1]]
    for page, width, page_width in wide:
        print(f"{page}: {page_width} pixels wide in a window of {width}")
    print(f"{len(measured)} pages measured, {len(wide)} too wide")
    sys.exit(bool(wide) or not measured)
