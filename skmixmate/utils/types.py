"""Types of the public interface."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# Input: array-likes, including DataFrames and tensors, sparse matrices, objects that
# return slices of rows, and datasets and loaders of torch.
Data = npt.ArrayLike | torch.Tensor | Any

# Output: a tensor if the input is one, otherwise an array, or the container selected
# with `set_output`.
ArrayOut = np.ndarray | torch.Tensor | Any
