"""Scattering coefficients by matrix products of torch, on any device.

Two choices make it fast:

- Images are along the last axis, so that all operations are products of small
  matrices with large ones: Fourier transforms (see ``_fourier.py``), and, if
  convolutions are subsampled by k, sums over the k x k frequencies that become aliases,
  for all orientations and images at once (see :class:`Wavelets`).
- The final average is computed at few positions only, and is separable: it is two
  small matrices, applied from both sides, which also leave out the margins.
"""

import math

import torch

from ._filters import average_matrix, padded_size, reflected, wavelet_spectra
from ._fourier import Buffers, Fourier, choose_fourier

# Complex entries of the largest buffer of a batch: on a CPU, few enough to fit into the
# caches; elsewhere, enough to use all of the device.
_CPU_ENTRIES, _DEVICE_ENTRIES = 2**19, 2**24

# Minimum number of images in a batch, so that matrix products have enough columns, as
# long as they have no more entries than this.
_MIN_IMAGES, _MAX_ENTRIES = 4, 2**22


class Wavelets:
    """Convolve images of one resolution with the wavelets of one scale.

    The result is subsampled if the wavelets are large: in its spectrum, frequencies
    that become aliases of each other are added up.

    Parameters
    ----------
    spectra : float64 tensor of shape (n_angles, height, width)
        Fourier transforms of the wavelets.
    fourier : Fourier
        Transforms of the size of the subsampled result.
    """

    def __init__(self, spectra: torch.Tensor, fourier: Fourier) -> None:
        height, width = spectra.shape[1:]
        self.fourier = fourier
        factor, half = height // fourier.height, width // 2 + 1
        settings = fourier.buffers.settings
        row, column = (torch.arange(size, device="cpu") for size in (height, width))
        row = row[:, None]
        is_conjugate = (column >= half).expand(height, width)
        row = torch.where(is_conjugate, -row % height, row)
        column = torch.where(is_conjugate, width - column, column)
        real = self._fold(2 * row * half + column, factor)
        # By row, column, real or imaginary part, and alias.
        index = torch.stack([real, real + half], dim=2).flatten()
        self.index = index.to(settings["device"])
        # Negligible tails are set to 0: they would be denormal numbers, which are slow.
        is_tail = spectra.abs() < torch.finfo(spectra.dtype).eps * spectra.abs().max()
        spectra = spectra.masked_fill(is_tail, 0) / factor**2
        signs = 1.0 - 2.0 * is_conjugate.float()
        parts = [self._fold(part, factor) for part in (spectra, spectra * signs)]
        # (height * width * 2, n_angles, factor ** 2)
        filters = torch.stack(parts, dim=2).flatten(0, 2)
        self.filters = filters.to(**settings)

    @staticmethod
    def _fold(values: torch.Tensor, factor: int) -> torch.Tensor:
        """Gather the frequencies that are aliases after subsampling by a factor.

        Parameters
        ----------
        values : tensor of shape (..., height, width)
        factor : int

        Returns
        -------
        folded : tensor of shape (height / factor, width / factor, ..., factor ** 2)
        """
        *leading, height, width = values.shape
        folded = values.reshape(
            *leading, factor, height // factor, factor, width // factor
        )
        return folded.movedim((-3, -1), (0, 1)).flatten(-2)

    def moduli(self, spectra: torch.Tensor, name: str) -> torch.Tensor:
        """Compute the moduli of images convolved with each of the wavelets.

        Parameters
        ----------
        spectra : tensor of shape (height, 2, width // 2 + 1, n_images)
            Spectra of the images, as from :meth:`Fourier.spectra`.
        name : str
            Name of the buffer for the moduli.

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
        # bmm is slow for outer products of two vectors.
        multiply = torch.mul if n_folded == 1 else torch.bmm
        multiply(self.filters, folded, out=products)
        height, width = self.fourier.height, self.fourier.width
        return self.fourier.moduli(products.view(height, width, 2, -1), name)


class TorchScattering:
    """Compute the scattering coefficients of images of one size.

    Parameters
    ----------
    shape : tuple of int
        (height, width) of the images.
    J, L, order : int
        See :class:`ScatteringTransform`.
    dtype : torch.dtype
    device : torch.device

    Attributes
    ----------
    images_at_a_time : int
        Number of images for which :meth:`transform` is fastest.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        J: int,
        L: int,
        order: int,
        *,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.J, self.L, self.order = J, L, order
        padded = [padded_size(size, J) for size in shape]
        axes = list(zip(shape, padded, strict=True))
        self.margins = [reflected(*axis).to(device) for axis in axes]
        self.averages = [
            [average_matrix(*axis, J, j).to(device, dtype) for axis in axes]
            for j in range(J)
        ]
        buffers = Buffers(dtype, device)
        # By the scale j, for images subsampled by 2 ** j.
        self.fourier = [
            choose_fourier(padded[0] // 2**j, padded[1] // 2**j, buffers)
            for j in range(J)
        ]
        # By the scale of the images that they are applied to, and that of the wavelets.
        self.wavelets = {
            (start, j): Wavelets(spectra, self.fourier[j])
            for (start, j), spectra in wavelet_spectra(padded, J, L, order).items()
        }
        self.images_at_a_time = self._choose_batch_size(padded, device)

    def _choose_batch_size(self, padded: list[int], device: torch.device) -> int:
        n_wavelets = self.L
        if self.order == 2 and self.J > 1:  # at half the resolution
            n_wavelets = max(self.L, self.L**2 // 4)
        n_entries = _CPU_ENTRIES if device.type == "cpu" else _DEVICE_ENTRIES
        n_each = math.prod(padded) * n_wavelets
        return max(1, min(_MIN_IMAGES, _MAX_ENTRIES // n_each), n_entries // n_each)

    def transform(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the scattering coefficients of images.

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
        flat = [averages.flatten(1, -2) for averages in [*paths, *second]]
        return torch.cat(flat, dim=1).permute(2, 1, 0)

    def _second_order(self, moduli: torch.Tensor, j1: int) -> torch.Tensor:
        """Compute the coefficients of order 2 from the moduli at scale `j1`.

        Parameters
        ----------
        moduli : tensor of shape (height, width, L * n_images)
        j1 : int

        Returns
        -------
        averages : tensor of shape (n_positions, L, J - 1 - j1, L, n_images)
            By the first angle, the second scale and the second angle.
        """
        spectra = self.fourier[j1].spectra(moduli, "spectra of moduli")
        averages = []
        for j2 in range(j1 + 1, self.J):
            moduli = self.wavelets[j1, j2].moduli(spectra, "moduli of moduli")
            averages.append(self._average(moduli, j2, self.L, self.L))
        # In the moduli the second angle comes before the first.
        return torch.stack(averages, dim=1).movedim(3, 1)

    def _average(self, moduli: torch.Tensor, j: int, *n_angles: int) -> torch.Tensor:
        """Average moduli at scale `j`.

        Parameters
        ----------
        moduli : tensor of shape (height, width, prod(n_angles) * n_images)
        j : int
        *n_angles : int

        Returns
        -------
        averages : tensor of shape (n_positions, *n_angles, n_images)
        """
        down, across = self.averages[j]
        averaged = torch.bmm(across.expand(len(moduli), -1, -1), moduli)
        averaged = down @ averaged.flatten(1)
        return averaged.view(len(down) * len(across), *n_angles, -1)
