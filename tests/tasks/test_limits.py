"""Lengths that nobody means."""

import pytest

import qingformer as qf
from qingformer.errors import ConfigError


def test_a_new_model_has_no_vector_for_each_of_ten_million_positions():
    with pytest.raises(ConfigError, match="max_length=9999999 is too much for a new model"):
        qf.TextClassifier.from_scratch("tiny", ["[PAD]", "[UNK]", "[CLS]", "[SEP]"], max_length=9_999_999)
