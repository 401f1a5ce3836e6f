"""Fine-tuned heads beside a body in its files: for which task they were trained, their labels and their matrices.

The classes of `transformers` name them `classifier`, `qa_outputs` (and `sequence_summary` before a choice), Google's
scripts `output_weights` (run_classifier) and `cls/squad/output_weights` (run_squad), and a saved task of this package
has them in a file of their own. Source: the files of those programs.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qingformer.checkpoints import open_checkpoint, own_files
from qingformer.checkpoints.stored_heads import fine_tuned_head, fine_tuned_patterns
from qingformer.json_files import readable_json
from qingformer.models.family_registry import family_class
from qingformer.types import Config, Values

SEQUENCE, TOKENS, ANSWERS, CHOICE = (
    "SequenceClassification", "TokenClassification", "QuestionAnswering", "MultipleChoice",
)  # fmt: skip
# Where `task.json` of a saved task lies inside a Hugging Face configuration, so that nothing is lost on the way back.
PARAMETERS, OURS = "task_specific_params", "qingformer"
# How a sequence becomes one vector in `ForMultipleChoice`, where the configuration does not specify it.
SUMMARIES: dict[str, Config] = {
    "electra": {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"},
    "roformer": {"summary_type": "last", "summary_use_proj": False, "summary_activation": None},
}
# The names that transformers makes up where nobody gave any.
_GENERIC = re.compile(r"LABEL_\d+")


@dataclass(frozen=True)
class StoredHead:
    """A head in the files of a model.

    `kind` is the part after "For" in the name of its class, None where it is unknown; `layers` are the stored names
    of its matrices (outputs, inputs) and biases, the last one the output, with `activation` after those before it;
    `outputs` is their number and `labels` their names, None where the files have none. `problem` says why it cannot be
    computed here. `settings` are those of a task of this package, whose head is the file `own`.
    """

    weights: Path
    names: tuple[str, ...]
    kind: str | None = None
    layers: tuple[tuple[str, str], ...] = ()
    activation: str = ""
    outputs: int = 0
    labels: tuple[str, ...] | None = None
    problem_type: str | None = None
    problem: str = ""
    settings: Values = field(default_factory=dict)
    own: Path | None = None

    @property
    def generic(self) -> bool:
        """Whether the labels are those that `transformers` gives where nobody did: LABEL_0, LABEL_1, ..."""
        return self.labels is not None and all(_GENERIC.fullmatch(label) for label in self.labels)

    @property
    def described(self) -> str:
        """In a few words, for messages."""
        if self.own is not None:
            return f"the head of a {self.settings.get('task', 'task')} ({self.own.name})"
        kind = f"For{self.kind}" if self.kind else "head"
        return f"a fine-tuned {kind} of {self.outputs} outputs ({self.layers[-1][0] if self.layers else self.names[0]})"

    def read(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The layers as kernels (inputs, outputs) and biases, in float32."""
        with open_checkpoint(self.weights, verify=False) as file:  # examined when the body was read
            return [
                (np.array(file.read(kernel), "float32").T, np.array(file.read(bias), "float32"))
                for kernel, bias in self.layers
            ]


def find_head(values: Values, weights: Path, shapes: Mapping[str, tuple[int, ...]],
              aliases: Mapping[str, str], family: str, layout: str) -> StoredHead | None:  # fmt: skip
    """The fine-tuned head in files with this configuration, or None.

    `shapes` are those of the stored tensors, `aliases` the names as the family knows them to the stored names: heads
    are known by what is left of their names where prefixes and wrappers were taken off.
    """
    if layout == "qingformer":
        own = weights.parent / own_files.HEAD
        return _own_head(own, weights) if own.is_file() else None
    patterns = fine_tuned_patterns(layout)
    names = tuple(sorted(alias for alias in aliases if any(re.search(pattern, alias) for pattern in patterns)))
    if not names:
        return None
    kind = _kind(values, names, layout)
    layers, activation, problem = _layers(values, names, kind, family)
    problem = problem or family_class(family).spec.classifier_problem
    for pair in layers:
        problem = problem or "".join(f"{name} is missing" for name in pair if name not in aliases)[:200]
    stored = tuple((aliases.get(kernel, kernel), aliases.get(bias, bias)) for kernel, bias in layers)
    shape = shapes.get(stored[-1][0], ()) if stored else ()
    if not problem and len(shape) != 2:
        problem = f"its weights {', '.join(names[:3])} are laid out in a way that is not known here"
    outputs = shape[0] if len(shape) == 2 else 0
    labels, wrong = _labels(values, outputs, layout)
    if kind in (None, SEQUENCE, TOKENS):
        problem = problem or wrong
    problem_type = values.get("problem_type")
    return StoredHead(
        weights, tuple(aliases[name] for name in names), kind, stored, activation, outputs, labels,
        problem_type if isinstance(problem_type, str) else None, problem,
        own_parameters(values),
    )  # fmt: skip


