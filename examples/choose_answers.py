"""Choose one of several answers to a question about a dialogue.

python examples/choose_answers.py
"""

import random

import qingformer as qf

CUES = {  # what is said, and what it implies
    "外面下雨了": "带伞",
    "肚子好饿": "吃饭",
    "困得睁不开眼": "睡觉",
    "手机没电了": "充电",
}
OPENINGS = ("", "唉，", "你看，", "真是的，")


def row(draw: random.Random) -> dict[str, object]:
    """A question with three choices in random order; the answer is the text of one, its number or its letter."""
    cue = draw.choice(list(CUES))
    wrong = draw.sample([action for action in CUES.values() if action != CUES[cue]], 2)
    choices = draw.sample([CUES[cue], *wrong], 3)
    context = f"男：{draw.choice(OPENINGS)}{cue}。"
    return {"context": context, "question": "男的要做什么？", "choices": choices, "answer": CUES[cue]}


# Data: files of C3 and ChID, and rows with columns A, B, C, D, are read from their path in the same way.
draw = random.Random(0)
rows = [row(draw) for _ in range(700)]
train, dev = rows[:600], rows[600:]

# Load: each choice is read together with context and question; softmax over the choices gives the probabilities.
chooser = qf.MultipleChoice.from_scratch("tiny", max_length=32)

# Fit: `batch_size` counts questions; each has a row for each of its choices.
chooser.fit(train, validation_data=dev, epochs=8, batch_size=8, verbose=0)
print(f"accuracy {chooser.evaluate(dev).accuracy:.3f}; guessing gives 0.333")

# Predict.
question = {"context": "男：唉，手机没电了。", "question": "男的要做什么？", "choices": ["睡觉", "充电"]}
(choice,) = chooser.predict([question])
print(choice.number, choice.text, [round(float(p), 2) for p in choice.probabilities])
