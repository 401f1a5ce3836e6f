"""Prediction rate and memory of the encoder families at base size, over the length of the text.

    python benchmarks/families.py [--quick] [--output docs/images] [--rounds 3] [--families bert nezha ...]

Every family is a process of its own with random weights; at each length they take turns, and the least time of each
counts. A call has the same number of tokens at every length (the longest text alone, or many short ones), so that what
changes with the length is attention. Beside the times stand the operations that `qingformer.analysis` predicts, how
far the times are from the machine's matrix-product peak, and the share of the quadratic part: predicted, and measured
as b n / (a + b n) where a + b n is the time per token fitted to all lengths. "blocks" is RoFormerV2, 12 standard
blocks, as wide inside as gives it the parameters of the 24 gated units of "gau_alpha". Tables of learned positions
have as many rows as the longest text has tokens.

Memory is the resident memory that one prediction adds to the process at its peak: after a first call, which compiles,
freed memory is given back to the system, the mark of the peak is reset and the call is made once more. So one process
serves all lengths, and neither weights nor compilation count; it is what XLA plans for intermediate results, and 10 to
20 MB of scratch space. It needs Linux and glibc; elsewhere it is left out.
"""

import argparse
import ctypes
import gc
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import Worker, least, timed
from encoder import peak_action

