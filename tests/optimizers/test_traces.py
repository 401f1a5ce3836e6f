"""Eight steps of every optimizer against those recorded with the original toolkit."""

import json
from pathlib import Path

import keras
import numpy as np
import pytest

from qingformer.optimizers import LAMB, AdaFactor, Adam, LazyAdam, Lion, PiecewiseLinear
from tests.conftest import SLOW_ON_JAX

FOLDER = Path(__file__).resolve().parent.parent / "fixtures" / "bert4keras" / "optimizers"
# The original updates with the previous gradients, at steps 0, k, 2k, ..., and its bias correction counts batches.
QUIRKS = {"lamb_piecewise_accumulation"}
# What wrappers do is compared in test_wrapper_traces.py.
OF_WRAPPERS = {
    "adam_ema",
    "adam_gradient_accumulation",
    "adam_gradient_accumulation_no_bias_correction",
    "adam_lookahead",
    "adam_parameter_wise_lr",
    "adamw_parameter_wise_lr",
}
CASES = [
    pytest.param(path.stem, marks=SLOW_ON_JAX if path.stem in QUIRKS else [])
    for path in sorted(FOLDER.glob("*.npz"))
    if path.stem not in OF_WRAPPERS
]
NAMES = {
    "beta1": "beta_1",
    "beta2": "beta_2",
    "weight_decay_rate": "weight_decay",
    "grad_accum_steps": "gradient_accumulation_steps",
    "include_in_lazy_optimization": "lazy",
}


def recorded(case):
    arrays = np.load(FOLDER / f"{case}.npz")
    return json.loads(str(arrays["config"])), arrays


def make(config):
    """Our optimizer for a recorded composition."""
    options = {NAMES.get(key, key): value for key, value in config["kwargs"].items()}
    if "lr_schedule" in options:
        points = {int(step): multiplier for step, multiplier in options.pop("lr_schedule").items()}
        options["learning_rate"] = PiecewiseLinear(options["learning_rate"], points)
    extensions = config["extensions_inner_to_outer"]
    if config["optimizer"] == "AdaFactor":
        return AdaFactor(**options)
    if config["optimizer"] == "Lion":
        return Lion(**options)
    if "layer_adaptation" in extensions:
        nothing = {"weight_decay": None, "exclude_from_weight_decay": [], "exclude_from_layer_adaptation": []}
        return LAMB(**nothing | options)
    if "lazy_optimization" in extensions:
        return LazyAdam(freeze_moments=False, **options)
    return Adam(**options)


def largest_difference(case):
    config, arrays = recorded(case)
    variables = []
    for name in config["variables"]:
        *scope, last = name.split("/")
        with keras.src.backend.name_scope("/".join(scope)):
            variables.append(keras.Variable(arrays[f"initial/{name}"], name=last))
    assert [v.path for v in variables] == config["variables"]
    optimizer = make(config)
    optimizer.build(variables)
    worst = 0.0
    for step in range(config["steps"]):
        optimizer.apply([keras.ops.convert_to_tensor(arrays[f"gradient/{n}"][step]) for n in config["variables"]])
        for variable, name in zip(variables, config["variables"]):
            expected = arrays[f"trace/{name}"][step]
            allowed = 2e-6 + 1e-5 * np.abs(expected)
            worst = max(worst, np.max(np.abs(keras.ops.convert_to_numpy(variable) - expected) / allowed))
    return worst


@pytest.mark.filterwarnings("ignore:.*is in none of the paths.*")
@pytest.mark.parametrize("case", CASES)
def test_equals_the_original(case):
    difference = largest_difference(case)
    assert difference > 100 if case in QUIRKS else difference <= 1
