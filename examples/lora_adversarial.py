"""Fine-tune with LoRA and adversarial training: one object for each trick.

    python examples/lora_adversarial.py

An encoder learns five intents of the bundled sample in full. The other five are then learnt by adapters of rank 8
alone, under adversarial training: one body, a small file for each further task.
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import qingformer as qf

SAMPLES = Path(__file__).resolve().parent.parent / "samples"

# Data: two tasks made from one sample.
rows = {
    part: [json.loads(line) for line in (SAMPLES / "intents" / f"{part}.jsonl").read_text("utf-8").splitlines()]
    for part in ("train", "test")
}
labels = sorted({row["label"] for row in rows["train"]})
first, second = (
    {part: [row for row in all_rows if row["label"] in chosen] for part, all_rows in rows.items()}
    for chosen in (labels[:5], labels[5:])
)

# Load and fit in full: the body that both tasks share.
base = qf.TextClassifier.from_scratch("tiny", SAMPLES / "vocab.txt", max_length=48)
base.fit(first["train"], epochs=2, verbose=0)
print(f"first task, all weights: accuracy {base.evaluate(first['test']).accuracy:.3f}")

# A new classifier on the same body; adapters on all its linear layers, everything else in it frozen.
classifier = qf.TextClassifier(base.backbone, base.tokenizer, labels[5:], max_length=48)
classifier.backbone.enable_lora(8, alpha=16, targets="all-linear")

# Fit: FGM adds the gradient of each text's embeddings, at 5 % of their length, to the input of a second pass. The token
# table itself is frozen here, so `norm="sample"` perturbs what was looked up in it.
classifier.fit(
    second["train"],
    epochs=4,
    learning_rate=2e-3,
    transforms=[qf.FGM(relative=0.05, norm="sample"), qf.ClipGradients(1.0)],
    verbose=0,
)
trained = sum(weight.numpy().size for weight in classifier.model.trainable_variables)
print(f"second task, adapters and output layer: accuracy {classifier.evaluate(second['test']).accuracy:.3f}")

# Save the adapters alone, then merge them: predictions stay and cost nothing more.
with TemporaryDirectory() as folder:
    classifier.save_adapters(folder)
    size = sum(path.stat().st_size for path in Path(folder).iterdir())
    print(f"adapters: {trained:,} of {classifier.model.count_params():,} weights, {size / 1000:.0f} kB")
classifier.backbone.merge_lora()
for prediction in classifier.predict(["从这里到火车站怎么走最快", "明早七点叫我起床"]):
    print(prediction.label, round(prediction.probability, 2))
