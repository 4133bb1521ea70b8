r"""Skipping, in the E-step, clusters that cannot matter to a row: an experiment.

For any vector r of the features that satisfies :math:`2 |a \cdot r| \le \alpha` for
every atom a, weak duality says of every code x, that of any encoder too,

.. math:: \|y - A^T x\|^2 + \alpha \|x\|_1 \ge 2\, y \cdot r - \|r\|^2.

With :math:`r = s (y - A^T z)`, z any code and s small enough to satisfy the
condition, all terms come from inner products, as in the encoder. What is left is a
good z. At the best r, twice the correlation of an atom with r is :math:`\pm \alpha`
where the atom is used, and less elsewhere. A ridge regression already tells which
atoms would be used, and with which sign: its coefficients, clipped to what is
allowed, are taken for these correlations, and z leaves them.

``python -m benchmarks.speed skipping`` tells what it gave; it is not in the package.
"""

import math

import torch

from skmixmate.model.encoder import parts
from skmixmate.model.normal import NormalMixture
from skmixmate.model.posterior import Blocks

# Added to Gram matrices of atoms of norm 1: the first for the signs, the best of .1,
# .3 and 1 on dictionaries trained on MNIST; the second keeps the inverse finite.
RIDGE, NUGGET = 0.3, 1e-3

# Rounding errors, in units of the squared norm and of the resolution of floats.
ROUNDING = 16


class EnergyBound:
    """Lower bounds on what every code costs, up to the weight of its cluster.

    Parameters
    ----------
    gram : tensor of shape (n_clusters, n_atoms, n_atoms)
    alpha : float
        Rate of the Laplace prior.
    """

    def __init__(self, gram, alpha):
        eye = torch.eye(gram.shape[-1], dtype=gram.dtype)
        self.gram, self.alpha = gram, alpha
        self.ridge, self.inverse = (
            torch.linalg.inv(gram + added * eye) for added in (RIDGE, NUGGET)
        )

    def __call__(self, correlations, norms):
        """Bound the squared error and the prior's value, together, from below.

        Parameters
        ----------
        correlations : tensor of shape (n_clusters, n_atoms, n_rows)
        norms : tensor of shape (n_clusters, n_rows)
            Squared norms of the rows, less the intercept if any.

        Returns
        -------
        bounds : tensor of shape (n_clusters, n_rows)
        """
        bounds = torch.empty_like(norms)
        clusters = list(parts(correlations, correlations[:1].numel()))
        # Memory that is new costs as much as a product.
        buffers = correlations.new_empty(3, *correlations[clusters[0]].shape)
        for part in clusters:
            bounds[part] = self._bound(part, correlations[part], norms[part], buffers)
        return bounds

    def _bound(self, part, correlations, norms, buffers):
        slopes, codes, left = buffers[:, : len(norms)]
        torch.bmm(self.ridge[part], correlations, out=slopes)
        slopes.clamp_(-self.alpha, self.alpha)
        torch.add(correlations, slopes, alpha=-0.5, out=left)
        torch.bmm(self.inverse[part], left, out=codes)
        torch.baddbmm(correlations, self.gram[part], codes, alpha=-1, out=left)
        # y.r and ||r||^2 for s = 1; ||A^T z||^2 = z.(A y) - z.(A r)
        along = norms - torch.mul(codes, correlations, out=slopes).sum(dim=1)
        square = along - torch.mul(codes, left, out=slopes).sum(dim=1)
        largest = torch.maximum(left.amax(dim=1), -left.amin(dim=1))
        scale = (self.alpha / (2 * largest)).clamp_max(1)
        bounds = scale * (2 * along - scale * square)
        return bounds - ROUNDING * torch.finfo(norms.dtype).eps * norms


class SkippingMixture(NormalMixture):
    """A mixture whose E-step skips, in complete rows, what it can.

    A skipped pair of cluster and row has a code of zeros and a lower bound for its
    energy, which leaves the posterior as it is.
    """

    def curvature(self):
        """Return the bound beside the Gram matrices and step sizes."""
        gram, step = super().curvature()
        return gram, step, EnergyBound(gram, self.prior.alpha)

    def add_gradient(self, *args):
        """Go back without the bound."""
        *args, curvature = args
        super().add_gradient(*args, curvature[:2])

    def explain(self, correlations, norms, curvature):
        """Find codes and energies of the pairs that may matter."""
        gram, step, bound = curvature
        codes = torch.zeros_like(correlations)
        energies = bound(correlations, norms) - self.weights.log()[:, None]

        def explain_some(marked):
            whole = Blocks.of(marked)
            for part in parts(whole.index, len(codes[0]) * whole.index.shape[1]):
                blocks = whole[part]
                owners = blocks.owners
                own_codes, costs = self._cost(
                    blocks.take(correlations),
                    blocks.take(norms),
                    gram[owners],
                    step[owners],
                    self.prior.of(owners),
                )
                costs -= self.weights.log()[owners, None]
                energies[owners[:, None], blocks.index] = costs
                codes.mT[owners[:, None], blocks.index] = own_codes.mT

        # FISTA need not descend, so no layer but the last tells what to compare the
        # bounds with: the energy of the most promising cluster comes first.
        first = energies.argmin(dim=0, keepdim=True)
        marked = torch.zeros_like(energies, dtype=torch.bool).scatter_(0, first, True)
        explain_some(marked)
        best = energies.gather(0, first)
        # All that is skipped has, together, less than a float can add to 1.
        margin = math.log(len(energies) / torch.finfo(energies.dtype).eps)
        explain_some(energies <= best + margin)
        return codes, energies
