r"""Wavelet scattering of images.

Convolutions are products in the Fourier domain. The mathematics follows Bruna
and Mallat (2013), the choice of the Morlet wavelets and the order of the output
kymatio 0.3, so that features made by either can be compared. Three things make
it fast:

- The Fourier transform of a Gabor wavelet is a Gaussian, so that the wavelets
  are written down where they are used and are exactly real.
- Images lie along the last axis, so that all is products of small matrices with
  large ones: transforms (see ``_fourier.py``), and, where convolutions are subsampled
  by k, the sums over the k x k frequencies that become the same, for all orientations
  and images at once.
- The last average is wanted at few places only, and is separable: it is two
  small matrices, applied from both sides, which leave out the margins too.
"""

import math
from collections.abc import Sequence
from itertools import product
from numbers import Integral
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin, _fit_context
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

from ..data.loader import RowLoader
from ..data.validation import resolve_device, validate_rows
from ..utils.guards import all_or_nothing, default_modes
from ..utils.types import ArrayOut, Data
from ._fourier import Buffers, fourier

# kymatio scales Gaussians by this in place of pi; kept, for equal features.
_KYMATIO_PI = 3.1415

# Width of the finest Gaussian in pixels, and frequency of the finest wavelet.
_SIGMA, _XI = 0.8, 3 * math.pi / 4

# Below it Gaussians are 0 for any sum. Exponentials that a float can hardly hold take a
# hundred times as long as others.
_LEAST_EXPONENT = -100.0

# Complex entries of the largest buffer of a batch: on a CPU, few enough not to leave
# the caches; elsewhere, enough to keep all of the device at work.
_CPU_ENTRIES, _DEVICE_ENTRIES = 2**19, 2**24

# Of large images too a few go together, or products with matrices have too few columns;
# but of the largest no more than there is memory for.
_LEAST_IMAGES, _MOST_ENTRIES = 4, 2**22


def _frequencies(size, n_copies):
    """Angular frequencies of a DFT, (2 * n_copies + 1, size).

    Spectra repeat with period 2 pi: what a Gaussian has outside of one period
    comes back into it, from so many copies on either side.
    """
    base = 2 * math.pi * torch.fft.fftfreq(size, dtype=torch.float64, device="cpu")
    copies = torch.arange(-n_copies, n_copies + 1, dtype=torch.float64, device="cpu")
    return base + 2 * math.pi * copies[:, None]


def wavelet_spectrum(shape, j, theta, n_angles):
    """Fourier transform of a Morlet wavelet.

    A Gaussian around the wavelet's frequency, less as much of one around 0 as
    makes the mean of the wavelet vanish.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the padded image.
    j : int
        The wavelet is 2 ** j times as large as the finest.
    theta : int
        Orientation, below `n_angles`.
    n_angles : int
        Number of orientations in half a turn.

    Returns
    -------
    spectrum : float64 tensor of shape (height, width)
    """
    sigma, xi, slant = _SIGMA * 2**j, _XI / 2**j, 4 / n_angles
    angle = (int(n_angles / 2 - 1) - theta) * math.pi / n_angles
    n_copies = 1 + math.ceil(max(slant, 1))
    # (n_copies, height, n_copies, width)
    y = _frequencies(shape[0], n_copies)[:, :, None, None]
    x = _frequencies(shape[1], n_copies)
    along = sigma * (y * math.cos(angle) + x * math.sin(angle))
    across = sigma / slant * (x * math.cos(angle) - y * math.sin(angle))
    envelope = across.square_()

    def gaussian(centre):
        exponent = (along - sigma * centre).square_().add_(envelope).mul_(-0.5)
        return exponent.clamp_min_(_LEAST_EXPONENT).exp_().sum(dim=(0, 2))

    gabor, low = gaussian(xi), gaussian(0.0)
    return (gabor - gabor[0, 0] / low[0, 0] * low) * (math.pi / _KYMATIO_PI)


