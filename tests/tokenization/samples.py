"""Texts for the tests: our own odd ones, a vocabulary that covers them, and the real data sets if they are at hand."""

import csv
import gzip
import json
import lzma
import string
import unicodedata

from hypothesis import strategies as st

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
_IDEOGRAPHS = "今天气不错我们的中文和英混排苹果香蕉价格元二三十学习机器人说好吗北京"
_WORDS = [
    "the",
    "wea",
    "##ther",
    "is",
    "un",
    "##able",
    "naive",
    "token",
    "##izer",
    "##izers",
    "hello",
    "world",
    "ab",
    "##cd",
]
_SIGNS = "，。！？：；（）《》“”、—…·①②αβγσςλ한ｆｕｌﬁߛ€🙂😂🚀が゛Iiİıßøñ"
_JAMO = "\u1112\u1161\u11ab"

ODD_TEXTS = [
    "",
    "   ",
    "\t\n\r ",
    "今天天气不错",
    "Hello, World! it's 3.14",
    "ＦＵＬＬ　ｗｉｄｔｈ，全角",
    "rΣ ΣΑΣ Σ",
    "İstanbul DİYARBAKIR ıI",
    "a\x00b\x07c\ufffdd\u200de\u200b",
    "e\u0301 é ñandú Ångström",
    "한글 조각",
    "👨‍👩‍👧‍👦家庭🇨🇳",
    "𠀀𠮷野家 𪛖 \U0002f800",
    "价格:3.5元/斤(约$0.50)",
    "a—b–c…d·e",
    "[MASK] [mask] [SEP]x[CLS]",
    "学##习 ##ing",
    "x" * 99 + " " + "x" * 100 + " " + "x" * 101,
    "\u00a0no\u00a0break\u2003em\u3000cjk\u2028line",
    "ﬁne ﷺ ℃ ½ Ⅷ",
    "mixed中文and英文123混排",
    "\u0301\u0302",
    "\ufeffbom",
    "a\u00adb",
]

_PEOPLE = ["小明", "李老师", "我的朋友", "王医生", "Anna", "The driver"]
_PLACES = ["北京", "图书馆", "火车站", "公园里", "Shanghai", "the old harbour"]
_ACTS = ["昨天去了", "明天要去", "很喜欢", "不想离开", "travelled slowly to", "will never forget"]
_ENDS = ["，因为那里很安静。", "，买了3.5公斤苹果！", "(and came back).", ", 2024年5月。", "……哈哈哈哈", ""]
# What the small models of the fixtures are trained on.
SENTENCES = [
    f"{person}{' ' * act.isascii()}{act} {place}{end}"
    for row, person in enumerate(_PEOPLE)
    for column, act in enumerate(_ACTS)
    for place, end in [(_PLACES[(row + column) % 6], _ENDS[(row * 2 + column) % 6])]
] + [
    "def add(a, b):",
    "    return a + b  # the sum of both",
    "今天天气不错，我们一起去爬山吧。",
    "机器学习让计算机从数据中学习，不需要写出每一条规则。",
    "She sells sea shells by the sea shore; the shells she sells are surely sea shells.",
    "un unable unableness ableness token tokens tokenizer tokenizers",
]


def small_vocabulary():
    """Special tokens, every printable ASCII sign with and without mark, some words, ideographs and other scripts."""
    letters = list(string.printable.strip())
    others = list(_IDEOGRAPHS + _SIGNS + _JAMO)
    marked = ["##" + sign for sign in letters + others]
    return list(dict.fromkeys(SPECIAL + letters + _WORDS + others + marked))


def is_old(char):
    """Whether the class is the same since Unicode 3.2: there all tables agree (the Rust library's are of version 8)."""
    old = unicodedata.ucd_3_2_0.category(char)
    return old not in ("Cn", "Cs") and old == unicodedata.category(char)


old_characters = st.characters(exclude_categories=["Cs", "Cn"]).filter(is_old)
_covered = "".join(dict.fromkeys("".join(small_vocabulary()).replace("##", "")))
vocabulary_characters = st.sampled_from(_covered + "   \t\u3000\x00\u0301")
mixed_texts = st.text(st.one_of(vocabulary_characters, vocabulary_characters, old_characters), max_size=40)

DATA_SETS = {
    "clue-tnews": ["train.json.gz", "dev.json.gz", "test_public.json.gz"],
    "clue-afqmc": ["train.tsv.gz", "dev.tsv.gz", "test.tsv.gz"],
    "weibo-ner": ["train.conll.gz", "dev.conll.gz", "test.conll.gz"],
    "qbqtc": ["train_v0.json.gz", "dev.json.gz", "test_public.json.gz"],
    "bdci-car-2018": ["train.csv.gz"],
    "webnlg-casrel": ["train_triples.json.gz", "dev_triples.json.gz"],
    "ted-en-zh": ["all.tsv.gz"],
    "online-shopping-10-cats": ["all.csv.xz"],
}


def read_texts(shared, data_set):
    """Every text of a data set, in file order."""
    for name in DATA_SETS[data_set]:
        path = shared / "data" / data_set / name
        opener = lzma.open if name.endswith(".xz") else gzip.open
        with opener(path, "rt", encoding="utf-8", newline="") as file:
            yield from _texts(file, name.split(".")[1])


def _texts(file, form):
    if form == "conll":
        sentence = []
        for line in file:
            if line.strip():
                sentence.append(line[0])  # the character, before its position in the word
            elif sentence:
                yield "".join(sentence)
                sentence = []
    elif form == "json":
        body = file.read()
        rows = json.loads(body) if body.lstrip().startswith("[") else map(json.loads, body.strip().split("\n"))
        for row in rows:
            yield from (value for value in row.values() if isinstance(value, str))
    else:
        tabs = {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
        for row in csv.reader(file, **(tabs if form == "tsv" else {})):
            yield from row
