"""Low-rank adapters: the formula, what is frozen, merging, files, other dtypes, classifiers, and the library peft."""

import json
import os

import keras
import numpy as np
import pytest
from keras import ops

import qingformer as qf
from qingformer import backend
from qingformer.errors import CheckpointError, ConfigError
from qingformer.layers import Dense
from qingformer.objectives import TrainableModel
from tests.conftest import SLOW_ON_JAX, slow_on_jax
from tests.models import zoo
from tests.tasks import helpers

JAX = os.environ["KERAS_BACKEND"] == "jax"


def numpy(x):
    return np.array(ops.convert_to_numpy(x), "float64")


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def make(name="bert", head=None, **options):
    with zoo.quick_start():
        return zoo.make(name, head, **options)


def disturb(model, seed=5):
    """Adapters that do something."""
    for number, variable in enumerate(model.trainable_variables):
        variable.assign(variable.numpy() + 0.3 * normal(*variable.shape, seed=seed + number))


# --- one layer --------------------------------------------------------------------------------------------------------


def adapted(inputs=5, units=4, rank=2, **options):
    layer = Dense(units, activation="tanh")
    layer.build((None, inputs))
    layer.bias.assign(normal(units, seed=1))
    layer.enable_lora(rank, **options)
    layer.bias.trainable = False
    return layer


