"""A CRF's transitions want a larger learning rate than the network below: a character tagger at several factors.

One Transformer block and a `ConditionalRandomField` tag the characters of named entities. At the network's own learning
rate the transitions hardly move; `LayerwiseLearningRate` gives them a rate of their own.

    python -m experiments.layerwise_learning_rate --train peoples-daily-ner/example.train.gz \
        --test peoples-daily-ner/example.test.gz

The files have one character and its tag a line (O, B-X, I-X), and an empty line between sentences.

Source: 科学空间, archives/7196.
"""

import gzip

import keras
import numpy as np

from experiments.common import arguments, compare
from qingformer.layers import ConditionalRandomField
from qingformer.models import Backbone, BackboneConfig
from qingformer.optimizers import LayerwiseLearningRate, adamw, layer_decay, warmup_linear
from qingformer.training import seed_everything

LENGTH, BATCH, RATE = 64, 16, 1e-3


def read_tagged(path, size):
    """The first `size` sentences as lists of (character, tag), cut to `LENGTH`."""
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as file:
        blocks = file.read().strip().split("\n\n")[:size]
    return [[tuple(line.split()) for line in block.split("\n") if len(line.split()) == 2][:LENGTH] for block in blocks]


def encode(sentences, characters, tags):
    """Arrays (n, LENGTH): token ids (0 = padding, 1 = unknown), tag ids, mask."""
    ids, gold = (np.zeros((len(sentences), LENGTH), "int32") for _ in range(2))
    for row, sentence in enumerate(sentences):
        ids[row, : len(sentence)] = [characters.get(character, 1) for character, _ in sentence]
        gold[row, : len(sentence)] = [tags.index(tag) if tag in tags else 0 for _, tag in sentence]
    return ids, gold, (ids > 0).astype("int32")


def entities(names):
    """The set of (type, start, end) in a list of tags; I-X without a beginning counts for nothing."""
    found, start = set(), None
    for at, name in enumerate([*names, "O"]):
        if start is not None and name != "I-" + names[start][2:]:
            found.add((names[start][2:], start, at))
            start = None
        if name.startswith("B-"):
            start = at
    return found


def train(seed, data, tags, size, epochs, factor, decay=None):
    """Train a tagger; returns scores on the test data and what became of the transitions."""
    (ids, gold, mask), (test_ids, test_gold, test_mask) = data
    seed_everything(seed)
    backbone = Backbone(
        BackboneConfig(
            vocab_size=size, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, intermediate_size=256,
            max_position_embeddings=LENGTH, type_vocab_size=0, pooler=False,
        ),
        initializer=keras.initializers.RandomNormal(stddev=0.1, seed=seed),
    )  # fmt: skip
    logits = keras.layers.Dense(len(tags), name="tags")(backbone(backbone.input)["sequence_output"])
    crf = ConditionalRandomField(name="crf")
    model = keras.Model(backbone.input, crf(logits))
    steps = epochs * -(-len(ids) // BATCH)
    factors = {"crf/transitions": factor} | (layer_decay(model, decay) if decay else {})
    model.compile(LayerwiseLearningRate(adamw(warmup_linear(RATE, steps), weight_decay=0.0), factors), crf.loss)
    inputs = {"token_ids": ids, "padding_mask": mask}
    model.fit(inputs, np.where(mask, gold, -1), batch_size=BATCH, epochs=epochs, verbose=0)
    predicted = model.predict({"token_ids": test_ids, "padding_mask": test_mask}, batch_size=128, verbose=0)
    paths, _ = crf.decode(predicted, test_mask)
    matrix = keras.ops.convert_to_numpy(crf.transition_scores())
    right = wrong = missed = hits = 0
    for row, length in enumerate(test_mask.sum(1)):
        path, true = paths[row, :length], test_gold[row, :length]
        ours, theirs = (entities([tags[tag] for tag in each]) for each in (path, true))
        right, wrong, missed = right + len(ours & theirs), wrong + len(ours - theirs), missed + len(theirs - ours)
        hits += int(np.sum(path == true))
    outside, begins = tags.index("O"), [tag for tag in tags if tag.startswith("B-")]
    gaps = [matrix[outside, tags.index(b)] - matrix[outside, tags.index("I-" + b[2:])] for b in begins]
    return {
        "entity F1": 2 * right / max(2 * right + wrong + missed, 1),
        "accuracy": hits / test_mask.sum(),
        "spread": matrix.std(),
        "O>B minus O>I": np.mean(gaps),  # O>I cannot be: the larger, the better this is known
    }


def main():
    parser = arguments(__doc__.splitlines()[0], epochs=4, train_size=2000)
    parser.add_argument("--test-size", type=int, default=1000, help="use only so many test rows")
    options = parser.parse_args()
    if options.train.endswith(".jsonl"):
        raise SystemExit("give --train and --test files with one character and its tag a line")
    sentences = read_tagged(options.train, options.train_size), read_tagged(options.test, options.test_size)
    known = sorted({character for sentence in sentences[0] for character, _ in sentence})
    characters = {character: number for number, character in enumerate(known, start=2)}
    tags = sorted({tag for sentence in sentences[0] for _, tag in sentence})
    data = tuple(encode(part, characters, tags) for part in sentences)

    def method(factor, decay=None):
        return lambda seed: train(seed, data, tags, len(known) + 2, options.epochs, factor, decay)

    methods = {f"transitions x {factor}": method(factor) for factor in (1, 10, 100, 1000)}
    methods["x 100, layer decay 0.5"] = method(100, 0.5)
    compare("Rate of the transitions", methods, options.seeds, options.output)


if __name__ == "__main__":
    main()
