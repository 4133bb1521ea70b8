"""Methods that run in a separate environment, because their packages pin versions."""

import json
import os
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch


class Worker:
    """A method that a script of this folder runs in a separate environment.

    The script gets `arguments`, the path of a .npy file with the rows, that of the file
    to write the labels to, and `parameters` as JSON. The last line that it prints is a
    JSON object with at least "parameters", the number that it learned.

    Parameters
    ----------
    python : str
        Path of the Python interpreter of that environment.
    script : str
        Name of the script.
    *arguments : object
    **parameters : dict
        Parameters of the method that differ from its defaults.

    Attributes
    ----------
    labels_ : ndarray of shape (n_samples,)
    description_ : dict
        What the script printed: seconds, versions and more.
    n_parameters_ : int
    """

    def __init__(self, python, script, *arguments, **parameters):
        self.arguments = [python, "-W", "ignore", script, *arguments]
        self.parameters = json.dumps(parameters)

    def fit(self, X):
        """Cluster the rows of X, float32 of shape (n_samples, n_features)."""
        with tempfile.TemporaryDirectory() as folder:
            rows, labels = Path(folder, "rows.npy"), Path(folder, "labels.npy")
            np.save(rows, X)
            output = subprocess.run(
                [*map(str, self.arguments), rows, labels, self.parameters],
                cwd=Path(__file__).parent,
                # numba takes all cores unless it is told how many.
                env=os.environ | {"NUMBA_NUM_THREADS": str(torch.get_num_threads())},
                stdout=subprocess.PIPE,
                check=True,
            ).stdout
            self.labels_ = np.load(labels)
        self.description_ = json.loads(output.splitlines()[-1])
        self.n_parameters_ = self.description_["parameters"]
        return self


class ClustPy(Worker):
    """A deep clustering method of ClustPy.

    Parameters
    ----------
    python : str
        Path of a Python interpreter with ClustPy.
    method : {"DEC", "DCN"}
    seed : int
    **parameters : dict
        Parameters of the method that differ from its defaults.
    """

    def __init__(self, python, method, seed, **parameters):
        super().__init__(python, "clustpy_worker.py", method, seed, **parameters)
