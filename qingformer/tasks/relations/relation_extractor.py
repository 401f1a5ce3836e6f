"""Relation extraction: the triples (subject, relation, object) that a text states."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

from qingformer.data import PaddedBatches
from qingformer.data.relations import RelationTexts, Triple, read_schema
from qingformer.errors import ConfigError, DataError
from qingformer.evaluation.triples import TripleReport, evaluate_triples
from qingformer.models import Backbone
from qingformer.objectives import TrainableModel
from qingformer.tasks.label_names import check_names
from qingformer.tasks.networks import POINTERS
from qingformer.tasks.predictor import Predictor, asked, rows_for
from qingformer.tasks.relations import cascade, gplinker
from qingformer.tasks.relations.relation_examples import (
    Extraction,
    TokenTriple,
    found_triples,
    moved,
    read_texts,
    token_triples,
)
from qingformer.tasks.task import Task
from qingformer.tasks.task_registry import register_task
from qingformer.tasks.windows import TokenizedText, Window, WindowChoice, cut_into_windows, first_windows, inside
from qingformer.tokenization import Tokenizer
from qingformer.types import Config, DtypeLike, Values

DESIGNS = ("gplinker", "cascade")
# One shape for all calls, so that the second half of the cascade is compiled once.
PAIRS = 32  # subjects whose objects are looked for at once


@register_task("relation-extractor")
class RelationExtractor(Task):
    """An encoder that finds the triples of a text: names of its own words, and the relation between them.

    Two designs:

    - "gplinker": S(s, p, o) = S(s_h, s_t) + S(o_h, o_t) + S(s_h, o_h | p) + S(s_t, o_t | p), scores of pairs of tokens
      by pointers. A triple is found where all four are above 0. Names may nest, overlap and be shared.
    - "cascade": pointers to the starts and ends of subjects; then, for each subject, pointers to the starts and ends of
      the objects of every relation, under layer normalisation conditioned on the subject.

    Args:
        backbone, tokenizer: as in `Task`.
        relations: their names; None to find them in the data when `fit` is called.
        design: see above.
        pointer: of "gplinker", "efficient_global_pointer" or "global_pointer".
        max_length: longest window in tokens, special tokens included.
        stride: how many tokens neighbouring windows share at least, by default a quarter of `max_length` up to 16; what
            stands in no window whole is not found.
        dropout: rate before the head. seed: of its start.

    Raises:
        ConfigError: an unknown design or pointer, sizes that do not fit each other.

    Sources: 科学空间 archives/8888 (GPLinker), archives/7161 (the cascade); Wei et al. 2020, arXiv 1909.03227; Su et
    al. 2022, arXiv 2208.03054.

    Example:
        >>> rows = [("桐华写了步步惊心", [("步步惊心", "作者", "桐华")]), ("你好", [])] * 4
        >>> extractor = RelationExtractor.from_scratch("tiny", max_length=32)
        >>> _ = extractor.fit(rows, epochs=1, batch_size=4, verbose=0)
        >>> extractor.predict(["桐华写了步步惊心"])[0].text
        '桐华写了步步惊心'
    """

    settings_types: ClassVar[dict[str, type]] = {
        "relations": list, "design": str, "pointer": str, "max_length": int, "stride": int, "dropout": float
    }  # fmt: skip
    identity = ("relations", "design", "pointer")
    label_setting = "relations"

    def __init__(
        self,
        backbone: Backbone | None,
        tokenizer: Tokenizer | None,
        relations: Iterable[str] | None = None,
        *,
        design: str = "gplinker",
        pointer: str = "efficient_global_pointer",
        max_length: int = 128,
        stride: int | None = None,
        dropout: float = 0.1,
        seed: int = 0,
        size: str | None = None,
        dtype: DtypeLike = None,
    ) -> None:
        if design not in DESIGNS:
            raise ConfigError(f"design is {design!r}; choose one of {', '.join(DESIGNS)}")
        if pointer not in POINTERS:
            raise ConfigError(f"pointer is {pointer!r}; choose one of {', '.join(POINTERS)}")
        self.relations = None if relations is None else check_names(relations, "relations")
        self.design, self.pointer = design, pointer
        self.stride = min(16, max_length // 4) if stride is None else stride
        super().__init__(backbone, tokenizer, max_length=max_length, dropout=dropout, seed=seed, size=size, dtype=dtype)

    def evaluate(
        self, test: Any, *, batch_size: int = 32, done: Callable[[int], None] | None = None, **reading: Any
    ) -> TripleReport:
        """Compare the triples found with those of `test`: precision, recall and F1, exact and partial, by relation.

        Raises:
            DataError: an unlabelled text, with its file and line.
        """
        examples = self.read(test, "test data", **reading)
        self.ready()
        self.check_held_out(examples)
        found = self._extract([example.text for example in examples], batch_size, done)
        return evaluate_triples([example.triples or () for example in examples], [each.triples for each in found])

    def predict(
        self, texts: Any, *, batch_size: int = 32, done: Callable[[int], None] | None = None, **reading: Any
    ) -> list[Extraction]:
        """Find the triples of texts, or of the texts of a file.

        Each result has `.triples`, and `.found` with the places of the names too.

        Raises:
            DataError: no text, or something that is not text.
        """
        self.ready()
        if not asked(texts, "texts"):
            return []
        examples = self.read(texts, "texts", labelled=False, **reading)
        return self._extract([example.text for example in examples], batch_size, done)

    # --- on the command line ------------------------------------------------------------------------------------------

    @classmethod
    def check_options(cls, values: Values) -> None:
        design = values.get("design") or "gplinker"
        if values.get("pointer") is not None and design != "gplinker":
            raise ConfigError(f"--pointer does not go with --design {design}, only with gplinker; leave it out")

    @classmethod
    def read_file(cls, path: str, values: Values, labelled: bool = True) -> RelationTexts:
        return read_texts(
            path, "data", labelled, cls.more_arguments(values)["relations"], format=values["format"],
            encoding=values["encoding"], strict=bool(values.get("strict")),
        )  # fmt: skip

    @classmethod
    def more_arguments(cls, values: Values) -> Config:
        return {"relations": None if values.get("schema") is None else read_schema(values["schema"])}

    def prediction_row(self, example: Any, prediction: Extraction) -> Config:
        triples = [
            {
                "subject": each.subject,
                "relation": each.relation,
                "object": each.object,
                "subject_place": list(each.subject_place),
                "object_place": list(each.object_place),
            }
            for each in prediction.found
        ]
        return {"text": prediction.text, "triples": triples}

    # --- inside -------------------------------------------------------------------------------------------------------

    def read(self, source: Any, name: str, labelled: bool = True, **reading: Any) -> RelationTexts:
        # With a schema an unknown relation is an error of the data; in held-out data it is a triple that is missed.
        schema = self.relations if name == "training data" else None  # others are held out: scored, not learnt
        examples = read_texts(source, name, labelled, schema, **reading)
        return self.keep_notes(examples)

    def texts(self, examples: Any) -> Iterable[str]:
        return (example.text for example in examples)

    def infer_labels(self, examples: Any) -> None:
        if self.relations is None:
            found = sorted({triple.relation for example in examples for triple in example.triples or ()})
            if not found:
                raise DataError(f"{examples.name}: there is not a single triple in it; check its format")
            self.relations = found

    def check_examples(self, examples: Any) -> None:
        known = set(self.label_names())
        for example in examples:
            for triple in example.triples or ():
                if triple.relation not in known:
                    raise DataError(
                        f"{examples.where(example)}: the relation {triple.relation!r} is not known to this model, "
                        f"which has {', '.join(self.label_names()[:20])}; correct the row, or train with it"
                    )

    def check_held_out(self, examples: Any) -> None:
        """Relations that this model does not know are noted; their triples are scored as missed."""
        names = ((each, triple.relation) for each in examples for triple in each.triples or ())
        self.note_unknown(examples, names, self.relations or (), "relation", examples.where)

    def build_network(self, backbone: Backbone) -> TrainableModel:
        if self.design == "gplinker":
            return gplinker.linker_model(backbone, self.pointer, len(self.label_names()), self.dropout, self.seed)
        made = cascade.Cascade(backbone, len(self.label_names()), self.dropout, self.seed)
        self._halves = Predictor(made.first, lambda outputs: outputs), Predictor(made.second, lambda x: x)
        return made.model

    def loss(self) -> Any:
        return gplinker.linker_losses() if self.design == "gplinker" else cascade.cascade_losses()

    def loss_weights(self) -> dict[str, float] | None:
        return gplinker.linker_weights(len(self.label_names())) if self.design == "gplinker" else None

    def score(self, examples: Any) -> dict[str, float]:
        exact = self.evaluate(examples).exact
        return {"precision": exact.precision, "recall": exact.recall, "f1": exact.f1}

    def _cut_up(self, texts: Sequence[str]) -> tuple[list[TokenizedText], list[Window]]:
        return cut_into_windows(self.parts().tokenizer, texts, self.max_length, self.stride)

    def training_batches(self, examples: Any, batch_size: int, seed: int) -> PaddedBatches:
        tokenized, windows = self._cut_up([example.text for example in examples])
        numbers = {relation: number for number, relation in enumerate(self.label_names())}
        placed: list[list[TokenTriple]] = []
        lost: list[tuple[Any, Triple]] = []
        for example, each in zip(examples, tokenized):
            kept, unsaid = token_triples(example.text, example.triples, each, numbers)
            placed.append(kept)
            lost += [(example, triple) for triple in unsaid]
        held = inside(windows, [[triple.stretch for triple in each] for each in placed])
        rows = [
            [moved(placed[window.text][place], window.shift - window.first) for place in places]
            for window, places in zip(windows, held)
        ]
        learnt = {(window.text, place) for window, places in zip(windows, held) for place in places}
        self._note_lost(examples, lost, [
            n for n, each in enumerate(placed) for place in range(len(each)) if (n, place) not in learnt
        ])  # fmt: skip
        if self.design == "gplinker":
            labels = gplinker.linker_labels(rows, len(self.label_names()))
            return self.padded_batches(windows, labels, batch_size=batch_size, shuffle=True, seed=seed)
        return self.padded_batches(
            windows, rows, kind=cascade.CascadeBatches, relations=len(self.label_names()),
            batch_size=batch_size, shuffle=True, seed=seed,
        )  # fmt: skip

    def _note_lost(self, examples: Any, lost: list[tuple[Any, Triple]], apart: Sequence[int]) -> None:
        """`apart` are the numbers of the texts of triples that are whole in no window."""
        if lost:
            example, triple = lost[0]
            self.cut[f"{examples.name}: tokens"] = (
                f"{examples.where(example)}: subject or object of {tuple(triple)} begins or ends within a token and is "
                f"not learnt; {len(lost)} triples"
            )
        if apart:
            self.cut[f"{examples.name}: windows"] = (
                f"{examples.where(examples[apart[0]])}: subject and object of a triple are too far apart for one "
                f"window; {len(apart)} triples are not learnt, raise max_length= to keep more"
            )

    def _extract(self, texts: Sequence[str], batch_size: int, done: Callable[[int], None] | None) -> list[Extraction]:
        predictor = self.ready().predictor
        tokenized, windows = self._cut_up(texts)
        tell = first_windows(windows, len(texts), done)
        found: list[list[TokenTriple]] = [[] for _ in texts]
        if windows:
            batches = self.padded_batches(windows, batch_size=rows_for(len(windows), batch_size), shuffle=False)
            choice = WindowChoice(windows, [len(each.ids) for each in tokenized])
            each = self._linked if self.design == "gplinker" else self._cascaded
            for number, triples in each(predictor, batches, windows):
                window = windows[number]
                there = (moved(triple, window.first - window.shift) for triple in triples)
                found[window.text] += [t for t in there if choice.best(number, *t.stretch)]
                tell([number])
        return [
            Extraction(text, found_triples(text, each, triples, self.label_names()))
            for text, each, triples in zip(texts, tokenized, found)
        ]

    def _linked(
        self, predictor: Predictor, batches: PaddedBatches, windows: Sequence[Window]
    ) -> Iterator[tuple[int, list[TokenTriple]]]:
        for rows, outputs in predictor.run(batches):
            for place, row in enumerate(rows.tolist()):
                if row >= 0:
                    window = windows[row]
                    last = window.shift + window.count - 1
                    yield row, gplinker.linked(gplinker.untied(outputs, place), window.shift, last)

    def _cascaded(
        self, predictor: Predictor, batches: PaddedBatches, windows: Sequence[Window]
    ) -> Iterator[tuple[int, list[TokenTriple]]]:
        first, second = self._halves
        for rows, outputs in first.run(batches):
            subjects = [
                (place, span)
                for place, row in enumerate(rows.tolist())
                if row >= 0
                for _, span in self._names(outputs["subjects"][place], cascade.SUBJECT_POWER, windows[row])
            ]
            found: dict[int, list[TokenTriple]] = {place: [] for place, row in enumerate(rows.tolist()) if row >= 0}
            vectors = outputs["vectors"]
            counts = np.array([windows[row].count + windows[row].shift if row >= 0 else 1 for row in rows])
            for start in range(0, len(subjects), PAIRS):
                part = subjects[start : start + PAIRS]
                taken = np.zeros(PAIRS, int)
                taken[: len(part)] = [place for place, _ in part]
                spans = np.zeros((PAIRS, 2), "int32")
                spans[: len(part)] = [span for _, span in part]
                mask = (np.arange(vectors.shape[1]) < counts[taken][:, None]).astype("int32")
                scores = second.once({"vectors": vectors[taken], "mask": mask, "subject": spans})
                for (place, span), each in zip(part, scores):
                    names = self._names(each, cascade.OBJECT_POWER, windows[rows[place]])
                    found[place] += [TokenTriple(span, relation, target) for relation, target in names]
            for place, triples in found.items():
                yield int(rows[place]), triples

    def _names(self, scores: np.ndarray, power: float, window: Window) -> list[Any]:
        return cascade.spans_of(scores, power, window.shift, window.shift + window.count - 1)
