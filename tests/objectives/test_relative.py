"""A radius relative to the length of a token's vector means the same at every scale of the embeddings."""

import keras
import numpy as np
import pytest

from qingformer.errors import ConfigError
from qingformer.objectives import FGM, PGD, TrainableModel, VirtualAdversarialTraining
from qingformer.objectives.named_transforms import named_transform
from qingformer.objectives.perturbation import RELATIVE

from .evaluation import evaluate

X, Y = np.arange(12).reshape(4, 3) % 7, np.arange(4) % 3


def model(trainable=True):
    keras.utils.set_random_seed(5)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    table = keras.layers.Embedding(7, 4, name="token_embedding", trainable=trainable)
    made = TrainableModel(ids, keras.layers.Dense(3)(keras.layers.GlobalAveragePooling1D()(table(ids))))
    made.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return made, keras.ops.convert_to_numpy(table.embeddings).astype("float64")


MADE = {
    "fgm": lambda **size: FGM(**size),
    "fgm sample": lambda **size: FGM(norm="sample", **size),
    "fgm linf": lambda **size: FGM(attack="linf", **size),
    "pgd": lambda **size: PGD(steps=2, **size),
    "pgd linf": lambda **size: PGD(steps=2, attack="linf", random_start=True, **size),
}


@pytest.mark.parametrize("name", MADE)
def test_relative_is_the_radius_in_units_of_a_vector(name):
    made, table = model()
    mean = np.square(table).mean() if "linf" in name else np.square(table).sum(-1).mean()
    absolute = evaluate(made, [MADE[name](epsilon=0.3 * np.sqrt(mean))], X, Y)
    relative = evaluate(made, [MADE[name](relative=0.3)], X, Y)
    assert relative[0] == pytest.approx(absolute[0], rel=1e-5)
    for one, other in zip(relative[1], absolute[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def test_relative_smoothing_steps_and_tries_in_units_of_a_vector():
    made, table = model()
    length = np.sqrt(np.square(table).sum(-1).mean())
    absolute = evaluate(made, [VirtualAdversarialTraining(epsilon=0.5 * length, xi=2.0 * length)], X, Y)
    relative = evaluate(made, [VirtualAdversarialTraining(relative=0.5, xi=2.0)], X, Y)
    assert relative[0] == pytest.approx(absolute[0], rel=1e-5)


def test_a_frozen_table_has_a_length_too():
    made, table = model(trainable=False)
    length = np.sqrt(np.square(table).sum(-1).mean())
    losses = [
        evaluate(made, [FGM(norm="sample", **size)], X, Y)[0] for size in ({"relative": 0.3}, {"epsilon": 0.3 * length})
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_defaults_names_and_what_cannot_be():
    assert (FGM().epsilon, FGM().relative) == (None, RELATIVE)
    assert (FGM(0.5).epsilon, FGM(0.5).relative) == (0.5, None)
    assert FGM.from_config(FGM(relative=0.2).get_config()).relative == 0.2
    assert named_transform("pgd=20%").relative == pytest.approx(0.2)
    assert named_transform("fgm=0.5").epsilon == 0.5
    with pytest.raises(ConfigError, match="give one of the two"):
        FGM(0.5, relative=0.1)
    with pytest.raises(ConfigError, match="only fgm and pgd take a percentage"):
        named_transform("r_drop=4%")
    made, _ = model()
    pooling = made.layers[2].name
    with pytest.raises(ConfigError, match="has no weights to be relative to"):
        made.compile("sgd", "mse", transforms=[FGM(norm="sample", layer=pooling)])
