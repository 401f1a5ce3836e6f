"""Answer questions with a part of a text, or say that the text has no answer.

python examples/answer_questions.py
"""

import random

import qingformer as qf

NAMES = "方亮 沈月 秦川 姜禾 卢森".split()
TOWNS = "扬州 洛阳 厦门 桂林 银川".split()
JOBS = "医生 画家 记者 木匠 教师".split()


def row(draw: random.Random) -> tuple[str, str, str | list[str]]:
    """(context, question, answer); an empty list of answers means that the text does not say."""
    name, town, job, year = draw.choice(NAMES), draw.choice(TOWNS), draw.choice(JOBS), str(draw.randint(1900, 1999))
    context = f"{name}{year}年生于{town}，后来成为一名{job}。"
    return draw.choice(
        (
            (context, "什么时候出生？", f"{year}年"),
            (context, "在哪里出生？", town),
            (context, "做什么工作？", job),
            (context, "喜欢吃什么？", []),
        )
    )


# Data: files of SQuAD and CMRC 2018 are read from their path in the same way.
draw = random.Random(0)
rows = [row(draw) for _ in range(900)]
train, dev = rows[:800], rows[800:]

# Load: texts longer than `max_length` tokens are read in windows that share `stride` tokens.
reader = qf.ReadingComprehension.from_scratch("tiny", max_length=48, stride=8)

# Fit: whether questions may have no answer is found in the training data.
reader.fit(train, validation_data=dev, epochs=6, batch_size=16, verbose=0)
print(reader.evaluate(dev).format_table())

# Predict: the best answers of each question with their place in the text and their probability.
context = "姜禾1987年生于厦门，后来成为一名画家。"
questions = [(context, "在哪里出生？"), (context, "做什么工作？"), (context, "喜欢吃什么？")]
for reading in reader.predict(questions, n_best=2):
    print(reading.question, repr(reading.answer))
    for answer in reading.answers:
        print(f"  {answer.probability:.2f}\t{answer.start}-{answer.end}\t{answer.text!r}")