def _crop(spectra, dim, factor):
    """Keep the lowest frequencies of one axis, 1 of `factor`."""
    size = spectra.shape[dim]
    half = size // factor // 2
    low, high = spectra.narrow(dim, 0, half), spectra.narrow(dim, size - half, half)
    return torch.cat([low, high], dim=dim)


class Wavelets:
    """Wavelets of one scale, applied to what has some resolution.

    Where wavelets are large, what they make is subsampled: in its spectrum
    frequencies add up that are then the same.

    Parameters
    ----------
    spectra : float64 tensor of shape (n_angles, height, width)
        Fourier transforms of the wavelets.
    fourier : Fourier
        Of the size that what they make is subsampled to.
    """

    def __init__(self, spectra, fourier):
        height, width = spectra.shape[1:]
        self.fourier = fourier
        factor, half = height // fourier.height, width // 2 + 1
        settings = fourier.buffers.settings
        row, column = (torch.arange(size, device="cpu") for size in (height, width))
        row = row[:, None]
        is_conjugate = (column >= half).expand(height, width)
        row = torch.where(is_conjugate, -row % height, row)
        column = torch.where(is_conjugate, width - column, column)
        real = self._folded(2 * row * half + column, factor)
        # By row, column, part and copy.
        index = torch.stack([real, real + half], dim=2).flatten()
        self.index = index.to(settings["device"])
        # Tails that no sum of floats feels would be denormal numbers, which are slow.
        is_tail = spectra.abs() < torch.finfo(spectra.dtype).eps * spectra.abs().max()
        spectra = spectra.masked_fill(is_tail, 0) / factor**2
        signs = 1.0 - 2.0 * is_conjugate.float()
        filters = [self._folded(part, factor) for part in (spectra, spectra * signs)]
        # (height * width * 2, n_angles, factor ** 2)
        filters = torch.stack(filters, dim=2).flatten(0, 2)
        self.filters = filters.to(**settings)

    @staticmethod
    def _folded(values, factor):
        """(height, width, ..., factor ** 2), from (..., height, width)."""
        *others, height, width = values.shape
        folded = values.reshape(
            *others, factor, height // factor, factor, width // factor
        )
        return folded.movedim((-3, -1), (0, 1)).flatten(-2)

    def moduli(self, spectra, name):
        """Moduli of images convolved with each of the wavelets.

        Parameters
        ----------
        spectra : tensor of shape (height, 2, width // 2 + 1, n_images)
            As :meth:`Fourier.spectra` gives them.
        name : str
            Of the buffer where the moduli go.

        Returns
        -------
        moduli : tensor of shape (height, width, n_angles * n_images)
            Height and width are those of `fourier`.
        """
        n_entries, n_angles, n_folded = self.filters.shape
        n_images, buffers = spectra.shape[3], self.fourier.buffers
        folded = buffers("folded", n_entries * n_folded, n_images)
        torch.index_select(spectra.view(-1, n_images), 0, self.index, out=folded)
        folded = folded.view(n_entries, n_folded, n_images)
        products = buffers("products", n_entries, n_angles, n_images)
        # Products of matrices are slow where each is of two vectors.
        multiply = torch.mul if n_folded == 1 else torch.bmm
        multiply(self.filters, folded, out=products)
        height, width = self.fourier.height, self.fourier.width
        return self.fourier.moduli(products.view(height, width, 2, -1), name)


