"""`qingformer evaluate` and `qingformer predict`: a trained model on a file or on standard input."""

from pathlib import Path
from typing import Annotated

import typer

from qingformer.cli import options
from qingformer.cli.options import Option, epilog, in_panels, make_command, refuse_others, task_options
from qingformer.errors import CheckpointError
from qingformer.tasks.task_options import DATA, ENCODING, TaskEntry, saved_entry, task_entries
from qingformer.types import Config, Values

OUTPUT = "What to write"
EVALUATE_EPILOG = epilog("evaluate", "The data is that of the model's task; qingformer train --help shows each.")
PREDICT_EPILOG = epilog(
    "predict",
    "From a pipe:  echo 今天天气不错 | qingformer predict --model runs/first",
    '[bold]Data[/bold]  Texts are a line each or {"text": ...}; questions are {"context": ..., "question": ...}, with '
    '"choices" for multiple choice, or the JSON that train takes.',
)


def evaluate(values: Config) -> None:
    """Score a model on labelled data.

    Classification: accuracy, macro and weighted F1, each label, the confusion matrix. Entities, words and relations:
    precision, recall and F1. Reading: exact match and F1. Multiple choice: accuracy.
    """
    from qingformer.cli.console import check_output, note, results, status
    from qingformer.cli.progress import counting
    from qingformer.cli.training import load_model, print_report
    from qingformer.files import write_json

    file, model, output = values["file"], values["model"], values["output"]
    entry, values = _entry(model, "evaluate", values)
    check_output(output, file)
    # The file is read before the model: what is wrong with it shows at once.
    cls = entry.task_class()
    examples = cls.read_file(file, values)
    task = load_model(model)
    with counting(status(), "scoring", len(examples), entry.unit) as done:
        report = task.evaluate(examples, batch_size=values["batch_size"], done=done, **cls.evaluate_arguments(values))
    for cut in task.cut.values():
        note(cut)
    found = task.report_dict(report, examples.name)
    if output is not None:
        write_json(output, found)
    if values["json"]:
        from json import dumps

        typer.echo(dumps(found, ensure_ascii=False))
    else:
        print_report(results(), task.report_sections(report), f"score on {examples.name}")


def predict(values: Config) -> None:
    """Say what a model finds in texts: JSON lines on standard output.

    A line has text, label and probability; or text and entities, text and triples, question and answer.

    Standard output holds nothing else, so it can be piped; bars and notes go to standard error. On a terminal entities
    and words are shown in the text itself.
    """
    from qingformer.cli.console import check_output, choose_form, coloured_results, note, status
    from qingformer.cli.progress import counting
    from qingformer.cli.training import load_model

    file, model, output = values["file"], values["model"], values["output"]
    entry, values = _entry(model, "predict", values)
    form = choose_form(entry, output, values["output_format"], values["color"])
    if form != "brat":  # the others write one file
        check_output(output, file)
    cls = entry.task_class()
    examples = cls.read_file(file, values, labelled=False)
    task = load_model(model)
    with counting(status(), "predicting", len(examples), entry.unit) as done:
        given = cls.predict_arguments(values)
        predictions = task.predict(examples, batch_size=values["batch_size"], done=done, **given)
    for cut in task.cut.values():
        note(cut)
    if form is None:
        out = coloured_results()
        for prediction in predictions:
            shown = task.display(prediction)
            out.print(shown, markup=False) if isinstance(shown, str) else out.print(shown)
        return
    for sentence in task.write_predictions(form, examples, predictions, output, entry.echoed):
        note(sentence)


def _entry(model: Path, verb: str, values: Values) -> tuple[TaskEntry, Config]:
    """The entry of a saved model, and the options of a verb with what the model's settings say about reading."""
    from qingformer.tasks.task_registry import TASK_FILE, saved_settings, task_directory
    from qingformer.training import read_whole

    path, settings = read_whole(lambda: task_directory(model), lambda found: (found / TASK_FILE, saved_settings(found)))
    entry = saved_entry(settings)
    if entry is None:
        known = ", ".join(dict.fromkeys(each.task_name for each in task_entries().values()))
        raise CheckpointError(f"{path}: task {settings.get('task')!r} is not known; known tasks: {known}")
    refuse_others(entry, verb, values, f"a model for {entry.name}")
    return entry, {**values, **entry.task_class().saved_options(settings)}


_PANELS = [None, OUTPUT, DATA]
_FORMATS = dict.fromkeys(form for entry in task_entries().values() for form in entry.formats)
evaluate_command = make_command(
    evaluate,
    in_panels(
        (
            options.MODEL,
            Option("output", Path, "Write the report here too, as JSON.", flags=("--output", "-o")),
            Option(
                "json", bool, "Print the report as one line of JSON instead of tables.", default=False,
                flags=("--json",),
            ),
            *task_options("evaluate"), ENCODING, options.BATCH_SIZE,
        ),
        _PANELS,
    ),
    {"file": (
        Annotated[str, typer.Argument(
            help="Labelled data, as for train: JSONL, JSON, CSV, TSV, columns; or - for standard input.",
            show_default=False,
        )], ...,
    )},
)  # fmt: skip
predict_command = make_command(
    predict,
    in_panels(
        (
            options.MODEL,
            Option(
                "output", Path, "Write here instead of to standard output.", OUTPUT, flags=("--output", "-o")
            ),
            Option(
                "output_format", str,
                f"{', '.join(_FORMATS)}, as the model's task allows; brat is a folder. [dim]jsonl[/dim]", OUTPUT,
            ),
            Option(
                "color", bool, "Entities and words as text to read, in colour. [dim]On a terminal.[/dim]", OUTPUT,
                flags=("--color/--no-color",), shows_default=False,
            ),
            *task_options("predict"), ENCODING, options.BATCH_SIZE,
        ),
        _PANELS,
    ),
    {"file": (
        Annotated[str, typer.Argument(
            help="JSONL, JSON, CSV, TSV or plain text (a text a line), or - for standard input."
        )], "-",
    )},
)  # fmt: skip
