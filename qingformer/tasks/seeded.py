"""Random numbers of a task that are the same in every run: starts of weights, and the states of dropout."""

import keras
import numpy as np

from qingformer.types import Config


@keras.saving.register_keras_serializable("qingformer")
class SeededNormal(keras.initializers.TruncatedNormal):
    """The truncated normal for all matrices of a model, repeatable without seeding the whole process.

    Layers clone their initialiser. A clone of one with a seed would give every matrix of one shape the same numbers, so
    all clones are this one, and each matrix gets the next numbers of its generator.
    """

    def __init__(self, stddev: float, seed: int) -> None:
        super().__init__(stddev=stddev, seed=keras.random.SeedGenerator(seed))
        self._start = seed

    def get_config(self) -> Config:
        """The deviation and the seed."""
        return {"stddev": self.stddev, "seed": self._start}

    def clone(self) -> "SeededNormal":
        """This very object."""
        return self


@keras.saving.register_keras_serializable("qingformer")
class SeededLecunNormal(keras.initializers.LecunNormal):
    """The truncated normal of deviation sqrt(1 / inputs), repeatable as `SeededNormal` is."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=keras.random.SeedGenerator(seed))
        self._start = seed

    def get_config(self) -> Config:
        """The seed."""
        return {"seed": self._start}

    def clone(self) -> "SeededLecunNormal":
        """This very object."""
        return self


def reseed(model: keras.Model, seed: int) -> None:
    """Set every random generator of the model (dropout) as a function of `seed` alone, so that runs can be repeated."""
    states = [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]
    for place, state in enumerate(states):
        # Independent streams by number of the generator; the second word is the count of draws, which begins at 0.
        words = np.random.SeedSequence((seed, place)).generate_state(1)
        state.assign(np.array([words[0], 0], "uint32"))
