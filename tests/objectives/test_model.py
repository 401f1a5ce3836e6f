"""TrainableModel is a Keras model: everything `fit` offers works with transforms on."""

import keras
import numpy as np
import pytest

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives import FGM, TrainableModel, Transform, TransformedObjective
from tests.objectives.conftest import CLASSES, VOCABULARY, build, comparable_optimizer, cross_entropy


def values(variables):
    return [keras.ops.convert_to_numpy(v) for v in variables]


def optimizer():
    return keras.optimizers.Adam(0.05)


def test_without_transforms_it_is_the_keras_model(rows):
    x, y = rows
    ours = build(dropout=0.3)
    keras.utils.set_random_seed(1)
    plain = keras.models.clone_model(keras.Model(ours.input, ours.output))
    plain.set_weights(ours.get_weights())
    histories = []
    for model in (ours, plain):
        model.compile(comparable_optimizer(), cross_entropy(), metrics=["accuracy"])
        histories.append(model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0).history)
    # On TensorFlow the rows of repeated tokens are summed before the optimizer, and so in another order.
    bound = 1e-6 if backend.name() == "tensorflow" else 0
    assert histories[0]["accuracy"] == histories[1]["accuracy"]
    np.testing.assert_allclose(histories[0]["loss"], histories[1]["loss"], rtol=bound, atol=bound)
    for a, b in zip(values(ours.variables), values(plain.variables)):
        np.testing.assert_allclose(a, b, rtol=bound, atol=bound)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"clipnorm": 0.1},
        {"global_clipnorm": 0.1},
        {"gradient_accumulation_steps": 3},
        {"weight_decay": 0.01},
    ],
    ids=str,
)
def test_optimizer_settings_act_as_in_keras(rows, settings):
    """FGM(0) goes through our step, no transforms through Keras'; the numbers must be the same."""
    if backend.name() == "tensorflow" and any("norm" in key for key in settings):
        pytest.skip("Keras' own step on TensorFlow takes the norm of a sparse gradient per occurrence of a token")
    x, y = rows
    results = []
    for transforms in ([], [FGM(0.0)]):
        model = build()
        model.compile(comparable_optimizer(**settings), cross_entropy(), metrics=["accuracy"], transforms=transforms)
        history = model.fit(x, y, batch_size=8, epochs=3, shuffle=False, verbose=0).history
        results.append((history, values(model.variables)))
    np.testing.assert_allclose(results[0][0]["loss"], results[1][0]["loss"], rtol=1e-6)
    assert results[0][0]["accuracy"] == results[1][0]["accuracy"]
    for a, b in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_clipping_bounds_the_update(rows):
    model = build()
    model.compile(keras.optimizers.SGD(1.0, clipnorm=1e-3), cross_entropy(), transforms=[FGM(0.5)])
    before = values(model.trainable_variables)
    model.fit(*rows, batch_size=len(rows[0]), verbose=0)
    for old, new in zip(before, values(model.trainable_variables)):
        assert np.linalg.norm(new - old) == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("weights", ["sample", "class", "both-none"])
def test_sample_and_class_weights(rows, weights):
    x, y = rows
    options = {
        "sample": {"sample_weight": np.linspace(0, 2, len(x)).astype("float32")},
        "class": {"class_weight": {0: 5.0, 1: 0.1, 2: 1.0, 3: 0.0}},
        "both-none": {},
    }[weights]
    losses = []
    for transforms in ([], [FGM(0.0)]):
        model = build()
        model.compile(comparable_optimizer(), cross_entropy(), weighted_metrics=["accuracy"], transforms=transforms)
        losses.append(model.fit(x, y, batch_size=8, epochs=2, shuffle=False, verbose=0, **options).history)
    np.testing.assert_allclose(losses[0]["loss"], losses[1]["loss"], rtol=1e-6)
    assert losses[0]["accuracy"] == losses[1]["accuracy"]


def two_headed(regularizer=None):
    keras.utils.set_random_seed(2)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    extra = keras.Input((2,), name="extra")
    x = keras.layers.Embedding(VOCABULARY, 3, name="token_embedding", embeddings_regularizer=regularizer)(ids)
    x = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(x), extra])
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ActivityRegularization(l2=0.01)(x)
    outputs = {"kind": keras.layers.Dense(CLASSES, name="kind")(x), "size": keras.layers.Dense(1, name="size")(x)}
    return TrainableModel({"token_ids": ids, "extra": extra}, outputs)


