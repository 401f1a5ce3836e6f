"""A classification problem that one small layer can learn, and encoders that are built in a blink."""

from qingformer.models import Backbone, BackboneConfig
from qingformer.tasks import TextClassifier
from qingformer.tasks.seeded import SeededNormal
from qingformer.tokenization import Tokenizer

CHARACTERS = "天气晴雨歌曲唱听饭菜吃喝我想要一二三四五"
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *CHARACTERS]
WORDS = {"weather": "天气晴雨", "music": "歌曲唱听", "food": "饭菜吃喝"}


def rows(count=96, start=0):
    """Every third row a label in turn; two of four telling characters, and others that tell nothing."""
    made = []
    for number in range(start, start + count):
        label = list(WORDS)[number % 3]
        word = WORDS[label]
        filler = "我想要一二三四五"[number % 8] + "我想要一二三四五"[(number // 8) % 8]
        filler = filler[: (number // 3) % 3]
        made.append((filler + word[(number // 3) % 4] + word[(number // 12) % 4], label))
    return made


def tokenizer():
    return Tokenizer.from_vocabulary(VOCABULARY)


def backbone(seed=0, **changes):
    config = BackboneConfig(
        **{
            "vocab_size": len(VOCABULARY),
            "hidden_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 32,
            "hidden_dropout_prob": 0.0,
            "attention_probs_dropout_prob": 0.0,
        }
        | changes
    )
    return Backbone(config, initializer=SeededNormal(0.3, seed))


def classifier(seed=0, max_length=16, **options):
    return TextClassifier(backbone(seed), tokenizer(), max_length=max_length, seed=seed, **options)


FIT = {"epochs": 10, "batch_size": 16, "learning_rate": 1e-2, "verbose": 0}
