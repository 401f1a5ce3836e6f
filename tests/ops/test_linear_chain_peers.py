"""Linear chains against the package pytorch-crf: likelihood, its gradients, the best path."""

import numpy as np
import pytest
from keras import ops

from qingformer import backend
from qingformer.ops.chain_algorithms import make_chain, negative_log_likelihood, viterbi

pytestmark = pytest.mark.peers


@pytest.mark.parametrize(
    ("length", "tags", "scale"), [(1, 2, 1.0), (7, 5, 1.0), (7, 5, 30.0), (128, 9, 2.0), (512, 3, 1.0)]
)
def test_equals_pytorch_crf(length, tags, scale):
    torch = pytest.importorskip("torch")
    CRF = pytest.importorskip("torchcrf").CRF
    random = np.random.default_rng(length)
    batch = 4
    mask = np.arange(length) < random.integers(1, length + 1, batch)[:, None]
    mask[0] = True
    labels = random.integers(0, tags, (batch, length))
    shapes = ((batch, length, tags), (tags, tags), (tags,), (tags,))
    given = [random.normal(0, scale, shape).astype("float32") for shape in shapes]
    peer = CRF(tags, batch_first=True).double()
    emissions = torch.tensor(given[0], dtype=torch.float64, requires_grad=True)
    with torch.no_grad():
        for parameter, value in zip((peer.transitions, peer.start_transitions, peer.end_transitions), given[1:]):
            parameter.copy_(torch.tensor(value))
    value = -peer(emissions, torch.tensor(labels), torch.tensor(mask), reduction="none")
    value.sum().backward()
    indices = (emissions, peer.transitions, peer.start_transitions, peer.end_transitions)
    expected = [np.zeros(p.shape) if p.grad is None else p.grad.numpy() for p in indices]  # one token has no transition

    def ours(arrays):
        f, g, start, end = arrays
        each = negative_log_likelihood(make_chain(f, g, mask, start, end), labels)
        return ops.sum(each), each

    tensors = [ops.convert_to_tensor(array) for array in given]
    (_, each), gradients = backend.compile(backend.value_and_grad(ours, has_aux=True))(tensors)
    np.testing.assert_allclose(ops.convert_to_numpy(each), value.detach().numpy(), rtol=1e-5, atol=1e-5)
    for gradient, wanted in zip(gradients, expected):
        np.testing.assert_allclose(ops.convert_to_numpy(gradient), wanted, rtol=1e-4, atol=1e-4)
    paths = ops.convert_to_numpy(viterbi(make_chain(tensors[0], tensors[1], mask, *tensors[2:]))[0])
    for row, path in enumerate(peer.decode(emissions, torch.tensor(mask))):
        assert paths[row, mask[row]].tolist() == path
