"""Image datasets of the paper, and samples from the generative model."""

import os
from numbers import Integral, Real
from pathlib import Path
from urllib.error import URLError

import numpy as np
import numpy.typing as npt
from sklearn.datasets import fetch_openml
from sklearn.utils import Bunch
from sklearn.utils._param_validation import Interval, validate_params

from .utils.random_state import private_random_state

# Environment variable with the folder of the files, if `data_home` is None.
_FOLDER_VARIABLE = "SKMIXMATE_DATA"


def load_mnist(*, data_home: str | os.PathLike | None = None) -> Bunch:
    """Load the 70,000 images of MNIST: handwritten digits, 28 x 28 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder with `mnist.npz` (keys `X`, uint8 of shape (n, height, width), and
        `y`). By default the folder in the environment variable SKMIXMATE_DATA. If
        there is no such file, the data are downloaded from OpenML once, into
        `data_home` or, by default, scikit-learn's data folder.

    Returns
    -------
    bunch : Bunch
        - data : float32 ndarray of shape (70000, 784), pixels in [0, 1];
        - target : int64 ndarray of shape (70000,), the digits;
        - images : float32 ndarray of shape (70000, 28, 28), a view of data.

    Raises
    ------
    FileNotFoundError
        If there is no file and OpenML is not reachable.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, Gradient-based learning applied
    to document recognition, 1998.

    Examples
    --------
    >>> from skmixmate.datasets import load_mnist
    >>> images = load_mnist().images  # doctest: +SKIP
    """
    return _load("mnist", "mnist_784", (28, 28), data_home)


def load_fashion_mnist(*, data_home: str | os.PathLike | None = None) -> Bunch:
    """Load the 70,000 images of Fashion-MNIST: clothes, 28 x 28 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder with `fashion_mnist.npz`; see :func:`load_mnist`.

    Returns
    -------
    bunch : Bunch
        - data : float32 ndarray of shape (70000, 784), pixels in [0, 1];
        - target : int64 ndarray of shape (70000,), the kinds of clothes;
        - images : float32 ndarray of shape (70000, 28, 28), a view of data.

    Raises
    ------
    FileNotFoundError
        If there is no file and OpenML is not reachable.

    References
    ----------
    H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST, arXiv:1708.07747, 2017.

    Examples
    --------
    >>> from skmixmate.datasets import load_fashion_mnist
    >>> images = load_fashion_mnist().images  # doctest: +SKIP
    """
    return _load("fashion_mnist", "Fashion-MNIST", (28, 28), data_home)


def load_usps(*, data_home: str | os.PathLike | None = None) -> Bunch:
    """Load the 9,298 images of USPS: handwritten digits, 16 x 16 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder with `usps.npz`; see :func:`load_mnist`.

    Returns
    -------
    bunch : Bunch
        - data : float32 ndarray of shape (9298, 256), pixels in [0, 1];
        - target : int64 ndarray of shape (9298,), the digits;
        - images : float32 ndarray of shape (9298, 16, 16), a view of data.

    Raises
    ------
    FileNotFoundError
        If there is no file and OpenML is not reachable.

    References
    ----------
    J. J. Hull, A database for handwritten text recognition research, IEEE TPAMI
    1994.

    Examples
    --------
    >>> from skmixmate.datasets import load_usps
    >>> images = load_usps().images  # doctest: +SKIP
    """
    return _load("usps", "USPS", (16, 16), data_home)


def _load(
    name: str,
    openml_name: str,
    shape: tuple[int, int],
    data_home: str | os.PathLike | None,
) -> Bunch:
    folder = data_home or os.environ.get(_FOLDER_VARIABLE)
    path = Path(folder) / f"{name}.npz" if folder else None
    if path is not None and path.exists():
        with np.load(path) as file:
            return _bunch(file["X"].reshape(len(file["X"]), -1), file["y"], shape)
    try:
        downloaded = fetch_openml(
            openml_name,
            version=1,
            data_home=data_home,
            as_frame=False,
            parser="liac-arff",
        )
    except (URLError, OSError) as error:
        location = path or f"{name}.npz in the folder named by {_FOLDER_VARIABLE}"
        raise FileNotFoundError(
            f"{name}: there is no file, and OpenML is not reachable ({error}). Create "
            f"{location} (keys X, uint8 of shape (n, {shape[0]}, {shape[1]}), and y), "
            "or pass its folder as data_home."
        ) from error
    return _bunch(downloaded.data, downloaded.target, shape)


def _bunch(pixels: np.ndarray, target: np.ndarray, shape: tuple[int, int]) -> Bunch:
    # Files contain uint8; OpenML has floats from 0 to 255, or from -1 to 1 (USPS).
    pixels = np.asarray(pixels, dtype=np.float32)
    low, high = float(pixels.min()), float(pixels.max())
    pixels -= min(low, 0.0)
    pixels /= max(high - min(low, 0.0), 1e-12)
    target = np.asarray(target).astype(np.int64)
    return Bunch(data=pixels, target=target, images=pixels.reshape(len(pixels), *shape))