LENGTHS = [64, 128, 256, 512, 1024, 2048]
FAMILIES = ["bert", "albert", "electra", "nezha", "roformer", "roformer_v2", "gau_alpha", "blocks"]
QUICK = {"hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 512}
VOCABULARY = 21128
Row = dict[str, Any]


# --- one family -------------------------------------------------------------------------------------------------------


def config_of(name: str, longest: int, quick: bool) -> Any:
    """The configuration of a side: base size, or a small one; tables of positions reach the longest text."""
    from qingformer import BackboneConfig

    values: Row = {"vocab_size": VOCABULARY, "max_position_embeddings": longest, **(QUICK if quick else {})}
    hidden, layers = values.get("hidden_size", 768), values.get("num_hidden_layers", 12)
    if name == "gau_alpha":
        values |= {"num_hidden_layers": 2 * layers, "intermediate_size": 2 * hidden, "num_attention_heads": 1}
    if name == "blocks":
        # 2 (3 d e + d s) of two units with e = 2 d and s = 128, less 4 d^2 of an attention, over 2 d: 4 d + s.
        values |= {"intermediate_size": 4 * hidden + 128}
    return BackboneConfig(**values, family="roformer_v2" if name == "blocks" else name)


def work(name: str, lengths: list[int], tokens: int, quick: bool) -> None:
    """The life of a worker: for each line `ACTION LENGTH COUNT` an answer."""
    from qingformer import Backbone, backend

    in_one_heap = backend.keep_freed_memory()
    config = config_of(name, max(lengths), quick)
    model = Backbone(config)
    peak = peak_action("jax")
    peak()
    print("@" + json.dumps(model.count_params()), flush=True)
    for line in sys.stdin:
        action, length, count = line.split()
        batch = make_batch(model, int(length), tokens)
        call = peak if action == "peak" else lambda: model.predict_on_batch(batch)  # noqa: B023
        if action == "prepare":
            finite = bool(np.isfinite(call()["sequence_output"]).all())
            answer: Any = {"finite": finite, "memory": added_memory(call) if in_one_heap else None}
        else:
            answer = timed(call, int(count))
        print("@" + json.dumps(answer), flush=True)


def make_batch(model: Any, length: int, tokens: int) -> dict[str, np.ndarray]:
    """As many texts of that length as make `tokens`, without padding."""
    shape = (max(1, tokens // length), length)
    ids = np.random.default_rng(length).integers(1, VOCABULARY, shape).astype("int32")
    given = {"token_ids": ids, "segment_ids": np.zeros_like(ids), "padding_mask": np.ones_like(ids)}
    return {tensor.name: given[tensor.name] for tensor in model.inputs}


def added_memory(call: Any) -> int | None:
    """Bytes by which the process grows at most during a call, None where the system does not say."""
    status = Path("/proc/self/status")
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak is now the present
        before = status_bytes(status, "VmRSS")
        call()
        return status_bytes(status, "VmHWM") - before
    except (OSError, AttributeError):
        return None


def status_bytes(status: Path, key: str) -> int:
    """A number of /proc/self/status in bytes."""
    line = next(line for line in status.read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


# --- the comparison ---------------------------------------------------------------------------------------------------


def compare(options: argparse.Namespace) -> Row:
    """Run all families in turns and return what was found."""
    workers = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.families:
            words = ["--side", name, "--tokens", options.tokens, "--lengths", *options.lengths]
            command = [sys.executable, __file__, *map(str, words), *(["--quick"] if options.quick else [])]
            environment = {"KERAS_BACKEND": "jax"}
            workers[name] = Worker(name, command, environment, Path(folder) / f"{name}.log")
        parameters = {name: worker.answer() for name, worker in workers.items()}
        first = next(iter(workers.values()))
        peaks, rows = [], []
        for length in options.lengths:
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in workers}
            prepared = {name: worker.ask("prepare", length, 1) for name, worker in workers.items()}
            for _ in range(options.rounds):
                peaks += first.ask("peak", length, 2)
                for name, worker in workers.items():
                    times[name] += worker.ask("run", length, 1)
            for name in workers:
                if not prepared[name]["finite"]:
                    raise SystemExit(f"{name} at length {length}: outputs that are not finite")
                rows.append(make_row(name, length, least(times[name]), prepared[name]["memory"], options))
            print(f"length {length} done, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
        for worker in workers.values():
            worker.close()
    rate = 2 * 2048**3 / least(peaks)[0]
    for row in rows:
        row["times_floor"] = row["milliseconds"] * rate / row["operations"]
    shares = {name: measured_share([row for row in rows if row["family"] == name]) for name in workers}
    settings = {key: getattr(options, key) for key in ("quick", "tokens", "lengths", "rounds")}
    return {"settings": settings, "peak_gflops": rate / 1e6, "parameters": parameters, "rows": rows, "fits": shares}


def make_row(name: str, length: int, times: tuple[float, float], memory: int | None, options: Any) -> Row:
    """What is known of one family at one length."""
    from qingformer.analysis import attention_thresholds, encoder_cost

    config = config_of(name, max(options.lengths), options.quick)
    batch = max(1, options.tokens // length)
    cost = encoder_cost(config, length)
    return {
        "family": name,
        "length": length,
        "batch": batch,
        "milliseconds": times[0],
        "processor_milliseconds": times[1],
        "tokens_per_second": 1e3 * batch * length / times[0],
        "sequences_per_second": 1e3 * batch / times[0],
        "memory": memory,
        "operations": batch * cost.total_forward_flops,
        "predicted_share": cost.quadratic_share,
        "predicted_threshold": attention_thresholds(config).quadratic_exceeds_linear,
    }


def measured_share(rows: list[Row]) -> dict[str, float | None]:
    """Fit the time per token by a + b n with the least relative error; a / b is the length of equal parts."""
    lengths = np.array([row["length"] for row in rows], float)
    times = np.array([1e6 / row["tokens_per_second"] for row in rows])
    if len(rows) < 2:
        return {"a": None, "b": None, "threshold": None, "error": None}
    columns = np.stack([1 / times, lengths / times], axis=1)
    (a, b), *_ = np.linalg.lstsq(columns, np.ones(len(rows)), rcond=None)
    error = float(np.abs(columns @ [a, b] - 1).max())
    return {"a": a, "b": b, "threshold": a / b if b > 0 else None, "error": error}


# --- showing it -------------------------------------------------------------------------------------------------------


def print_tables(found: Row) -> None:
    """All rows, then the shares of the quadratic part, then gated units beside standard blocks."""
    settings = found["settings"]
    print(f"{settings['tokens']} tokens a call; matrix-product peak {found['peak_gflops']:.0f} GFlop/s")
    print("length  family        batch  ms     tokens/s  texts/s  memory  GFlop  x floor  quadratic")
    for row in found["rows"]:
        memory = "-" if row["memory"] is None else f"{row['memory'] / 2**20:.0f} MB"
        print(
            f"{row['length']:6d}  {row['family']:12s} {row['batch']:6d} {row['milliseconds']:6.0f} "
            f"{row['tokens_per_second']:9.0f} {row['sequences_per_second']:8.2f} {memory:>8s} "
            f"{row['operations'] / 1e9:6.0f} {row['times_floor']:8.2f} {100 * row['predicted_share']:8.1f} %"
        )
    print("\nlength from which on the quadratic part exceeds all else; time per token a + b n in microseconds")
    for name, fit in found["fits"].items():
        predicted = next(row["predicted_threshold"] for row in found["rows"] if row["family"] == name)
        measured = "none" if fit["threshold"] is None else f"{fit['threshold']:6.0f}"
        line = (
            f"{name:12s} parameters {found['parameters'][name]:11,d}  predicted {predicted:6.0f}  measured {measured}"
        )
        print(line + ("" if fit["a"] is None else f"  a {fit['a']:.0f}, b {fit['b']:.3f}, error {fit['error']:.0%}"))
    print_pair(found["rows"], "gau_alpha", "blocks")


def print_pair(rows: list[Row], one: str, other: str) -> None:
    """Ratios of two families of equal parameters."""
    pairs = [
        (left, right)
        for left in rows
        for right in rows
        if (left["family"], right["family"]) == (one, other) and left["length"] == right["length"]
    ]
    if pairs:
        print(f"\n{one} to {other}, equal parameters: operations, time, memory")
    for left, right in pairs:
        memory = left["memory"] / right["memory"] if left["memory"] and right["memory"] else float("nan")
        operations = left["operations"] / right["operations"]
        time = left["milliseconds"] / right["milliseconds"]
        print(f"{left['length']:6d}  {operations:5.2f}  {time:5.2f}  {memory:5.2f}")


def draw(found: Row, path: Path) -> None:
    """Three curves over the length: rate, share of the quadratic part, memory."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, (rate, share, memory) = pyplot.subplots(1, 3, figsize=(15, 4.6), layout="constrained")
    for index, name in enumerate(found["fits"]):
        rows = [row for row in found["rows"] if row["family"] == name]
        lengths, fit = [row["length"] for row in rows], found["fits"][name]
        style: Row = {"color": f"C{index}", "marker": "os^vD*Px"[index % 8], "markersize": 5}
        rate.plot(lengths, [row["tokens_per_second"] for row in rows], label=name, **style)
        share.plot(lengths, [100 * row["predicted_share"] for row in rows], "--", color=style["color"], linewidth=1)
        if fit["a"] is not None:
            grown = [100 * fit["b"] * n / (fit["a"] + fit["b"] * n) for n in lengths]
            share.plot(lengths, grown, label=name, **style)
        if all(row["memory"] is not None for row in rows):
            memory.plot(lengths, [row["memory"] / 2**20 for row in rows], label=name, **style)
    share.plot([], [], "k--", linewidth=1, label="predicted (products only)")
    rate.set(title="Rate of prediction", ylabel="tokens a second", ylim=(0, None))
    share.set(title="Share of the quadratic part", ylabel="per cent of the time, from a + b n", ylim=(0, None))
    memory.set(title="Memory added by a prediction", ylabel="MB", ylim=(0, None))
    for axes in (rate, share, memory):
        axes.set_xscale("log", base=2)
        axes.set_xticks(found["settings"]["lengths"], found["settings"]["lengths"])
        axes.set(xlabel=f"tokens a text ({found['settings']['tokens']} a call)")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=90)
    pyplot.close(figure)


def main() -> None:
    """Read the command line; run as the comparison or as one of its workers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", nargs="+", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--lengths", nargs="+", type=int)
    parser.add_argument("--tokens", type=int, help="tokens of a call, 2048 or the longest text if that is more")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--quick", action="store_true", help="small models, three lengths: a smoke test")
    parser.add_argument("--output", type=Path, help="folder for families.json and families.png")
    parser.add_argument("--side", choices=FAMILIES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.lengths = options.lengths or ([64, 128, 256] if options.quick else LENGTHS)
    options.tokens = options.tokens or max(512 if options.quick else 2048, *options.lengths)
    options.rounds = options.rounds or (2 if options.quick else 3)
    if options.side:
        work(options.side, options.lengths, options.tokens, options.quick)
        return
    found = compare(options)
    print_tables(found)
    if options.output:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / "families.json").write_text(json.dumps(found, indent=1) + "\n")
        draw(found, options.output / "families.png")


if __name__ == "__main__":
    main()
