"""Id for id what `transformers` gives, on real data sets; and `transformers` reads what we save."""

import shutil

import pytest

from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import DATA_SETS, ODD_TEXTS, read_texts, small_vocabulary

pytestmark = pytest.mark.peers
VOCABULARIES = {
    "chinese": ("bert_base_chinese/vocab.txt", True),
    "english uncased": ("bert_english/google_uncased_en_vocab.txt", True),
    "english cased": ("bert_english/google_cased_en_vocab.txt", False),
}


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def both(shared, tmp_path_factory, transformers):
    made = {}

    def load(kind):
        if kind not in made:
            name, lowercase = VOCABULARIES[kind]
            directory = tmp_path_factory.mktemp("vocabulary")
            shutil.copyfile(shared / "vocab" / name, directory / "vocab.txt")
            theirs = transformers.BertTokenizer.from_pretrained(str(directory), do_lower_case=lowercase)
            # No word of ours: whether the vocabulary is cased is seen from it.
            made[kind] = Tokenizer.from_pretrained(directory, normalization="transformers"), theirs
        return made[kind]

    return load


def compare(ours, theirs, texts, pairs=None, max_length=None, truncation="longest_first"):
    """Everything of every text, in slices, so that a difference is found near the text that has it."""
    for start in range(0, len(texts), 5000):
        rows = [texts[start : start + 5000], *([pairs[start : start + 5000]] if pairs else [])]
        cut = {"truncation": truncation if max_length else False, "max_length": max_length}
        expected = theirs(*rows, return_offsets_mapping=True, return_special_tokens_mask=True, **cut)
        encoded = ours.encode_batch(*rows, max_length=max_length, truncation=truncation)
        for number, encoding in enumerate(encoded):
            text = rows[0][number]
            assert encoding.token_ids == expected["input_ids"][number], text
            assert encoding.segment_ids == expected["token_type_ids"][number], text
            assert encoding.offsets == expected["offset_mapping"][number], text
            assert encoding.special_tokens_mask == expected["special_tokens_mask"][number], text


@pytest.mark.parametrize("kind", VOCABULARIES)
def test_odd_texts(both, kind):
    ours, theirs = both(kind)
    compare(ours, theirs, ODD_TEXTS)
    compare(ours, theirs, ODD_TEXTS, ODD_TEXTS[::-1])
    for truncation in ("longest_first", "only_first"):
        for max_length in (12, 13, 20, 50):
            long = [text * 20 + "今" for text in ODD_TEXTS]
            seconds = ["今天 a b"] * len(long) if truncation == "only_first" else [text * 3 for text in ODD_TEXTS[::-1]]
            compare(ours, theirs, long, seconds, max_length, truncation)


@pytest.mark.slow
@pytest.mark.parametrize("kind", VOCABULARIES)
@pytest.mark.parametrize("data_set", DATA_SETS)
def test_every_text_of_a_data_set(shared, both, data_set, kind):
    ours, theirs = both(kind)
    texts = list(dict.fromkeys(read_texts(shared, data_set)))
    assert len(texts) > 1000
    compare(ours, theirs, texts)
    compare(ours, theirs, texts[:-1:7], texts[1::7], max_length=32)


@pytest.mark.parametrize("data_set", DATA_SETS)
def test_slow_algorithm_of_transformers(shared, tmp_path, data_set, transformers):
    """The older pure-Python class, on a sample: the same tokens but for characters without a category."""
    from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

    shutil.copyfile(shared / "vocab/bert_base_chinese/vocab.txt", tmp_path / "vocab.txt")
    theirs = BertTokenizerLegacy(str(tmp_path / "vocab.txt"))
    ours = Tokenizer.from_pretrained(tmp_path)
    texts = list(dict.fromkeys(read_texts(shared, data_set)))[::97]
    assert len(texts) > 10
    for text in texts:
        assert ours.encode(text).token_ids == theirs.encode(text), text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"lowercase": False},
        {"strip_accents": False},
        {"tokenize_chinese_chars": False},
        {"max_word_length": 7},
        {"special_tokens": {"cls_token": None, "sep_token": None}},
        {"special_tokens": {"bos_token": "今", "tag_token": "天"}},
    ],
)
def test_transformers_reads_what_we_save(tmp_path, transformers, options):
    ours = Tokenizer.from_vocabulary(small_vocabulary(), normalization="transformers", **options)
    ours = ours.add_tokens(["<e1>"]).add_tokens(["<e2>"], special=True)
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert len(theirs) == ours.vocab_size
    texts = [*ODD_TEXTS, "今<e1>天<e2>气 <E1>"]
    compare(ours, theirs, texts, texts[::-1])
    assert theirs.mask_token_id == ours.mask_token_id
    if "tag_token" in options.get("special_tokens", {}):
        assert (theirs.bos_token, theirs.tag_token) == ("今", "天")
    if "bos_token" not in options.get("special_tokens", {}):
        assert theirs.bos_token is None


@pytest.mark.parametrize("lowercase", [True, False])
def test_we_read_what_transformers_saves(tmp_path, transformers, lowercase):
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in small_vocabulary()), encoding="utf-8")
    theirs = transformers.BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=lowercase)
    theirs.add_tokens(["<e1>"])
    theirs.add_special_tokens({"additional_special_tokens": ["<e2>"]})
    theirs.save_pretrained(str(tmp_path / "saved"))
    ours = Tokenizer.from_pretrained(tmp_path / "saved", normalization="transformers")
    compare(ours, theirs, [*ODD_TEXTS, "今<e1>天<e2>气"])
    assert ours.vocab_size == len(theirs)
    small, _ = ours.simplified()
    assert small.encode("今天").tokens == ["[CLS]", "今", "天", "[SEP]"]
