"""A script as users write it; `mypy --strict` passes on it (see `make types`)."""

import qingformer as qf
from qingformer.evaluation import ClassificationReport
from qingformer.tasks import MultipleChoice, TextClassifier


def train(path: str) -> ClassificationReport:
    classifier = TextClassifier.from_scratch("tiny", max_length=32)
    curve: dict[str, list[float]] = classifier.fit(path, epochs=2, transforms=[qf.FGM()])
    print(curve["loss"][-1])
    classifier.save("model")
    report = classifier.evaluate(path)
    assert isinstance(report, ClassificationReport)
    return report


def use(folder: str, texts: list[str]) -> list[str]:
    classifier = TextClassifier.load(folder)
    found = classifier.predict(texts)
    return [f"{one.label} {one.probability:.2f}" for one in found]


def any_task(folder: str, path: str) -> str:
    task = qf.load(folder)
    report = task.evaluate(path)
    for name, score in report.per_label.items():
        print(name, score.f1 + score.precision + score.recall, score.support)
    if isinstance(task, qf.SequenceTagger):
        print([entity.start for tagging in task.predict(["在北京"]) for entity in tagging.entities])
    if isinstance(task, MultipleChoice):
        print(task.predict(path)[0].number + 1)
    rows: list[object] = [prediction.to_dict() for prediction in task.predict(path)]
    return f"{report.headline} {len(rows)}"
