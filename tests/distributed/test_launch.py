import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from torch import distributed as dist

import skmixmate

pytestmark = pytest.mark.skipif(
    not dist.is_available() or os.name != "posix", reason="needs gloo"
)

RESTARTING = """
    import os, signal, sys
    import numpy as np
    from skmixmate import MixMateClustering
    from skmixmate.files import checkpoint
    from skmixmate.training.em import ExpectationMaximization
    from skmixmate.datasets import make_sparse_mixture

    folder, dies = sys.argv[1], sys.argv[2] == "dies"
    rank, attempt = os.environ["RANK"], os.environ["TORCHELASTIC_RESTART_COUNT"]
    checkpoint._INTERVAL = 0
    run_epoch, epochs = ExpectationMaximization.run_epoch, []

    def run(em):
        epochs.append(None)
        if dies and rank == "1" and attempt == "0" and len(epochs) == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return run_epoch(em)

    ExpectationMaximization.run_epoch = run
    X = make_sparse_mixture(300, 16, n_atoms=4, random_state=0).data
    mixmate = MixMateClustering(
        3, n_atoms=6, max_iter=5, tol=0, batch_size=32, random_state=0,
        checkpoint=os.path.join(folder, "checkpoint"),
    ).fit(X[int(rank)::2])
    name = f"{sys.argv[2]}{rank}.npz"
    np.savez(os.path.join(folder, name), dictionaries=mixmate.dictionaries_,
             n_epochs=len(epochs), losses=mixmate.loss_curve_)
"""


def launch(folder, program, *args):
    """Run a program with torchrun in two processes, and wait for them."""
    script = folder / "script.py"
    script.write_text(textwrap.dedent(program))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"]
    command += ["--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    command += ["--max-restarts=1", "--monitor-interval=0.1"]
    command += [str(script), str(folder), *args]
    environment = os.environ | {
        "GLOO_SOCKET_IFNAME": "lo",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(Path(skmixmate.__file__).parents[1]),
    }
    done = subprocess.run(
        command, timeout=240, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def launch_fits(fate, folder):
    launch(folder, RESTARTING, fate)
    return [np.load(folder / f"{fate}{rank}.npz") for rank in range(2)]


@pytest.mark.slow
def test_torchrun_resumes_from_a_checkpoint_after_a_kill(tmp_path):
    restarted, unbroken = (launch_fits(fate, tmp_path) for fate in ("dies", "lives"))
    for fit in restarted:
        np.testing.assert_array_equal(fit["dictionaries"], unbroken[0]["dictionaries"])
        np.testing.assert_array_equal(fit["losses"], unbroken[0]["losses"])
    assert [int(fit["n_epochs"]) for fit in restarted] == [3, 3]
    assert [int(fit["n_epochs"]) for fit in unbroken] == [5, 5]
    assert not (tmp_path / "checkpoint").exists()


ENDING = """
    import atexit, gc, json, os, sys
    from pathlib import Path

    def threads_of_gloo():
        threads = Path("/proc/self/task").iterdir()
        return [int(t.name) for t in threads if "gloo" in (t / "comm").read_text()]

    def record():
        Path(sys.argv[1], os.environ["RANK"]).write_text(
            json.dumps([policies, threads_of_gloo()])
        )

    atexit.register(record)  # is called last
    import numpy as np
    from skmixmate import MixMateClustering

    gc.disable()
    X = np.random.default_rng(int(os.environ["RANK"])).normal(size=(60, 8))
    MixMateClustering(2, n_atoms=3, max_iter=2).fit(X)
    policies = [os.sched_getscheduler(thread) for thread in (0, *threads_of_gloo())]
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_gloo_threads_are_batch_scheduled_and_end_before_the_program(tmp_path):
    """A thread that waits for the lock of an ending interpreter aborts the program."""
    launch(tmp_path, ENDING)
    for rank in "01":
        (own, *others), remaining = json.loads((tmp_path / rank).read_text())
        assert own == os.SCHED_OTHER
        assert set(others) == {os.SCHED_BATCH}
        assert remaining == []
