"""Create scattering_kymatio.npz, the reference coefficients of test_scattering.py.

The file was created with the numpy frontend of kymatio 0.3.0, numpy 1.26.4, scipy
1.11.4 and Python 3.11; kymatio does not run with newer versions of numpy and scipy. In
such an environment, ``python make_scattering_kymatio.py`` writes the file to the folder
of this script.
"""

from pathlib import Path

import numpy as np
from kymatio.numpy import Scattering2D

# (height, width, J, L, order). They include sizes that are not multiples of 2 ** J, and
# images of size 2 ** J, whose margins are special cases.
CASES = [
    (28, 28, 3, 8, 2),
    (28, 28, 3, 8, 1),
    (16, 16, 2, 8, 2),
    (32, 24, 2, 8, 2),
    (8, 8, 1, 8, 2),
    (8, 8, 2, 8, 1),
    (8, 8, 3, 8, 2),
    (13, 18, 2, 5, 2),
    (16, 16, 3, 1, 2),
]


def main():
    rng = np.random.default_rng(0)
    arrays = {}
    for case in CASES:
        height, width, J, L, order = case
        image = rng.normal(size=(height, width)).astype(np.float32)
        scattering = Scattering2D(J, (height, width), L=L, max_order=order)
        name = "_".join(map(str, case))
        arrays[f"image_{name}"] = image
        coefficients = scattering(image.astype(np.float64))
        arrays[f"coefficients_{name}"] = coefficients.astype(np.float32)
    np.savez_compressed(Path(__file__).with_name("scattering_kymatio.npz"), **arrays)


if __name__ == "__main__":
    main()
