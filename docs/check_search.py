"""Check that the search of the built pages finds what newcomers look for.

``python docs/check_search.py docs/_build/html`` prints the words that no page has, and
exits with 1 if there are any.
"""

import json
import sys
from pathlib import Path

from sphinx.search.en import SearchEnglish

WORDS = """
embedding categorical polars pandas cluster number outlier GPU missing NaN csv image
weights sparse labels probability DataFrame pipeline KMeans GaussianMixture install
memory streaming explain dictionary report
"""


def missing_words(folder):
    """List the words that are in no page."""
    text = (folder / "searchindex.js").read_text(encoding="utf-8")
    index = json.loads(text[text.index("{") : text.rindex("}") + 1])
    found = {*index["terms"], *index["titleterms"]}
    stem = SearchEnglish({}).stem
    return [word for word in WORDS.split() if stem(word.lower()) not in found]


if __name__ == "__main__":
    missing = missing_words(Path(sys.argv[1]))
    print(f"{len(missing)} words not found: {missing}")
    sys.exit(bool(missing))
