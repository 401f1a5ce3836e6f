"""The same optimizers in other libraries, over six steps on random gradients."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.optimizers import LAMB, AdaFactor, Adam, AdamW, Lion
from tests.optimizers.support import make_gradients, make_variables, numbers, train

pytestmark = pytest.mark.peers
STEPS = 6


def torch_values(make, **options):
    torch = pytest.importorskip("torch")
    weights = [torch.nn.Parameter(torch.tensor(v, dtype=torch.float32)) for v in numbers(make_variables())]
    optimizer = make(weights, **options)
    for step in make_gradients(STEPS):
        for weight, gradient in zip(weights, step):
            weight.grad = torch.from_numpy(gradient)
        optimizer.step()
    return [w.detach().numpy() for w in weights]


def close(found, expected, rtol=1e-5):
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-6)


def ours(optimizer):
    return train(optimizer, make_variables(), make_gradients(STEPS))


def test_adam_of_torch():
    torch = pytest.importorskip("torch")
    close(ours(Adam(0.01)), torch_values(torch.optim.Adam, lr=0.01, eps=1e-6))
    mine = AdamW(0.01, weight_decay=0.1, exclude_from_weight_decay=[])
    close(ours(mine), torch_values(torch.optim.AdamW, lr=0.01, eps=1e-6, weight_decay=0.1))


def test_adafactor_of_torch_and_transformers():
    """torch factors whatever the size and never steps above 1/sqrt(t)."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers.optimization")
    found = ours(AdaFactor(0.01, min_dim_size_to_factor=1))
    close(found, torch_values(torch.optim.Adafactor, lr=0.01, weight_decay=0.0))
    options = {"scale_parameter": True, "relative_step": False, "warmup_init": False}
    close(found, torch_values(transformers.Adafactor, lr=0.01, **options))
    decayed = ours(AdaFactor(0.01, min_dim_size_to_factor=1, weight_decay=0.1))
    close(decayed, torch_values(torch.optim.Adafactor, lr=0.01, weight_decay=0.1), rtol=3e-3)  # it decays first


def test_optax():
    optax = pytest.importorskip("optax")
    jax = pytest.importorskip("jax")
    pairs = [
        (Adam(0.01), optax.adam(0.01, eps=1e-6)),
        (Lion(0.01, weight_decay=0.1), optax.lion(0.01, b1=0.95, b2=0.98, weight_decay=0.1)),
        (
            LAMB(0.01, weight_decay=0.1, exclude_from_weight_decay=[], exclude_from_layer_adaptation=[]),
            optax.lamb(0.01, weight_decay=0.1),
        ),
        (AdaFactor(0.01, min_dim_size_to_factor=8), optax.adafactor(0.01, min_dim_size_to_factor=8)),
    ]
    for mine, theirs in pairs:
        weights = [jax.numpy.asarray(v, "float32") for v in numbers(make_variables())]
        state = theirs.init(weights)
        for step in make_gradients(STEPS):
            updates, state = theirs.update([jax.numpy.asarray(g) for g in step], state, weights)
            weights = optax.apply_updates(weights, updates)
        close(ours(mine), weights, rtol=3e-5)


def test_lion_of_keras():
    close(ours(Lion(0.01, 0.9, 0.99)), ours(keras.optimizers.Lion(0.01, 0.9, 0.99)))


@pytest.mark.skipif(backend.name() != "torch", reason="the fused kernel is torch's")
@pytest.mark.parametrize("options", [{}, {"bias_correction": False}, {"weight_decay": 0.1, "clipnorm": 0.3}], ids=str)
def test_the_fused_kernel_is_the_plain_step(options):
    class Plain(Adam):
        def change(self, gradient, value, index):
            return super().change(gradient, value, index)

    plain, fused = Plain(0.01, **options), Adam(0.01, **options)
    close(ours(fused), ours(plain))
    close(numbers(fused.variables), numbers(plain.variables))


@pytest.mark.skipif(backend.name() != "torch", reason="the fused kernel is torch's")
def test_strided_weights_and_gradients_are_updated_too():
    import torch

    expected = ours(Adam(0.01))
    variables = make_variables()
    variables[1].value.data = variables[1].value.data.T.contiguous().T
    optimizer = Adam(0.01)
    optimizer.build(variables)
    for step in make_gradients(STEPS):
        optimizer.apply([torch.from_numpy(np.asfortranarray(g)) for g in step])
    close(numbers(variables), expected)
