"""Entities and words: tagged texts."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from qingformer.cli.kind import Kind, Options
from qingformer.cli.output import write_lines
from qingformer.cli.tagged_output import Columns, coloured, line_by_line, words_of, write_brat
from qingformer.data.schemes import WORD
from qingformer.data.tagging import to_json
from qingformer.errors import ConfigError
from qingformer.tasks import SequenceTagger
from qingformer.tasks.networks import POINTERS
from qingformer.tasks.tagging.tagged_texts import read_tagged
from qingformer.tasks.tagging.tagger_networks import CHAINS

if TYPE_CHECKING:
    from rich.console import Console

_HEAD = ("head", "scheme", "lr_multiplier", "stride")
_FORMATS = {"jsonl": "json", "conll": "bio"}  # names that --output-format has for formats of the reader


class EntityKind(Kind):
    """Labelled spans of a text."""

    name = "ner"
    task = SequenceTagger
    options = frozenset({*_HEAD, "labels", "format", "joiner", "strict", "digits", "text_column", "label_column"})
    formats: ClassVar[tuple[str, ...]] = ("jsonl", "conll", "brat")
    coloured = True
    words: ClassVar[bool] = False

    def check(self, options: Options) -> None:
        head = options.get("head") or "crf"
        if options.get("lr_multiplier") is not None and head not in ("crf", "memm"):
            raise ConfigError(f"--lr-multiplier does not go with --head {head}, which has no transitions; leave it out")
        if options.get("scheme") is not None and head in POINTERS:
            raise ConfigError(
                f"--scheme does not go with --head {head}, which has no tags; choose --head {', '.join(CHAINS)}"
            )

    def is_saved(self, settings: Mapping[str, Any]) -> bool:
        return (settings.get("scheme") == "bmes" and settings.get("labels") == [WORD]) == self.words

    def read(self, path: str, options: Options, labelled: bool = True) -> Any:
        wanted = options["format"]
        return read_tagged(
            path, "data", labelled, format=_FORMATS.get(wanted, wanted), joiner=options["joiner"],
            strict=bool(options.get("strict")), digits=options["digits"], encoding=options["encoding"],
            text_column=options.get("text_column"), label_column=options.get("label_column"), segmented=self.words,
        )  # fmt: skip

    def settings(self, options: Options) -> dict[str, Any]:
        return {name: options[name] for name in (*_HEAD, "labels") if options.get(name) is not None}

    def names(self, task: Any) -> dict[str, Any]:
        return {"labels": task.labels}

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        return to_json(prediction.text, prediction.spans)

    def write(self, form: str, task: Any, examples: Any, predictions: Iterable[Any], output: Path | None) -> list[str]:
        if form == "conll":
            scheme = task.scheme if task.head in CHAINS else "bio"
            columns = Columns(scheme, covering=self.words)
            write_lines(columns.lines(examples, predictions), output)
            return columns.notes()
        if form == "brat":
            assert output is not None
            write_brat(list(predictions), output)
            return []
        if form == "words":
            write_lines(line_by_line(("  ".join(words_of(found)) for found in predictions), examples), output)
            return []
        return super().write(form, task, examples, predictions, output)

    def show(self, out: "Console", task: Any, prediction: Any) -> None:
        out.print(coloured(prediction, task.labels))


class SegmentationKind(EntityKind):
    """The words of an unsegmented text."""

    name = "cws"
    options = EntityKind.options - {"scheme", "labels"}
    formats = ("jsonl", "words", "conll", "brat")
    words = True

    def settings(self, options: Options) -> dict[str, Any]:
        return {**super().settings(options), "scheme": "bmes", "labels": [WORD]}

    def row(self, task: Any, example: Any, prediction: Any) -> dict[str, Any]:
        return {**super().row(task, example, prediction), "words": words_of(prediction)}

    def show(self, out: "Console", task: Any, prediction: Any) -> None:
        out.print("  ".join(words_of(prediction)), markup=False)
