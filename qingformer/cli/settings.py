"""The settings of a training run: checked, parsed, and written beside its results."""

import dataclasses
import os
import re
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from qingformer.cli.console import note
from qingformer.errors import ConfigError
from qingformer.files import write_json
from qingformer.json_files import quoted, read_object
from qingformer.training import clear_run

RUN_FILE = "run.json"
_LEFT_OVER = re.compile(r"\.run\.lock|\.run\.json\..*\.part")  # of a process that was killed at its very start
_PATHS = ("train", "dev", "test", "source", "vocabulary", "schema")
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
    labels: list[str] | None = None
    monitor: str | None = None
    patience: int | None = None

    def __post_init__(self) -> None:
        if (self.source is None) == (self.from_scratch is None):
            raise ConfigError("give either --source (pretrained weights) or --from-scratch tiny, small or base")
        if self.precision not in PRECISIONS:
            raise ConfigError(f"--precision is {self.precision!r}; choose one of {', '.join(PRECISIONS)}")
        if self.learning_rate is not None and not 0 < self.learning_rate < 1:
            raise ConfigError(f"--learning-rate is {self.learning_rate}; expected a number above 0 and below 1")
        if self.lr_multiplier is not None and not 0 <= self.lr_multiplier < float("inf"):
            raise ConfigError(f"--lr-multiplier is {self.lr_multiplier}; expected a finite number, 0 or more")
        for option, value in (("--monitor", self.monitor), ("--patience", self.patience)):
            if value is not None and self.dev is None:
                raise ConfigError(f"{option} watches a score on held-out data; give it with --dev")
        for path in (self.train, self.dev, self.test, self.schema):
            if path is not None and not Path(path).exists():
                raise ConfigError(f"{path}: no such file; check the path")


class RunDirectory:
    """The output folder of `train`, which `task.fit` takes as its directory.

    `fit` calls `begin` when nothing is left to check: a start that fails leaves no folder, or the run that was there.
    """

    def __init__(self, output: Path, settings: Settings, *, resume: bool, overwrite: bool) -> None:
        self.output, self.settings, self.resume, self.overwrite = output, settings, resume, overwrite

    def __fspath__(self) -> str:
        return str(self.output)

    def check(self) -> None:
        """Refuse a folder that is not this run's, changing nothing; the caller holds its lock.

        Raises:
            ConfigError: another run, or other files, are there; or `resume` with other settings than at its beginning.
        """
        output, there = self.output, self.output / RUN_FILE
        if self.resume:
            check_begun(output)
            _check_same(there, _stored(there), dataclasses.asdict(self.settings))
            return
        others = [name for name in os.listdir(output) if not _LEFT_OVER.fullmatch(name)]
        if not others or others == [RUN_FILE]:  # killed before there was anything to lose
            return
        if not there.exists():
            raise ConfigError(f"{output}: holds files that no run wrote; choose another --output")
        if not self.overwrite:
            raise ConfigError(
                f"{output}: holds a run already; continue it with --resume or replace it with --overwrite"
            )

    def begin(self) -> None:
        """Make the folder this run's. What an old run wrote goes first; other files stay."""
        settings = dataclasses.asdict(self.settings)
        if self.resume:
            before = _stored(self.output / RUN_FILE)
            settings = {**before, "epochs": max(before.get("epochs", 0), settings["epochs"])}
            if settings == before:
                return
            note(
                f"the run was made for {before.get('epochs')} epochs and goes on to {settings['epochs']}: from here "
                "the learning rate follows the schedule of the new number, so it rises again"
            )
        else:
            clear_run(self.output)
            settings["working_directory"] = os.getcwd()
        write_json(self.output / RUN_FILE, settings)


def check_begun(output: Path) -> None:
    """Refuse to resume in a folder in which no run has begun.

    Raises:
        ConfigError: names the folder.
    """
    if not (output / RUN_FILE).exists():
        raise ConfigError(f"{output}: no run to resume there ({RUN_FILE} is missing); leave out --resume to begin one")


def _stored(path: Path) -> dict[str, Any]:
    """The settings that a run began with.

    Raises:
        ConfigError: names a value of a type that no run writes.
    """
    hints = {**get_type_hints(Settings), "working_directory": str}
    parts = {key: get_args(hint) if isinstance(hint, UnionType) else (hint,) for key, hint in hints.items()}
    kinds = {key: tuple(get_origin(part) or part for part in each) for key, each in parts.items()}
    values = read_object(path, ConfigError, kinds)
    for key, value in values.items():
        if type(value) is list and not all(isinstance(part, str) for part in value):
            wrong = next(part for part in value if not isinstance(part, str))
            raise ConfigError(f"{path}: {key} holds {quoted(wrong)}, expected strings alone")
    return values


def _check_same(path: Path, begun: dict[str, Any], now: dict[str, Any]) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(Settings)}  # of runs before these settings
    for key, value in now.items():
        before = begun.get(key, defaults[key])
        if key == "epochs" or before == value or (key in _PATHS and _same_file(begun, before, value)):
            continue  # more epochs go on, and the state knows whether fewer will do
        raise ConfigError(
            f"{path}: the run began with {key} = {before!r}, not {value!r}; --resume needs the same settings"
        )


def _same_file(begun: dict[str, Any], before: Any, now: Any) -> bool:
    """Whether two spellings mean one file; the first as seen from where the run began."""
    if not isinstance(before, str) or not isinstance(now, str):
        return False
    base = begun.get("working_directory")
    first = os.path.join(base, before) if isinstance(base, str) else before
    return os.path.exists(now) and os.path.realpath(first) == os.path.realpath(now)


def parse_transforms(wanted: list[str]) -> list[Any]:
    """`fgm=30%` as the object; unknown names are refused with those there are."""
    from qingformer.objectives.named_transforms import named_transform

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
