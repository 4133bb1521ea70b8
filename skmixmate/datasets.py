"""Image data sets of the paper, and a sampler from the model."""

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

# Folder to look for NAME.npz in, where `data_home` is not given.
_FOLDER_VARIABLE = "SKMIXMATE_DATA"


def load_mnist(*, data_home: str | os.PathLike | None = None) -> Bunch:
    """Load the 70,000 images of MNIST: handwritten digits, 28 x 28 pixels.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder with `mnist.npz` (keys `X`, uint8 of shape (n, height, width), and
        `y`). Without it the folder in the environment variable SKMIXMATE_DATA is
        looked in. Where neither has the file the data are fetched from OpenML,
        once, into `data_home` or else scikit-learn's own data folder.

    Returns
    -------
    bunch : Bunch
        - data : float32 ndarray of shape (70000, 784), pixels in [0, 1];
        - target : int64 ndarray of shape (70000,), the digits;
        - images : float32 ndarray of shape (70000, 28, 28), a view of data.

    Raises
    ------
    FileNotFoundError
        If there is no file and OpenML cannot be reached.

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
        If there is no file and OpenML cannot be reached.

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
        If there is no file and OpenML cannot be reached.

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


def _load(name, openml_name, shape, data_home):
    folder = data_home or os.environ.get(_FOLDER_VARIABLE)
    path = Path(folder) / f"{name}.npz" if folder else None
    if path is not None and path.exists():
        with np.load(path) as file:
            return _bunch(file["X"].reshape(len(file["X"]), -1), file["y"], shape)
    try:
        fetched = fetch_openml(
            openml_name,
            version=1,
            data_home=data_home,
            as_frame=False,
            parser="liac-arff",
        )
    except (URLError, OSError) as error:
        where = path or f"{name}.npz in a folder named by {_FOLDER_VARIABLE}"
        raise FileNotFoundError(
            f"{name}: no file, and OpenML cannot be reached ({error}). Put {where} "
            f"(keys X, uint8 of shape (n, {shape[0]}, {shape[1]}), and y), or pass "
            "its folder as data_home."
        ) from error
    return _bunch(fetched.data, fetched.target, shape)


def _bunch(pixels, target, shape):
    # uint8 in files; OpenML has 0 to 255 as floats, or -1 to 1 (USPS).
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

    A sample's cluster is drawn by `weights`, its code from a Laplace
    distribution of rate `alpha`, and the sample is the code's combination of
    the cluster's atoms with normal noise added.

    Parameters
    ----------
    n_samples : int, default=1000
        Number of samples.
    n_features : int, default=64
        Number of features.
    n_clusters : int, default=3
        Number of dictionaries.
    n_atoms : int, default=8
        Atoms of each cluster: random directions.
    n_nonzero : int or None, default=None
        Entries of each code that are not zero, drawn anew for each sample. None
        leaves all of them, which is the paper's model as it stands; few make
        the atoms, and not only their span, easy to recover.
    alpha : float, default=0.75
        Rate of the Laplace distribution; a code entry has mean magnitude
        ``1 / alpha``.
    noise : float, default=0.1
        Standard deviation of the noise on every entry. The model itself has
        ``sqrt(0.5)``, in the units of the scaled data.
    missing : float, default=0.0
        Probability that an entry is missing: NaN, in [0, 1).
    weights : array-like of shape (n_clusters,), default=None
        Probability of each cluster; None for equal ones.
    random_state : int, RandomState instance or None, default=None
        An int makes the draw reproducible.

    Returns
    -------
    bunch : Bunch
        - data : ndarray of shape (n_samples, n_features);
        - target : ndarray of shape (n_samples,), the clusters;
        - codes : ndarray of shape (n_samples, n_atoms), in the own cluster;
        - dictionaries : ndarray of shape (n_clusters, n_atoms, n_features), atoms
          of norm 1.

    Raises
    ------
    ValueError
        If a parameter is out of its range, `n_nonzero` exceeds `n_atoms`, or
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
