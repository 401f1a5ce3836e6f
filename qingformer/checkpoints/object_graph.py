"""The object graph that TensorFlow 2 stores beside the variables of a `tf.train.Checkpoint`."""

from qingformer.checkpoints.wire import read_fields
from qingformer.errors import CheckpointError

OBJECT_GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
VALUE_SUFFIX = "/.ATTRIBUTES/VARIABLE_VALUE"


def full_names(graph: bytes) -> dict[str, str]:
    """Return {attribute path: name that the variable had in the program}, for the variables whose name was recorded.

    Fields are those of TensorFlow's `trackable_object_graph.proto`: graph.nodes = 1, node.attributes = 2,
    attribute.full_name = 2, attribute.checkpoint_key = 3.
    """
    names: dict[str, str] = {}
    for number, node in read_fields(graph):
        if number != 1 or not isinstance(node, bytes):
            continue
        for field, attribute in read_fields(node):
            if field == 2 and isinstance(attribute, bytes):
                texts = {key: value for key, value in read_fields(attribute) if isinstance(value, bytes)}
                if texts.get(2) and texts.get(3):
                    names[_text(texts[3]).removesuffix(VALUE_SUFFIX)] = _text(texts[2])
    return names


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise CheckpointError(f"damaged: the name {raw[:80]!r} is not UTF-8") from None
