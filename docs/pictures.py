"""Draw the pictures of the first page and of the README, from the examples.

Run ``python docs/pictures.py`` with the package and matplotlib installed. Backgrounds
are transparent and text is grey, for light and dark pages alike.
"""

import runpy
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[1]
GREY = "#808080"
TEXT = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor")
STYLE = {
    **dict.fromkeys((*TEXT, "xtick.color", "ytick.color"), GREY),
    "axes.facecolor": "none",
    "legend.framealpha": 0,
}

# For each picture, the example whose first figure it is.
PICTURES = {"shapes": "plot_0_shapes", "subspaces": "plot_7_subspaces"}


def main():
    """Run the examples, and save their first figures."""
    for picture, example in PICTURES.items():
        plt.close("all")
        with plt.rc_context(STYLE):
            runpy.run_path(str(ROOT / "examples" / f"{example}.py"))
            path = ROOT / "docs" / "_static" / f"{picture}.png"
            plt.figure(1).savefig(path, dpi=90, transparent=True)


if __name__ == "__main__":
    main()
