"""Split Chinese text into words: tagging with B, M, E and S, one tag for each character.

python examples/segment_words.py
"""

import random

import qingformer as qf

# Data: words between spaces, as the files of the SIGHAN bake-off have them (`read_tagging(path, "words")` reads those).
SUBJECTS = "我 我们 老师 小明 工程师 图书馆 妈妈".split()
TIMES = "今天 明天 刚才 上星期 现在".split()
VERBS = "喜欢 打算 开始 继续 不想".split()
ACTIONS = "看 电影|学习 汉语|写 报告|打扫 房间|讨论 自然 语言 处理|去 火车站".split("|")


def sentence(draw: random.Random) -> list[str]:
    """The words of one sentence."""
    words = [draw.choice(TIMES), draw.choice(SUBJECTS)] if draw.random() < 0.7 else [draw.choice(SUBJECTS)]
    return [*words, draw.choice(VERBS), *draw.choice(ACTIONS).split()]


def spans(words: list[str]) -> tuple[str, list[tuple[int, int, str]]]:
    """The text and where its words stand: the form in which the tagger takes data from Python."""
    found, end = [], 0
    for word in words:
        found.append((end, end + len(word), "word"))
        end += len(word)
    return "".join(words), found


draw = random.Random(0)
rows = [spans(sentence(draw)) for _ in range(500)]
train, dev = rows[:400], rows[400:]

# Load: with "word" as the only label, every character belongs to a word and there is no tag O.
segmenter = qf.SequenceTagger.from_scratch("tiny", labels=["word"], scheme="bmes", max_length=32)

# Fit: the transitions between tags learn a hundred times as fast as the encoder (`lr_multiplier`).
segmenter.fit(train, validation_data=dev, epochs=4, batch_size=16, verbose=0)
report = segmenter.evaluate(dev)
print(f"words: precision {report.precision:.3f}, recall {report.recall:.3f}, F1 {report.f1:.3f}")

# Predict.
for tagging in segmenter.predict(["上星期工程师开始讨论自然语言处理", "我们打算去火车站"]):
    print(" / ".join(tagging.words))
