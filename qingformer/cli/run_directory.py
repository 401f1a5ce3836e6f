"""The settings of a training run: checked, and written beside its results."""

import os
import re
from pathlib import Path
from typing import Any, get_origin

from qingformer.cli.console import note
from qingformer.cli.options import Option
from qingformer.cli.train import SETTINGS
from qingformer.errors import ConfigError
from qingformer.files import write_json
from qingformer.json_files import quoted, read_object
from qingformer.training import clear_run
from qingformer.types import Config, Values

RUN_FILE = "run.json"
_LEFT_OVER = re.compile(r"\.run\.lock|\.run\.json\..*\.part")  # of a process that was killed at its very start
# A resumed run may spell these otherwise, from another folder, as long as the files are the same.
_PATHS = ("train", "dev", "test", "source", "vocabulary", "schema")
PRECISIONS = ("float32", "mixed_bfloat16")


def settings_of(values: Values, max_length: int) -> Config:
    """The options that decide what a run computes, as JSON holds them; `max_length` is that of the task.

    Raises:
        ConfigError: what no run can have.
    """
    settings = {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}
    settings["transforms"] = settings.pop("transform") or []
    settings["max_length"] = max_length if settings["max_length"] is None else settings["max_length"]
    _check(settings)
    return settings


def _check(settings: Values) -> None:
    if (settings["source"] is None) == (settings["from_scratch"] is None):
        raise ConfigError("give either --source (pretrained weights) or --from-scratch tiny, small or base")
    if settings["precision"] not in PRECISIONS:
        raise ConfigError(f"--precision is {settings['precision']!r}; choose one of {', '.join(PRECISIONS)}")
    if settings["learning_rate"] is not None and not 0 < settings["learning_rate"] < 1:
        raise ConfigError(f"--learning-rate is {settings['learning_rate']}; expected a number above 0 and below 1")
    if (multiplier := settings.get("lr_multiplier")) is not None and not 0 <= multiplier < float("inf"):
        raise ConfigError(f"--lr-multiplier is {multiplier}; expected a finite number, 0 or more")
    for option, value in (("--monitor", settings["monitor"]), ("--patience", settings["patience"])):
        if value is not None and settings["dev"] is None:
            raise ConfigError(f"{option} watches a score on held-out data; give it with --dev")
    for path in (settings["train"], settings["dev"], settings["test"], settings.get("schema")):
        if path is not None and not Path(path).exists():
            raise ConfigError(f"{path}: no such file; check the path")


class RunDirectory:
    """The output folder of `train`, which `task.fit` takes as its directory.

    `fit` calls `begin` when nothing is left to check: a start that fails leaves no folder, or the run that was there.
    """

    def __init__(self, output: Path, settings: Values, *, resume: bool, overwrite: bool) -> None:
        self.output, self.settings = output, dict(settings)
        self.resume, self.overwrite = resume, overwrite

    def __fspath__(self) -> str:
        return str(self.output)

    def check(self) -> None:
        """Refuse a folder that is not this run's, changing nothing; the caller holds its lock.

        Raises:
            ConfigError: another run, or other files, are there; or `resume` with other settings than at its beginning.
        """
        output, there = self.output, self.output / RUN_FILE
        # Nothing but the number of epochs may have changed; what older versions wrote stays as it is.
        if self.resume:
            check_begun(output)
            _check_same(there, _stored(there), self.settings)
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
        settings = dict(self.settings)
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


def _stored(path: Path) -> Config:
    """The settings that a run began with.

    Raises:
        ConfigError: names a value of a type that no run writes.
    """
    kinds: Config = {option.name: (_stored_kind(option), type(None)) for option in SETTINGS}
    kinds |= {"transforms": (list,), "working_directory": (str,)}
    values = read_object(path, ConfigError, kinds)
    for key, value in values.items():
        if type(value) is list and not all(isinstance(part, str) for part in value):
            wrong = next(part for part in value if not isinstance(part, str))
            raise ConfigError(f"{path}: {key} holds {quoted(wrong)}, expected strings alone")
    return values


def _check_same(path: Path, begun: Config, now: Config) -> None:
    defaults = {option.name: option.default for option in SETTINGS}  # of runs before there were these options
    for key, value in now.items():
        before = begun.get(key, defaults.get(key))
        if key == "epochs" or before == value or (key in _PATHS and _same_file(begun, before, value)):
            continue  # more epochs go on, and the state knows whether fewer will do
        raise ConfigError(
            f"{path}: the run began with {key} = {before!r}, not {value!r}; --resume needs the same settings"
        )


def _same_file(begun: Config, before: object, now: object) -> bool:
    """Whether two spellings mean one file; the first as seen from where the run began."""
    if not isinstance(before, str) or not isinstance(now, str):
        return False
    base = begun.get("working_directory")
    first = os.path.join(base, before) if isinstance(base, str) else before
    return os.path.exists(now) and os.path.realpath(first) == os.path.realpath(now)


def _stored_kind(option: Option) -> type:
    """The type of an option's value in JSON."""
    if option.kind is Path:
        return str
    found: type = list if option.splits else get_origin(option.kind) or option.kind
    return found


def parse_transforms(wanted: list[str]) -> list[Any]:
    """`fgm=30%` as the object; unknown names are refused with those there are."""
    from qingformer.objectives.named_transforms import named_transform

    try:
        return [named_transform(text) for text in wanted]
    except ConfigError as problem:
        raise ConfigError(f"--transform {problem}") from None
