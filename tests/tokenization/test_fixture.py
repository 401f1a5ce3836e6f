"""Parity with `transformers` where it is not installed: against what it gave when the fixture was made."""

import json
from pathlib import Path

from qingformer.tokenization import Tokenizer

FIXTURE = Path(__file__).parent.parent / "fixtures" / "tokenization" / "bert.json"


def test_pairs_of_odd_texts_equal_the_fixture():
    content = json.loads(FIXTURE.read_text(encoding="utf-8"))
    tokenizers = {
        case: Tokenizer.from_vocabulary(content["vocabulary"], lowercase=case, normalization="transformers")
        for case in (True, False)
    }
    assert len(content["cases"]) > 80
    for case in content["cases"]:
        encoding = tokenizers[case["lowercase"]].encode(case["text"], case["pair"], max_length=case["max_length"])
        assert encoding.token_ids == case["input_ids"]
        assert encoding.segment_ids == case["token_type_ids"]
        assert [list(span) for span in encoding.offsets] == case["offset_mapping"]