def average_matrix(size, padded_size, J, j):
    """Average over 2 ** J pixels and subsample, along one axis, as a matrix.

    Parameters
    ----------
    size, padded_size : int
        Length of the axis, in pixels.
    J : int
        Scale of the average.
    j : int
        What is averaged has been subsampled by 2 ** j.

    Returns
    -------
    matrix : float64 tensor of shape (size // 2 ** J, padded_size // 2 ** j)
        Circular; the margins are left out.
    """
    sigma = _SIGMA * 2 ** (J - 1)
    frequencies = _frequencies(padded_size, n_copies=2)
    gaussian = (sigma * frequencies).square().mul(-0.5).exp().sum(dim=0)
    kernel = torch.fft.ifft(_crop(gaussian, 0, 2**j)).real
    centres = torch.arange(1, size // 2**J + 1, device="cpu") * 2 ** (J - j)
    distances = centres[:, None] - torch.arange(len(kernel), device="cpu")
    return kernel[distances % len(kernel)] * math.sqrt(math.pi / _KYMATIO_PI)


class Scattering:
    """Filters for images of one size, and what is done with them.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the images.
    J, L, order : int
        As in :class:`ScatteringTransform`.
    dtype : torch.dtype
    device : torch.device
    """

    def __init__(self, shape, J, L, order, *, dtype, device):
        self.J, self.L, self.order = J, L, order
        padded = [_padded_size(size, J) for size in shape]
        self.margins = [
            torch.from_numpy(_reflected(size, to)).to(device)
            for size, to in zip(shape, padded, strict=True)
        ]
        self.averages = [
            [
                average_matrix(size, to, J, j).to(device, dtype)
                for size, to in zip(shape, padded, strict=True)
            ]
            for j in range(J)
        ]
        buffers = Buffers(dtype, device)
        # By the scale j, at 1 of 2 ** j pixels.
        self.fourier = [
            fourier(*(size // 2**j for size in padded), buffers) for j in range(J)
        ]
        # By the scale of what they are applied to, and their own.
        self.wavelets = {}
        for j in range(J):
            spectra = [wavelet_spectrum(padded, j, theta, L) for theta in range(L)]
            spectra = torch.stack(spectra)
            for start in range(max(j, 1)) if order == 2 else [0]:
                low = _crop(_crop(spectra, 1, 2**start), 2, 2**start)
                self.wavelets[start, j] = Wavelets(low, self.fourier[j])

    def transform(self, images):
        """Scatter images.

        Parameters
        ----------
        images : tensor of shape (n_images, height, width)

        Returns
        -------
        coefficients : tensor of shape (n_images, n_paths, n_positions)
        """
        rows, columns = self.margins
        images = images.index_select(1, rows).index_select(2, columns)
        images = images.permute(1, 2, 0).contiguous()  # (height, width, n_images)
        spectra = self.fourier[0].spectra(images, "spectra of images")
        paths = [self._average(images, 0, 1)]
        second = []
        for j1 in range(self.J):
            moduli = self.wavelets[0, j1].moduli(spectra, "moduli")
            paths.append(self._average(moduli, j1, self.L))
            if self.order == 2 and j1 < self.J - 1:
                second.append(self._second_order(moduli, j1))
        paths = torch.cat([part.flatten(1, -2) for part in [*paths, *second]], dim=1)
        return paths.permute(2, 1, 0)

    def _second_order(self, moduli, j1):
        """(n_positions, L, J - 1 - j1, L, n_images), by angle 1, j2, angle 2."""
        spectra = self.fourier[j1].spectra(moduli, "spectra of moduli")
        parts = []
        for j2 in range(j1 + 1, self.J):
            moduli = self.wavelets[j1, j2].moduli(spectra, "moduli of moduli")
            parts.append(self._average(moduli, j2, self.L, self.L))
        # Angle 2 is the slower one in what is convolved last.
        return torch.stack(parts, dim=1).movedim(3, 1)

    def _average(self, moduli, j, *n_angles):
        """(n_positions, *n_angles, n_images) from (height, width, ...)."""
        down, across = self.averages[j]
        averaged = torch.bmm(across.expand(len(moduli), -1, -1), moduli)
        averaged = down @ averaged.flatten(1)
        return averaged.view(len(down) * len(across), *n_angles, -1)


def _safe_exponents(images):
    """Find the powers of two to divide images by, so that squares can be computed.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width)

    Returns
    -------
    exponents : int tensor of shape (n_images, 1, 1) or None
        None where no image is of extreme magnitude.
    """
    low, high = torch.aminmax(images)
    largest = max(-float(low), float(high))
    limit = torch.finfo(images.dtype).max ** 0.25
    if largest == 0 or 1 / limit < largest < limit:
        return None
    return torch.frexp(images.abs().amax(dim=(1, 2), keepdim=True)).exponent


def _ldexp(values, exponents):
    """Multiply by powers of two; in two steps, as one may not be representable."""
    half = exponents.div(2, rounding_mode="floor")
    two = torch.tensor(2.0, dtype=values.dtype, device=values.device)
    return values * two**half * two ** (exponents - half)


def is_image_shape(shape):
    """Tell whether a tuple is (height, width) or (height, width, n_channels)."""
    return len(shape) in (2, 3) and all(
        isinstance(size, Integral) and size > 0 for size in shape
    )


def _padded_size(size, J):
    """Room for an average to either side, in whole steps of 2 ** J."""
    return (size // 2**J + 2) * 2**J


def _reflected(size, padded_size):
    """Which pixel stands where after both margins were filled by reflection."""
    before = (padded_size - size) // 2
    after = padded_size - size - before
    return np.pad(np.arange(size), (before, after), mode="reflect")


class ScatteringTransform(TransformerMixin, BaseEstimator):
    """Wavelet scattering of images, as features to cluster.

    An image is convolved with Morlet wavelets of `J` scales and `L`
    orientations, the modulus is taken, and what comes out is convolved with the
    wavelets of larger scales again. The results are averaged over
    ``2 ** J`` pixels: they change little where the image is shifted or slightly
    deformed, and so lie closer to the linear subspaces that dictionaries span
    than pixels do. Nothing is learned.

    Parameters
    ----------
    image_shape : tuple of int
        (height, width) or (height, width, n_channels) of the images of which
        the rows of X are made, channels last. Each channel is transformed by
        itself.
    J : int, default=3
        Number of scales; averages are over ``2 ** J`` pixels, at most the
        height and the width.
    L : int, default=8
        Number of orientations of the wavelets in half a turn.
    order : {1, 2}, default=2
        Largest number of wavelets that follow one another.
    device : str or torch.device, default="auto"
        Where the work is done. "auto" is the device of X if it is a tensor,
        else a GPU if torch finds one.
    batch_size : int or "auto", default="auto"
        Images worked on at a time. "auto" keeps the buffers at some MiB on a CPU,
        and below a gigabyte or so elsewhere.

    Attributes
    ----------
    output_shape_ : tuple of int
        (n_paths, height_out, width_out): into this a row of the result can be
        reshaped. All paths of the first channel come first: the average, order
        1 by scale and orientation, order 2 by the scale and orientation of the
        first wavelet and then of the second.
    n_features_in_ : int
        Number of features seen during fit.
    feature_names_in_ : ndarray of shape (n_features,)
        Names of the features, where all are strings.

    Notes
    -----
    Margins are filled by reflection. Wavelets, margins and the order of the
    result are those of kymatio 0.3.0, and coefficients agree to about 1e-7 of
    their norm. Images of extreme magnitude are multiplied by a power of two before,
    and their coefficients by its inverse after.

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

    def __sklearn_tags__(self):
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
            Images as rows, finite.
        y : Ignored
            Present by convention.

        Returns
        -------
        self : object
            The estimator itself.

        Raises
        ------
        ValueError
            If a parameter is out of its range, `image_shape` does not fit the
            number of features or is too small for `J`, the device is not to be
            had, or X has NaN or infinite entries.
        """
        height, width, n_channels = self._image_shape()
        X = self._validate(X, reset=True)
        if X.shape[1] != height * width * n_channels:
            raise ValueError(
                f"X has {X.shape[1]} features, but image_shape={self.image_shape} "
                f"means {height * width * n_channels}."
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
        """Scatter images.

        Parameters
        ----------
        X : array-like or tensor of shape (n_samples, n_features)
            Images as rows, finite.

        Returns
        -------
        coefficients : ndarray or tensor of shape (n_samples, n_features_out)
            In the units of X and, if that is float32 or float64, of its dtype.
            A tensor for a tensor, on its device, without a gradient.
            ``n_features_out`` is the product of `output_shape_`.

        Raises
        ------
        ValueError
            If X has another number of features than in fit, or NaN or infinite
            entries.
        """
        check_is_fitted(self)
        X = self._validate(X, reset=False)
        device = resolve_device(self.device, X)
        height, width, n_channels = self._image_shape()
        is_tensor = isinstance(X, torch.Tensor)
        coefficients = torch.empty(
            (len(X), math.prod(self.output_shape_)),
            dtype=X.dtype if is_tensor else getattr(torch, X.dtype.name),
            device=X.device if is_tensor else "cpu",
        )
        scattering = Scattering(
            (height, width),
            self.J,
            self.L,
            self.order,
            dtype=coefficients.dtype,
            device=device,
        )
        rows = RowLoader(X, device=device)
        with torch.inference_mode():
            for block in rows.chunks(self._n_images_at_a_time(device)):
                images = rows.load(block)[0].view(-1, height, width, n_channels)
                images = images.permute(0, 3, 1, 2).flatten(0, 1)
                exponents = _safe_exponents(images)
                if exponents is None:
                    scattered = scattering.transform(images)
                else:
                    images = _ldexp(images, -exponents)
                    scattered = _ldexp(scattering.transform(images), exponents)
                coefficients[block] = scattered.reshape(-1, coefficients.shape[1])
        return coefficients if is_tensor else coefficients.numpy()

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Name the columns that :meth:`transform` gives.

        Parameters
        ----------
        input_features : Ignored
            Present by convention.

        Returns
        -------
        names : ndarray of str, of shape (n_features_out,)
            "order0_y0_x0", "order1_j0_theta3_y0_x0",
            "order2_j0_theta3_j1_theta5_y0_x0" and so on: order, scale and
            orientation of each wavelet, row and column of the place. Where
            `image_shape` has channels, they begin with their number, as in
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

    def _paths(self):
        """Names of the paths of one channel, in order."""
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

    def _image_shape(self):
        """(height, width, n_channels), checked."""
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
        return shape if len(shape) == 3 else (*shape, 1)

    def _validate(self, X, reset):
        """Check X; return it as an array or tensor, not copied if floating."""
        X = validate_rows(self, X, reset)
        blocks = RowLoader(X, device=torch.device("cpu")).chunks()
        if any(math.isnan(X[block].min()) for block in blocks):
            raise ValueError(
                "Input X contains NaN, which ScatteringTransform does not take: one "
                "missing pixel would spoil all coefficients around it. Fill missing "
                "pixels first, with MixMateClustering(...).fit(X).reconstruct(X) or "
                "sklearn.impute.SimpleImputer."
            )
        return X

    def _n_images_at_a_time(self, device):
        if self.batch_size != "auto":
            return self.batch_size
        height, width, n_channels = self._image_shape()
        n_pixels = _padded_size(height, self.J) * _padded_size(width, self.J)
        n_wavelets = self.L
        if self.order == 2 and self.J > 1:  # at half the resolution
            n_wavelets = max(self.L, self.L**2 // 4)
        n_entries = _CPU_ENTRIES if device.type == "cpu" else _DEVICE_ENTRIES
        n_least = min(_LEAST_IMAGES, _MOST_ENTRIES // (n_pixels * n_wavelets))
        n_planes = max(n_least, n_entries // (n_pixels * n_wavelets))
        return max(1, n_planes // n_channels)
