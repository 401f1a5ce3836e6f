"""Write tests/fixtures/tokenization: small models trained on our own sentences, and the output of peer libraries.

`bert.json` is the output of `transformers` for our own vocabulary; `*.model` and `sentencepiece.json` are three small
SentencePiece models and the output of the `sentencepiece` package; `gpt2/`, `gpt/` and `bpe.json` are two small
vocabularies with merges and the output of `transformers`.

Run from the repository root with both installed: python scripts/make_fixtures_tokenization.py
"""

import io
import json
import sys
import tempfile
from pathlib import Path

import sentencepiece
import transformers
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.tokenization.samples import ODD_TEXTS, SENTENCES, small_vocabulary  # noqa: E402

FIELDS = ("input_ids", "token_type_ids", "offset_mapping")
FOLDER = ROOT / "tests/fixtures/tokenization"
# A few rules of our own: the table of the usual NFKC rules alone would take 240 kB.
RULES = {"，": ",", "！": "!", "ﬁ": "fi", "①": "1", "½": "1/2", "\u3000": " ", "\t": " ", "\n": " ", "\x07": ""}
MODELS = {
    "t5": {"model_type": "unigram", "pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "byte_fallback": True}
    | {"vocab_size": 600, "user_defined_symbols": ["<extra_id_1>", "<extra_id_0>"]},
    "albert": {"model_type": "unigram", "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": -1, "vocab_size": 240}
    | {"control_symbols": ["[CLS]", "[SEP]", "[MASK]"], "user_defined_symbols": ["(", ")", "."]},
    "llama": {"model_type": "bpe", "unk_id": 0, "bos_id": 1, "eos_id": 2, "byte_fallback": True, "vocab_size": 600}
    | {"normalization_rule_name": "identity", "remove_extra_whitespaces": False, "allow_whitespace_only_pieces": True},
}


def bert():
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
    return {"transformers": transformers.__version__, "vocabulary": small_vocabulary(), "cases": cases}


def sentencepiece_models():
    cases = []
    with tempfile.TemporaryDirectory() as directory:
        rules = Path(directory) / "rules.tsv"
        codes = {" ".join(f"{ord(c):X}" for c in key): " ".join(f"{ord(c):X}" for c in RULES[key]) for key in RULES}
        rules.write_text("".join(f"{key}\t{value}\n" for key, value in codes.items()), encoding="utf-8")
        for name, options in MODELS.items():
            if "normalization_rule_name" not in options:
                options = {**options, "normalization_rule_tsv": str(rules)}
            sentences = [text.lower() for text in SENTENCES] if name == "albert" else SENTENCES
            writer = io.BytesIO()
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=writer,
                hard_vocab_limit=False,
                num_threads=1,
                minloglevel=2,
                **options,
            )
            (FOLDER / f"{name}.model").write_bytes(_without_path(writer.getvalue()))
            theirs = sentencepiece.SentencePieceProcessor(model_file=str(FOLDER / f"{name}.model"))
            for text in [*SENTENCES, *ODD_TEXTS, " a  b ", "①，½！ﬁ", "a\x07b", "<extra_id_0>今天 <extra_id_1>"]:
                ids = theirs.encode(text)
                cases.append({"model": name, "text": text, "ids": ids, "decoded": theirs.decode(ids)})
    return {"sentencepiece": sentencepiece.__version__, "cases": cases}


def _without_path(content):
    """The model without the name of the file of rules, which is another at each run."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto.FromString(content)
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    return model.SerializeToString()


def byte_pairs():
    cases = []
    for name, kind in (("gpt2", transformers.GPT2Tokenizer), ("gpt", transformers.OpenAIGPTTokenizer)):
        rust = Tokenizer(models.BPE(unk_token=None if name == "gpt2" else "<unk>"))
        if name == "gpt2":
            rust.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
            options = {"initial_alphabet": pre_tokenizers.ByteLevel.alphabet(), "special_tokens": ["<|endoftext|>"]}
            rust.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=400, show_progress=False, **options))
        else:
            rust.model = models.BPE(unk_token="<unk>", end_of_word_suffix="</w>")
            rust.normalizer = normalizers.BertNormalizer(lowercase=True)
            rust.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
            options = {"end_of_word_suffix": "</w>", "special_tokens": ["<unk>"], "show_progress": False}
            rust.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=400, **options))
        (FOLDER / name).mkdir(exist_ok=True)
        rust.model.save(str(FOLDER / name))
        theirs = kind.from_pretrained(str(FOLDER / name))
        for text in [*SENTENCES, *ODD_TEXTS]:
            ids = theirs(text)["input_ids"]
            cases.append({"model": name, "text": text, "ids": ids, "decoded": theirs.decode(ids)})
    return {"transformers": transformers.__version__, "cases": cases}


def write(name, content):
    rows = ",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in content.pop("cases"))
    head = json.dumps(content, ensure_ascii=True, separators=(",", ":"))[:-1]
    (FOLDER / name).write_text(f'{head},"cases":[\n{rows}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    write("bert.json", bert())
    write("sentencepiece.json", sentencepiece_models())
    write("bpe.json", byte_pairs())
