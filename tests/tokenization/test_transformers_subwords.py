"""GPT-2, GPT, T5, ALBERT and LLaMA: id for id what `transformers` gives; and it reads what we save."""

import json
import shutil
import unicodedata
from pathlib import Path

import pytest

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer
from tests.tokenization.samples import DATA_SETS, ODD_TEXTS, SENTENCES, read_texts

pytestmark = pytest.mark.peers
FIXTURES = Path(__file__).parent.parent / "fixtures" / "tokenization"


@pytest.fixture(scope="module")
def transformers():
    return pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def texts(shared):
    rows = [*ODD_TEXTS, *SENTENCES]
    for data_set in DATA_SETS:
        rows += list(dict.fromkeys(read_texts(shared, data_set)))[::80]
    assert len(rows) > 3500
    return rows


def differences(ours, theirs, texts, **options):
    expected = theirs(texts, **options)["input_ids"]
    rows = zip(texts, ours.encode_batch(texts, **options), expected)
    return [(text, encoding.token_ids, ids) for text, encoding, ids in rows if encoding.token_ids != ids]


@pytest.mark.shared
def test_gpt2(shared, tmp_path, transformers, texts):
    """A list of tokens with merges, here in RoBERTa's order, which `transformers` wants as `vocab.json`."""
    folder = shared / "vocab/gpt2_english_bpe"
    ours = Tokenizer.from_pretrained(folder)
    assert ours.special_tokens["eos_token"] == "</s>"
    tokens = (folder / "huggingface_gpt2_vocab.txt").read_text(encoding="utf-8").split("\n")[:50265]
    (tmp_path / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    shutil.copy(folder / "huggingface_gpt2_merges.txt", tmp_path / "merges.txt")
    theirs = transformers.GPT2Tokenizer.from_pretrained(str(tmp_path))
    assert not differences(ours, theirs, texts)
    assert not differences(Tokenizer.from_pretrained(tmp_path), theirs, texts)
    for text in texts:
        assert ours.decode(ours.encode(text).token_ids) == text
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "RobertaTokenizer"}')
    framed = Tokenizer.from_pretrained(tmp_path).encode("one", "two")
    theirs = transformers.RobertaTokenizer.from_pretrained(str(tmp_path))
    assert framed.token_ids == theirs("one", "two")["input_ids"]
    assert set(framed.segment_ids) == {0}


@pytest.mark.shared
def test_t5(shared, tmp_path, transformers, texts):
    """One difference: for what normalisation makes of decomposed letters and the like ours is the package's answer."""
    shutil.copy(shared / "vocab/t5_french_spm/spiece.model", tmp_path / "spiece.model")
    theirs = transformers.T5Tokenizer.from_pretrained(str(tmp_path), extra_ids=100)
    theirs.save_pretrained(str(tmp_path / "saved"))
    ours = Tokenizer.from_pretrained(tmp_path)
    different = [text for text, _, _ in differences(ours, theirs, texts)]
    assert all(text in ODD_TEXTS for text in different)
    assert len(different) <= 2
    saved = Tokenizer.from_pretrained(tmp_path / "saved")
    assert saved.vocab_size == ours.vocab_size + 100 == len(theirs)
    assert not differences(saved, theirs, texts)
    (tmp_path / "tokenizer_config.json").write_text('{"extra_ids": 100}')
    sentinels = Tokenizer.from_pretrained(tmp_path)
    text = "La <extra_id_0> est <extra_id_1> grande <extra_id_99>"
    assert sentinels.encode(text).token_ids == theirs(text)["input_ids"]
    assert sentinels.token_to_id("<extra_id_0>") == len(theirs) - 1


@pytest.mark.shared
def test_albert(shared, tmp_path, transformers, texts):
    """One difference: after "(" and special tokens in a text `transformers` 5 puts a space, SentencePiece does not."""
    shutil.copy(shared / "vocab/albert_english/30k-clean.model", tmp_path / "spiece.model")
    theirs = transformers.AlbertTokenizer.from_pretrained(str(tmp_path), do_lower_case=True)
    ours = Tokenizer.from_pretrained(tmp_path)
    symbols = [ours.id_to_token(index) for index in range(5, 13)]
    assert "(" in symbols
    symbols.append("[SEP]")
    plain = [text for text in texts if not any(symbol in unicodedata.normalize("NFKD", text) for symbol in symbols)]
    assert len(plain) > 2500
    assert not differences(ours, theirs, plain)
    assert ours.encode("Hello World", "Élan").token_ids == theirs("Hello World", "Élan")["input_ids"]


@pytest.mark.shared
def test_llama(shared, tmp_path, transformers, texts):
    """One difference: runs of spaces, where ours is what SentencePiece gives."""
    shutil.copy(shared / "vocab/llama2_tokenizer/tokenizer.model", tmp_path / "tokenizer.model")
    theirs = transformers.LlamaTokenizer.from_pretrained(str(tmp_path), legacy=True)
    ours = Tokenizer.from_pretrained(tmp_path)
    different = [text for text, _, _ in differences(ours, theirs, texts, add_special_tokens=False)]
    assert all("  " in text or text.startswith(" ") for text in different)
    assert len(different) < 20
    for text in texts:
        assert ours.decode(ours.encode(text).token_ids) == text


@pytest.mark.shared
@pytest.mark.parametrize("name", ["chemts_gpt2_0.2m", "chemts_gpt2_0.5m"])
def test_a_tokenizer_json_is_used_as_it_is(shared, transformers, name):
    """One symbol a text is all that this file can do: it does not cut, and has no token for the unknown."""
    theirs = transformers.AutoTokenizer.from_pretrained(str(shared / "weights" / name))
    ours = Tokenizer.from_pretrained(shared / "weights" / name)
    assert not differences(ours, theirs, ["C", "[C@@H]", "<BOS>", "Cl<EOS>", ""])
    assert (ours.bos_token_id, ours.eos_token_id, ours.pad_token_id) == (13, 14, 64)
    assert ours.vocab_size == len(theirs)
    encoding = ours.encode("Br")
    assert (encoding.tokens, encoding.offsets) == (["<BOS>", "Br", "<EOS>"], [(0, 0), (0, 2), (0, 0)])
    with pytest.raises(TokenizerError, match=r"Missing \[UNK\] token"):
        ours.encode("CC(=O)O")


@pytest.mark.shared
def test_a_vocabulary_with_holes(shared):
    with pytest.raises(TokenizerError, match=r"7 tokens, but none has the id 1; expected the ids 0\.\.6"):
        Tokenizer.from_pretrained(shared / "weights/toy_keras_gpt2_ckpt")


@pytest.mark.parametrize("name", ["t5.model", "albert.model", "llama.model", "gpt2", "gpt"])
def test_transformers_reads_what_we_save(tmp_path, transformers, name):
    ours = Tokenizer.from_pretrained(FIXTURES / name)
    ours.save_pretrained(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(str(tmp_path))
    assert not differences(ours, theirs, [*ODD_TEXTS, *SENTENCES])
    assert len(theirs) == ours.vocab_size
    for special, token in ours.special_tokens.items():
        assert getattr(theirs, special) == token
