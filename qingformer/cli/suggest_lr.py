"""`qingformer suggest-lr`: how the learning rate should follow the batch size, from the noise of real gradients."""

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qingformer.cli import options
from qingformer.cli.console import note, results, status
from qingformer.cli.options import Option, in_panels, make_command
from qingformer.errors import ConfigError
from qingformer.tasks.classification import LABELLED_TEXTS
from qingformer.tasks.task_options import DATA, ENCODING, MULTI_LABEL
from qingformer.types import Config, Options

if TYPE_CHECKING:
    from rich.console import Console

    from qingformer.analysis import GradientMoments, NoiseScale, RateSuggestion
    from qingformer.tasks import Columns, TextClassifier
    from qingformer.tasks.classification.text_examples import Examples

EPILOG = """[bold]Examples[/bold]

A run at 32, now at 256:  qingformer suggest-lr train.jsonl --model runs/first --learning-rate 5e-5 --batch-size 32
--new-batch-size 256

Before any training:  qingformer suggest-lr train.jsonl --source my-bert --learning-rate 5e-5

With a picture:  qingformer suggest-lr train.jsonl --model runs/first --learning-rate 5e-5 --plot rates.png

[bold]What is measured[/bold]  The gradient noise scale, the batch size at which the noise of a gradient is as large as
the gradient: far below it a larger batch wants a larger rate, far above it the rate stays. It changes
as the model learns, so measure at the weights that matter. The rate in use is taken to be a good one.
"""
WORK = "The measurement"
_ALL = in_panels(
    (
        Option("learning_rate", float, "The rate in use.", required=True, shows_default=False),
        Option("batch_size", int, "The batch size it is used at.", default=32, least=1),
        Option(
            "new_batch_size", list[int],
            "May be given several times. [dim]A half, 2, 4 and 16 times --batch-size.[/dim]", least=1,
        ),
        replace(options.MODEL, required=False, panel=options.START, shows_default=True),
        options.SOURCE, options.FROM_SCRATCH, options.VOCABULARY, MULTI_LABEL,
        Option(
            "max_length", int, "Longest input in tokens. [dim]128; a trained model has its own.[/dim]", options.START
        ),
        Option("texts", int, "Texts drawn for it.", WORK, 512, least=1),
        Option("rows", int, "Texts per gradient.", WORK, 4, least=1),
        Option(
            "dropout", bool, "Whether dropout's noise counts.", WORK, True, ("--dropout/--no-dropout",)
        ),
        Option("seed", int, "Of the draw and of dropout.", WORK, 0),
        Option("layers", bool, "List the noise scale of every layer.", default=False, flags=("--layers",)),
        Option("plot", Path, "Draw the curves into this PNG.", shows_default=False),
        Option("json", bool, "One JSON object instead of tables.", default=False, flags=("--json",)),
        *LABELLED_TEXTS, ENCODING,
    ),
    [None, options.START, DATA, WORK],
)  # fmt: skip


def work(values: Config) -> None:
    """Measure the noise of the gradient and say which learning rate goes with another batch size.

    Needs a data file, the rate in use, and one of --model, --source and --from-scratch.
    """
    from qingformer.tasks.classification.text_examples import columns_of

    names = "file learning_rate batch_size model source from_scratch vocabulary multi_label max_length texts rows"
    request = Request(
        columns=columns_of(values), new_batch_sizes=tuple(values["new_batch_size"] or ()),
        dropout=values["dropout"], seed=values["seed"],
        **{name: values[name] for name in names.split()},
    )  # fmt: skip
    suggest(request, layers=values["layers"], plot=values["plot"], json=values["json"])


