"""Cures for exposure bias: a small UniLM trained plainly, with replaced and with noisy decoder inputs.

    python -m experiments.exposure_bias [--train PAIRS --test PAIRS] [--seeds 3]

PAIRS are tables without a header whose last two columns are source and target, such as the classical and modern
sentences of classical-modern. Without files the model learns to write the bundled texts backwards. The loss is measured
on the right words so far (teacher forcing), the other numbers on what the model writes by itself, word after word:
ROUGE-1 (characters in common) and ROUGE-L (longest common subsequence), as F1.
"""

from collections import Counter

import keras
import numpy as np

import qingformer as qf
from experiments.common import arguments, compare, read
from qingformer.data import read_rows
from qingformer.objectives import EmbeddingNoise, RandomReplacement

PAD, UNKNOWN, START, END = range(4)


def options():
    """The command line."""
    parser = arguments(__doc__.splitlines()[0], epochs=12, train_size=3000)
    parser.add_argument("--test-size", type=int, default=300)
    parser.add_argument("--source-length", type=int, default=8, help="longest source in characters, of those used")
    parser.add_argument("--target-length", type=int, default=12, help="longest target")
    parser.add_argument("--noise", type=float, default=0.3, help="of the embeddings, relative to their size")
    return parser.parse_args()


def pairs(path, given, size):
    """The first pairs of a file that are short enough."""
    if path.endswith(".jsonl"):
        found = ((row["text"], row["text"][::-1]) for row in read(path))
    else:
        rows = (list(row.values.values()) for row in read_rows(path, header=False, quoting=False))
        found = ((str(row[-2]).strip(), str(row[-1]).strip()) for row in rows)
    kept = []
    for source, target in found:
        if 2 < len(source) <= given.source_length and 0 < len(target) <= given.target_length:
            kept.append((source, target))
        if len(kept) == size:
            break
    return kept


def encode(rows, ids, given):
    """[start] source [end] target [end], padded: token, segment and mask arrays."""
    length = given.source_length + given.target_length + 3
    tokens, segments = (np.zeros((len(rows), length), "int32") for _ in range(2))
    for place, (source, target) in enumerate(rows):
        first = [START, *(ids.get(c, UNKNOWN) for c in source), END]
        second = [*(ids.get(c, UNKNOWN) for c in target), END]
        tokens[place, : len(first) + len(second)] = first + second
        segments[place, len(first) : len(first) + len(second)] = 1
    return {"token_ids": tokens, "segment_ids": segments, "padding_mask": (tokens > 0).astype("int32")}


def following(x):
    """Labels and weights: every position says the next token, where that is of the target."""
    shifted = {name: np.concatenate([x[name][:, 1:], 0 * x[name][:, :1]], axis=1) for name in x}
    return shifted["token_ids"], shifted["segment_ids"].astype("float32")


def write(model, rows, ids, given):
    """Greedy decoding without a cache: the whole text once for each new token."""
    x = encode([(source, "") for source, _ in rows], ids, given)
    every, ends = np.arange(len(rows)), (x["segment_ids"] == 1).argmax(axis=1)  # the token of an empty target
    x["segment_ids"][every, ends] = x["padding_mask"][every, ends] = 0
    x["token_ids"][every, ends] = PAD
    for step in range(given.target_length + 1):
        at = ends + step
        logits = model.predict(x, batch_size=len(rows), verbose=0)
        token = logits[every, at - 1].argmax(axis=-1)
        x["token_ids"][every, at], x["segment_ids"][every, at], x["padding_mask"][every, at] = token, 1, 1
    characters = {number: character for character, number in ids.items()}
    texts = []
    for row, end in zip(x["token_ids"], ends):
        written = row[end : end + given.target_length + 1].tolist()
        written = written[: written.index(END)] if END in written else written
        texts.append("".join(characters.get(token, "?") for token in written))
    return texts


def rouge(written, target):
    """ROUGE-1 and ROUGE-L of two texts by characters, F1."""
    common = sum((Counter(written) & Counter(target)).values())
    lengths = np.zeros((len(written) + 1, len(target) + 1), int)
    for i, a in enumerate(written):
        for j, b in enumerate(target):
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if a == b else max(lengths[i, j + 1], lengths[i + 1, j])
    return 2 * np.array([common, lengths[-1, -1]]) / max(len(written) + len(target), 1)


def main():
    """Train with every method and seed, and print the table."""
    given = options()
    train, test = (pairs(p, given, n) for p, n in ((given.train, given.train_size), (given.test, given.test_size)))
    counts = Counter(character for pair in train for text in pair for character in text)
    ids = {character: number for number, (character, _) in enumerate(counts.most_common(1000), start=END + 1)}
    x, held_out = encode(train, ids, given), encode(test, ids, given)
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 256}
    sizes |= {"vocab_size": len(ids) + END + 1, "max_position_embeddings": x["token_ids"].shape[1], "pooler": False}

    def run(seed, transforms):
        """Held-out loss with the right words before, and scores of what the model writes."""
        keras.utils.set_random_seed(seed)
        model = qf.TrainableModel.from_model(qf.CausalLM({**sizes, "application": "unilm"}))
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
        schedule = qf.optimizers.warmup_linear(2e-3, total_steps=given.epochs * -(-len(train) // 64))
        model.compile(qf.optimizers.adamw(schedule), loss, transforms=transforms)
        labels, weights = following(x)
        model.fit(x, labels, batch_size=64, epochs=given.epochs, sample_weight=weights, verbose=0)
        labels, weights = following(held_out)
        found = model.evaluate(held_out, labels, batch_size=len(test), sample_weight=weights, verbose=0)
        scores = [rouge(text, target) for text, (_, target) in zip(write(model, test, ids, given), test)]
        return dict(zip(("loss", "ROUGE-1", "ROUGE-L"), (found, *np.mean(scores, axis=0))))

    methods = {
        "plain": lambda seed: run(seed, []),
        "RandomReplacement(0.5, 0.3)": lambda seed: run(seed, [RandomReplacement(0.5, 0.3)]),
        f"EmbeddingNoise({given.noise:g})": lambda seed: run(seed, [EmbeddingNoise(given.noise)]),
    }
    compare(f"{len(train)} pairs, {len(test)} held out", methods, given.seeds, given.output)


if __name__ == "__main__":
    main()
