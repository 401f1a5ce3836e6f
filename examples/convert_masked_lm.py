"""Train a small masked language model, fill in blanks, and convert it: Hugging Face and TensorFlow, there and back.

python examples/convert_masked_lm.py
"""

import json
from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import numpy as np

import qingformer as qf
from qingformer.tasks import count_vocabulary

SAMPLES = Path(__file__).resolve().parent.parent / "samples"

# Data: the sentences of the sample as token ids (N, 20), 0 where a text has ended; characters are the tokens.
lines = (SAMPLES / "intents" / "train.jsonl").read_text("utf-8").splitlines()
texts = [json.loads(line)["text"] for line in lines]
tokenizer = qf.Tokenizer.from_vocabulary(count_vocabulary(texts), lowercase=True)
token_ids = np.zeros((len(texts), 20), "int32")
for row, encoding in zip(token_ids, tokenizer.encode_batch(texts, max_length=20)):
    row[: len(encoding.token_ids)] = encoding.token_ids

# One character in seven is replaced by [MASK] and has to be found again; -100 marks positions that do not count.
masked = np.random.default_rng(0).random(token_ids.shape) < 0.15
masked &= token_ids > max(map(tokenizer.token_to_id, ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")))
inputs = {
    "token_ids": np.where(masked, tokenizer.token_to_id("[MASK]"), token_ids),
    "padding_mask": (token_ids != tokenizer.pad_token_id).astype("int32"),
    "segment_ids": np.zeros_like(token_ids),
}
labels = np.where(masked, token_ids, -100)

# Load: a new BERT of two layers; `MaskedLM.from_pretrained(source)` gives a trained one.
config = qf.BackboneConfig(
    vocab_size=tokenizer.vocab_size, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=256
)
model = qf.MaskedLM(config)

# Fit: a `MaskedLM` is a Keras model.
model.compile(qf.optimizers.AdamW(2e-3), loss=qf.losses.SequenceCrossentropy(shift=0))
history = model.fit(inputs, labels, batch_size=32, epochs=8, verbose=0).history
print("loss of the masked characters:", [round(value, 2) for value in history["loss"]])


def fill(model: qf.MaskedLM, text: str) -> tuple[str, np.ndarray]:
    """The likeliest characters for the [MASK]s of a text, and all logits (1, T, V)."""
    ids = np.array([tokenizer.encode(text).token_ids])
    logits = keras.ops.convert_to_numpy(model({"token_ids": ids}))
    best = logits[0, ids[0] == tokenizer.token_to_id("[MASK]")].argmax(-1)
    return "".join(tokenizer.id_to_token(int(each)) for each in best), logits


# Predict, and convert: what has gone through another format gives the same numbers.
text = "明天会不会[MASK]雨"
answer, expected = fill(model, text)
print(text, "->", answer)
with TemporaryDirectory() as folder:
    for target in ("huggingface", "tensorflow", "qingformer"):
        model.save_pretrained(Path(folder, target), format=target, tokenizer=tokenizer)
        files = ", ".join(sorted(path.name for path in Path(folder, target).iterdir()))
        logits = fill(qf.MaskedLM.from_pretrained(Path(folder, target)), text)[1]
        print(f"{target}: {files}; largest difference {np.abs(logits - expected).max():.1g}")
