"""Fixtures of the tests of checkpoints."""

import pytest

from skmixmate.files import checkpoint as checkpoint_module
from skmixmate.training.em import ExpectationMaximization


@pytest.fixture
def path(tmp_path):
    return tmp_path / "fit.checkpoint"


@pytest.fixture
def fail_in_epoch(monkeypatch):
    """Run a fit that fails in an epoch, with a checkpoint after each one before."""

    class PowerFailure(Exception):
        pass

    monkeypatch.setattr(checkpoint_module, "_INTERVAL", 0)
    run_epoch = ExpectationMaximization.run_epoch

    def cut(mixmate, X, n_epochs=2, error=PowerFailure, y=None):
        n_remaining = n_epochs

        def run(em):
            nonlocal n_remaining
            if n_remaining == 0:
                em.step(em.rows.load(slice(32)))  # in the middle of the epoch
                raise error
            n_remaining -= 1
            return run_epoch(em)

        with monkeypatch.context() as patch:
            patch.setattr(ExpectationMaximization, "run_epoch", run)
            if error is KeyboardInterrupt:
                with pytest.warns(UserWarning, match="interrupted"):
                    mixmate.fit(X, y)
            else:
                with pytest.raises(error):
                    mixmate.fit(X, y)

    return cut
