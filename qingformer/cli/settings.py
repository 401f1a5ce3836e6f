"""The settings of a training run: checked, parsed, and written beside its results."""

import dataclasses
from pathlib import Path
from typing import Any

from qingformer.errors import ConfigError
from qingformer.files import read_json, write_json

RUN_FILE = "run.json"
PRECISIONS = ("float32", "mixed_bfloat16")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Everything that decides what a run computes; two runs with equal settings and data are the same run."""

    train: str
    dev: str | None
    test: str | None
    source: str | None
    from_scratch: str | None
    vocabulary: str | None
    text_column: str | None
    pair_column: str | None
    label_column: str | None
    format: str | None
    columns: list[str] | None
    encoding: str
    quoting: bool | None
    skip_empty: bool
    multi_label: bool
    epochs: int
    batch_size: int
    learning_rate: float | None
    max_length: int
    transforms: list[str]
    loss: str | None
    class_weights: str | None
    precision: str
    seed: int
    task: str = "classification"
    head: str | None = None
    scheme: str | None = None
    lr_multiplier: float | None = None
    design: str | None = None
    pointer: str | None = None
    schema: str | None = None
    stride: int | None = None
    max_question_length: int | None = None
    max_answer_length: int | None = None
    joiner: str | None = None
    strict: bool = False
    digits: bool | None = None
    label_separator: str | None = None
    no_label: str | None = None
    skip_unlabelled: bool = False

    def __post_init__(self) -> None:
        if (self.source is None) == (self.from_scratch is None):
            raise ConfigError("give either --source (pretrained weights) or --from-scratch tiny, small or base")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"--precision is {self.precision!r}; choose one of {', '.join(PRECISIONS)}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise ConfigError(f"--learning-rate is {self.learning_rate}; it must lie between 0 and 1")
        for path in (self.train, self.dev, self.test, self.schema):
            if path is not None and not Path(path).exists():
                raise ConfigError(f"{path}: no such file; check the path")


def claim_folder(output: Path, settings: Settings, *, resume: bool, overwrite: bool) -> None:
    """Make `output` this run's folder, or refuse it if it holds something else.

    Raises:
        ConfigError: another run, or other files, are there; or `resume` with other settings than the run began with.
    """
    there = output / RUN_FILE
    if resume:
        if not there.exists():
            raise ConfigError(
                f"{output}: no run to resume there ({RUN_FILE} is missing); leave out --resume to begin one"
            )
        _check_same(there, read_json(there, ConfigError), dataclasses.asdict(settings))
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        if not there.exists():
            raise ConfigError(f"{output}: holds files that no run wrote; choose another --output")
        if not overwrite:
            raise ConfigError(
                f"{output}: holds a run already; continue it with --resume or replace it with --overwrite"
            )
        _clear(output)
    output.mkdir(parents=True, exist_ok=True)
    write_json(there, dataclasses.asdict(settings))


def _check_same(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}  # of runs before these settings
    for key, value in now.items():
        before = begun.get(key, defaults[key])
        if before != value:
            raise ConfigError(
                f"{path}: the run began with {key} = {before!r}, not {value!r}; --resume needs the same settings"
            )


def _clear(output: Path) -> None:
    """Remove what runs write, and nothing else."""
    import shutil

    for name in (RUN_FILE, "curve.jsonl", "curve.png", "report.json"):
        (output / name).unlink(missing_ok=True)
    for name in ("best", "state"):
        shutil.rmtree(output / name, ignore_errors=True)


def parse_transforms(wanted: list[str]) -> list[Any]:
    """`fgm=0.5` as the object; unknown names are refused with those there are."""
    from qingformer.objectives.named import named_transform

    try:
        return [named_transform(text) for text in wanted]
    except ConfigError as problem:
        raise ConfigError(f"--transform {problem}") from None


def parse_class_weights(text: str | None) -> dict[str, float] | str | None:
    """`balanced` and `sqrt` as they are, `spam=2,ham=1` as numbers by label."""
    if text is None or "=" not in text:
        return text
    weights = {}
    for part in text.split(","):
        label, _, value = part.rpartition("=")
        weights[label.strip()] = parse_number("--class-weights", text, value)
    return weights


def parse_number(option: str, text: str, value: str) -> float:
    """The number `value`, or an error that quotes the whole option."""
    try:
        return float(value)
    except ValueError:
        raise ConfigError(f"{option} {text}: {value!r} is not a number") from None
