"""Stored names of the heads that fine-tuning puts on a body, as the libraries of the field call them.

A body leaves them in the file and its loading report lists them; a task may read them. Names are those after a common
prefix of all names (`module.`, `bert_model.`) was taken off.
"""

import re

HEAD_PATHS = (r"^(mlm_\w+|lm_head|next_sentence|replaced_\w+|pooler)/",)
# Classes whose outputs do not come from the token table: copies of it may differ.
WITHOUT_OUTPUT_TABLE = ("Backbone", "NextSentencePrediction", "SentenceOrderPrediction", "ReplacedTokenDetection")

# What the head does: patterns of stored names, by format.
FINE_TUNED: dict[str, dict[str, tuple[str, ...]]] = {
    # Sequence and token classification and multiple choice share these names; the configuration tells them apart.
    "classifier": {
        "huggingface": (
            r"^classifier\.(weight|bias)$",
            r"^classifier\.(dense|out_proj)\.(weight|bias)$",
            r"^score\.(weight|bias)$",
            r"^classification_head\.(dense|out_proj)\.(weight|bias)$",
            r"^(sequence_summary|multiple_choice_head)\.summary\.(weight|bias)$",
        ),
        "tensorflow": (r"^(loss/)?output_(weights|bias)$",),
    },
    "reading": {
        "huggingface": (r"^qa_outputs\.(weight|bias)$",),
        "tensorflow": (r"^cls/squad/output_(weights|bias)$", r"^(start|end)_logits/.+/(kernel|bias)$"),
    },
}


def fine_tuned_patterns(layout: str) -> tuple[str, ...]:
    """The patterns of all heads in the names of that format ("huggingface", "tensorflow")."""
    return tuple(pattern for formats in FINE_TUNED.values() for pattern in formats.get(layout, ()))


def fine_tuned_head(name: str, layout: str) -> str | None:
    """The kind of head that a stored name belongs to, "classifier" or "reading"; None for anything else.

    Example: `fine_tuned_head("qa_outputs.weight", "huggingface")`
    """
    for kind, formats in FINE_TUNED.items():
        if any(re.search(pattern, name) for pattern in formats.get(layout, ())):
            return kind
    return None
