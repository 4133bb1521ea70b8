"""What filters do on digits, beside dictionaries of whole images.

Run ``python -m benchmarks.convolutional`` with the data sets in the folder named by
SKMIXMATE_DATA. 2,000 images of USPS, drawn at random; ConvolutionalMixMate as
initialised and after five epochs, and MixMateClustering with its defaults, on pixels
and on scattering coefficients. Labels are used for the scores alone. Seconds are of one
process on a machine with others on it: only their order of magnitude is meant. The
figures go to ``benchmarks/results/convolutional.json``.
"""

import numpy as np

from skmixmate import ConvolutionalMixMate, MixMateClustering, datasets

from . import report
from .table1 import fit, scores

N_IMAGES = 2000
SHAPE = {"image_shape": (16, 16), "random_state": 0}
FILTERS = {**SHAPE, "n_filters": 8, "center": False, "tol": 0}

ESTIMATORS = {
    "pixels": MixMateClustering(10, representation="pixels", **SHAPE),
    "scattering": MixMateClustering(10, **SHAPE),
    "filters, as initialised": ConvolutionalMixMate(10, max_iter=0, **FILTERS),
    "filters, five epochs": ConvolutionalMixMate(10, max_iter=5, **FILTERS),
}


def main():
    bunch, figures = datasets.load_usps(), {}
    drawn = np.random.default_rng(0).permutation(len(bunch.data))[:N_IMAGES]
    X, y = bunch.data[drawn], bunch.target[drawn]
    for name, estimator in ESTIMATORS.items():
        duration = report.seconds(lambda estimator=estimator: fit(estimator, X))
        figures[name] = {
            **scores(y, estimator.labels_),
            "loss": round(estimator.loss_, 3),
            "seconds": round(duration, 1),
        }
        report.write("convolutional", figures)


if __name__ == "__main__":
    main()
