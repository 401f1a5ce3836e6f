"""Speed of the tokenizer relative to the bare Rust library.

python benchmarks/tokenization.py --vocabulary vocab.txt --data FILE...

Both sides encode every text of the files with the same algorithm and truncation, on all cores, and hand out the
token ids (and, in the second row, the offsets too) as Python lists. The sides take turns on slices of the data; of
each slice the least time counts, and these are added up: a passing load on the machine does not decide the ratio.
"""

import argparse
import csv
import gzip
import json
import lzma
import os
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("QINGFORMER_SHARED", ROOT.parent / "shared"))
sys.path.insert(0, str(ROOT))

from tokenizers import AddedToken, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RustTokenizer

from qingformer.tokenization import Tokenizer


def read_texts(path):
    """Every string of a JSONL, CSV or TSV file, plain or packed."""
    opener = {".gz": gzip.open, ".xz": lzma.open}.get(path.suffix, open)
    with opener(path, "rt", encoding="utf-8", newline="") as file:
        form = path.suffixes[0]
        if form in (".json", ".jsonl"):
            for line in file:
                yield from (value for value in json.loads(line).values() if isinstance(value, str))
        else:
            quoting = csv.QUOTE_NONE if form == ".tsv" else csv.QUOTE_MINIMAL
            for row in csv.reader(file, delimiter="\t" if form == ".tsv" else ",", quoting=quoting):
                yield from row


def bare_tokenizer(path, max_length):
    """What one would write with the Rust library alone."""
    ids = {token: index for index, token in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n"))}
    rust = RustTokenizer(models.WordPiece(ids, unk_token="[UNK]", max_input_chars_per_word=100))
    rust.normalizer = normalizers.BertNormalizer(lowercase=True)
    rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    rust.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0",
        pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    rust.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    rust.enable_truncation(max_length)
    return rust


def sides(ours, bare, max_length):
    """name of the task -> (our side, the bare side); both return what the other returns."""
    return {
        "ids, batch": (
            lambda texts: [encoding.token_ids for encoding in ours.encode_batch(texts, max_length=max_length)],
            lambda texts: [encoding.ids for encoding in bare.encode_batch(texts)],
        ),
        "ids, segments, offsets, batch": (
            lambda texts: [
                (e.token_ids, e.segment_ids, e.offsets) for e in ours.encode_batch(texts, max_length=max_length)
            ],
            lambda texts: [(e.ids, e.type_ids, e.offsets) for e in bare.encode_batch(texts)],
        ),
        "ids, one by one": (
            lambda texts: [ours.encode(text, max_length=max_length).token_ids for text in texts],
            lambda texts: [bare.encode(text).ids for text in texts],
        ),
    }


def measure(our_side, bare_side, texts, repeats, size):
    """Seconds of both sides over all texts: for each slice the least of the repeats, the sides taking turns."""
    totals = [0.0, 0.0]
    for start in range(0, len(texts), size):
        part = texts[start : start + size]
        assert our_side(part) == bare_side(part), "the two sides must give the same"
        seconds = ([], [])
        for repeat in range(repeats):
            for which in (0, 1) if repeat % 2 else (1, 0):
                began = time.perf_counter()
                (our_side, bare_side)[which](part)
                seconds[which].append(time.perf_counter() - began)
        totals = [total + min(times) for total, times in zip(totals, seconds)]
    return totals


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vocabulary", type=Path, default=SHARED / "vocab/bert_base_chinese/vocab.txt")
    parser.add_argument("--data", type=Path, nargs="+", default=[SHARED / "data/clue-tnews/train.json.gz"])
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--slice", type=int, default=5000, help="texts in one turn")
    arguments = parser.parse_args()
    texts = [text for path in arguments.data for text in read_texts(path)]
    ours = Tokenizer.from_pretrained(arguments.vocabulary, lowercase=True)
    bare = bare_tokenizer(arguments.vocabulary, arguments.max_length)
    characters = sum(map(len, texts))
    print(
        f"{len(texts):,} texts, {characters:,} characters, max_length {arguments.max_length}, "
        f"{os.cpu_count()} cores, slices of {arguments.slice:,}, least of {arguments.repeats} turns"
    )
    print(f"{'task':32}{'ours s':>10}{'bare s':>10}{'ours texts/s':>15}{'ours / bare rate':>18}")
    for name, (our_side, bare_side) in sides(ours, bare, arguments.max_length).items():
        mine, theirs = measure(our_side, bare_side, texts, arguments.repeats, arguments.slice)
        print(f"{name:32}{mine:10.3f}{theirs:10.3f}{len(texts) / mine:15,.0f}{theirs / mine:18.3f}", flush=True)


if __name__ == "__main__":
    main()
