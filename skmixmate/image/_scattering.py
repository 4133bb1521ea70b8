"""Wavelet scattering of images.

The mathematics follows Bruna and Mallat (2013), the choice of the Morlet wavelets and
the order of the output kymatio 0.3, so that the features of both can be compared.
"""

import math
from collections.abc import Sequence
from itertools import product
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils import Tags
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..data.loader import RowLoader, Rows
from ..data.sparse import SparseRows
from ..data.validation import resolve_device, validate_rows
from ..utils.guards import all_or_nothing, default_modes
from ..utils.types import ArrayOut, Data
from ._torch_scattering import TorchScattering
from .native import binding as native


def _safe_exponents(images: torch.Tensor) -> torch.Tensor | None:
    """Find powers of two to divide images by, so that squares do not overflow.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width)

    Returns
    -------
    exponents : int tensor of shape (n_images, 1, 1) or None
        None if no image is of extreme magnitude.
    """
    low, high = torch.aminmax(images)
    largest = max(-float(low), float(high))
    limit = torch.finfo(images.dtype).max ** 0.25
    if largest == 0 or 1 / limit < largest < limit:
        return None
    return torch.frexp(images.abs().amax(dim=(1, 2), keepdim=True)).exponent


def _ldexp(values: torch.Tensor, exponents: torch.Tensor) -> torch.Tensor:
    """Multiply by powers of two, in two steps: a single factor may overflow."""
    half = exponents.div(2, rounding_mode="floor")
    two = torch.tensor(2.0, dtype=values.dtype, device=values.device)
    return values * two**half * two ** (exponents - half)


def is_image_shape(shape: Sequence[Any]) -> bool:
    """Return whether a tuple is (height, width) or (height, width, n_channels)."""
    return len(shape) in (2, 3) and all(
        isinstance(size, Integral) and int(size) > 0 for size in shape
    )


