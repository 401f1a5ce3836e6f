"""Architectures elsewhere whose weights have the names and shapes of a family here, but whose numbers differ.

`family=` lets files of an unknown architecture be read as those of a family; with these the names would fit and nothing
else would show the mistake.
Source: the modelling files of `transformers`, and outputs compared with it.
"""

import re

from qingformer.errors import ConfigError
from qingformer.json_files import quoted
from qingformer.types import Values

_LIKE_ROBERTA = dict.fromkeys(("roberta", "xlmroberta", "camembert", "data2vectext"), "counts positions from 2")
_LIKE_LLAMA = {
    "gemma": "scales embeddings and adds 1 to the gain of its norms",
    "helium": "turns neighbouring numbers as rotary pairs",
    "ernie45": "turns neighbouring numbers as rotary pairs",
}
# Family to architectures, spelled as `_plain` does, and how they differ from it.
LOOK_ALIKES = {"bert": _LIKE_ROBERTA, "simbert": _LIKE_ROBERTA, "llama": _LIKE_LLAMA}


def check_look_alike(values: Values, source: str, family: str) -> None:
    """Refuse a configuration of an architecture that fits `family` in its names alone.

    A class in `architectures` counts more than `model_type`: files of BERT's class are BERT's.

    Raises:
        ConfigError: names the architecture, and how files that were labelled wrongly can be loaded.
    """
    differing = LOOK_ALIKES.get(family, {})
    classes = values.get("architectures")
    stated = [str(name) for name in classes] if isinstance(classes, list) and classes else [values.get("model_type")]
    for name in stated:
        how = differing.get(_plain(name))
        if how is not None:
            raise ConfigError(
                f"{source}: the files say {quoted(name)}, which {how}: its weights have the names of {family} but not "
                "its numbers; correct model_type and architectures there if they are wrong"
            )


def _plain(name: object) -> str:
    """A class or a model type in one spelling: "XLMRobertaForMaskedLM" and "xlm-roberta" are "xlmroberta"."""
    stem = re.sub(r"(For[A-Z]\w*|LMHeadModel|Model|LMHead)$", "", str(name))
    return re.sub(r"[^a-z0-9]", "", stem.lower())
