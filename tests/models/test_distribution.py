"""Training is the same on one device and sharded over two, by data and by model, on JAX."""

import os
import subprocess
import sys

import keras
import numpy as np
import pytest

PROGRAM = """
import sys
import keras, numpy as np
from keras.distribution import DataParallel, DeviceMesh, LayoutMap, ModelParallel, list_devices, set_distribution
kind, source = sys.argv[1:]
keras.utils.set_random_seed(3)
if kind == "data":
    set_distribution(DataParallel())
if kind == "model":
    mesh = DeviceMesh((1, 2), ["batch", "model"], list_devices())
    layout = LayoutMap(mesh)
    layout["token_embedding/embeddings"] = (None, "model")
    layout[r".*attention/(query|key|value)/kernel"] = (None, "model")
    layout[r".*feed_forward/intermediate/kernel"] = (None, "model")
    layout[r".*feed_forward/output/kernel"] = ("model", None)
    set_distribution(ModelParallel(layout_map=layout, batch_dim_name="batch"))
import qingformer as qf
model = qf.MaskedLM.from_pretrained(source, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
if kind != "one":
    assert len(list_devices()) == 2
if kind == "model":
    kernel = model.get_layer("block_0").attention.query.kernel.value
    assert "model" in str(kernel.sharding), kernel.sharding
model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
ids = np.random.default_rng(0).integers(1, 50, (16, 8)).astype("int32")
inputs = {"token_ids": ids, "segment_ids": ids * 0, "padding_mask": ids * 0 + 1}
history = model.fit(inputs, ids, batch_size=8, epochs=2, shuffle=False, verbose=0)
print("LOSSES", *history.history["loss"])
"""


SIZES = {
    "vocab_size": 50,
    "hidden_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 20,
}


@pytest.mark.slow
def test_sharded_training_equals_one_device(tmp_path):
    if keras.backend.backend() != "jax":
        pytest.skip("keras.distribution is complete on JAX only")
    from qingformer.models import BackboneConfig, MaskedLM

    MaskedLM(BackboneConfig(**SIZES)).save_pretrained(tmp_path / "model")
    losses = {}
    for kind, devices in {"one": 1, "data": 2, "model": 2}.items():
        environment = {**os.environ, "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        command = [sys.executable, "-c", PROGRAM, kind, str(tmp_path / "model")]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=280)
        assert result.returncode == 0, result.stderr[-2000:]
        line = next(line for line in result.stdout.splitlines() if line.startswith("LOSSES"))
        losses[kind] = [float(value) for value in line.split()[1:]]
    assert losses["one"][1] < losses["one"][0]
    np.testing.assert_allclose(losses["data"], losses["one"], rtol=1e-5)
    np.testing.assert_allclose(losses["model"], losses["one"], rtol=1e-5)
