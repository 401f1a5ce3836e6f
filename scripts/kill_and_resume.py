"""Kill trainings at every kind of moment, resume them until they are done, and compare with an uninterrupted one.

    python scripts/kill_and_resume.py --runs 200
    python scripts/kill_and_resume.py --short              # ten runs, 90 s of processor time, as in .ci/run
    python scripts/kill_and_resume.py --runs 50 --kind change --seconds 600

`best/` and the report must be equal bit for bit, the curve except for its times; nothing else may be left behind,
and a file that somebody puts into `best/` must stay. In the samples every epoch is better than the one before. After
every fault `predict` must work, or explain in one line why not. The exit code is 1 if a run differs.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.struck import Outcome, end_of, forked, keep_all_programs, signalled

# With these every epoch of the sample is the best one so far, so that `best/` is replaced twice.
TASKS = {
    "classification": ("--learning-rate=0.002", "--monitor=loss"),
    "ner": ("--learning-rate=0.003", "--seed=1"),
}
BETTER = {"classification": ("val_loss", -1), "ner": ("val_f1", 1)}
KINDS = {
    "moment": "SIGKILL at a random moment",
    "change": "SIGKILL just before a change of files",
    "term": "SIGTERM at a random moment",
    "twice": "SIGINT twice",
    "full": "no file can be made from some change on",
    "limit": "files end at some size",
    "two": "a second process in the same folder",
}
SHORT = {"moment": 1, "change": 4, "term": 1, "twice": 1, "full": 1, "limit": 1, "two": 1}


@dataclass
class Sample:
    """A task's training, what it leaves when nobody disturbs it, and how long that takes."""

    arguments: list[str]
    test: Path
    whole: dict[str, Any]
    changes: int = 0
    seconds: float = 0.0


class Failed(Exception):
    """A run did not come out as it must."""


def make_sample(task: str, folder: Path) -> Sample:
    """Data of a few characters, a model that learns something in three epochs, and the undisturbed run."""
    words = {"weather": "晴雨", "music": "歌曲", "food": "饭菜"}
    generator = random.Random(task)
    paths = {}
    for name, count in (("train", 40), ("dev", 18), ("test", 12)):
        rows = []
        for _ in range(count):
            label = generator.choice(list(words))
            filler = "".join(generator.choices("我想要一二三", k=4))
            text = filler + generator.choice(words[label])
            spans = [{"start": 4, "end": 5, "label": label}]
            rows.append(
                {"text": text, "label": label} if task == "classification" else {"text": text, "entities": spans}
            )
        paths[name] = folder / f"{task}-{name}.jsonl"
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        paths[name].write_text(lines, encoding="utf-8")
    arguments = ["train", "--task", task, *(f"--{name}={path}" for name, path in paths.items()), "--from-scratch=tiny"]
    arguments += ["--epochs=3", "--batch-size=16", "--max-length=16", "--save-every=2", *TASKS[task]]
    sample = Sample(arguments, paths["test"], {})
    output = folder / f"{task}-whole"
    for _ in range(2):  # the second one finds everything compiled
        shutil.rmtree(output, ignore_errors=True)
        began = time.monotonic()
        outcome = run(sample, output, folder / "log")
        if outcome.code:
            raise SystemExit(f"the undisturbed {task} run fails: {outcome}")
        sample.seconds = time.monotonic() - began
    sample.whole, sample.changes = contents(output), int((folder / "log.count").read_text())
    name, sign = BETTER[task]
    scores = [sign * row[name] for row in sample.whole["curve"] if row["kind"] == "epoch"]
    if sorted(set(scores)) != scores:
        raise SystemExit(f"{task}: {name} is not better after every epoch: {scores}")
    return sample


def contents(output: Path) -> dict[str, Any]:
    """What a finished run left: names of all files, `best/` and the report in bytes, the curve without its times."""
    files = {path.relative_to(output).as_posix(): path for path in sorted(output.rglob("*"))}
    kept = {name: path.read_bytes() for name, path in files.items() if path.is_file() and name.startswith("best/")}
    kept["report.json"] = (output / "report.json").read_bytes()
    curve = [json.loads(line) for line in (output / "curve.jsonl").read_text().splitlines()]
    return {"names": [*files], "curve": [{k: v for k, v in row.items() if k != "time"} for row in curve], **kept}


def run(sample: Sample, output: Path, log: Path, *more: str, **fault: Any) -> Outcome:
    """Train in a forked process until it ends."""
    return end_of(forked([*sample.arguments, f"--output={output}", *more], output, log, **fault), log)


def strike(
    kind: str, sample: Sample, output: Path, log: Path, how: list[str], dice: random.Random, turn: float
) -> Outcome:
    """One training with one fault; `turn`, 0 to 1, is where in its course."""
    arguments = [*sample.arguments, f"--output={output}", *how]
    if kind == "change":
        return run(sample, output, log, *how, at=1 + int(turn * sample.changes), action="kill")
    if kind == "full":
        return run(sample, output, log, *how, at=1 + int(turn * sample.changes), action="full")
    if kind == "limit":
        return run(sample, output, log, *how, limit=dice.choice((2000, 20_000, 100_000, 300_000)))
    if kind == "term":
        return signalled(arguments, [signal.SIGTERM], [dice.uniform(0, 2.5 + sample.seconds)])
    if kind == "twice":
        delays = [dice.uniform(0, 2.5 + sample.seconds), dice.choice((0, 0.001, 0.01, 0.1, 0.5))]
        return signalled(arguments, [signal.SIGINT] * 2, delays)
    child = forked(arguments, output, log)
    time.sleep(dice.uniform(0, sample.seconds))
    if kind == "two":
        other = log.with_name("other")
        second = run(sample, output, other, dice.choice(("--resume", "--overwrite")))
        check_second(second, child)
    if kind == "moment" or dice.random() < 0.5:
        with suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
    return end_of(child, log)