@pytest.mark.parametrize("symmetric", [False, True])
def test_value_and_gradient_are_those_of_the_product(symmetric):
    layer, x, weights = adapted(lora_alpha=6, symmetric=symmetric), normal(3, 2, 5), normal(3, 2, 4, seed=2)
    bias, kernel = numpy(layer.bias), numpy(layer.kernel)
    np.testing.assert_allclose(numpy(layer(x)), np.tanh(x @ kernel + bias), atol=1e-5)
    a, b = layer.factors()
    assert np.abs(a).max() > 0
    assert (np.abs(b).max() > 0) == symmetric
    layer.set_factors(normal(5, 2, seed=3), normal(2, 4, seed=4))
    a, b = (factor.astype("float64") for factor in layer.factors())
    y = np.tanh(x @ (numpy(layer._kernel) + 3 * a @ b) + bias)
    assert layer.trainable_variables == [layer.lora_kernel_a, layer.lora_kernel_b]
    frozen = [v.value for v in layer.non_trainable_variables]

    def loss(trainable):
        outputs, _ = layer.stateless_call(trainable, frozen, ops.convert_to_tensor(x))
        return ops.sum(outputs * ops.convert_to_tensor(weights)), outputs

    (_, outputs), gradients = backend.value_and_grad(loss, has_aux=True)([v.value for v in layer.trainable_variables])
    np.testing.assert_allclose(numpy(outputs), y, atol=1e-5)
    upstream = (weights * (1 - y**2)).reshape(-1, 4)
    g = x.reshape(-1, 5).T @ upstream
    np.testing.assert_allclose(numpy(gradients[0]), 3 * g @ b.T, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(numpy(gradients[1]), 3 * a.T @ g, rtol=1e-4, atol=1e-4)


@pytest.mark.skipif(not JAX, reason="reads the program that XLA compiled")
def test_neither_the_product_nor_the_full_gradient_is_formed():
    import jax

    layer = adapted(20, 28)
    frozen = [v.value for v in layer.non_trainable_variables]
    trainable = [v.value for v in layer.trainable_variables]

    def full_size_products(call):
        layer.call = call

        def loss(trainable, x):
            return ops.sum(layer.stateless_call(trainable, frozen, x)[0])

        program = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(trainable, ops.ones((12, 20))).compile().as_text()
        return [
            line for line in program.splitlines() if " dot(" in line and line.split(" = ")[1].startswith("f32[20,28]")
        ]

    own = layer.call
    assert not full_size_products(own)
    assert full_size_products(lambda x, training=None: keras.layers.Dense.call(layer, x))  # what Keras' layer does


def test_a_symmetric_start_of_a_quantised_kernel_is_refused():
    model = keras.Sequential([keras.Input((4,)), Dense(4)])
    model.quantize("int8")
    with pytest.raises(ConfigError, match=r"is quantized \(int8\), so the symmetric start"):
        model.layers[0].enable_lora(2, symmetric=True)
    model.layers[0].enable_lora(2)
    with pytest.raises(ConfigError, match=r"is quantized \(int8\): a low-rank update merged"):
        model.layers[0].merge_lora()


# --- models -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [pytest.param(n, marks=SLOW_ON_JAX) for n in zoo.PLAIN])
def test_every_family_trains_saves_loads_and_merges(name, tmp_path):
    model, inputs = make(name), zoo.inputs_of(make(name))
    before, base = zoo.run(model), model.weight_arrays()
    paths = model.enable_lora(2, alpha=4, symmetric=True, seed=3)
    assert all(path.endswith(("/query", "/value", "/input")) for path in paths)
    assert len(model.trainable_variables) == 2 * len(paths)
    zoo.same(zoo.run(model), before, atol=1e-4)
    zoo.train(model, 2, rate=0.3)
    after = zoo.run(model)
    assert zoo.distance(after, before) > 1e-4
    for path, array in model.weight_arrays().items():  # with the adapters merged in
        assert (path.removesuffix("/kernel") in paths) != np.array_equal(array, base[path]), path
    model.save_adapters(tmp_path / "adapters")
    other = make(name)
    assert other.load_adapters(tmp_path / "adapters") == paths
    zoo.same(zoo.run(other), after, atol=1e-5)
    other.load_adapters(tmp_path / "adapters")  # once more, into the adapters that are there now
    zoo.same(zoo.run(other), after, atol=1e-5)
    predicted = other.predict(inputs, verbose=0)
    other.merge_lora()
    zoo.same(zoo.run(other), after, atol=1e-4)
    zoo.same(zoo.values(other.predict(inputs, verbose=0)), zoo.values(predicted), atol=1e-4)
    assert not other.trainable_variables
    other.unmerge_lora()
    zoo.same(zoo.values(other.predict(inputs, verbose=0)), zoo.values(predicted), atol=1e-4)
    assert len(other.trainable_variables) == 2 * len(paths)


def test_targets_and_what_else_is_trained():
    model = make("bert", "MaskedLM")
    paths = model.enable_lora(1, "all-linear", also_train=[r"mlm_norm$"])
    assert len(paths) == 12
    assert not any(path.startswith(("mlm", "pooler")) for path in paths)
    names = [v.path for v in model.trainable_variables if "lora" not in v.path]
    assert sorted(names) == ["mlm_norm/beta", "mlm_norm/gamma"]
    again = make("bert", "MaskedLM")
    assert again.enable_lora(1, ["block_1/.*(intermediate|key)"]) == [
        "block_1/attention/key",
        "block_1/feed_forward/intermediate",
    ]
    one, other = (numpy(v) for v in again.trainable_variables if v.name == "lora_kernel_a")
    assert np.abs(one - other).min() > 0  # each layer starts with its own numbers


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"targets": "keys"},
            r"no dense layer matches 'keys'; dense layers are block_N/attention/key, .* 'all-linear'",
        ),
        ({"targets": []}, "matches an empty list"),
        ({"rank": 9}, "rank is 9; block_0/attention/query takes 1 to 8"),
        ({"alpha": 0.0}, "alpha is 0.0; it must be a positive number"),
        ({"also_train": ["poolr"]}, "also_train='poolr' matches no layer"),
    ],
)
def test_arguments_that_cannot_be(arguments, message, small):
    with pytest.raises(ConfigError, match=message):
        small.enable_lora(**{"rank": 2, **arguments})
    assert all(variable.trainable for variable in small.trainable_variables)
    assert not any("lora" in variable.path for variable in small.variables)


