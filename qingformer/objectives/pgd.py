"""Adversarial training with several projected steps (projected gradient descent)."""

import keras
from keras import ops

from qingformer import backend
from qingformer.errors import ConfigError
from qingformer.objectives.objective import Objective, State, Transform
from qingformer.objectives.perturbation import (
    ATTACKS,
    NORMS,
    RELATIVE,
    Length,
    MovedObjective,
    Point,
    ascent,
    directions,
    embedding_place,
    noise,
    project,
    sized,
)
from qingformer.objectives.transform_arguments import not_negative, one_of, radius
from qingformer.types import Config, Tensor

_SALT = 170606083


@keras.saving.register_keras_serializable("qingformer")
class PGD(Transform):
    """Train at a point that several small steps uphill, never leaving a ball around the weights, have reached.

        delta_0 = 0,   delta_(k+1) = P(delta_k + alpha g_k / (||g_k|| + 1e-8)),   g_k = dL/dE at E + delta_k

    P brings what is longer than epsilon back to length epsilon. After `steps` steps L(E + delta) is minimised with
    delta held constant: the gradient of the update is the one at the last point alone, as in the min-max problem of the
    paper. (Scripts that add the gradient at the undisturbed point to it minimise the sum of the two losses.) A step
    costs `steps + 1` gradients, all with the same dropout masks. `steps=1, alpha=epsilon` is `FGM(epsilon)`.

    Args:
        epsilon: radius of the ball, in units of the weights, >= 0; with "linf" the largest change of an entry.
        alpha: length of one step; None for `1.5 epsilon / steps`, with which the edge can be reached. In the unit of
            the radius.
        steps: how many, >= 1.
        layer, norm, attack: as those of `FGM`; with "linf" steps are alpha * sign(g) and P cuts every entry.
        random_start: begin at a random point of the ball instead of its middle.
        relative: instead of epsilon, the radius in units of a token's vector, as in `FGM`; 0.05 if neither is given.

    Raises:
        ConfigError: as `FGM`, and for fewer steps than one.

    Source: Madry et al. 2017, arXiv 1706.06083; 科学空间, archives/7234.

    Example:
        >>> model.compile("adam", "sparse_categorical_crossentropy", transforms=[PGD(1.0, alpha=0.3, steps=3)])
    """

    def __init__(
        self,
        epsilon: float | None = None,
        alpha: float | None = None,
        steps: int = 3,
        layer: str = "token_embedding",
        norm: str = "matrix",
        attack: str = "l2",
        random_start: bool = False,
        relative: float | None = None,
    ) -> None:
        if int(steps) != steps or steps < 1:
            raise ConfigError(f"PGD: steps is {steps}; it must be a whole number, 1 or more")
        self.epsilon, self.relative = radius("PGD", epsilon, relative, RELATIVE)
        self.alpha = None if alpha is None else not_negative("PGD", "alpha", alpha)
        self.steps = int(steps)
        self.layer = layer
        self.norm = one_of("PGD", "norm", norm, NORMS)
        self.attack = one_of("PGD", "attack", attack, ATTACKS)
        self.random_start = random_start

    def __call__(self, objective: Objective) -> Objective:
        """The objective at the perturbed point."""
        return _Projected(objective, self)

    def get_config(self) -> Config:
        """The constructor's arguments."""
        return {
            "epsilon": self.epsilon,
            "alpha": self.alpha,
            "steps": self.steps,
            "layer": self.layer,
            "norm": self.norm,
            "attack": self.attack,
            "random_start": self.random_start,
            "relative": self.relative,
        }


class _Projected(MovedObjective):
    def __init__(self, objective: Objective, settings: PGD) -> None:
        super().__init__(objective)
        self.settings = settings
        self.place = embedding_place(objective, settings.layer, settings.norm == "sample", "PGD")
        self.length = None
        if settings.relative is not None:
            self.length = Length(self.model, settings.layer, settings.attack, "PGD")

    def moved(self, point: Point) -> Point:
        attack, norm = self.settings.attack, self.settings.norm
        epsilon = sized(self.settings.epsilon, self.settings.relative, self.length, point)
        alpha = self.settings.alpha
        if alpha is not None and self.length is not None:
            alpha = alpha * self.length(point)
        deltas = self.place.zeros(point)
        if self.settings.random_start:
            deltas = self._start(deltas, point.state, epsilon)
        for _ in range(self.settings.steps):
            with backend.repeated_randomness():
                _, gradients = self.place.slope(point, deltas)
            steps = ascent(gradients, 1.5 * epsilon / self.settings.steps if alpha is None else alpha, attack, norm)
            deltas = project([delta + step for delta, step in zip(deltas, steps)], epsilon, attack, norm)
            deltas = [ops.stop_gradient(delta) for delta in deltas]
        return self.place.add(point, deltas)

    def _start(self, zeros: list[Tensor], state: State, epsilon: object) -> list[Tensor]:
        norm = self.settings.norm
        if self.settings.attack == "linf":
            return [epsilon * each for each in noise(zeros, state, _SALT, bound=1.0)]
        share = keras.random.uniform((), seed=state.seed(_SALT - 1))
        return [epsilon * share * direction for direction in directions(noise(zeros, state, _SALT), norm)]
