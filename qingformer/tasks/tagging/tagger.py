"""Sequence tagging: named entities, slots, words - by a chain of tags or by pointers to spans."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar

from rich.text import Text

from qingformer.data import PaddedBatches
from qingformer.data.json_rows import write_lines
from qingformer.data.padded_labels import PairLabels, TokenLabels
from qingformer.data.schemes import SCHEMES, WORD, TagScheme, split_tag
from qingformer.data.spans import Span, longest_disjoint
from qingformer.data.tagging import to_json
from qingformer.errors import ConfigError, DataError
from qingformer.evaluation.span_scores import SpanReport, evaluate_spans
from qingformer.losses import SparseMultilabelCategoricalCrossentropy
from qingformer.models import Backbone
from qingformer.models.fine_tuned import TOKENS, StoredHead
from qingformer.objectives import TrainableModel
from qingformer.tasks.head_labels import Unusable, places_of, plain_tags, tags_for
from qingformer.tasks.label_names import check_names
from qingformer.tasks.networks import POINTERS
from qingformer.tasks.predictor import asked, rows_for
from qingformer.tasks.tagging.tagged_output import TagColumns, coloured, line_by_line, words_of, write_brat
from qingformer.tasks.tagging.tagged_texts import TaggedExamples, Tagging, entities_of, read_tagged, with_gaps
from qingformer.tasks.tagging.tagger_decoding import chain_spans, pointer_spans
from qingformer.tasks.tagging.tagger_networks import CHAINS, chain_layer, chain_model, pointer_model
from qingformer.tasks.task import Task
from qingformer.tasks.task_registry import register_task
from qingformer.tasks.windows import TokenizedText, Window, cut_into_windows, first_windows, inside
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, DtypeLike, Values

HEADS = (*CHAINS, *POINTERS)
_FORMATS = {"jsonl": "json", "conll": "bio"}  # names that --output-format has for formats of the reader


@register_task("sequence-tagger")
class SequenceTagger(Task):
    """An encoder that finds labelled spans of a text: entities, slots, or the words of an unsegmented text.

    Heads over the vectors of the tokens:

    - "crf", "memm", "softmax": each token gets a tag of a scheme ("bio", "bioes", "bmes"), read as a path by
      Viterbi's algorithm, by default through possible sequences of tags only. Spans cannot overlap.
    - "global_pointer", "efficient_global_pointer": every span gets a score for each label and is an entity where it is
      above 0. Spans may overlap and nest.

    Offsets count characters of the text as it was given, whatever the tokenizer does to it. Texts longer than
    `max_length` are read in windows; a tag comes from the window in which its token has most around it, and the path
    runs through the whole text.

    Args:
        backbone, tokenizer: as in `Task`.
        labels: of the spans; None to find them in the data when `fit` is called.
        head, scheme: see above; with scheme "bmes" and the only label "word" the tagger segments.
        constrained: whether decoding allows only sequences of tags that the scheme can have.
        lr_multiplier: how many times faster than the encoder the transitions of "crf" and "memm" move.
        max_length: longest window in tokens, special tokens included.
        stride: how many tokens neighbouring windows share at least, by default a quarter of `max_length` up to 16.
        dropout: rate before the head. seed: of its start.

    Raises:
        ConfigError: an unknown head or scheme, sizes that do not fit each other.

    Sources: Lafferty et al. 2001 (random fields), McCallum et al. 2000 (Markov models), Su et al. 2022 (arXiv
    2208.03054, global pointers); 科学空间 archives/7196 (the rate of the transitions).

    Example:
        >>> tagger = SequenceTagger.from_scratch("tiny", max_length=32, stride=8)
        >>> _ = tagger.fit([("在北京", [(1, 3, "LOC")]), ("你好", [])] * 8, epochs=1, batch_size=8, verbose=0)
        >>> tagger.predict(["去北京"])[0].text
        '去北京'
    """

    settings_types: ClassVar[dict[str, type]] = {
        "labels": list, "head": str, "scheme": str, "constrained": bool, "lr_multiplier": float, "max_length": int,
        "stride": int, "dropout": float,
    }  # fmt: skip
    identity = ("labels", "head", "scheme", "lr_multiplier")
    label_setting = "labels"
    huggingface_head = TOKENS

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        labels: Iterable[str] | None = None,
        *,
        head: str = "crf",
        scheme: str = "bio",
        constrained: bool = True,
        lr_multiplier: float = 100.0,
        max_length: int = 128,
        stride: int | None = None,
        dropout: float = 0.1,
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        if head not in HEADS:
            raise ConfigError(f"head is {head!r}; choose one of {', '.join(HEADS)}")
        if scheme not in SCHEMES:
            raise ConfigError(f"scheme is {scheme!r}; choose one of {', '.join(SCHEMES)}")
        self.labels = None if labels is None else check_names(labels, "labels")
        self.head, self.scheme, self.constrained = head, scheme, constrained
        self.lr_multiplier = float(lr_multiplier)
        self.stride = min(16, max_length // 4) if stride is None else stride
        super().__init__(backbone, tokenizer, max_length=max_length, dropout=dropout, seed=seed, size=size, dtype=dtype)

    def evaluate(
        self, test: Any, *, batch_size: int = 32, done: Callable[[int], None] | None = None, **reading: Any
    ) -> SpanReport:
        """Compare the spans found with those of `test`: precision, recall and F1, by label and over all.

        A span is right if its characters and its label are. A label that this model does not know is missed, and noted.

        Raises:
            DataError: an unlabelled text, with its file and line.
        """
        examples = self.read(test, "test data", **reading)
        self.ready()
        self.check_held_out(examples)
        found = self._tag([example.text for example in examples], batch_size, done)
        return evaluate_spans([example.spans or () for example in examples], found, self.labels)

    def predict(
        self, texts: Any, *, batch_size: int = 32, done: Callable[[int], None] | None = None, **reading: Any
    ) -> list[Tagging]:
        """Find the spans of texts, or of the texts of a file.

        Each result has `.entities` (with `start`, `end`, `label`, `text`) and `.words`.

        Raises:
            DataError: no text, or something that is not text.
        """
        self.ready()
        if not asked(texts, "texts"):
            return []
        examples = self.read(texts, "texts", labelled=False, **reading)
        given = [example.text for example in examples]
        found = self._tag(given, batch_size, done)
        return [Tagging(text, entities_of(text, spans)) for text, spans in zip(given, found)]

    # --- on the command line ------------------------------------------------------------------------------------------

    @classmethod
    def check_options(cls, values: Values) -> None:
        head = values.get("head") or "crf"
        if values.get("lr_multiplier") is not None and head not in ("crf", "memm"):
            raise ConfigError(f"--lr-multiplier does not go with --head {head}, which has no transitions; leave it out")
        if values.get("scheme") is not None and head in POINTERS:
            raise ConfigError(
                f"--scheme does not go with --head {head}, which has no tags; choose --head {', '.join(CHAINS)}"
            )

    @classmethod
    def saved_options(cls, settings: Values) -> Config:
        return {"segmented": settings.get("scheme") == "bmes" and settings.get("labels") == [WORD]}

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> TaggedExamples:
        wanted = values["format"]
        return read_tagged(
            path, "data", labelled, format=_FORMATS.get(wanted, wanted), joiner=values["joiner"],
            strict=bool(values.get("strict")), digits=values["digits"], encoding=values["encoding"],
            text_column=values.get("text_column"), label_column=values.get("label_column"),
            segmented=values["segmented"],
        )  # fmt: skip

    def prediction_row(self, example: Any, prediction: Tagging) -> Config:
        row = to_json(prediction.text, prediction.spans)
        return {**row, "words": words_of(prediction)} if self._segments else row

    def write_predictions(
        self, form: str, examples: Any, predictions: Iterable[Any], output: Path | None, echoed: tuple[str, ...]
    ) -> list[str]:
        if form == "conll":
            columns = TagColumns(self.scheme if self.head in CHAINS else "bio", covering=self._segments)
            write_lines(columns.lines(examples, predictions), output)
            return columns.notes()
        if form == "brat" and output is not None:
            write_brat(list(predictions), output)
            return []
        if form == "words":
            write_lines(line_by_line(("  ".join(words_of(found)) for found in predictions), examples), output)
            return []
        return super().write_predictions(form, examples, predictions, output, echoed)

    def display(self, prediction: Tagging) -> str | Text:
        return "  ".join(words_of(prediction)) if self._segments else coloured(prediction, self.label_names())

    @property
    def _segments(self) -> bool:
        """Whether the spans are words, which cover a text."""
        return self.scheme == "bmes" and self.labels == [WORD]

    # --- inside -------------------------------------------------------------------------------------------------------

    def read(self, source: Any, name: str, labelled: bool = True, **reading: Any) -> TaggedExamples:
        if self.labels is not None or self.scheme != "bmes":  # else the data tell whether words are meant
            reading.setdefault("segmented", self._segments)
        examples = read_tagged(source, name, labelled, **reading)
        return self.keep_notes(examples)

    def texts(self, examples: Any) -> Iterable[str]:
        return (example.text for example in examples)

    def infer_labels(self, examples: Any) -> None:
        if self.labels is None:
            found = sorted({span.label for example in examples for span in example.spans or ()})
            if not found:
                raise DataError(f"{examples.name}: there is not a single span in it; check its format")
            self.labels = found

    def check_examples(self, examples: Any) -> None:
        known = set(self.label_names())
        for number, example in enumerate(examples):
            for span in example.spans or ():
                if span.label not in known:
                    raise DataError(
                        f"{examples.where(number)}: label {span.label!r} is not known to this model; known labels: "
                        f"{', '.join(self.label_names())}; correct the row, or train with it"
                    )

    def check_held_out(self, examples: Any) -> None:
        """Labels that this model does not know are noted; their spans are scored as missed."""
        labels = ((number, span.label) for number, each in enumerate(examples) for span in each.spans or ())
        self.note_unknown(examples, labels, self.labels or (), "label", lambda number: examples.where(number))

    @property
    def _tags(self) -> TagScheme:
        return TagScheme(self.scheme, tuple(self.labels or ()))

    def build_network(self, backbone: Backbone) -> TrainableModel:
        if self.head in POINTERS:
            return pointer_model(backbone, self.head, len(self.label_names()), self.dropout, self.seed)
        self._chain = chain_layer(self.head, self.lr_multiplier, self.seed)
        return chain_model(backbone, self._chain, len(self._tags.tags), self.dropout, self.seed)

    @classmethod
    def settings_for_head(cls, head: StoredHead, given: Values, backbone: Backbone) -> Config:
        if head.kind not in (None, TOKENS):
            raise Unusable(f"it is for {head.kind}, not for {TOKENS}")
        if given.get("head") not in (None, "softmax"):
            raise Unusable(f"it belongs to head='softmax', but {given['head']!r} is asked for")
        found = tags_for(head, given.get("labels"))
        if given.get("scheme") not in (None, found["scheme"]):
            raise Unusable(f"its tags are of the scheme {found['scheme']}, but {given['scheme']} is asked for")
        saved = given.get("constrained", head.settings.get("constrained"))
        return {**found, "head": "softmax", **({"constrained": saved} if isinstance(saved, bool) else {})}

    def head_layers(self) -> tuple[str, ...]:
        return ("emissions",)

    def output_names(self) -> list[str]:
        """The tags in the order of the outputs."""
        return list(self._tags.tags)

    def outputs_in(self, head: StoredHead) -> list[int] | None:
        parts = [split_tag(tag) or ("", "") for tag in plain_tags(head.labels or ())]
        return places_of([split_tag(tag) for tag in self._tags.tags], parts)

    def loss(self) -> Any:
        if self.head in POINTERS:
            return SparseMultilabelCategoricalCrossentropy(class_axes=2)
        return self._chain.loss

    def score(self, examples: Any) -> dict[str, float]:
        report = self.evaluate(examples)
        return {"precision": report.precision, "recall": report.recall, "f1": report.f1}

    def _cut_up(self, texts: Sequence[str]) -> tuple[list[TokenizedText], list[Window]]:
        return cut_into_windows(self.parts().tokenizer, texts, self.max_length, self.stride)

    def training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        tokenized, windows = self._cut_up([example.text for example in examples])
        spans = self._token_spans(examples, tokenized)
        labels: PairLabels | TokenLabels
        if self.head in CHAINS:
            labels = self._tag_labels(examples, spans, tokenized, windows)
        else:
            labels = self._pair_labels(examples, spans, windows)
        return self.padded_batches(windows, labels, batch_size=batch_size, shuffle=True, seed=seed)

    def _token_spans(self, examples: Any, tokenized: Sequence[TokenizedText]) -> list[list[Span]]:
        """The spans by tokens, end exclusive; those that tokens cannot say are left out and noted."""
        found: list[list[Span]] = []
        lost: list[tuple[int, Span]] = []
        for number, (example, each) in enumerate(zip(examples, tokenized)):
            kept = []
            for span in example.spans:
                tokens = each.tokens_of(span.start, span.end)
                if tokens is None:
                    lost.append((number, span))
                else:
                    kept.append(Span(tokens[0], tokens[1] + 1, span.label))
            found.append(kept)
        self._note_lost(examples, lost, "begins or ends within a token")
        return found

    def _note_lost(self, examples: Any, lost: Sequence[tuple[int, Span]], why: str) -> None:
        if lost:
            number, span = lost[0]
            total = sum(len(example.spans) for example in examples)
            self.cut[f"{examples.name}: {why}"] = (
                f"{examples.where(number)}: the {span.label} {examples[number].text[span.start : span.end]!r} {why} "
                f"and is not learnt; {len(lost)} of {total} spans"
            )

    def _tag_labels(
        self, examples: Any, spans: Sequence[list[Span]], tokenized: Sequence[TokenizedText], windows: Sequence[Window]
    ) -> TokenLabels:  # fmt: skip
        scheme, tags, lost = self._tags, [], []
        for number, (kept, each) in enumerate(zip(spans, tokenized)):
            disjoint, overlapping = longest_disjoint(kept)
            if overlapping:
                learnt = set(disjoint)
                first = next(span for span in kept if span not in learnt)
                lost += [(number, Span(*each.characters_of(first.start, first.end - 1), first.label))] * overlapping
            if scheme.segments:
                disjoint = with_gaps(disjoint, each, examples[number].text)
            tags.append(scheme.encode(disjoint, len(each.ids)))
        self._note_lost(examples, lost, "overlaps a longer one, which tags cannot say,")
        rows = []
        for window in windows:
            part = tags[window.text][window.first : window.first + window.count].tolist()
            after = len(window.token_ids) - window.shift - window.count
            rows.append([*[-1] * window.shift, *part, *[-1] * after])  # special tokens have no tag
        return TokenLabels(rows)

    def _pair_labels(self, examples: Any, spans: Sequence[list[Span]], windows: Sequence[Window]) -> PairLabels:
        numbers = {label: number for number, label in enumerate(self.label_names())}
        held = inside(windows, [[(span.start, span.end - 1) for span in each] for each in spans])
        rows = []
        for window, numbers_held in zip(windows, held):
            by = window.shift - window.first
            taken = [spans[window.text][place] for place in numbers_held]
            rows.append([(numbers[span.label], span.start + by, span.end - 1 + by) for span in taken])
        fitted = {(window.text, place) for window, places in zip(windows, held) for place in places}
        self._note_long(
            examples,
            [(n, span) for n, each in enumerate(spans) for place, span in enumerate(each) if (n, place) not in fitted],
        )
        return PairLabels(rows, len(self.label_names()))

    def _note_long(self, examples: Any, long: Sequence[tuple[int, Span]]) -> None:
        if long:
            number, span = long[0]
            self.cut[f"{examples.name}: long"] = (
                f"{examples.where(number)}: a {span.label} of {span.end - span.start} tokens is longer than what two "
                f"windows share and is in none of them whole; {len(long)} such spans are not learnt, raise max_length= "
                "or stride="
            )

    def _tag(self, texts: Sequence[str], batch_size: int, done: Callable[[int], None] | None) -> list[list[Span]]:
        """The spans of each text by characters."""
        predictor = self.ready().predictor
        tokenized, windows = self._cut_up(texts)
        found: list[list[Span]] = [[] for _ in texts]
        tell = first_windows(windows, len(texts), done)
        if not windows:
            return found
        batches = self.padded_batches(windows, batch_size=rows_for(len(windows), batch_size), shuffle=False)
        outputs = predictor.run(batches)
        lengths = [len(each.ids) for each in tokenized]
        if self.head in POINTERS:
            spans = pointer_spans(outputs, windows, self.label_names(), lengths, tell)
        else:
            allowed = self._tags.allowed() if self.constrained else None
            spans = chain_spans(outputs, windows, self._chain, self._tags, allowed, lengths, tell)
        for number, (each, kept) in enumerate(zip(tokenized, spans)):
            placed = [Span(*each.characters_of(span.start, span.end - 1), span.label) for span in kept]
            found[number] = [span for span in placed if not texts[number][span.start : span.end].isspace()]
        return found