def test_several_inputs_and_outputs_with_added_and_regularisation_losses(rows):
    x, y = rows
    inputs = {"token_ids": x, "extra": np.random.default_rng(1).normal(size=(len(x), 2)).astype("float32")}
    labels = {"kind": y, "size": y[:, None].astype("float32")}
    results = []
    for transforms in ([], [FGM(0.0)]):
        model = two_headed("l2")
        losses = {"kind": cross_entropy(), "size": "mse"}
        model.compile(comparable_optimizer(), losses, metrics={"kind": ["accuracy"]}, transforms=transforms)
        history = model.fit(inputs, labels, batch_size=8, epochs=3, shuffle=False, verbose=0).history
        results.append((history, values(model.variables)))
    assert set(results[0][0]) == {"loss", "kind_loss", "size_loss", "kind_accuracy"}
    assert set(results[0][0]) == set(results[1][0])
    for key in results[0][0]:
        np.testing.assert_allclose(results[0][0][key], results[1][0][key], rtol=1e-5)
    for a, b in zip(results[0][1], results[1][1]):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


class Recorder(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.steps = []

    def on_train_batch_end(self, batch, logs=None):
        self.steps.append((batch, float(logs["loss"]), float(logs["accuracy"])))


def test_callbacks_see_every_step_and_may_stop_and_reduce(rows, tmp_path):
    x, y = rows
    model = build()
    model.compile(optimizer(), cross_entropy(), metrics=["accuracy"], transforms=[FGM(0.5)])
    recorder = Recorder()
    callbacks = [
        recorder,
        keras.callbacks.ModelCheckpoint(str(tmp_path / "best.weights.h5"), save_weights_only=True, monitor="loss"),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", patience=1, min_delta=100.0),
        keras.callbacks.EarlyStopping(monitor="loss", patience=3, min_delta=100.0),
        keras.callbacks.CSVLogger(str(tmp_path / "log.csv")),
    ]
    history = model.fit(x, y, validation_data=(x, y), batch_size=8, epochs=9, verbose=0, callbacks=callbacks)
    assert len(history.history["loss"]) == 4  # stopped early
    assert [step for step, _, _ in recorder.steps] == [0, 1, 2] * 4
    assert (tmp_path / "best.weights.h5").exists()
    assert float(model.optimizer.learning_rate) < 0.05
    assert "val_accuracy" in history.history


def test_it_learns_with_transforms(rows):
    model = build()
    model.compile(optimizer(), cross_entropy(), metrics=["accuracy"], transforms=[FGM(0.1)])
    history = model.fit(*rows, batch_size=8, epochs=60, verbose=0).history
    assert history["loss"][-1] < 0.7 * history["loss"][0]


@pytest.mark.slow
def test_jit_compile_on_request(rows):
    if backend.name() == "torch":
        pytest.importorskip("torch._inductor")
    results = []
    for jit_compile in (False, True):
        model = build()
        model.compile(optimizer(), cross_entropy(), transforms=[FGM(0.5)], jit_compile=jit_compile)
        results.append(model.fit(*rows, batch_size=8, shuffle=False, verbose=0).history["loss"])
    np.testing.assert_allclose(*results, rtol=1e-5)


def test_run_eagerly(rows):
    model = build()
    model.compile(optimizer(), cross_entropy(), transforms=[FGM(0.5)], run_eagerly=True)
    assert np.isfinite(model.fit(*rows, batch_size=8, verbose=0).history["loss"]).all()


def test_keras_file_round_trip_keeps_the_transforms_and_goes_on_training(rows, tmp_path):
    x, y = rows
    model = build()
    model.compile(optimizer(), cross_entropy(), metrics=["accuracy"], transforms=[FGM(0.25, norm="row")])
    model.fit(x, y, batch_size=8, verbose=0, shuffle=False)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, TrainableModel)
    assert [t.get_config() for t in again._transforms] == [FGM(0.25, norm="row").get_config()]
    losses = [m.fit(x, y, batch_size=8, verbose=0, shuffle=False).history["loss"] for m in (model, again)]
    np.testing.assert_allclose(*losses, rtol=1e-6)
    for a, b in zip(values(model.variables), values(again.variables)):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_any_model_can_be_wrapped_and_shares_its_layers(rows):
    x, y = rows
    sequential = keras.Sequential(
        [
            keras.Input((5,), dtype="int32"),
            keras.layers.Embedding(VOCABULARY, 3, name="token_embedding"),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES),
        ]
    )
    model = TrainableModel.from_model(sequential)
    model.compile(optimizer(), cross_entropy(), transforms=[FGM(0.5)])
    before = values(sequential.variables)
    model.fit(x, y, verbose=0)
    assert not np.array_equal(before[0], values(sequential.variables)[0])
    outer = TrainableModel.from_model(keras.Model(sequential.inputs, sequential.outputs))
    nested_input = keras.Input((5,), dtype="int32")
    nested = TrainableModel(nested_input, outer(nested_input))
    nested.compile(optimizer(), cross_entropy(), transforms=[FGM(0.5)])  # finds the layer one level down
    nested.fit(x, y, verbose=0)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.token_embedding = keras.layers.Embedding(VOCABULARY, 3, name="token_embedding")
        self.logits = keras.layers.Dense(CLASSES)

    def call(self, x):
        return self.logits(keras.ops.mean(self.token_embedding(x), axis=1))


