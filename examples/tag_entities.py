"""Find people and places in sentences with a conditional random field.

python examples/tag_entities.py
"""

import random

import qingformer as qf

PEOPLE = "王小明 李雷 韩梅梅 张伟 陈静 刘洋 赵敏 周杰".split()
PLACES = "北京 上海 成都 西安 广州 杭州 哈尔滨 乌鲁木齐".split()
TEMPLATES = (
    "{PER}昨天从{LOC}坐火车去了{LOC}",
    "{LOC}的天气比{LOC}好多了",
    "{PER}和{PER}在{LOC}开会",
    "请{PER}明天到{LOC}出差",
    "今天食堂的菜不错",
)


def fill(template: str, draw: random.Random) -> tuple[str, list[tuple[int, int, str]]]:
    """A sentence and its entities: (first character, one past the last, label)."""
    text, entities = "", []
    for part in template.replace("}", "{").split("{"):
        if part in ("PER", "LOC"):
            name = draw.choice(PEOPLE if part == "PER" else PLACES)
            entities.append((len(text), len(text) + len(name), part))
            text += name
        else:
            text += part
    return text, entities


# Data: what a file in BIO columns or JSON lines holds, made here. A path works in its place.
draw = random.Random(0)
rows = [fill(draw.choice(TEMPLATES), draw) for _ in range(600)]
train, dev = rows[:500], rows[500:]

# Load. Other heads: "memm", "softmax", and "global_pointer" for entities within entities.
tagger = qf.SequenceTagger.from_scratch("tiny", head="crf", scheme="bio", max_length=48)

# Fit: labels and vocabulary are read from the training data; the best epoch by F1 is kept.
tagger.fit(train, validation_data=dev, epochs=4, batch_size=16, verbose=0)
print(tagger.evaluate(dev).format_table())

# Predict: offsets count characters of the text as given.
for tagging in tagger.predict(["张伟和韩梅梅在乌鲁木齐开会", "西安的天气比成都好多了"]):
    print(tagging.text)
    for entity in tagging.entities:
        print(f"  {entity.label}\t{entity.start}-{entity.end}\t{entity.text}")
