"""Fixtures of the tests of the estimator."""

import pytest

from skmixmate.data import loader as _rows
from skmixmate.data import readers as _sources
from skmixmate.estimators import _base, _inference

from ..helpers import data, small


@pytest.fixture(scope="module")
def fitted():
    return small().fit(data())


@pytest.fixture
def small_readings(monkeypatch):
    """Read 50 rows of 16 features at a time, and shuffle within 64 rows."""
    monkeypatch.setattr(_inference, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(_sources, "_CHUNK_ENTRIES", 50 * 16)
    monkeypatch.setattr("skmixmate.data.streams._CHUNK_ENTRIES", 50 * 16)
    monkeypatch.setattr(_sources, "_MAX_GAP", 5 * 16)
    monkeypatch.setattr(_rows, "_CHUNK_ENTRIES", 40 * 16)
    monkeypatch.setattr(_rows, "_SHUFFLE_WINDOW_BYTES", 64 * 16 * 8)
    monkeypatch.setattr(_rows, "_SHUFFLE_CHUNK_BYTES", 1)


@pytest.fixture
def small_blocks(monkeypatch):
    """Read 80 rows of 16 features, and compute results of 64 rows, at a time."""
    monkeypatch.setattr(_inference, "_CHUNK_ENTRIES", 1)
    monkeypatch.setattr(_base, "_BATCH_CHUNKS", 2)
    monkeypatch.setattr(_sources, "_CHUNK_ENTRIES", 80 * 16)
    monkeypatch.setattr("skmixmate.data.streams._CHUNK_ENTRIES", 80 * 16)
