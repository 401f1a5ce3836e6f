"""Label Studio's full JSON of classified texts as flat rows."""

from collections.abc import Mapping
from typing import Any


def flat_row(values: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """The row of a task with its annotation, the ground truth or else the first finished one; other rows as they are.

    >>> result = [{"type": "choices", "value": {"choices": ["正面"]}}]
    >>> flat_row({"id": 1, "data": {"text": "好看"}, "annotations": [{"result": result}]})
    {'text': '好看', 'id': 1, 'label': ['正面']}
    """
    data, annotations = values.get("data"), values.get("annotations")
    if not isinstance(data, Mapping) or not isinstance(annotations, list):
        return values
    kept = [each for each in annotations if isinstance(each, Mapping) and not each.get("was_cancelled")]
    kept.sort(key=lambda each: not each.get("ground_truth"))
    results = kept[0].get("result") if kept else []
    labels: list[Any] = []
    for result in results if isinstance(results, list) else []:
        value = result.get("value") if isinstance(result, Mapping) else None
        if isinstance(value, Mapping) and isinstance(value.get("choices"), list):
            labels += value["choices"]
    return {**data, "id": values.get("id"), "label": labels}