def own_parameters(values: Values) -> Config:
    """The settings of a task of ours in a configuration in Hugging Face's form."""
    parameters = values.get(PARAMETERS)
    settings = parameters.get(OURS) if isinstance(parameters, dict) else None
    return settings if isinstance(settings, dict) else {}


def _own_head(path: Path, weights: Path) -> StoredHead | None:
    settings = readable_json(path.parent / own_files.TASK)
    problem = "" if isinstance(settings, dict) else f"{own_files.TASK} beside {own_files.HEAD} cannot be read"
    return StoredHead(
        weights, (path.name,), problem=problem, settings=settings if isinstance(settings, dict) else {}, own=path
    )


def stated_kind(values: Values) -> str | None:
    """The part after "For" in the class name of a configuration, such as "SequenceClassification"."""
    architectures = values.get("architectures")
    for architecture in architectures if isinstance(architectures, list) else ():
        match = re.match(r".*For([A-Z]\w*)$", str(architecture))  # the last "For": RoFormer has one of its own
        if match:
            return match[1]
    return None


def _kind(values: Values, names: Sequence[str], layout: str) -> str | None:
    """By the class that wrote the files, else by the names of the weights, else by what the labels look like."""
    stated = stated_kind(values)
    if stated is not None:
        return stated
    # Without `architectures` (written by hand, by older tools) names of weights and labels must do.
    if any(fine_tuned_head(name, layout) == "reading" for name in names):
        return ANSWERS
    if any("classifier.out_proj" in name for name in names):
        return SEQUENCE
    if any("sequence_summary" in name for name in names):
        return CHOICE
    labels = stated_labels(values)
    if labels and "O" in labels and all(re.match(r"^(O|[BIMESLUbimeslu][-_].+)$", label) for label in labels):
        return TOKENS
    return None


def _layers(
    values: Values, names: Sequence[str], kind: str | None, family: str
) -> tuple[tuple[tuple[str, str], ...], str, str]:
    """Stored names of the layers, the activation between them, and why they cannot be computed here."""
    matrix = next((name for name in names if name.endswith("output_weights")), None)
    if matrix is not None:
        return ((matrix, matrix.removesuffix("weights") + "bias"),), "", ""
    if not any(re.search(r"(^|\.)(classifier|qa_outputs|score)\.", name) for name in names):
        return (), "", f"its weights {', '.join(names[:2])} are laid out in a way that is not known here"

    def pairs(*modules: str) -> tuple[tuple[str, str], ...]:
        return tuple((f"{module}.weight", f"{module}.bias") for module in modules)

    # Sequence classifiers of decoders (GPT2, LLaMA).
    if any("score." in name for name in names):
        return pairs("score"), "", "it reads the last token of a language model, which no task here does"
    if kind == ANSWERS:
        return pairs("qa_outputs"), "", ""
    if any("classifier.out_proj" in name for name in names):
        # ELECTRA's classifier has gelu written into its code, whatever the configuration says.
        activation = "gelu" if family == "electra" else str(values.get("hidden_act", "gelu"))
        return pairs("classifier.dense", "classifier.out_proj"), activation, ""
    if kind == CHOICE and family in SUMMARIES:
        summary = SUMMARIES[family] | {key: values[key] for key in SUMMARIES[family] if key in values}
        if summary["summary_type"] != "first":
            return pairs("classifier"), "", f"it reads the {summary['summary_type']} position of the padded text"
        if not summary["summary_use_proj"] and summary["summary_activation"]:
            return pairs("classifier"), "", f"it applies {summary['summary_activation']} to the first vector itself"
        if not summary["summary_use_proj"]:
            return pairs("classifier"), "linear", ""
        return pairs("sequence_summary.summary", "classifier"), summary["summary_activation"] or "linear", ""
    return pairs("classifier"), "", ""


def _labels(values: Values, outputs: int, layout: str) -> tuple[tuple[str, ...] | None, str]:
    """The names of the outputs in their order, and what is wrong with them."""
    stated = stated_labels(values)
    if stated is None:
        return (None if layout == "tensorflow" else tuple(f"LABEL_{number}" for number in range(outputs))), ""
    if not stated or len(stated) != outputs:
        return None, f"id2label names {len(stated)} labels in order, but the head has {outputs} outputs"
    if len(set(stated)) < len(stated) or "" in stated:
        return None, "id2label has a label twice or an empty one"
    return tuple(stated), ""


def stated_labels(values: Values) -> list[str] | None:
    """`id2label` (or `label2id`) as a list; an empty list where its numbers are not 0, 1, 2, ..."""
    table = values.get("id2label")
    if isinstance(table, list):
        table = dict(enumerate(table))
    if not isinstance(table, dict):
        reverse = values.get("label2id")
        if not isinstance(reverse, dict):
            return None
        table = {number: label for label, number in reverse.items()}
    try:
        numbered = sorted((int(number), str(label).strip()) for number, label in table.items())
    except (TypeError, ValueError):
        return []
    return [label for _, label in numbered] if [n for n, _ in numbered] == list(range(len(numbered))) else []
