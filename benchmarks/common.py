"""Shared by the benchmarks: worker processes that take turns, the matrix-product peak, printing."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))


class Worker:
    """A process of its own for one side of a comparison, so that no two libraries share a pool of threads.

    The process prints answers as lines `@{json}`; everything else it says is kept in a log for the error message.
    """

    def __init__(self, name: str, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log.open("w"),
            text=True,
            env={**os.environ, **environment},
        )

    def answer(self) -> Any:
        """The next answer of the process; exits with its log when it died."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith("@"):
                return json.loads(line[1:])
        sys.exit(f"{self.name} stopped:\n{self.log.read_text()[-2000:]}")

    def ask(self, *words: Any) -> Any:
        """Send one line and wait for the answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process by closing its input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


Times = dict[tuple[str, str], list[tuple[float, float]]]


def in_turns(
    script: str, sides: dict[str, tuple[str, tuple[str, ...]]], size: str, rounds: int
) -> tuple[dict[str, Any], Times]:
    """Start `script --worker NAME SIZE` for each side (backend, actions), and call each action three times in a round.

    The first answer of each side, and the times of its actions.
    """
    times: Times = {}
    with tempfile.TemporaryDirectory() as folder:
        workers, answers = {}, {}
        for name, (library, _) in sides.items():
            command = [sys.executable, script, "--worker", name, size]
            workers[name] = Worker(name, command, {"KERAS_BACKEND": library}, Path(folder) / f"{name}.log")
            answers[name] = workers[name].answer()
        for _ in range(rounds):
            for name, (_, actions) in sides.items():
                for action in actions:
                    times.setdefault((name, action), []).extend(workers[name].ask(action, 3))
        for worker in workers.values():
            worker.close()
    return answers, times


def serve(actions: dict[str, Callable[[], Any]], first_answer: Any) -> None:
    """The worker's side: answer `first_answer`, then for each line `ACTION COUNT` a list of [wall, processor] ms."""
    print("@" + json.dumps(first_answer), flush=True)
    for line in sys.stdin:
        action, count = line.split()
        print("@" + json.dumps(timed(actions[action], int(count))), flush=True)


def timed(action: Callable[[], Any], count: int) -> list[tuple[float, float]]:
    """Wall and processor milliseconds of each of `count` calls; the second is all threads of this process together."""
    times = []
    for _ in range(count):
        wall, processor = time.perf_counter(), time.process_time()
        action()
        times.append((1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - processor)))
    return times


def least(times: list[tuple[float, float]]) -> tuple[float, float]:
    """Least wall time and least processor time."""
    return min(wall for wall, _ in times), min(processor for _, processor in times)


def median(times: list[tuple[float, float]]) -> float:
    """Median wall time."""
    return statistics.median(wall for wall, _ in times)