@validate_params(
    {
        "n_samples": [Interval(Integral, 1, None, closed="left")],
        "n_features": [Interval(Integral, 1, None, closed="left")],
        "n_clusters": [Interval(Integral, 1, None, closed="left")],
        "n_atoms": [Interval(Integral, 1, None, closed="left")],
        "n_nonzero": [Interval(Integral, 1, None, closed="left"), None],
        "alpha": [Interval(Real, 0, None, closed="neither")],
        "noise": [Interval(Real, 0, None, closed="left")],
        "missing": [Interval(Real, 0, 1, closed="left")],
        "weights": ["array-like", None],
        "random_state": ["random_state"],
    },
    prefer_skip_nested_validation=True,
)
def make_sparse_mixture(
    n_samples: int = 1000,
    n_features: int = 64,
    *,
    n_clusters: int = 3,
    n_atoms: int = 8,
    n_nonzero: int | None = None,
    alpha: float = 0.75,
    noise: float = 0.1,
    missing: float = 0.0,
    weights: npt.ArrayLike | None = None,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Draw samples from a mixture of sparse dictionary models (Eq. 1).

    The cluster of a sample is drawn with probabilities `weights`, its code from a
    Laplace distribution of rate `alpha`. The sample is the linear combination of the
    cluster's atoms with the code as coefficients, plus Gaussian noise.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=64
        Number of features.
    n_clusters : int, default=3
        Number of dictionaries.
    n_atoms : int, default=8
        Number of atoms in each cluster. Atoms are random directions.
    n_nonzero : int or None, default=None
        Number of nonzero entries of each code, at random positions for each sample.
        With None all entries are nonzero, as in the paper's model. With few of them
        the atoms, and not only their span, are easy to recover.
    alpha : float, default=0.75
        Rate of the Laplace distribution. The mean magnitude of the entries of codes is
        ``1 / alpha``.
    noise : float, default=0.1
        Standard deviation of the noise. The default of the estimator is
        ``sqrt(0.5)``, in the units of the scaled data.
    missing : float, default=0.0
        Probability, in [0, 1), that an entry is missing, NaN.
    weights : array-like of shape (n_clusters,), default=None
        Probability of each cluster. By default all are equal.
    random_state : int, RandomState instance or None, default=None
        Pass an int for reproducible samples.

    Returns
    -------
    bunch : Bunch
        - data : ndarray of shape (n_samples, n_features);
        - target : ndarray of shape (n_samples,), the clusters;
        - codes : ndarray of shape (n_samples, n_atoms), coefficients of the atoms of
          the sample's cluster;
        - dictionaries : ndarray of shape (n_clusters, n_atoms, n_features), atoms
          of norm 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range, `n_nonzero` is larger than `n_atoms`, or
        `weights` are not `n_clusters` probabilities.

    References
    ----------
    A. Lin, A. H. Song and D. Ba, Mixture Model Auto-Encoders: Deep Clustering
    Through Dictionary Learning, ICASSP 2022, Eq. 1.

    Examples
    --------
    >>> from skmixmate.datasets import make_sparse_mixture
    >>> bunch = make_sparse_mixture(n_samples=5, n_features=20, random_state=0)
    >>> bunch.data.shape, bunch.dictionaries.shape
    ((5, 20), (3, 8, 20))
    """
    if n_nonzero is not None and n_nonzero > n_atoms:
        raise ValueError(f"n_nonzero={n_nonzero} should be <= n_atoms={n_atoms}.")
    if weights is None:
        weights = np.full(n_clusters, 1 / n_clusters)
    weights = np.asarray(weights, dtype=np.float64)
    if (
        weights.shape != (n_clusters,)
        or weights.min() < 0
        or not np.isclose(weights.sum(), 1)
    ):
        raise ValueError(
            f"weights={weights.tolist()} should be n_clusters={n_clusters} "
            "non-negative numbers that sum to 1."
        )
    rng = private_random_state(random_state)
    dictionaries = rng.standard_normal((n_clusters, n_atoms, n_features))
    dictionaries /= np.linalg.norm(dictionaries, axis=2, keepdims=True)
    target = rng.choice(n_clusters, size=n_samples, p=weights)
    codes = rng.laplace(scale=1 / alpha, size=(n_samples, n_atoms))
    if n_nonzero is not None:
        ranks = rng.uniform(size=codes.shape).argsort(axis=1)
        codes[ranks >= n_nonzero] = 0
    # (n_samples, n_features)
    data = np.einsum("nd,ndm->nm", codes, dictionaries[target])
    data += noise * rng.standard_normal(data.shape)
    data[rng.uniform(size=data.shape) < missing] = np.nan
    return Bunch(data=data, target=target, codes=codes, dictionaries=dictionaries)
