"""What a checkpoint can become: the heads that its weights fill, and what each would miss or leave over."""

from dataclasses import dataclass

import numpy as np

from qingformer.checkpoints.loading_report import LoadingReport, shorten
from qingformer.errors import CheckpointError, ConfigError
from qingformer.models import (
    Backbone,
    BackboneConfig,
    CausalLM,
    MaskedLM,
    NextSentencePrediction,
    PreTraining,
    ReplacedTokenDetection,
    SentenceOrderPrediction,
    Seq2SeqLM,
    Similarity,
)
from qingformer.models.family_registry import family_class
from qingformer.models.loading import Plan, loader_of
from qingformer.models.shapes import weight_shapes
from qingformer.types import Config

NONE = "none"
HEADS: Config = {
    NONE: Backbone,
    "mlm": MaskedLM,
    "lm": CausalLM,
    "seq2seq": Seq2SeqLM,
    "pretraining": PreTraining,
    "nsp": NextSentencePrediction,
    "sop": SentenceOrderPrediction,
    "replaced": ReplacedTokenDetection,
    "similarity": Similarity,
}
Tensors = dict[str, tuple[tuple[int, ...], str]]


@dataclass(frozen=True)
class Role:
    """One head over the body: how loading it would go. `problem` is what would stop it beside missing weights."""

    head: str
    application: str
    report: LoadingReport
    problem: str | None = None

    @property
    def complete(self) -> bool:
        """Whether the stored weights fill it."""
        return not self.report.missing and self.problem is None


class Shapes:
    """Stored tensors of which the shapes alone are known; reading one gives zeros that take no memory."""

    def __init__(self, tensors: Tensors) -> None:
        self.tensors = tensors

    def names(self) -> list[str]:
        """All names."""
        return list(self.tensors)

    def read(self, name: str) -> np.ndarray:
        """Zeros of the shape."""
        return np.broadcast_to(np.float32(0), self.tensors[name][0])


def heads_of(family: str) -> list[str]:
    """The names of a family's heads on the command line, none first, then in the family's order."""
    names = {kind.__name__: name for name, kind in HEADS.items()}
    return [NONE, *(names[kind] for kind in family_class(family).spec.heads)]


def head_options(head: str, config: BackboneConfig) -> Config:
    """What `from_pretrained` must be told for a head: ELECTRA's two halves are told apart by the configuration."""
    return {"generator": True} if head == "mlm" and config.family == "electra" else {}


def roles_of(plan: Plan, tensors: Tensors) -> list[Role]:
    """Every head of the family, the body alone first."""
    groups: dict[BackboneConfig, list[str]] = {}
    for head in heads_of(plan.config.family):
        groups.setdefault(body_of(head, plan.config), []).append(head)
    found = {}
    for config, heads in groups.items():
        for head, shapes in zip(heads, shapes_of(heads, config)):
            found[head] = examine(head, shapes, config, plan, tensors)
    return [found[head] for head in heads_of(plan.config.family)]


def body_of(head: str, config: BackboneConfig) -> BackboneConfig:
    """The configuration of the body under a head, the same for roles that differ in their mask alone."""
    if HEADS[head].default_application == "seq2seq" and config.application == "encoder":
        return config.replace(application="seq2seq")
    return config.replace(**head_options(head, config))


def shapes_of(heads: list[str], config: BackboneConfig) -> list[dict[str, tuple[int, ...]] | str]:
    """Shapes by path for each head, or why the body cannot have it."""
    shapes: list[dict[str, tuple[int, ...]] | str] = []
    try:
        return [*weight_shapes([HEADS[head] for head in heads], config)]
    except ConfigError as problem:
        if len(heads) == 1:
            return [str(problem)]
    for head in heads:
        shapes += shapes_of([head], config)
    return shapes


def examine(
    head: str, shapes: dict[str, tuple[int, ...]] | str, config: BackboneConfig, plan: Plan, tensors: Tensors
) -> Role:
    """How loading that head would go."""
    application = HEADS[head].default_application if config.application == "encoder" else config.application
    report = LoadingReport(plan.source)
    if isinstance(shapes, str):
        return Role(head, application, report, shapes)
    loader = loader_of(
        Plan(plan.source, plan.weights, plan.layout, plan.stored_config, config, plan.request), [*shapes]
    )
    try:
        arrays, report = loader.load(Shapes(tensors), shapes, plan.source)
        for _ in arrays:  # a wrong shape shows when its turn comes
            pass
    except CheckpointError as problem:
        return Role(head, application, report, str(problem))
    return Role(head, application, report)


def role_as_dict(role: Role) -> Config:
    """For `info`: plain values, and one line for a reader."""
    report = role.report
    summary = role.problem or "complete"
    if role.problem is None and report.missing:
        summary = f"{len(report.missing)} of {len(report.missing) + len(report.loaded)} weights are missing ("
        summary += f"{shorten(report.missing)})"
    return {
        "class": HEADS[role.head].__name__,
        "application": role.application,
        "complete": role.complete,
        "missing": report.missing,
        "problem": role.problem,
        "summary": f"{HEADS[role.head].__name__}, {role.application}: {summary}",
    }


def best_role(roles: list[Role]) -> Role:
    """The complete one that reads the most weights; among equals one that generates where the model was made for it."""

    def rank(role: Role) -> tuple[int, bool, bool]:
        generates = HEADS[role.head].default_application != "encoder"
        made_for_it = generates and roles[0].application != "encoder"
        return len(role.report.loaded), made_for_it, role.head != NONE

    return max((role for role in roles if role.complete), key=rank, default=roles[0])
