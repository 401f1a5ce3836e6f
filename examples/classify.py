"""Classify short requests: train a small encoder on the bundled sample, score it, save it, predict.

    python examples/classify.py

With a pretrained model (`TextClassifier.from_pretrained("chinese_L-12_H-768_A-12")`) the rest stays as it is.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import qingformer as qf

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
INTENTS = SAMPLES / "intents"  # 5,000 requests to learn from, 700 to choose the epoch, 1,300 to score; 10 labels
REQUESTS = ["明天出门要不要带伞", "放一首适合睡前听的歌", "帮我把客厅的灯调暗一点", "这两天嗓子疼该怎么办"]

# Load: an encoder of two layers with random weights. The labels are read from the training data.
classifier = qf.TextClassifier.from_scratch("tiny", SAMPLES / "vocab.txt", max_length=48)

# Fit: `fit` keeps the epoch with the best accuracy on the validation data.
curve = classifier.fit(
    INTENTS / "train.jsonl",
    validation_data=INTENTS / "dev.jsonl",
    epochs=3,
    loss=qf.losses.LabelSmoothedCrossentropy(0.1),
    verbose=0,
)
print("accuracy on the validation data, epoch by epoch:", [round(value, 3) for value in curve["val_accuracy"]])

# Score: precision, recall and F1 of every label, and the means.
report = classifier.evaluate(INTENTS / "test.jsonl")
print(f"test: accuracy {report.accuracy:.3f}, macro F1 {report.macro.f1:.3f}")
weakest = min(report.per_label, key=lambda label: report.per_label[label].f1)
print(f"hardest label: {weakest}, F1 {report.per_label[weakest].f1:.3f}")

# Save, load, predict: the folder holds the encoder, the tokenizer, the labels and the classification layer.
with TemporaryDirectory() as folder:
    classifier.save(folder)
    for request, prediction in zip(REQUESTS, qf.load(folder).predict(REQUESTS)):
        print(f"{request}\t{prediction.label}\t{prediction.probability:.2f}")