def test_what_needs_adapters_says_so(small, tmp_path):
    for method in ("merge_lora", "unmerge_lora"):
        with pytest.raises(ConfigError, match=f"{method}: the model has no adapters"):
            getattr(small, method)()
    with pytest.raises(ConfigError, match="save_adapters: the model has no adapters"):
        small.save_adapters(tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    with pytest.raises(CheckpointError, match="unknown format 'torch' of adapters"):
        small.save_adapters(tmp_path / "nothing", format="torch")


@pytest.fixture(scope="module")
def small():
    return make("bert", "Backbone")


@slow_on_jax
@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "int8"])
def test_half_precision_int8_and_checkpointing(dtype, tmp_path):
    full = make("bert", "MaskedLM")
    model = qf.MaskedLM(full.config, dtype=None if dtype == "int8" else dtype)
    for own, other in zip(model.weights, full.weights):
        own.assign(numpy(other))
    if dtype == "int8":
        model.quantize("int8")
    else:
        model.enable_gradient_checkpointing()
    kernel = numpy(model.get_layer("block_0").attention.query._kernel)
    before = zoo.run(model)
    model.enable_lora(2, "all-linear")
    zoo.same(zoo.run(model), before)
    assert {keras.backend.standardize_dtype(v.dtype) for v in model.trainable_variables} == {"float32"}
    losses = zoo.train(model, 6, rate=0.5)
    assert losses[-1] < losses[0]
    np.testing.assert_array_equal(numpy(model.get_layer("block_0").attention.query._kernel), kernel)
    after = zoo.run(model)
    model.save_adapters(tmp_path / "adapters")
    full.load_adapters(tmp_path / "adapters")  # adapters of a rounded base fit the exact one
    assert zoo.distance(zoo.run(full), after) < 0.2


@slow_on_jax
def test_checkpointing_changes_nothing():
    found = []
    for checkpointing in (False, True):
        model = make("bert", "MaskedLM")
        model.enable_lora(2, symmetric=True)
        if checkpointing:
            model.enable_gradient_checkpointing()
        zoo.train(model, 3, rate=0.3)
        found.append([v.numpy() for v in model.trainable_variables])
    for own, other in zip(*found):
        np.testing.assert_allclose(own, other, atol=1e-5)


def model_on(backbone):
    logits = keras.layers.Dense(2, name="new_head")(backbone.output["pooled_output"])
    model = TrainableModel(backbone.input, logits)
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


@slow_on_jax
def test_a_head_trains_along_and_a_loaded_model_goes_on_exactly(tmp_path):
    backbone, targets = make("bert", "Backbone"), np.array([0, 1])
    backbone.enable_lora(2, r"block_0/attention/value", symmetric=True, alpha=4)
    model, inputs = model_on(backbone), zoo.inputs_of(backbone)
    names = [v.path for v in model.trainable_variables]
    assert len(names) == 4
    assert names[-2:] == ["new_head/kernel", "new_head/bias"]

    def fit(model):
        return model.fit(inputs, targets, batch_size=2, epochs=2, shuffle=False, verbose=0)

    fit(model)
    model.save(tmp_path / "half.keras")
    again = keras.models.load_model(tmp_path / "half.keras")
    fit(model)
    fit(again)
    for own, other in zip(model.weights, again.weights):
        np.testing.assert_array_equal(numpy(own), numpy(other), err_msg=own.path)
    assert int(again.optimizer.iterations) == 4
    weights = model.get_weights()
    again.load_weights(tmp_path / "half.keras")  # back to the middle
    assert any(np.abs(own - other).max() > 0 for own, other in zip(again.get_weights(), weights))