def check_second(second: Outcome, first: int) -> None:
    """A second process is refused by the number of the first, or comes before its beginning or after its end."""
    line = second.errors[-1] if second.errors else ""
    known = (f"in use by process {first};", "no run to resume there", "in use by another process")
    if second.code not in (0, 2) or len(second.errors) > 1 or (second.code == 2 and not any(k in line for k in known)):
        raise Failed(f"the second process: {second}")


CODES = {"moment": {0, -9}, "change": {0, -9}, "term": {0, 143}, "twice": {0, 130}, "full": {0, 2}, "limit": {0, 2}}


def one_run(kind: str, sample: Sample, output: Path, log: Path, dice: random.Random, turn: float) -> bool:
    """Strike until the dice say that it is enough, resume to the end, compare; whether the first one hit anything."""
    hit, noted, note = False, False, output / "best" / "notes.txt"
    for number in range(dice.choice((1, 1, 2))):
        how = ["--resume"] if (output / "run.json").exists() else []
        outcome = strike(kind, sample, output, log, how, dice, turn if number == 0 else dice.random())
        hit = hit or outcome.code != 0
        if outcome.code not in CODES.get(kind, {0, -9}) or (outcome.code > 0 and len(outcome.errors) != 1):
            raise Failed(f"after the fault: {outcome}")
        found = end_of(forked(["predict", str(sample.test), "--model", str(output)], output / "none", log), log)
        if found.code not in (0, 2) or len(found.errors) != (found.code == 2):
            raise Failed(f"predict after the fault: {found}")
        if note.parent.is_dir():
            note.write_text("mine")
            noted = True
    how = ["--resume"] if (output / "run.json").exists() else []
    outcome = run(sample, output, log, *how)
    if outcome.code or outcome.errors:
        raise Failed(f"{' '.join(how) or 'begun anew'}: {outcome}")
    if noted and not note.is_file():
        raise Failed("a file that somebody put into best/ is gone")
    note.unlink(missing_ok=True)
    compare(contents(output), sample.whole)
    return hit


def compare(found: dict[str, Any], whole: dict[str, Any]) -> None:
    """Refuse any difference by its name."""
    if found["names"] != whole["names"]:
        raise Failed(f"left over or missing: {sorted(set(found['names']) ^ set(whole['names']))}")
    for name in whole:
        if found[name] != whole[name]:
            raise Failed(f"{name} differs")


def main() -> int:
    """Returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--kind", choices=[*KINDS], action="append", help="may be repeated; default: all")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="start no further run after this time")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--short", action="store_true", help="a few runs of every kind")
    options = parser.parse_args()
    kinds = options.kind or [*KINDS]
    # In turns, so that a limit of time leaves none out.
    turns = range(max(SHORT.values()))
    plan = [kind for turn in turns for kind, count in SHORT.items() if turn < count] if options.short else []
    plan = plan or [kinds[number % len(kinds)] for number in range(options.runs)]
    folder = Path(tempfile.mkdtemp(prefix="kill-and-resume-"))
    keep_all_programs(folder / "cache")
    _import_everything()
    began, samples = time.monotonic(), [make_sample(task, folder) for task in TASKS]
    for task, sample in zip(TASKS, samples):
        print(f"{task}: {sample.changes} changes of files, {sample.seconds:.1f} s", flush=True)
    done, hits, failures, seen = Counter[str](), Counter[str](), Counter[str](), Counter[str]()
    for number, kind in enumerate(plan):
        if time.monotonic() - began > options.seconds:
            break
        dice, output = random.Random(f"{options.seed} {number}"), folder / f"run-{number}"
        turn = (seen[kind] + dice.random()) / plan.count(kind)
        sample = samples[seen[kind] % len(samples)]
        seen[kind] += 1
        try:
            hits[kind] += one_run(kind, sample, output, folder / "log", dice, turn)
            done[kind] += 1
            shutil.rmtree(output)
        except Failed as problem:
            failures[kind] += 1
            print(f"run {number} ({kind}, kept in {output}): {problem}", flush=True)
    print(f"{'fault':<46}{'runs':>6}{'hit':>6}{'equal':>7}{'unequal':>9}")
    for kind in dict.fromkeys(plan):
        row = (done[kind] + failures[kind], hits[kind], done[kind], failures[kind])
        print(f"{KINDS[kind]:<46}{row[0]:>6}{row[1]:>6}{row[2]:>7}{row[3]:>9}")
    print(f"{done.total()} of {done.total() + failures.total()} equal, {time.monotonic() - began:.0f} s")
    if not failures:
        shutil.rmtree(folder)
    return 1 if failures else 0


def _import_everything() -> None:
    """What children would import, without computing anything: libraries that have begun to must not be forked."""
    from qingformer.cli.process import import_keras_quietly

    import_keras_quietly()
    import_module("qingformer.cli.training")
    with suppress(ImportError):
        import_module("matplotlib.backends.backend_agg")
        import_module("matplotlib.figure")


if __name__ == "__main__":
    sys.exit(main())
