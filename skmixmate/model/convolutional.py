r"""A mixture of convolutional sparse dictionary models.

Each cluster has a few small filters, and an image is the sum of its filters, each
convolved with a sparse map of codes, plus its own brightness. In the terms of Eq. 1
the atoms of a dictionary are all shifts of its filters. A map of codes has the size of
the image, with the middle of the filter on the pixel of the code; what then lies beyond
the border is cut off, as if the image was a window in a larger one.
"""

from dataclasses import dataclass

import torch
from torch.nn.functional import conv2d, conv_transpose2d, pad, softshrink

from .encoder import largest_eigenvalue, momenta
from .posterior import loss_gradient


@dataclass
class ConvolutionalMixture:
    """A mixture of convolutional sparse dictionary models.

    Parameters
    ----------
    dictionaries : tensor of shape (n_clusters, n_filters, n_features)
        The filters, pixel by pixel and channels last, of norm 1.
    weights : tensor of shape (n_clusters,)
        Prior probability of each cluster, pi in the paper.
    image_shape : tuple of int
        (height, width, n_channels).
    filter_size : int
        Height and width of the filters; odd.
    alpha : float
        Rate of the Laplace prior on the codes, lambda in the paper.
    n_layers : int
        Number of layers of the encoder.
    center : bool
        Whether each image has a brightness of its own, a number for each channel:
        the mean of its pixels.

    Examples
    --------
    A white pixel is one code of a filter that is one white pixel:

    >>> import torch
    >>> from skmixmate.model.convolutional import ConvolutionalMixture
    >>> mixture = ConvolutionalMixture(
    ...     dictionaries=torch.ones(1, 1, 1), weights=torch.ones(1),
    ...     image_shape=(2, 2, 1), filter_size=1, alpha=1.0, n_layers=5, center=False,
    ... )
    >>> codes, energies = mixture.infer(torch.tensor([[0.0, 0.0, 3.0, 0.0]]))
    >>> codes[0, 0, 0]
    tensor([[0., 0.],
            [2., 0.]])
    >>> energies
    tensor([[3.]])
    """

    dictionaries: torch.Tensor
    weights: torch.Tensor
    image_shape: tuple[int, int, int]
    filter_size: int
    alpha: float
    n_layers: int
    center: bool

    # A cluster has none: the brightness of each image stands in.
    intercepts = None

    # The paper's; it is not learned.
    noise_variance = 0.5

    # Which rows count for a cluster, the host has to know.
    keeps_to_device = False

    @property
    def filters(self):
        """Filters of shape (n_clusters, n_filters, n_channels, size, size)."""
        shape = (self.filter_size, self.filter_size, self.image_shape[2])
        return self.dictionaries.unflatten(2, shape).movedim(4, 2)

    def curvature(self):
        """Step sizes that the filters allow.

        Returns
        -------
        steps : tensor of shape (n_clusters,)
        """
        return largest_curvature(self.filters, self.image_shape[:2]).reciprocal()

    def infer(self, rows, observed=None, curvature=None):
        """Codes and energies of rows under every cluster (Eq. 3-5).

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_features)
            Images, pixel by pixel and channels last; missing entries hold 0.
        observed : bool tensor of shape (n_rows, n_features), default=None
            False where an entry is missing; None if nothing is.
        curvature : tensor, default=None
            What :meth:`curvature` gives, if at hand.

        Returns
        -------
        codes : tensor of shape (n_clusters, n_rows, n_filters, height, width)
        energies : tensor of shape (n_clusters, n_rows)
        """
        steps = self.curvature() if curvature is None else curvature
        images, mask, _ = self.unfold(rows, observed)
        explained = [
            self._explain(images, mask, filters, step)
            for filters, step in zip(self.filters, steps, strict=True)
        ]
        codes, costs = (torch.stack(parts) for parts in zip(*explained, strict=True))
        return codes, costs - self.weights.log()[:, None]

    def e_step(self, rows, observed, curvature):
        """Infer codes and energies, as :meth:`infer` does."""
        return self.infer(rows, observed, curvature)

    def add_gradient(
        self, gradient, rows, observed, inferred, responsibilities, curvature
    ):
        """Add the gradient of the summed loss in the filters, through all layers.

        A cluster goes forward once more, and backward, with the rows alone that count
        for it. Autograd does it; the step size is not taken as a constant.

        Parameters
        ----------
        gradient, rows, observed, inferred, responsibilities, curvature
            As in :meth:`Mixture.add_gradient`; the curvature is not used. Added is
            what turns a filter alone. Longer ones always lower the loss; Adam, which
            takes each pixel by itself, would bend them on the way, and few pixels
            weigh much.
        """
        slopes = loss_gradient(inferred[1], responsibilities)
        images, mask, _ = self.unfold(rows, observed)
        for k in range(len(slopes)):
            members = slopes[k].nonzero()[:, 0]
            if not len(members):
                continue
            own_mask = None if mask is None else mask[members]
            with torch.enable_grad():
                filters = self.filters[k].detach().requires_grad_()
                # The step follows the filters: taken as a constant, it would shrink
                # as they become alike, and leave codes ever less done.
                bound = largest_curvature(filters[None], self.image_shape[:2])
                step = bound[0].reciprocal()
                _, costs = self._explain(images[members], own_mask, filters, step)
                (slope,) = torch.autograd.grad(costs, filters, slopes[k, members])
            slope = slope.movedim(1, 3).flatten(1)  # (n_filters, n_features)
            along = (slope * self.dictionaries[k]).sum(dim=1, keepdim=True)
            gradient[k] += slope - along * self.dictionaries[k]

    def _explain(self, images, mask, filters, step):
        """Codes under one cluster, and their energies but for its weight."""
        codes = encode(images, mask, filters, step, self.alpha, self.n_layers)
        squares = _residual(images, mask, filters, codes).square().sum(dim=(1, 2, 3))
        return codes, squares + self.alpha * codes.abs().sum(dim=(1, 2, 3))

    def unfold(self, rows, observed):
        """Take rows apart into images and their brightness.

        Parameters
        ----------
        rows, observed
            As in :meth:`infer`.

        Returns
        -------
        images : tensor of shape (n_rows, n_channels, height, width)
            Less the brightness; missing entries hold 0.
        mask : tensor of shape (n_rows, n_channels, height, width) or None
            1 where an entry was observed, 0 where it is missing.
        brightness : tensor of shape (n_rows, n_channels, 1, 1)
            Mean of the observed pixels; zeros without `center`.
        """
        images = rows.unflatten(1, self.image_shape).movedim(3, 1)
        mask = None
        if observed is not None:
            mask = observed.to(rows.dtype).view_as(rows)
            mask = mask.unflatten(1, self.image_shape).movedim(3, 1)
        brightness = images.new_zeros(*images.shape[:2], 1, 1)
        if self.center:
            brightness = images.mean(dim=(2, 3), keepdim=True)
            if mask is not None:
                share = mask.mean(dim=(2, 3), keepdim=True)
                brightness = torch.where(share > 0, brightness / share, 0)
        images = images - brightness
        return images if mask is None else images * mask, mask, brightness

    def decode(self, codes, labels, brightness):
        """Reconstruct rows from their codes in given clusters (the decoder).

        Parameters
        ----------
        codes : tensor of shape (n_rows, n_filters, height, width)
            Code of each row in the filters of its label.
        labels : int tensor of shape (n_rows,)
        brightness : tensor of shape (n_rows, n_channels, 1, 1)

        Returns
        -------
        rows : tensor of shape (n_rows, n_features)
        """
        height, width, n_channels = self.image_shape
        images = codes.new_empty(len(codes), n_channels, height, width)
        for label in labels.unique():
            members = labels == label
            images[members] = convolve(codes[members], self.filters[label])
        return (images + brightness).movedim(1, 3).flatten(1)