command = make_command(
    work, _ALL,
    {"file": (
        Annotated[str, typer.Argument(
            help="Labelled data: JSONL, JSON, CSV or TSV, or - for standard input.", show_default=False
        )], ...,
    )},
)  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What the command line asks for."""

    file: str
    columns: "Columns"
    learning_rate: float
    batch_size: int
    new_batch_sizes: tuple[int, ...]
    model: Path | None
    source: str | None
    from_scratch: str | None
    vocabulary: Path | None
    multi_label: bool
    max_length: int | None
    texts: int
    rows: int
    dropout: bool
    seed: int

    def __post_init__(self) -> None:
        given = [self.model, self.source, self.from_scratch]
        if sum(value is not None for value in given) != 1:
            raise ConfigError("give one of --model (a run's folder), --source (pretrained weights) and --from-scratch")
        if self.model is not None and (self.vocabulary or self.multi_label or self.max_length):
            raise ConfigError(
                "--vocabulary, --multi-label and --max-length are for new models; the one in --model has its own"
            )
        if not 0 < self.learning_rate < 1:
            raise ConfigError(f"--learning-rate is {self.learning_rate}; it must lie between 0 and 1")

    @property
    def sizes(self) -> list[int]:
        """The batch sizes to suggest for, rising, the one in use among them."""
        # Half, and so much more that the curve bends.
        asked = self.new_batch_sizes or [self.batch_size // 2, *(self.batch_size * by for by in (2, 4, 16))]
        return sorted({self.batch_size, *(size for size in asked if size > 0)})


def suggest(request: Request, *, layers: bool, plot: Path | None, json: bool) -> None:
    """Read everything that can be wrong first, then measure, and print."""
    from qingformer.analysis.rate_plot import figure_and_canvas
    from qingformer.cli.progress import counting
    from qingformer.tasks.classification.gradient_noise import classifier_gradients

    if plot is not None:
        figure_and_canvas(1, 1)
        if not plot.absolute().parent.is_dir():
            raise ConfigError(f"--plot {plot}: there is no folder {plot.absolute().parent}; make it first")
    classifier, examples = _classifier(request)
    total = min(request.texts, len(examples))
    with counting(status(), "measuring", total) as done:
        moments = classifier_gradients(
            classifier, examples, texts=request.texts, rows=request.rows, training=request.dropout, seed=request.seed,
            done=done,
        )  # fmt: skip
    scale = moments.noise_scale()
    if json:
        from json import dumps

        typer.echo(dumps(as_json(request, moments, scale), ensure_ascii=False))
    else:
        print_suggestions(results(), request, moments, scale, layers)
    for cut in classifier.cut.values():
        note(cut)
    if plot is not None:
        _draw(request, scale, plot, quiet=json)


def _classifier(request: Request) -> "tuple[TextClassifier, Examples]":
    from qingformer.cli.training import load_model, new_task, prepare
    from qingformer.tasks import TextClassifier
    from qingformer.tasks.classification.text_examples import read_examples

    if request.model is not None:
        trained = load_model(request.model)
        if not isinstance(trained, TextClassifier):
            raise ConfigError(f"{request.model}: is not a text classifier; rates are suggested for these alone")
        return trained, read_examples(request.file, request.columns, multi_label=trained.multi_label)
    examples = read_examples(request.file, request.columns, multi_label=request.multi_label)
    prepare()
    common: Options = {
        "multi_label": request.multi_label, "max_length": request.max_length or 128, "seed": request.seed,
    }  # fmt: skip
    return new_task(TextClassifier, request.source, request.from_scratch, request.vocabulary, **common), examples


def suggestions(request: Request, scale: "NoiseScale", law: str) -> "list[RateSuggestion]":
    """What one law says for every batch size."""
    from qingformer.analysis import suggest_learning_rate

    return [
        suggest_learning_rate(request.learning_rate, request.batch_size, size, scale.value, law)
        for size in request.sizes
    ]


def as_json(request: Request, moments: "GradientMoments", scale: "NoiseScale") -> Config:
    """Everything as numbers; what is infinite is null."""
    by_law = {law: suggestions(request, scale, law) for law in ("sgd", "adam")}
    rows = [
        {
            "batch_size": size,
            "sgd": by_law["sgd"][index].rate,
            "adam": by_law["adam"][index].rate,
            "steps": _finite(by_law["sgd"][index].steps),
            "examples": _finite(by_law["sgd"][index].examples),
        }
        for index, size in enumerate(request.sizes)
    ]
    return {
        "batch_size": request.batch_size,
        "learning_rate": request.learning_rate,
        "loss": moments.loss,
        **_scale_as_json(scale),
        "suggestions": rows,
        "layers": {name: _scale_as_json(of_layer) for name, of_layer in moments.by_layer().items()},
    }


def _scale_as_json(scale: "NoiseScale") -> Config:
    return {
        "noise_scale": _finite(scale.value),
        "interval": [_finite(end) for end in scale.interval],
        "covariance_trace": scale.covariance_trace,
        "gradient_square": scale.gradient_square,
        "texts": scale.examples,
        "gradients": scale.batches,
    }


def print_suggestions(
    out: "Console", request: Request, moments: "GradientMoments", scale: "NoiseScale", layers: bool
) -> None:
    """The noise scale, the table of batch sizes, and the reasoning in words."""
    out.print(
        f"gradient noise scale {in_words(scale)} texts; {scale.batches} gradients over {scale.examples} texts, "
        f"loss {moments.loss:.4f}",
        markup=False,
    )
    from rich.table import Table

    table = Table(title=f"rates that go with {request.learning_rate:g} at batch size {request.batch_size}")
    for column in ("batch size", "SGD", "Adam", "steps", "texts"):
        table.add_column(column, justify="right")
    for sgd, adam, size in zip(suggestions(request, scale, "sgd"), suggestions(request, scale, "adam"), request.sizes):
        name = f"{size} (in use)" if size == request.batch_size else str(size)
        table.add_row(name, f"{sgd.rate:.3g}", f"{adam.rate:.3g}", _times(sgd.steps), _times(sgd.examples))
    out.print(table)
    out.print("steps, texts: of a run to the same loss, in units of the least possible of each", markup=False)
    for line in _reasons(request, scale):
        out.print(line, markup=False)
    if layers:
        _print_layers(out, moments)


def _reasons(request: Request, scale: "NoiseScale") -> list[str]:
    from qingformer.analysis import suggest_learning_rate

    largest = max((size for size in request.sizes if size != request.batch_size), default=request.batch_size)
    lines: list[str] = []
    for law in ("sgd", "adam"):
        said = suggest_learning_rate(request.learning_rate, request.batch_size, largest, scale.value, law).lines
        lines += [line for line in said if line not in lines]
    if scale.interval[1] > 4 * scale.interval[0]:
        lines.append("The noise scale is not well known: more --texts narrow it down.")
    return lines


def _print_layers(out: "Console", moments: "GradientMoments") -> None:
    from rich.table import Table

    table = Table(title="noise scale by layer")
    for column in ("layer", "noise scale", "|g|^2", "tr(Sigma)"):
        table.add_column(column, justify="left" if column == "layer" else "right")
    for name, scale in moments.by_layer().items():
        table.add_row(name, in_words(scale), f"{scale.gradient_square:.3g}", f"{scale.covariance_trace:.3g}")
    out.print(table)


def in_words(scale: "NoiseScale") -> str:
    """The number and its interval, or what is known where it has no upper end."""
    low, high = scale.interval
    if math.isinf(scale.value):
        return f"above {low:.3g}"
    upper = "any number" if math.isinf(high) else f"{high:.3g}"
    return f"{scale.value:.3g} ({scale.confidence:.0%}: {low:.3g} to {upper})"


def _draw(request: Request, scale: "NoiseScale", plot: Path, quiet: bool) -> None:
    if not 0 < scale.value < math.inf:
        note("no picture: the noise scale is not known well enough to draw a curve; give more --texts")
        return
    others = [size for size in request.sizes if size != request.batch_size]
    from qingformer.analysis.rate_plot import plot_rates

    path = plot_rates(scale.value, request.learning_rate, request.batch_size, others, plot)
    if not quiet:
        results().print(f"picture  {path}", markup=False)


def _times(value: float) -> str:
    return f"{value:.3g} x" if math.isfinite(value) else "?"


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
