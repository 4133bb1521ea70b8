"""Threads of the matrix products of numpy and scipy."""

import contextlib
import functools
from collections.abc import Iterator

from threadpoolctl import ThreadpoolController  # scikit-learn depends on it


@contextlib.contextmanager
def single_blas_thread(when: bool = True) -> Iterator[None]:
    """Compute matrix products of numpy and scipy in one thread.

    After a product the threads of BLAS wait for the next one without sleeping, for some
    milliseconds, and keep the cores from the threads of k-means, of torch, and of the
    other copy of BLAS (numpy and scipy have one each). Where products are small, or
    other computations lie between them, one thread is faster than two.

    Parameters
    ----------
    when : bool, default=True
        If False, nothing is changed.

    Examples
    --------
    >>> from threadpoolctl import threadpool_info
    >>> from skmixmate.utils.threads import single_blas_thread
    >>> with single_blas_thread():
    ...     pools = threadpool_info()
    >>> {pool["num_threads"] for pool in pools if pool["user_api"] == "blas"}
    {1}
    """
    if not when:
        yield
        return
    with _blas_controller().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _blas_controller() -> ThreadpoolController:
    """Find the loaded libraries, which takes milliseconds, once a process."""
    return ThreadpoolController()
