"""Write tests/fixtures/tokenization/bert.json: what `transformers` makes of our own odd texts and small vocabulary.

Run from the repository root with `transformers` installed: python scripts/make_fixtures_tokenization.py
"""

import json
import sys
import tempfile
from pathlib import Path

import transformers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.tokenization.samples import ODD_TEXTS, small_vocabulary  # noqa: E402

FIELDS = ("input_ids", "token_type_ids", "offset_mapping")


def main():
    cases = []
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "vocab.txt").write_text("".join(f"{t}\n" for t in small_vocabulary()), encoding="utf-8")
        for lowercase in (True, False):
            tokenizer = transformers.BertTokenizer.from_pretrained(directory, do_lower_case=lowercase)
            for text, pair in zip(ODD_TEXTS, ODD_TEXTS[1:] + ODD_TEXTS[:1]):
                for max_length in (None, 9):
                    # As a batch: alone, an empty second text would be taken for none.
                    row = tokenizer(
                        [text],
                        [pair],
                        return_offsets_mapping=True,
                        truncation=max_length is not None,
                        max_length=max_length,
                    )
                    cases.append(
                        {"lowercase": lowercase, "text": text, "pair": pair, "max_length": max_length}
                        | {field: row[field][0] for field in FIELDS}
                    )
    content = {"transformers": transformers.__version__, "vocabulary": small_vocabulary(), "cases": cases}
    target = ROOT / "tests/fixtures/tokenization/bert.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    rows = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in content.pop("cases"))
    head = json.dumps(content, ensure_ascii=True, separators=(",", ":"))[:-1]
    target.write_text(f'{head},"cases":[\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
