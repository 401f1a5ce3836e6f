"""The network of every task goes into a `.keras` file and comes back, compiled, quantised or with adapters."""

import importlib
import inspect
import pkgutil

import keras
import numpy as np
import pytest

import qingformer
from qingformer.optimizers import adamw, warmup_linear
from qingformer.tasks import MultipleChoice, ReadingComprehension, RelationExtractor, SequenceTagger, TextClassifier
from tests.tasks.helpers import backbone, tokenizer

NETWORKS = {
    "classifier": (TextClassifier, {"labels": ["a", "b"]}),
    "multi-label": (TextClassifier, {"labels": ["a", "b"], "multi_label": True}),
    **{
        head: (SequenceTagger, {"labels": ["PER", "LOC"], "head": head, "stride": 4})
        for head in ("crf", "memm", "softmax", "global_pointer", "efficient_global_pointer")
    },
    **{
        f"{design}, {pointer}": (
            RelationExtractor, {"relations": ["r", "s"], "design": design, "pointer": pointer, "stride": 4}
        )
        for design, pointer in (
            ("gplinker", "global_pointer"), ("gplinker", "efficient_global_pointer"), ("cascade", "global_pointer")
        )
    },
    "reading": (ReadingComprehension, {"stride": 4, "no_answer": True}),
    "choice": (MultipleChoice, {}),
}  # fmt: skip


def inputs_of(model):
    """A batch of zeros and ones for every input, two rows of eight where the size is open."""
    random, made = np.random.default_rng(0), {}
    for name, tensor in model.input.items():
        shape = [2 if place == 0 else size or 8 for place, size in enumerate(tensor.shape)]
        made[name] = np.ones(shape, "int32") if "mask" in name else random.integers(0, 2, shape).astype(tensor.dtype)
    return made


def same_outputs(model, other):
    inputs = inputs_of(model)
    ours, theirs = (keras.tree.flatten(each(inputs)) for each in (model, other))
    return all(
        np.array_equal(*map(keras.ops.convert_to_numpy, (one, two))) for one, two in zip(ours, theirs, strict=True)
    )


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer:UserWarning")  # it has made no step
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_goes_round_compiled(tmp_path, name):
    kind, options = NETWORKS[name]
    task = kind(backbone(), tokenizer(), max_length=16, **options)
    loss = task.loss() if hasattr(task, "loss") else "sparse_categorical_crossentropy"
    task.model.compile(adamw(warmup_linear(1e-3, 10)), loss)
    task.model.save(tmp_path / "task.keras")
    again = keras.models.load_model(tmp_path / "task.keras")
    assert type(again) is type(task.model)
    assert again.compiled
    assert same_outputs(task.model, again)


def test_what_a_checkpoint_callback_wrote_is_read(tmp_path):
    file = tmp_path / "best.keras"
    task = TextClassifier.from_scratch("tiny", ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"天气"], max_length=8)
    checkpoint = keras.callbacks.ModelCheckpoint(file)
    task.fit([("天", "a"), ("气", "b")] * 2, epochs=1, batch_size=4, verbose=0, callbacks=[checkpoint])
    assert same_outputs(task.model, keras.models.load_model(file))


@pytest.mark.parametrize("mode", ["int8", pytest.param("int4", marks=pytest.mark.slow)])
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_a_quantised_model_goes_round(tmp_path, mode):
    body = backbone()
    body.quantize(mode)
    body.save(tmp_path / "body.keras")
    inputs = {"token_ids": np.array([[2, 5, 6, 3]])}
    outputs = [
        keras.ops.convert_to_numpy(each(inputs)["sequence_output"])
        for each in (body, keras.models.load_model(tmp_path / "body.keras"))
    ]
    np.testing.assert_array_equal(*outputs)
    assert not np.array_equal(outputs[0], keras.ops.convert_to_numpy(backbone()(inputs)["sequence_output"]))


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method:UserWarning")
def test_a_quantised_task_with_adapters_goes_round(tmp_path):
    task = TextClassifier(backbone(), tokenizer(), labels=["a", "b"], max_length=16)
    task.backbone.quantize("int8")
    task.backbone.enable_lora(2)
    task.model.save(tmp_path / "task.keras")
    assert same_outputs(task.model, keras.models.load_model(tmp_path / "task.keras"))


def test_everything_that_a_file_can_name_is_registered():
    # What `compile` makes of the losses it is given is made again when a file is read.
    unnamed = "qingformer.losses.means"
    bases = (keras.Layer, keras.initializers.Initializer, keras.losses.Loss, keras.metrics.Metric,
             keras.optimizers.Optimizer, keras.optimizers.schedules.LearningRateSchedule)  # fmt: skip
    others = {f"qingformer.backend.{name}" for name in ("jax", "torch", "tensorflow")}  # import what is not in use
    for module in pkgutil.walk_packages(qingformer.__path__, "qingformer."):
        if not module.name.endswith("__main__") and module.name not in others:
            found = vars(importlib.import_module(module.name)).values()
            for cls in found:
                if inspect.isclass(cls) and issubclass(cls, bases) and cls.__module__ == module.name:
                    base_only = cls.__subclasses__() or cls.__name__.startswith("_") or cls.__module__ == unnamed
                    assert base_only or keras.saving.get_registered_name(cls) == f"qingformer>{cls.__name__}", cls
