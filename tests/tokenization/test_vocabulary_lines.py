"""The id of a token is the number of its line, whatever stands in the lines."""

import pytest

from qingformer.errors import TokenizerError
from qingformer.tokenization import Tokenizer

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
CASES = {
    "two inside": (["", "", "我"], {"我": 7}, 8),
    "many inside": (["", "天", "", "", "", "我"], {"天": 6, "我": 10}, 11),
    "one at the end": (["我", ""], {"我": 5}, 6),
    "many at the end": (["", "我", "", "", ""], {"我": 6}, 7),
    "spaces beside empty lines": ([" ", "", "", "  ", "我"], {" ": 5, "  ": 8, "我": 9}, 10),
    "what is no line break": (["a\x85b", "c\u2028", "d\u2029e", "f\rg", "\x0b", "我"], {"我": 10, "c\u2028": 6}, 11),
}


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("case", CASES)
def test_ids_are_line_numbers(tmp_path, case, end):
    lines, expected, size = CASES[case]
    path = tmp_path / "vocab.txt"
    path.write_bytes("".join(line + end for line in [*SPECIAL, *lines]).encode())
    tokenizer = Tokenizer.from_pretrained(path)
    assert tokenizer.vocab_size == size
    assert {token: tokenizer.token_to_id(token) for token in expected} == expected
    assert tokenizer.encode("我   天  ").token_ids[1] == expected["我"]
    tokenizer.save_pretrained(tmp_path / "saved")
    for source in (tmp_path / "saved", tmp_path / "saved" / "vocab.txt"):
        again = Tokenizer.from_pretrained(source)
        assert again.vocabulary == tokenizer.vocabulary
        assert again.encode("我").token_ids == tokenizer.encode("我").token_ids


def test_no_text_gives_an_empty_line(tmp_path):
    path = tmp_path / "vocab.txt"
    path.write_text("\n".join([*SPECIAL, "", "", "", "我"]) + "\n", encoding="utf-8")
    words = Tokenizer.from_pretrained(path, pre_tokenize=lambda text: ["我", " ", " ", "  ", "我"])
    for tokenizer in (Tokenizer.from_pretrained(path), words):
        assert tokenizer.encode("我    我", add_special_tokens=False).token_ids == [8, 8]


def test_an_empty_line_that_has_come_last_keeps_its_id(tmp_path):
    tokenizer = Tokenizer.from_vocabulary([*SPECIAL, "我", " ", ""])
    tokenizer.save_pretrained(tmp_path)
    assert Tokenizer.from_pretrained(tmp_path / "vocab.txt").vocabulary == [*SPECIAL, "我", " ", "  "]
    assert Tokenizer.from_pretrained(tmp_path).vocabulary == tokenizer.vocabulary


@pytest.mark.parametrize("name", ["vocab.txt", "merges.txt"])
def test_what_git_leaves_in_place_of_a_file_is_named(name, tmp_path):
    if name == "merges.txt":
        (tmp_path / "vocab.json").write_text('{"a": 0, "<|endoftext|>": 1}')
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n")
    with pytest.raises(TokenizerError, match=rf"{name}: is a Git LFS pointer, not the file itself"):
        Tokenizer.from_pretrained(tmp_path)
