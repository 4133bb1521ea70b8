import copy
import subprocess
import sys

import pytest
import torch

from skmixmate.training import adam as adam_module
from skmixmate.training.adam import Adam


def gradients(n_steps, dtype):
    generator = torch.Generator().manual_seed(0)
    return [
        torch.randn(3, 50, generator=generator, dtype=dtype) * 10.0 ** (i % 5 - 3)
        for i in range(n_steps)
    ]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_is_bit_identical_to_torch(dtype):
    ours, theirs = torch.ones(3, 50, dtype=dtype), torch.ones(3, 50, dtype=dtype)
    adam = Adam(ours, learning_rate=1e-2)
    reference = torch.optim.Adam([theirs], lr=1e-2, fused=True)
    for gradient in gradients(20, dtype):
        adam.step(gradient)
        theirs.grad = gradient.clone()
        reference.step()
    torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_adam_without_the_fused_kernel(dtype, monkeypatch):
    fused, unfused = torch.ones(3, 50, dtype=dtype), torch.ones(3, 50, dtype=dtype)
    optimizers = [Adam(fused, learning_rate=1e-2), Adam(unfused, learning_rate=1e-2)]
    for gradient in gradients(20, dtype):
        optimizers[0].step(gradient)
        with monkeypatch.context() as patch:
            patch.setattr(adam_module, "_fused_adam", None)
            optimizers[1].step(gradient)
    torch.testing.assert_close(fused, unfused)


def test_adam_resumes_from_saved_moments():
    first, *rest = gradients(5, torch.float32)
    whole, parted = torch.ones(3, 50), torch.ones(3, 50)
    adam = Adam(whole, learning_rate=1e-2)
    before = Adam(parted, learning_rate=1e-2)
    adam.step(first)
    before.step(first)
    after = Adam(parted, learning_rate=1e-2)
    after.moments = copy.deepcopy(before.moments)
    for gradient in rest:
        adam.step(gradient)
        after.step(gradient)
    torch.testing.assert_close(whole, parted, atol=0, rtol=0)


@pytest.mark.slow
def test_fit_does_not_import_the_compiler_of_torch():
    program = (
        "import sys, numpy as np, skmixmate;"
        "X = np.random.RandomState(0).standard_normal((50, 4));"
        "skmixmate.MixMateClustering(2, max_iter=2, tol=0, random_state=0).fit(X);"
        "print('torch._dynamo' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "False"
