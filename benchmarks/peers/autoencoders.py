"""K-DAE and DAMIC, the mixtures of auto-encoders in the paper's Table 1.

Neither has a maintained package; these are small versions after the papers. A
cluster is an auto-encoder, and a sample belongs to the one that reconstructs it
best (K-DAE), or that a further network chooses (DAMIC). Both start from k-means on
the codes of a single auto-encoder, and each cluster's auto-encoder from its members.
The sizes of the layers are those that give the numbers of parameters in Table 1:
1024, 256 and 10 units, mirrored, and 512 and 512 in the clustering network.

References
----------
Y. Opochinsky, S. E. Chazan, S. Gannot and J. Goldberger, K-autoencoders deep
clustering, ICASSP 2020.

S. E. Chazan, S. Gannot and J. Goldberger, Deep clustering based on a mixture of
autoencoders, MLSP 2019.
"""

import itertools
import math

import numpy as np
import torch
from sklearn.cluster import KMeans
from torch.nn import functional

HIDDEN, N_CODES, CLUSTERING_HIDDEN = (1024, 256), 10, (512, 512)
BATCH_SIZE, LEARNING_RATE = 256, 1e-3
PRETRAINING_EPOCHS, EPOCHS = 50, 50
NEGLIGIBLE = 1e-9  # responsibilities, whose rows are left out of the gradient


class Networks(torch.nn.Module):
    """Several networks of the same layers, side by side.

    Parameters
    ----------
    n_networks : int
    sizes : sequence of int
        Units of each layer, the input's first.
    generator : torch.Generator
        Draws the first weights, uniformly as torch's Linear does.
    linear : tuple of int
        Layers that are not followed by a rectifier.
    """

    def __init__(self, n_networks, sizes, generator, linear):
        super().__init__()
        self.linear = linear
        self.weights, self.biases = torch.nn.ParameterList(), torch.nn.ParameterList()
        for n_in, n_out in itertools.pairwise(sizes):
            for parameters, shape in (
                (self.weights, (n_networks, n_in, n_out)),
                (self.biases, (n_networks, 1, n_out)),
            ):
                uniform = torch.rand(shape, generator=generator) * 2 - 1
                parameters.append(uniform / math.sqrt(n_in))

    def forward(self, rows, last=None):
        """Apply all networks, or their first layers, to rows.

        Parameters
        ----------
        rows : tensor of shape (n_rows, n_in) or (n_networks, n_rows, n_in)
        last : int, default=None
            Number of layers; None for all.

        Returns
        -------
        outputs : tensor of shape (n_networks, n_rows, n_out)
        """
        for layer in range(len(self.weights) if last is None else last):
            rows = rows @ self.weights[layer] + self.biases[layer]
            if layer not in self.linear:
                rows = functional.relu(rows)
        return rows

    def apply_each(self, groups):
        """Apply each network to rows of its own.

        Parameters
        ----------
        groups : list of n_networks tensors of shape (n_rows, n_in)
            The numbers of rows may differ.

        Returns
        -------
        outputs : list of n_networks tensors of shape (n_rows, n_out)
        """
        for layer, (weights, biases) in enumerate(
            zip(self.weights, self.biases, strict=True)
        ):
            # Each network's part, cut once: its gradients are joined once, too.
            parts = zip(groups, weights.unbind(), biases.unbind(), strict=True)
            groups = [torch.addmm(bias, rows, weight) for rows, weight, bias in parts]
            if layer not in self.linear:
                groups = [functional.relu(rows) for rows in groups]
        return groups


def autoencoders(n_networks, n_features, generator, hidden=HIDDEN):
    """Mirrored auto-encoders, with linear codes and outputs."""
    sizes = (n_features, *hidden, N_CODES, *hidden[::-1], n_features)
    n_encoding = len(hidden) + 1
    return Networks(
        n_networks, sizes, generator, linear=(n_encoding - 1, 2 * n_encoding - 1)
    )


def errors(networks, rows):
    """Squared reconstruction errors, of shape (n_networks, n_rows)."""
    return (networks(rows) - rows).square().sum(dim=2)


def weighted_errors(networks, rows, weights):
    """Sum squared errors with weights; those without a weight are not computed.

    Parameters
    ----------
    rows : tensor of shape (n_rows, n_features)
    weights : tensor of shape (n_networks, n_rows)
        Weights below `NEGLIGIBLE` are taken as 0.
    """
    members = [torch.nonzero(of_one > NEGLIGIBLE)[:, 0] for of_one in weights]
    groups = [rows[of_one] for of_one in members]
    total = 0.0
    for k, outputs in enumerate(networks.apply_each(groups)):
        squared = (outputs - groups[k]).square().sum(dim=1)
        total = total + weights[k, members[k]] @ squared
    return total