def test_a_subclassed_model_is_wrapped_when_its_inputs_are_given(rows):
    model = Subclassed()
    with pytest.raises(ConfigError, match="inputs="):
        TrainableModel.from_model(model)
    wrapped = TrainableModel.from_model(model, inputs=keras.Input((5,), dtype="int32"))
    wrapped.compile(optimizer(), cross_entropy(), transforms=[FGM(0.5)])
    assert np.isfinite(wrapped.fit(*rows, verbose=0).history["loss"]).all()


class Counted(Transform):
    """Adds noise to the loss and counts its steps in a variable of its own."""

    def __init__(self):
        self.count = self.noise = None
        self.prepared = []

    @property
    def variables(self):
        return [self.count, self.noise]

    def build(self, model):
        self.count = keras.Variable(0, dtype="int32", trainable=False, name="count")
        self.noise = keras.Variable(keras.ops.zeros(8), trainable=False, name="noise")

    def prepare(self, model, data):
        self.prepared.append(data)

    def __call__(self, objective):
        return CountedObjective(objective, self)


class CountedObjective(TransformedObjective):
    def __init__(self, objective, settings):
        super().__init__(objective)
        self.settings = settings

    def __call__(self, trainable, state, batch):
        loss, aux = self.objective(trainable, state, batch)
        kept = list(aux.state.non_trainable)
        indices = [id(v) for v in self.model.non_trainable_variables]
        noise = keras.ops.roll(self.value_of(self.settings.noise, state), 1)
        draw = keras.random.normal((1,), seed=state.seed(7))
        kept[indices.index(id(self.settings.count))] = self.value_of(self.settings.count, state) + 1
        kept[indices.index(id(self.settings.noise))] = keras.ops.concatenate([draw, noise[1:]])
        return loss, aux._replace(state=aux.state._replace(non_trainable=kept))


def test_a_transform_may_keep_variables_and_draw_numbers_that_depend_on_the_step_alone(rows):
    x, y = rows
    kept = []
    for epochs in ([2], [1, 1]):
        model, transform = build(dropout=0.2), Counted()
        model.compile(optimizer(), cross_entropy(), transforms=[transform])
        for count in epochs:
            model.fit(x, y, 8, epochs=count, shuffle=False, verbose=0)
        assert len(transform.prepared) == len(epochs)
        assert transform.prepared[0][0] is x
        assert transform.prepared[0][3] == 8
        assert int(transform.count.value) == 6
        kept.append(keras.ops.convert_to_numpy(transform.noise.value))
    np.testing.assert_array_equal(*kept)
    model.fit(x, y, 8, validation_split=0.25, verbose=0)
    assert len(transform.prepared[-1][0]) == len(transform.prepared[-1][1]) == 18  # not what is held out
    assert len(set(kept[0][:6].tolist())) == 6
    assert {id(v) for v in transform.variables} <= {id(v) for v in model.non_trainable_variables}
    assert not {id(v) for v in transform.variables} & {id(v) for v in model.weights}