def test_layers_without_adapters_take_in_those_of_a_file(tmp_path):
    def model():
        return keras.Sequential([keras.Input((4,)), Dense(4)])

    one, two, three = model(), model(), model()
    x = normal(2, 4)
    one.layers[0].enable_lora(2, lora_alpha=4)
    disturb(one)
    one.save_weights(tmp_path / "adapted.weights.h5")
    two.load_weights(tmp_path / "adapted.weights.h5")
    np.testing.assert_allclose(numpy(two(x)), numpy(one(x)), atol=1e-5)
    two.save_weights(tmp_path / "plain.weights.h5")
    three.layers[0].enable_lora(2)
    start = numpy(three.layers[0].lora_kernel_a)
    three.load_weights(tmp_path / "plain.weights.h5")
    np.testing.assert_allclose(numpy(three(x)), numpy(one(x)), atol=1e-5)
    np.testing.assert_array_equal(numpy(three.layers[0].lora_kernel_a), start)  # zero factors would never learn


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    model = make("bert", "Backbone")
    model.enable_lora(2, also_train=["pooler"])
    disturb(model)
    return model.save_adapters(tmp_path_factory.mktemp("adapters") / "bert")


def test_the_file_is_small_and_says_what_it_belongs_to(saved):
    settings = json.loads((saved / "adapters.json").read_text())
    assert settings["base"]["family"] == "bert"
    assert settings["base"]["hidden_size"] == 8
    assert {layer["rank"] for layer in settings["layers"].values()} == {2}
    with open(saved / "adapters.safetensors", "rb") as file:
        names = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    assert {name for name in names if "lora" not in name} == {
        "__metadata__",
        "trained/pooler/kernel",
        "trained/pooler/bias",
    }


def other_base():
    model = make("bert", "Backbone")
    for layer in ("query", "value"):
        for block in ("block_0", "block_1"):
            kernel = getattr(model.get_layer(block).attention, layer)._kernel
            kernel.assign(normal(*kernel.shape, seed=9))
    return model


def with_rank(rank, alpha=None, targets=r"attention/(query|value)$"):
    model = make("bert", "Backbone")
    model.enable_lora(rank, targets, alpha=alpha, also_train=["pooler"])
    return model


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (lambda: make("roformer", "Backbone"), "trained on a model with family='bert', but this one has 'roformer'"),
        (lambda: make("bert", "Backbone", hidden_size=16), "with hidden_size=8, but this one has 16"),
        (lambda: make("bert", "Backbone", pooler=False), "weights for pooler/kernel, pooler/bias, which this model"),
        (other_base, r"trained on other base weights \(distance .*strict=False"),
        (lambda: with_rank(1), "block_0/attention/query has rank 2 and alpha 2 in the file, but rank 1 and alpha 1"),
        (lambda: with_rank(2, 4.0), "rank 2 and alpha 2 in the file, but rank 2 and alpha 4"),
        (lambda: with_rank(2, targets="attention/query"), "differ at block_0/attention/value, block_1/attention/value"),
    ],
)
def test_what_does_not_fit_is_named_and_nothing_changes(model, message, saved):
    model = model()
    before = [numpy(v) for v in model.variables]
    with pytest.raises(CheckpointError, match=message):
        model.load_adapters(saved)
    for variable, value in zip(model.variables, before):
        np.testing.assert_array_equal(numpy(variable), value)


