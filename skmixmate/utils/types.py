"""Types of the public interface."""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

# What is taken: anything array-like, a DataFrame and a tensor among it, and what
# gives slices of rows, data sets and loaders of torch.
Data = npt.ArrayLike | torch.Tensor | Any

# What is answered: a tensor for a tensor, else an array (or what `set_output`
# asks for).
ArrayOut = np.ndarray | torch.Tensor | Any
