"""Fixture of the tests with two processes."""

import pytest
import torch

from .peer import Peer


@pytest.fixture(scope="module")
def peer(tmp_path_factory):
    n_threads = torch.get_num_threads()
    peer = Peer(tmp_path_factory.mktemp("peer"))
    yield peer
    peer.close()
    torch.set_num_threads(n_threads)