def test_other_base_weights_may_be_asked_for(saved):
    model = other_base()
    assert len(model.load_adapters(saved, strict=False)) == 4
    assert sorted(v.path for v in model.trainable_variables if "lora" not in v.path) == ["pooler/bias", "pooler/kernel"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["layers"].pop("block_0/attention/query"), "disagree about block_0/attention/query/lora_kernel_a"),
        (lambda s: s["layers"]["block_0/attention/query"].update(rank=3), "has rank 3 in adapters.json, but factors"),
        (lambda s: s.pop("base"), "expected an object with base, layers and trained"),
    ],
)
def test_damaged_files(change, message, saved, small, tmp_path):
    settings = json.loads((saved / "adapters.json").read_text())
    change(settings)
    (tmp_path / "adapters.json").write_text(json.dumps(settings))
    (tmp_path / "adapters.safetensors").write_bytes((saved / "adapters.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match=message):
        small.load_adapters(tmp_path)


def test_a_folder_without_adapters(small, tmp_path):
    with pytest.raises(CheckpointError, match=r"holds neither adapters.json nor adapter_config.json"):
        small.load_adapters(tmp_path)
    with pytest.raises(CheckpointError, match="no such directory"):
        small.load_adapters(tmp_path / "nowhere")


# --- classifiers ------------------------------------------------------------------------------------------------------


def test_a_classifier_trains_with_adapters_and_saves_whole_or_small(tmp_path):
    one = helpers.classifier()
    one.backbone.enable_lora(4, symmetric=True)
    base = numpy(one.backbone.get_layer("block_0").feed_forward.output_dense.kernel)
    data = helpers.rows(48)
    one.fit(data, data, **helpers.FIT | {"epochs": 2, "batch_size": 48}, directory=tmp_path / "run")
    texts = [text for text, _ in data][:16]
    wanted = [p.probability for p in one.predict(texts)]
    assert len(set(np.round(wanted, 3))) > 3
    np.testing.assert_array_equal(numpy(one.backbone.get_layer("block_0").feed_forward.output_dense.kernel), base)

    one.save(tmp_path / "whole")
    for folder in ("whole", "run"):  # the best epoch's weights were put back from the run's folder
        whole = qf.load(tmp_path / folder)
        np.testing.assert_allclose([p.probability for p in whole.predict(texts)], wanted, atol=1e-5)

    one.save_adapters(tmp_path / "small")
    assert (tmp_path / "small" / "adapters.safetensors").stat().st_size < 8000
    two = helpers.classifier()
    two.load_adapters(tmp_path / "small")
    assert two.labels == one.labels
    np.testing.assert_allclose([p.probability for p in two.predict(texts)], wanted, atol=1e-5)
    with pytest.raises(CheckpointError, match=r"trained for the labels food, music, weather .* has a, b, c"):
        helpers.classifier(labels=["a", "b", "c"]).load_adapters(tmp_path / "small")
    with pytest.raises(CheckpointError, match="weights for classifier/kernel, classifier/bias, which this model lacks"):
        helpers.backbone().load_adapters(tmp_path / "small")


# --- peft -------------------------------------------------------------------------------------------------------------


@slow_on_jax
def test_peft_names_and_layouts(tmp_path):
    model = make("llama", "CausalLM")
    model.enable_lora(1, "all-linear", symmetric=True, alpha=3)
    disturb(model)
    after = zoo.run(model)
    model.save_adapters(tmp_path / "peft", format="peft")
    settings = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (2, 6.0)  # the start that was taken off is part of the update
    assert "model.layers.0.mlp.gate_proj" in settings["target_modules"]
    other = make("llama", "CausalLM")
    assert len(other.load_adapters(tmp_path / "peft")) == 14
    zoo.same(zoo.run(other), after, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"use_dora": True}, "use_dora=True is another method"),
        ({"bias": "lora_only"}, "bias='lora_only' is another method"),
        ({"init_lora_weights": "pissa_niter_4"}, "init_lora_weights='pissa_niter_4' changed the base weights"),
        ({"peft_type": "IA3"}, "peft_type is 'IA3'; only LORA can be read"),
        ({"peft_type": "LOHA"}, "peft_type is 'LOHA'; only LORA can be read"),
    ],
)
def test_other_methods_of_peft_are_refused(change, message, small, tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 2} | change))
    with pytest.raises(CheckpointError, match=message):
        small.load_adapters(tmp_path)


def test_what_peft_cannot_hold_is_refused(tmp_path):
    model = make("bert", "Backbone")
    model.enable_lora(1, also_train=["pooler"])
    with pytest.raises(CheckpointError, match="holds adapters alone, but pooler/kernel, pooler/bias is trained too"):
        model.save_adapters(tmp_path / "peft", format="peft")
    model = make("gpt2", "CausalLM")
    model.enable_lora(1)
    with pytest.raises(CheckpointError, match="block_0/attention/query is stored joined with others there"):
        model.save_adapters(tmp_path / "peft", format="peft")


