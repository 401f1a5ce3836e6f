"""docs/training.md: the examples run in order, the command line is understood, both languages have the same code."""

import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import qingformer as qf
from qingformer.losses import named_loss
from qingformer.objectives.named_transforms import named_transform

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = "chinese_L-12_H-768_A-12"


def page(name):
    return (ROOT / "docs" / name).read_text("utf-8")


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_both_languages_have_the_same_code():
    english, chinese = (
        [re.sub(r" *#.*", "", block) for block in blocks(page(name))] for name in ("training.md", "training.zh.md")
    )
    assert english == chinese


def test_the_command_line_is_understood():
    for name in ("training.md", "training.zh.md"):
        (line,) = re.findall(r"`qingformer train ([^`]*--loss[^`]*)`", page(name))
        words = line.split()
        transforms = [named_transform(word) for flag, word in pairwise(words) if flag == "--transform"]
        assert [type(each) for each in transforms] == [qf.FGM, qf.RDrop]
        assert hasattr(named_loss(words[words.index("--loss") + 1]), "disagreement")


def write_source(folder):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"好看的难电影书"]
    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    backbone = qf.Backbone(qf.BackboneConfig(vocab_size=len(vocabulary), max_position_embeddings=128, **sizes))
    backbone.save_pretrained(folder / SOURCE, tokenizer=qf.Tokenizer.from_vocabulary(vocabulary))
    rows = [{"text": text, "label": label} for text, label in (("好看的电影", "p"), ("难看的书", "n"))] * 4
    for name in ("train", "dev"):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, "utf-8")


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    write_source(tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {}
    for number, block in enumerate(blocks(page("training.md"))):
        exec(compile(block, f"docs/training.md, block {number + 1}", "exec"), names)
    assert np.isfinite(names["classifier"].predict(["好看"])[0].probability)
    assert (tmp_path / "sentiment").is_dir()