class ScatteringTransform(TransformerMixin, BaseEstimator):
    """Wavelet scattering of images, as features to cluster.

    An image is convolved with Morlet wavelets of `J` scales and `L`
    orientations, the modulus is taken, and the result is convolved with the
    wavelets of larger scales again. The moduli are averaged over ``2 ** J`` pixels.
    These coefficients change little if the image is shifted or slightly deformed, and
    therefore are closer to the linear subspaces spanned by dictionaries than pixels
    are. Nothing is learned.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels) of the images in the rows of X,
        channels last. Each channel is transformed separately.
    J : int, default=3
        Number of scales. Coefficients are averages over ``2 ** J`` pixels, which must
        not exceed the height and the width.
    L : int, default=8
        Number of orientations of the wavelets in half a turn.
    order : {1, 2}, default=2
        Maximum number of successive convolutions with wavelets.
    device : str or torch.device, default="auto"
        Device of the computation. "auto" is the device of X if it is a tensor,
        otherwise a GPU if one is available.
    batch_size : int or "auto", default="auto"
        Number of images transformed at a time. "auto" keeps the buffers at a few MiB
        on a CPU, and below about a gigabyte on other devices.

    Attributes
    ----------
    output_shape_ : tuple of int
        (n_paths, height_out, width_out): the shape of the coefficients of one image,
        to which a row of the result can be reshaped. All paths of the first channel
        come first: the average, order 1 by scale and orientation, order 2 by the scale
        and orientation of the first wavelet and then of the second.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, if all are strings.

    Notes
    -----
    Margins are padded by reflection. Wavelets, margins and the order of the
    result are the same as in kymatio 0.3.0, and coefficients agree to about 1e-7 of
    their norm. Images of extreme magnitude are multiplied by a power of two before the
    transform, and their coefficients by its inverse afterwards.

    References
    ----------
    J. Bruna and S. Mallat, Invariant scattering convolution networks, IEEE
    TPAMI 2013.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from skmixmate.image import ScatteringTransform
    >>> X, _ = load_digits(return_X_y=True)
    >>> scattering = ScatteringTransform(image_shape=(8, 8), J=2)
    >>> features = scattering.fit_transform(X)
    >>> scattering.output_shape_
    (81, 2, 2)
    >>> features.shape
    (1797, 324)
    """

    _parameter_constraints = {
        "image_shape": ["array-like"],
        "J": [Interval(Integral, 1, None, closed="left")],
        "L": [Interval(Integral, 1, None, closed="left")],
        "order": [Interval(Integral, 1, 2, closed="both")],
        "device": [str, torch.device],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 1, None, closed="left"),
        ],
    }

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        J: int = 3,
        L: int = 8,
        order: int = 2,
        device: str | torch.device = "auto",
        batch_size: int | str = "auto",
    ) -> None:
        self.image_shape = image_shape
        self.J = J
        self.L = L
        self.order = order
        self.device = device
        self.batch_size = batch_size

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    @all_or_nothing
    @default_modes()
    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Data, y: Any = None) -> Self:
        """Check the parameters against the images; nothing is learned.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Each row is an image. All entries are finite.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, `image_shape` does not match the
            number of features or is too small for `J`, the device is not available,
            or X has NaN or infinite entries.
        """
        height, width, n_channels = self._image_shape()
        X = self._validate(X, reset=True)
        if X.shape[1] != height * width * n_channels:
            raise ValueError(
                f"X has {X.shape[1]} features, but image_shape={self.image_shape} "
                f"means {height * width * n_channels}; set image_shape to the shape of "
                "the images in X."
            )
        resolve_device(self.device, X)
        self.output_shape_ = (
            n_channels * len(self._paths()),
            height // 2**self.J,
            width // 2**self.J,
        )
        return self

    @default_modes()
    def transform(self, X: Data) -> ArrayOut:
        """Compute the scattering coefficients of images.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Each row is an image. All entries are finite.

        Returns
        -------
        coefficients : ndarray or tensor of shape (n_samples, n_features_out)
            In the units of X, and of its dtype if that is float32 or float64.
            A tensor if X is one, on the same device and without a gradient.
            ``n_features_out`` is the product of `output_shape_`.

        Raises
        ------
        ValueError
            If X has a different number of features than in fit, or NaN or infinite
            entries.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        device = resolve_device(self.device, X)
        height, width, n_channels = self._image_shape()
        n_coefficients = math.prod(self.output_shape_)
        if isinstance(X, torch.Tensor):
            coefficients = X.new_empty((len(X), n_coefficients))
        else:
            dtype = getattr(torch, X.dtype.name)
            coefficients = torch.empty(
                (len(X), n_coefficients), dtype=dtype, device="cpu"
            )
        scattering = self._make_scattering(coefficients.dtype, device)
        loader = RowLoader(X, device=device)
        with torch.inference_mode():
            for chunk in loader.chunks(self._chunk_size(scattering)):
                images = loader.load(chunk).rows.view(-1, height, width, n_channels)
                images = images.permute(0, 3, 1, 2).flatten(0, 1)
                exponents = _safe_exponents(images)
                if exponents is None:
                    scattered = scattering.transform(images)
                else:
                    images = _ldexp(images, -exponents)
                    scattered = _ldexp(scattering.transform(images), exponents)
                coefficients[chunk] = scattered.reshape(-1, n_coefficients)
        return coefficients if isinstance(X, torch.Tensor) else coefficients.numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the columns that :meth:`transform` returns.

        Parameters
        ----------
        input_features : Ignored
            Present by convention.

        Returns
        -------
        names : ndarray of str, of shape (n_features_out,)
            "order0_y0_x0", "order1_j0_theta3_y0_x0",
            "order2_j0_theta3_j1_theta5_y0_x0" and so on: the order, the scale and
            orientation of each wavelet, the row and column of the position. If
            `image_shape` has channels, names begin with their number, as in
            "channel0_order0_y0_x0".
        """
        check_is_fitted(self)
        _, height, width = self.output_shape_
        channels = [""]
        if len(self.image_shape) == 3:
            channels = [f"channel{c}_" for c in range(self.image_shape[2])]
        names = [
            f"{channel}{path}_y{y}_x{x}"
            for channel, path, y, x in product(
                channels, self._paths(), range(height), range(width)
            )
        ]
        return np.array(names, dtype=object)

    def _paths(self) -> list[str]:
        """Return the names of the paths of one channel, in order."""
        scales, angles = range(self.J), range(self.L)
        paths = ["order0"]
        paths += [f"order1_j{j}_theta{t}" for j, t in product(scales, angles)]
        if self.order == 2:
            paths += [
                f"order2_j{j1}_theta{t1}_j{j2}_theta{t2}"
                for j1, t1, j2, t2 in product(scales, angles, scales, angles)
                if j1 < j2
            ]
        return paths

    def _image_shape(self) -> tuple[int, int, int]:
        """Check `image_shape`; return (height, width, n_channels)."""
        shape = tuple(self.image_shape)
        if not is_image_shape(shape):
            raise ValueError(
                f"image_shape={self.image_shape} should be (height, width) or "
                "(height, width, n_channels), all positive integers."
            )
        if min(shape[:2]) < 2**self.J:
            raise ValueError(
                f"J={self.J} averages over {2**self.J} x {2**self.J} pixels, larger "
                f"than image_shape={self.image_shape}; J should be at most "
                f"{int(min(shape[:2])).bit_length() - 1}."
            )
        height, width, *channels = shape
        return height, width, channels[0] if channels else 1

    def _validate(self, X: Data, reset: bool) -> Rows:
        """Check X; return it as an array, tensor or reader, not copied if floating."""
        X = validate_rows(self, X, reset)
        assert not isinstance(X, SparseRows)  # it accepts dense data only
        chunks = RowLoader(X, device=torch.device("cpu")).chunks()
        if any(math.isnan(X[chunk].min()) for chunk in chunks):
            raise ValueError(
                "Input X contains NaN, which ScatteringTransform does not accept: one "
                "missing pixel would corrupt all coefficients around it. Impute "
                "missing pixels first, with MixMateClustering(...).fit(X)"
                ".reconstruct(X) or sklearn.impute.SimpleImputer."
            )
        return X

    def _make_scattering(
        self, dtype: torch.dtype, device: torch.device
    ) -> "TorchScattering | native.CompiledScattering":
        """Create the transform of the images of one channel."""
        height, width, _ = self._image_shape()
        params = (height, width), self.J, self.L, self.order
        if native.can_run(height, width, self.J, dtype, device):
            return native.CompiledScattering(*params)
        return TorchScattering(*params, dtype=dtype, device=device)

    def _chunk_size(
        self, scattering: "TorchScattering | native.CompiledScattering"
    ) -> int:
        """Return the number of images to transform at a time."""
        if not isinstance(self.batch_size, str):
            return self.batch_size
        *_, n_channels = self._image_shape()
        return max(1, scattering.images_at_a_time // n_channels)
