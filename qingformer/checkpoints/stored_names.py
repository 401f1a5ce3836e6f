"""What the names in a checkpoint look like: prefixes of wrappers, names that programs make up, other kinds of file."""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator

# Patterns of names that no family has, and what to do with such a file.
LOOKS = (
    (r"^layer_with_weights-\d+/|^_CHECKPOINTABLE_OBJECT_GRAPH$|/\.ATTRIBUTES/", "they look like Keras' save_weights, "
     "by position; save with save_weights_as_checkpoint or tf.train.Saver"),
    (r"^(dense|embedding|layer_normalization|multi_head_attention)(_\d+)?/|/(layer_norm\w+|multi_head_attention)_\d+/",
     "they look like names that Keras gives to layers without one; name the layers as the original does"),
    (r"\.lora_[AB]\.|^base_model\.model\.", "they look like adapters of peft; load_adapters reads them"),
    (r"\.(qweight|qzeros|g_idx|SCB|weight_scale|weight_scale_inv|absmax|quant_map)$|quant_state",
     "they look like quantised weights; save them as floats"),
    (r"^onnx::", "they look like an ONNX graph's; convert the original weights"),
    (r"\.(exp_avg|exp_avg_sq)$|^optimizer\.", "they look like the state of an optimizer"),
)  # fmt: skip
# Bodies whose names are like BERT's and whose numbers are not (RoBERTa counts positions from 2): never a mere prefix.
ARCHITECTURES = frozenset(
    """albert bert bert_generation big_bird camembert convbert data2vec_text deberta distilbert electra ernie esm funnel
    generator longformer megatron_bert mpnet nezha roberta roberta_prelayernorm roformer rembert splinter xlm_roberta
    xlm_roberta_xl xmod""".split()
)
# Modules that wrap others and have names of their own: FSDP, torch.compile, activation checkpointing, DeepSpeed.
_WRAPPERS = re.compile(r"(?:(?<=\.)|^)_(?:fsdp_wrapped_module|orig_mod|checkpoint_wrapped_module|forward_module)\.")
# Automatic names of Keras, each the only norm of its scope, in files that are BERT's otherwise.
_NUMBERED_NORM = re.compile(r"/layer_normalization(_\d+)?/")


def renamed(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Names as the family knows them to stored names: without wrappers, without the prefix that most of them carry.

    What stands outside that prefix loses as much of it as it shares: beside "module.bert_model.embeddings..." the head
    "module.classifier.weight" is known as "classifier.weight".

    Example: `renamed(["module.a", "module.b"], {"a", "b"})`
    """
    stored = _without_inner_wrappers(names, known)
    prefixes = [*_beginnings(prefix_of(stored, known)), ""]
    found: dict[str, str] = {}
    for name in stored:
        short = name.removeprefix(next(prefix for prefix in prefixes if name.startswith(prefix)))
        plain = _NUMBERED_NORM.sub("/LayerNorm/", short)
        if plain in known and short not in known and plain not in found:
            short = plain
        found[name if short in found else short] = stored[name]
    return found


def _without_inner_wrappers(names: Iterable[str], known: Collection[str]) -> dict[str, str]:
    """Names without the modules that wrap a part of a model, to stored names; two of one name keep theirs."""
    plain = {name: name if name in known else _WRAPPERS.sub("", name) for name in names}
    taken = {name for name, short in plain.items() if name == short}
    found: dict[str, str] = {}
    for name, short in plain.items():
        found[name if name != short and (short in taken or short in found) else short] = name
    return found


def prefix_of(names: Iterable[str], known: Collection[str]) -> str:
    """What stands before the most names that the family knows: "module.", "bert_model." and the like, mostly nothing.

    Example: `prefix_of(["model.bert.a"], {"bert.a", "a"})`
    """
    own = {re.split(r"[./]", name, maxsplit=1)[0] for name in known}
    counts: Counter[str] = Counter()
    for name in names:
        if name in known:
            counts[""] += 1
        counts.update(prefix for prefix in _beginnings(name) if name[len(prefix) :] in known)
    for prefix in list(counts):
        if (ARCHITECTURES - own) & set(re.split(r"[./]", prefix)):
            del counts[prefix]
    return max(counts, key=lambda prefix: (counts[prefix], -len(prefix)), default="")


def without_wrappers(names: Iterable[str]) -> list[str]:
    """The names themselves, and what follows the parts with which all of them begin: marks of a family are in one."""
    names = list(names)
    found = list(names)
    while names and all(re.match(r"[^./]+[./]", name) for name in names):
        if len({re.split(r"[./]", name, maxsplit=1)[0] for name in names}) > 1:
            break
        names = [re.split(r"[./]", name, maxsplit=1)[1] for name in names]
        found += names
    return found


def looks_like(names: Iterable[str]) -> str | None:
    """What a file of such names is, and what to do with it; None if nothing is known of them."""
    names = list(names)
    return next((advice for pattern, advice in LOOKS if any(re.search(pattern, name) for name in names)), None)


def beside(names: list[str], count: int = 3, width: int = 30) -> str:
    """Some names for a message, the middle of long ones left out."""
    half = width // 2
    return ", ".join(name if len(name) <= width else f"{name[:half]}…{name[1 - half :]}" for name in names[:count])


def _beginnings(name: str) -> Iterator[str]:
    """The name up to each of its separators, the longest first: "a.b/" and "a." of "a.b/c"."""
    for match in reversed(list(re.finditer(r"[./]", name))):
        yield name[: match.end()]
