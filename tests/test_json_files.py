"""What is wrong with a JSON file ends in the caller's kind of error, in one line that names the file."""

import json

import pytest

from qingformer.errors import LONGEST, ConfigError, QingFormerError, TokenizerError
from qingformer.json_files import MAXIMUM_DEPTH, check_kinds, read_json, read_object, readable_json

REFUSED = {
    "nested too deep for Python": (b"[" * 100_000 + b"]" * 100_000, "nested deeper than 64"),
    "nested one level too deep": (b"[" * (MAXIMUM_DEPTH + 1) + b"]" * (MAXIMUM_DEPTH + 1), "nested deeper than 64"),
    "too many digits for Python": (b'{"a": ' + b"9" * 5000 + b"}", "an integer of 5000 digits"),
    "too many digits for us": (b'{"a": ' + b"9" * 65 + b"}", "an integer of 65 digits"),
    "two values of a key": (b'{"a": {"b": 1, "c": 2, "b": 3}}', "the key 'b' is there twice"),
    "half of a surrogate pair": (b'{"a": ["\\ud800"]}', "half of a surrogate pair"),
    "half of a pair as a key": (b'{"\\uDFFF": 1}', "half of a surrogate pair"),
    "cut off": (b'{"a": [1, 2', "line 1: not JSON"),
    "empty": (b"", "line 1: not JSON"),
    "second line": (b'{"a": 1,\n b}', "line 2: not JSON"),
    "not UTF-8": (b'{"a": "\xff"}', "not UTF-8 (byte 7)"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
}


@pytest.mark.parametrize(("content", "said"), REFUSED.values(), ids=REFUSED)
def test_one_kind_of_error(tmp_path, content, said):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(TokenizerError) as caught:
        read_json(path, TokenizerError)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert said in message
    assert "\n" not in message
    assert len(message) <= LONGEST


def test_what_is_read(tmp_path):
    path = tmp_path / "tokenizer_config.json"
    value = {"model_max_length": 10**30, "smile": "\U0001f600", "deep": json.loads("[" * 60 + "]" * 60), "n": [1.5]}
    path.write_text("\ufeff" + json.dumps(value)[:-1] + ', "n": [1.5]}', encoding="utf-8")
    assert read_json(path) == value, "surrogates in pairs, a BOM and a key repeated with its value are no faults"


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(ConfigError, match="not a file"):
        read_json(tmp_path, ConfigError)
    with pytest.raises(ConfigError, match="no such file"):
        read_json(tmp_path / "config.json", ConfigError)


def test_types_at_keys(tmp_path):
    path = tmp_path / "task.json"
    path.write_text('{"size": 3, "rate": 2, "names": ["a"], "cased": true}')
    kinds = {"size": int, "rate": float, "names": (list, type(None)), "cased": bool, "absent": str}
    assert read_object(path, ConfigError, kinds)["rate"] == 2
    for key, kind, said in (
        ("size", str, "size is 3, expected a string"),
        ("cased", int, "cased is True, expected an integer"),
        ("names", (dict, type(None)), r"names is \['a'\], expected an object or null"),
    ):
        with pytest.raises(ConfigError, match=said):
            check_kinds(read_object(path), {key: kind}, str(path), ConfigError)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="expected a JSON object, found a list"):
        read_object(path, ConfigError)


def test_every_message_is_one_short_line():
    message = str(QingFormerError("name.txt: " + "x\ny\u2028" * 10**6 + "\ud800 remove it"))
    assert message.startswith("name.txt: x y ")
    assert message.endswith("\\ud800 remove it")
    assert len(message) == LONGEST
    assert not set("\n\u2028") & set(message)


def test_a_file_that_cannot_be_read_as_json_is_none(tmp_path):
    path = tmp_path / "value.json"
    assert readable_json(path) is None
    assert readable_json(tmp_path) is None
    for damaged in (b"{", b"\xff", b"[" * 1000, b'{"a": 1, "a": 2}'):
        path.write_bytes(damaged)
        assert readable_json(path) is None
    path.write_bytes(b'{"a": 1}')
    assert readable_json(path) == {"a": 1}
