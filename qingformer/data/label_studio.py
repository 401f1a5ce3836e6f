"""Tasks as Label Studio exports them whole: an object with `data` and `annotations`."""

from collections.abc import Mapping
from typing import Any


def finished_annotations(task: Mapping[object, object]) -> list[Mapping[Any, Any]]:
    """The annotations that were not cancelled, the ground truth first; none for rows that are no tasks.

    >>> finished_annotations({"data": {}, "annotations": [{"id": 1, "was_cancelled": True}, {"id": 2}]})
    [{'id': 2}]
    """
    given = task.get("annotations", task.get("completions"))
    if not isinstance(task.get("data"), Mapping) or not isinstance(given, list):
        return []
    kept = [one for one in given if isinstance(one, Mapping) and not one.get("was_cancelled")]
    return sorted(kept, key=lambda one: not one.get("ground_truth"))


def flat_row(values: Mapping[object, object]) -> Mapping[Any, Any]:
    """The row of a task of classification with the labels of its first finished annotation; other rows as they are.

    >>> result = [{"type": "choices", "value": {"choices": ["正面"]}}]
    >>> flat_row({"id": 1, "data": {"text": "好看"}, "annotations": [{"result": result}]})
    {'text': '好看', 'id': 1, 'label': ['正面']}
    """
    data = values.get("data")
    if not isinstance(data, Mapping) or not isinstance(values.get("annotations"), list):
        return values
    finished = finished_annotations(values)
    results = finished[0].get("result") if finished else []
    labels: list[Any] = []
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, Mapping) else None
        if isinstance(value, Mapping) and isinstance(value.get("choices"), list):
            labels += value["choices"]
    return {**data, "id": values.get("id"), "label": labels}
