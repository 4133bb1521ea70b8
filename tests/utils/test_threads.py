"""Threads of matrix products."""

import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from skmixmate.utils.threads import single_blas_thread


def blas_threads():
    return [p["num_threads"] for p in threadpool_info() if p["user_api"] == "blas"]


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(2, user_api="blas"):
        yield


@pytest.mark.parametrize(("when", "expected"), [(True, {1}), (False, {2})])
def test_products_have_one_thread_when_asked(when, expected):
    with single_blas_thread(when):
        assert set(blas_threads()) == expected
    assert set(blas_threads()) == {2}


def test_number_of_threads_is_restored_after_an_error():
    with pytest.raises(KeyError), single_blas_thread():
        raise KeyError
    assert set(blas_threads()) == {2}