def minimize(loss, modules, draw, n_steps):
    """Take steps of Adam on ``loss(batch)`` for batches that `draw` gives."""
    parameters = [p for module in modules for p in module.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=LEARNING_RATE, fused=True)
    for _ in range(n_steps):
        optimizer.zero_grad(set_to_none=False)
        loss(draw()).backward()
        optimizer.step()


class Trainer:
    """The data, and the steps that the methods share."""

    def __init__(self, X, n_clusters, random_state, hidden=HIDDEN):
        self.rows = torch.from_numpy(X)
        self.n_clusters = n_clusters
        self.random_state = random_state
        self.hidden = hidden
        self.generator = torch.Generator().manual_seed(random_state)
        self.n_steps = len(X) // BATCH_SIZE  # in an epoch

    def draw(self):
        """Draw the indices of a mini-batch."""
        return torch.randint(len(self.rows), (BATCH_SIZE,), generator=self.generator)

    def single_codes(self):
        """Codes of a single auto-encoder, after its training."""
        single = autoencoders(1, self.rows.shape[1], self.generator, self.hidden)
        minimize(
            lambda batch: errors(single, self.rows[batch]).mean(),
            [single],
            self.draw,
            PRETRAINING_EPOCHS * self.n_steps,
        )
        self.n_single_parameters = sum(p.numel() for p in single.parameters())
        with torch.no_grad():
            return single(self.rows, last=len(self.hidden) + 1)[0].numpy()

    def initial_labels(self):
        """k-means on the codes of a single auto-encoder."""
        kmeans = KMeans(self.n_clusters, n_init=20, random_state=self.random_state)
        labels = kmeans.fit_predict(self.single_codes())
        return torch.from_numpy(labels.astype(np.int64))

    def autoencoders(self, labels):
        """One auto-encoder for each cluster, trained on its members.

        Each sees its rows as often as the single one did.
        """
        networks = autoencoders(self.n_clusters, self.rows.shape[1], self.generator)
        groups = [torch.nonzero(labels == k)[:, 0] for k in range(self.n_clusters)]
        minimize(
            lambda batch: errors(networks, self.rows[batch]).mean(),
            [networks],
            lambda: torch.stack([group[self.draw() % len(group)] for group in groups]),
            PRETRAINING_EPOCHS * self.n_steps // self.n_clusters,
        )
        return networks

    def k_dae(self, networks, labels):
        """Train each auto-encoder on the rows that it reconstructs best."""

        def loss(batch):
            rows = self.rows[batch]
            with torch.no_grad():
                best = errors(networks, rows).argmin(dim=0)
            weights = functional.one_hot(best, self.n_clusters).T.float()
            return weighted_errors(networks, rows, weights) / len(rows)

        minimize(loss, [networks], self.draw, EPOCHS * self.n_steps)
        return [networks], lambda rows: -errors(networks, rows)

    def damic(self, networks, labels):
        """Train the auto-encoders together with a network that chooses one."""
        sizes = (self.rows.shape[1], *CLUSTERING_HIDDEN, self.n_clusters)
        chooser = Networks(1, sizes, self.generator, linear=(len(sizes) - 2,))

        def classify(batch):
            return functional.cross_entropy(chooser(self.rows[batch])[0], labels[batch])

        def loss(batch):
            rows = self.rows[batch]
            log_probabilities = chooser(rows)[0].log_softmax(dim=1).T
            # The gradient of the log-likelihood, -logsumexp(log_probabilities -
            # errors), is that of its expected form at these responsibilities.
            with torch.no_grad():
                responsibilities = (log_probabilities - errors(networks, rows)).softmax(
                    dim=0
                )
            expected = weighted_errors(networks, rows, responsibilities)
            return (expected - (responsibilities * log_probabilities).sum()) / len(rows)

        n_pretraining = PRETRAINING_EPOCHS * self.n_steps // self.n_clusters
        minimize(classify, [chooser], self.draw, n_pretraining)
        minimize(loss, [networks, chooser], self.draw, EPOCHS * self.n_steps)
        return [networks, chooser], lambda rows: chooser(rows)[0].T


class MixtureOfAutoencoders:
    """K-DAE, or DAMIC.

    Parameters
    ----------
    n_clusters : int
    method : {"k_dae", "damic"}
    random_state : int

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
    n_parameters_ : int
    """

    def __init__(self, n_clusters, method, random_state):
        self.n_clusters = n_clusters
        self.method = method
        self.random_state = random_state

    def fit(self, X):
        """Cluster the rows of X, float32 of shape (n_samples, n_features)."""
        trainer = Trainer(X, self.n_clusters, self.random_state)
        labels = trainer.initial_labels()
        networks = trainer.autoencoders(labels)
        modules, scores = getattr(trainer, self.method)(networks, labels)
        self.n_parameters_ = sum(p.numel() for m in modules for p in m.parameters())
        with torch.no_grad():
            found = [scores(rows).argmax(dim=0) for rows in trainer.rows.split(1024)]
        self.labels_ = torch.cat(found).numpy()
        return self