def encode(images, mask, filters, step, alpha, n_layers):
    """Sparse maps of codes under one set of filters: FISTA, unrolled (Eq. 3-4).

    Parameters
    ----------
    images : tensor of shape (n_rows, n_channels, height, width)
        Missing entries hold 0.
    mask : tensor of shape (n_rows, n_channels, height, width) or None
        1 where an entry was observed, 0 where it is missing.
    filters : tensor of shape (n_filters, n_channels, size, size)
    step : tensor, a number
        Step size, eta in the paper.
    alpha : float
    n_layers : int

    Returns
    -------
    codes : tensor of shape (n_rows, n_filters, height, width)
        Differentiable in the filters.
    """
    # In units of the step size, in which the threshold is alpha.
    codes = before = softshrink(correlate(images, filters), alpha)
    for momentum in momenta(n_layers):
        points = codes + momentum * (codes - before)
        left = _residual(images, mask, filters, step * points)
        before, codes = codes, softshrink(points + correlate(left, filters), alpha)
    return step * codes


def _residual(images, mask, filters, codes):
    """Give what codes leave of the observed entries."""
    left = images - convolve(codes, filters)
    return left if mask is None else left * mask


def convolve(codes, filters):
    """Sum of the filters, each convolved with its map of codes.

    Parameters
    ----------
    codes : tensor of shape (n_rows, n_filters, height, width)
    filters : tensor of shape (n_filters, n_channels, size, size)

    Returns
    -------
    images : tensor of shape (n_rows, n_channels, height, width)
    """
    return conv_transpose2d(codes, filters, padding=filters.shape[-1] // 2)


def correlate(images, filters):
    """Inner products of images with the filters at all places.

    The adjoint of :func:`convolve`.

    Parameters
    ----------
    images : tensor of shape (n_rows, n_channels, height, width)
    filters : tensor of shape (n_filters, n_channels, size, size)

    Returns
    -------
    maps : tensor of shape (n_rows, n_filters, height, width)
    """
    return conv2d(images, filters, padding=filters.shape[-1] // 2)


def largest_curvature(filters, image_shape):
    r"""Bound the largest eigenvalue of correlation after convolution from above.

    A window of a torus, with room for the borders, is what the images are. On the
    torus convolutions are products in the Fourier domain, and the eigenvalues are
    those of :math:`\sum_d F_d(\omega) F_d(\omega)^*`, of the size of the channels, at
    all frequencies :math:`\omega`. The window only makes them smaller.

    Parameters
    ----------
    filters : tensor of shape (n_clusters, n_filters, n_channels, size, size)
    image_shape : tuple of int
        (height, width).

    Returns
    -------
    bound : tensor of shape (n_clusters,)

    Examples
    --------
    Two pixels, whose sum may be twice as large as either:

    >>> import torch
    >>> from skmixmate.model.convolutional import largest_curvature
    >>> filters = torch.zeros(1, 1, 1, 3, 3)
    >>> filters[..., 1, :2] = 1.0
    >>> largest_curvature(filters, (5, 5)).item()
    4.0
    """
    size = filters.shape[-1]
    height, width = (n + size // 2 for n in image_shape)
    filters = pad(filters, (0, width - size, 0, height - size))
    # (n_clusters, height, width // 2 + 1, n_channels, n_filters)
    spectrum = torch.fft.rfft2(filters).permute(0, 3, 4, 2, 1)
    gram = spectrum @ spectrum.mH
    bounds = largest_eigenvalue(gram.flatten(0, 2)).unflatten(0, gram.shape[:3])
    return bounds.flatten(1).amax(dim=1)