PEFT = {
    "bert": ("bert", "BertForMaskedLM", "MaskedLM", ["query", "value"], False),
    "bert without a head": ("bert", "BertModel", "Backbone", ["query", "output.dense"], True),
    "llama": ("llama", "LlamaForCausalLM", "CausalLM", "all-linear", False),
}


@pytest.mark.peers
@pytest.mark.parametrize("case", PEFT)
def test_the_same_as_peft_in_value_and_gradient(case, tmp_path):
    import peft
    import torch
    import transformers
    from safetensors.torch import load_file

    family, their_class, head, targets, rank_stabilised = PEFT[case]
    ours = make(family, head)
    ours.save_pretrained(tmp_path / "base", format="huggingface")
    load = getattr(transformers, their_class).from_pretrained
    extra = {"add_pooling_layer": True} if their_class == "BertModel" else {}
    settings = peft.LoraConfig(r=2, lora_alpha=6, target_modules=targets, use_rslora=rank_stabilised)
    theirs = peft.get_peft_model(load(tmp_path / "base", attn_implementation="eager", **extra), settings)
    for number, (name, parameter) in enumerate(theirs.named_parameters()):
        if "lora_" in name:
            parameter.data = torch.tensor(normal(*parameter.shape, seed=number) * 0.3)
    theirs.save_pretrained(tmp_path / "peft")

    inputs = zoo.inputs_of(ours)
    named = {"input_ids": "token_ids", "attention_mask": "padding_mask", "token_type_ids": "segment_ids"}
    batch = {name: torch.tensor(inputs[own]).long() for name, own in named.items() if own in inputs}
    found = theirs(**batch)
    found = found.last_hidden_state if their_class == "BertModel" else found.logits
    kept = inputs["padding_mask"].astype(bool)[..., None]
    weights = normal(*found.shape, seed=7) * kept
    (found * torch.tensor(weights)).sum().backward()

    paths = ours.load_adapters(tmp_path / "peft")
    assert len(ours.trainable_variables) == 2 * len(paths)
    frozen = [v.value for v in ours.non_trainable_variables]
    tensors = zoo.tensors(ours)

    def loss(trainable):
        outputs, _ = ours.stateless_call(trainable, frozen, tensors, training=False)
        outputs = outputs["sequence_output"] if isinstance(outputs, dict) else outputs
        return ops.sum(outputs * ops.convert_to_tensor(weights)), outputs

    values = [v.value for v in ours.trainable_variables]
    (_, outputs), gradients = backend.value_and_grad(loss, has_aux=True)(values)
    np.testing.assert_allclose(numpy(outputs) * kept, found.detach().numpy() * kept, atol=2e-4)

    # The gradients, by way of the same files: each of ours is put in the place of its value.
    wanted = {n.replace(".default", ""): p.grad for n, p in theirs.named_parameters() if p.grad is not None}
    for variable, gradient in zip(ours.trainable_variables, gradients):
        variable.assign(numpy(gradient))
    ours.save_adapters(tmp_path / "gradients", format="peft")
    there = load_file(tmp_path / "gradients" / "adapter_model.safetensors")
    assert len(there) == len(wanted)
    for name, gradient in wanted.items():
        same = next(
            n for n in there if n.removeprefix("base_model.model.").endswith(name.split("base_model.model.")[1])
        )
        np.testing.assert_allclose(there[same].numpy(), gradient.numpy(), rtol=2e-3, atol=2e-4, err_msg=name)

    if their_class == "BertModel":
        return
    back = peft.PeftModel.from_pretrained(load(tmp_path / "base", attn_implementation="eager"), tmp_path / "gradients")
    with torch.no_grad():
        np.testing.assert_allclose(zoo.run(ours)["logits"] * kept, back(**batch).logits.numpy() * kept, atol=2e-3)
