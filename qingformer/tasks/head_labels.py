"""Which labels and tags the outputs of a stored head stand for, beside those that a task is asked to have."""

from collections.abc import Sequence
from typing import Any

from qingformer.data.schemes import TagScheme, scheme_of, split_tag
from qingformer.models.fine_tuned import StoredHead
from qingformer.types import Config

# Outputs of published taggers that stand for no tag of a token of the text.
_SPECIAL = ("[PAD]", "[CLS]", "[SEP]", "[UNK]", "<pad>", "X", "PAD", "CLS", "SEP")


# Not an error of the user: the head is left out with a warning, and the encoder is used without it.
class Unusable(Exception):
    """Why a task cannot take a stored head, in a few words."""


def listed(value: Any) -> Any:
    """A sequence of names as a list of texts, anything else as it is."""
    return list(map(str, value)) if not isinstance(value, str | bool | int | float) else value


def labels_for(head: StoredHead, given: object) -> list[str]:
    """The labels of the outputs: the stored names, or those `given`, which must be the same or name nameless ones.

    Raises:
        Unusable: the two do not agree.
    """
    if given is None:
        if head.labels is None:
            raise Unusable(f"its {head.outputs} labels have no names in the files; pass labels= in their order")
        return list(head.labels)
    wanted = listed(given)
    if head.labels is None or (head.generic and set(wanted) != set(head.labels)):
        if len(wanted) != head.outputs:
            raise Unusable(f"it has {head.outputs} outputs, but {len(wanted)} labels are given")
    elif set(wanted) != set(head.labels):
        raise Unusable(f"its labels are {brief(head.labels)}, but {brief(wanted)} are given")
    return list(wanted)


def tags_for(head: StoredHead, given: object) -> Config:
    """Labels, scheme and whether its rules hold, for a head whose labels are tags.

    Raises:
        Unusable: labels that are no tags, or are those of other labels than `given`.
    """
    parts = [split_tag(tag) for tag in plain_tags(head.labels or ()) if tag]
    if not any(part and part[0] != "O" for part in parts) or None in parts:
        raise Unusable(f"its labels {brief(head.labels or ())} are not tags such as O, B-PER, I-PER")
    found = [part for part in parts if part is not None]
    labels = list(dict.fromkeys(label for prefix, label in found if prefix != "O"))
    if given is not None:
        if set(listed(given)) != set(labels):
            raise Unusable(f"its labels are {brief(labels)}, but {brief(listed(given))} are given")
        labels = listed(given)
    scheme = scheme_of(prefix for prefix, _ in found)
    whole = {split_tag(tag) for tag in TagScheme(scheme, labels).tags} <= set(found)
    return {"labels": labels, "scheme": scheme, "constrained": whole}


def plain_tags(labels: Sequence[str]) -> list[str]:
    """Tags as this package writes them: of L and U (BILOU) E and S are made, `b_per` is B-per; "" for [PAD] and X.

    >>> plain_tags(["O", "b_PER", "L-PER", "[PAD]"])
    ['O', 'B-PER', 'E-PER', '']
    """
    found = ["" if label in _SPECIAL else label for label in labels]
    found = [f"{tag[0].upper()}-{tag[2:]}" if tag[1:2] in ("_", "-") else tag for tag in found]
    if not any(tag[:2] in ("E-", "S-") for tag in found):
        found = [{"L-": "E-", "U-": "S-"}.get(tag[:2], tag[:2]) + tag[2:] for tag in found]
    return ["O" if tag == "o" else tag for tag in found]


def places_of(names: Sequence[object], stored: Sequence[object]) -> list[int]:
    """The place of each name among the stored ones, -1 where it is not there."""
    where = {name: place for place, name in enumerate(stored)}
    return [where.get(name, -1) for name in names]


def brief(value: object, most: int = 120) -> str:
    """A value for a message, at most `most` characters."""
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."
