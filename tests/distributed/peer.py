"""Fits of two processes on this machine: the process of the tests and a peer."""

import datetime
import os
import warnings

import numpy as np
import torch
from sklearn.callback import ScoringMonitor
from sklearn.metrics import normalized_mutual_info_score as nmi
from torch import distributed as dist
from torch import multiprocessing

from skmixmate import MixMateClustering
from skmixmate.datasets import make_sparse_mixture

SIZES = (180, 120)  # rows of the two processes


def join(rank, folder):
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"  # the tests stay on this machine
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=rank,
        world_size=2,
        timeout=datetime.timedelta(seconds=60),
    )


def attempt(function, args):
    try:
        return function(*args)
    except (Exception, KeyboardInterrupt) as error:
        return error


def run_peer(folder, connection):
    warnings.simplefilter("ignore")
    join(1, folder)
    while True:
        connection.send(attempt(*connection.recv()))


class Peer:
    """The other process, and calls of functions in both."""

    def __init__(self, folder):
        context = multiprocessing.get_context("spawn")
        self.connection, peer_connection = context.Pipe()
        self.process = context.Process(
            target=run_peer, args=(folder, peer_connection), daemon=True
        )
        self.process.start()
        join(0, folder)

    def both(self, function, *args):
        """Call a function in both processes, and return both results."""
        results = self.attempts(function, *args)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    def attempts(self, function, *args):
        """Call a function in both processes, and return both results or errors."""
        self.connection.send((function, args))
        result = attempt(function, args)
        return result, self.connection.recv()

    def close(self):
        self.process.kill()
        self.process.join()
        dist.destroy_process_group()


def shards(sizes=SIZES, missing=0.0):
    mixture = make_sparse_mixture(
        sum(sizes), 16, n_atoms=4, missing=missing, random_state=0
    )
    return (
        np.split(mixture.data, np.cumsum(sizes)[:-1]),
        np.split(mixture.target, np.cumsum(sizes)[:-1]),
    )


def small(**params):
    defaults = {"n_atoms": 6, "max_iter": 4, "tol": 0, "batch_size": 30}
    defaults |= {"n_clusters": 3, "random_state": 0}
    return MixMateClustering(**{**defaults, **params})


def fit(params, sizes=SIZES, missing=0.0):
    """Fit the rows of this process; return attributes, and scores of its labels."""
    X, y = (shard[dist.get_rank()] for shard in shards(sizes, missing))
    if "likelihood" in params:
        X = np.where(np.isnan(X), X, X > 0)
    return evaluate(small(**params).fit(X), X, y)


def evaluate(mixmate, X, y):
    names = ("dictionaries_", "intercepts_", "weights_", "noise_variance_")
    names = (*names, "likelihood_", "scale_", "loss_curve_", "n_clusters_")
    state = {name: getattr(mixmate, name) for name in names}
    own = {
        "agrees": np.array_equal(mixmate.predict(X), mixmate.labels_),
        "score": nmi(y, mixmate.labels_),
        "labels": mixmate.labels_,
    }
    return state | {"loss_": mixmate.loss_}, own


def assert_same(one, other):
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)


class StopInOne(ScoringMonitor):
    """Stops the training of one process after two epochs."""

    def __init__(self):
        super().__init__(scoring=None)
        self.n_epochs = 0

    def on_fit_task_end(self, estimator, context):
        self.n_epochs += context.task_name == "epoch"
        return dist.get_rank() == 1 and self.n_epochs == 2
