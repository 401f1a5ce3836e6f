"""Taggers turn spans into labels and back without loss, learn, repeat, resume, and refuse what does not fit."""

from itertools import pairwise

import keras
import numpy as np
import pytest

from qingformer.data.schemes import TagScheme, may_follow, split_tag
from qingformer.data.spans import Span, longest_disjoint
from qingformer.errors import CheckpointError, ConfigError, DataError
from qingformer.objectives import FGM, RDrop
from qingformer.tasks import SequenceTagger, load
from qingformer.tasks.networks import POINTERS
from qingformer.tasks.tagging import tagger_decoding
from qingformer.tasks.tagging.tagged_texts import Entity, Tagging, read_tagged
from qingformer.tasks.tagging.tagger import HEADS
from qingformer.tasks.tagging.tagger_decoding import chain_spans, pointer_spans
from qingformer.tasks.tagging.tagger_networks import CHAINS
from qingformer.tokenization import Tokenizer
from qingformer.training import TrainingInterrupted
from tests.tasks.helpers import backbone

FILLER = "我想在去看要和说"
NAMES = {"北京": "LOC", "上海": "LOC", "王五": "PER", "李四": "PER", "赵": "PER"}
WORDPIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *FILLER, *"".join(NAMES), "##cd", "ab"]
FIT = {"epochs": 10, "batch_size": 16, "learning_rate": 1e-2, "verbose": 0}
LATER = [pytest.param(head, marks=() if head == "crf" else pytest.mark.slow) for head in HEADS]


def tokenizer():
    return Tokenizer.from_vocabulary(WORDPIECES, lowercase=True)


def tagger(seed=0, max_length=16, stride=4, **options):
    size = {"vocab_size": len(WORDPIECES), "max_position_embeddings": 16}
    options = {"dropout": 0.0, "max_length": max_length, "stride": stride, "seed": seed} | options
    return SequenceTagger(backbone(seed, **size), tokenizer(), **options)


def sentence(number, names=2):
    """A text with names between fillers, and their spans."""
    random = np.random.default_rng(number)
    text, spans = "", []
    for _ in range(names):
        text += "".join(random.choice(list(FILLER), random.integers(1, 4)))
        name = str(random.choice(list(NAMES)))
        spans.append(Span(len(text), len(text) + len(name), NAMES[name]))
        text += name
    return text, spans


ROWS = [sentence(number, 1 + number % 2) for number in range(96)]
HELD_OUT = [sentence(1000 + number) for number in range(30)]


@pytest.fixture(scope="module")
def trained():
    made = tagger()
    made.fit(ROWS, HELD_OUT, **FIT)
    return made


def gold(made, rows):
    """What the labels of the batches say about the texts, read back as perfect scores of the windows."""
    made.prepare(read_tagged(rows, "rows", True))
    examples = read_tagged(rows, "rows", True)
    pieces, windows = made._cut_up([text for text, _ in rows])
    batches = made.training_batches(examples, 4, 0)
    lengths, heard = [len(each.ids) for each in pieces], []

    def outputs():
        for order, (_, labels, _) in zip(batches.order(), batches):
            if made.head in CHAINS:
                scores = 9.0 * (labels[..., None] == np.arange(len(made._tags.tags))).astype("float32")
            else:
                width = max(16, labels.max() + 1)
                scores = np.full((*labels.shape[:2], width, width), -1.0)
                scores[..., 0, :] = scores[..., :, 0] = scores[..., ::-1, :][..., 0, :] = (
                    1.0  # special tokens: no spans
                )
                for row, kind, pair in np.argwhere(labels[..., 0] >= 0):
                    scores[(row, kind, *labels[row, kind, pair])] = 1.0
            yield order, scores

    if made.head in POINTERS:
        spans = pointer_spans(outputs(), windows, made.labels, lengths, heard.extend)
    else:
        allowed = made._tags.allowed()
        spans = chain_spans(outputs(), windows, made._chain, made._tags, allowed, lengths, heard.extend)
    assert sorted(heard) == list(range(len(windows)))
    return [
        [Span(*each.characters_of(start, end - 1), label) for start, end, label in found]
        for each, found in zip(pieces, spans)
    ], windows


@pytest.mark.parametrize(
    ("head", "scheme"), [("softmax", "bio"), ("softmax", "bioes"), ("softmax", "bmes"), ("global_pointer", "bio")]
)
def test_gold_spans_there_and_back(head, scheme):
    rows = [
        ("我", []),
        ("王五李四", [Span(0, 2, "PER"), Span(2, 4, "PER")]),
        ("去 abcd，上海", [Span(2, 6, "ORG"), Span(7, 9, "LOC")]),
        *[sentence(number, names) for number, names in enumerate([1, 9, 3, 20, 2], 50)],  # two of them in windows
    ]
    found, windows = gold(tagger(head=head, scheme=scheme, labels=["PER", "LOC", "ORG"], stride=6), rows)
    assert len(windows) > len(rows)
    assert found == [sorted(spans) for _, spans in rows]


NESTED = [
    ("我在北京上海", [Span(2, 4, "LOC"), Span(2, 6, "LOC"), Span(4, 6, "LOC"), Span(2, 6, "PER")]),
    ("王五李四赵", [Span(0, 3, "PER"), Span(2, 5, "PER"), Span(4, 5, "LOC")]),
]


def test_pointers_keep_nested_and_overlapping_spans():
    made = tagger(head="efficient_global_pointer", labels=["LOC", "PER"])
    found, _ = gold(made, NESTED)
    assert found == [sorted(spans) for _, spans in NESTED]
    assert made.cut == {}


def test_tags_keep_the_longest_and_say_so():
    made = tagger(head="softmax", labels=["LOC", "PER"])
    found, _ = gold(made, NESTED)
    assert found == [[Span(2, 6, "LOC")], [Span(0, 3, "PER"), Span(4, 5, "LOC")]]
    assert found == [longest_disjoint(spans)[0] for _, spans in NESTED]
    (note,) = made.cut.values()
    assert "rows, item 1: the LOC '北京' overlaps a longer one" in note
    assert "4 of 7 spans" in note


@pytest.mark.parametrize("head", LATER)
def test_it_learns_what_can_be_learnt(head, request):
    if head == "crf":
        made = request.getfixturevalue("trained")
    else:
        made = tagger(head=head)
        made.fit(ROWS, **FIT | {"epochs": 20})
    report = made.evaluate(HELD_OUT)
    assert report.f1 == 1.0
    assert made.labels == ["LOC", "PER"]
    assert made.cut == {}


def test_entities_carry_their_text(trained):
    (found,) = trained.predict(["我 去 北京 看王五"])
    assert found.entities == (Entity(4, 6, "LOC", "北京"), Entity(8, 10, "PER", "王五"))
    assert found.spans == (Span(4, 6, "LOC"), Span(8, 10, "PER"))
    assert trained.predict([]) == []
    assert trained.predict(["\u200b"])[0].entities == ()
    with pytest.raises(DataError, match=r"takes a list of texts"):
        trained.predict("北京")


def test_neither_batch_nor_order_matters(trained):
    texts = [text for text, _ in HELD_OUT] + [sentence(7, 12)[0], "", "我"][::2]
    whole = trained.predict(texts)
    assert [each.text for each in whole] == texts
    assert trained.predict(texts[::-1], batch_size=3) == whole[::-1]
    assert [trained.predict([text])[0] for text in texts[-3:]] == whole[-3:]


def test_progress_counts_every_text_once(trained):
    heard = []
    trained.predict(["去北京", "\u200b", sentence(7, 12)[0], "我"] * 3, batch_size=2, done=heard.append)
    assert sum(heard) == 12


def test_long_texts_are_read_in_windows(trained):
    rows = [sentence(number, 12) for number in range(8)]
    assert all(len(text) > 2 * 16 for text, _ in rows)
    assert trained.evaluate(rows).f1 > 0.9  # backends differ in what the toy learns


@pytest.mark.parametrize("scheme", ["bio", "bioes", "bmes"])
def test_only_possible_tags_come_out(scheme):
    """The scores ask for what the scheme forbids: to begin with an inside, to change the label inside."""
    made = tagger(head="softmax", scheme=scheme, labels=["LOC", "PER"])
    tags, random = made._tags, np.random.default_rng(0)
    _, windows = made._cut_up(["我想在去看要和说" * 3] * 6)
    scores = [random.normal(size=(16, len(tags.tags))).astype("float32") for _ in windows]
    inside = tags.tags.index("M-PER" if scheme == "bmes" else "I-PER")
    for each in scores:
        each[::2, inside] += 20.0
    decoded, decode = [], TagScheme.decode

    def listen(self, numbers):
        decoded.append([self.tags[number] for number in numbers])
        return decode(self, numbers)

    def run(allowed):
        decoded.clear()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(TagScheme, "decode", listen)
            outputs = ((np.array([number]), each[None]) for number, each in enumerate(scores))
            chain_spans(outputs, windows, made._chain, tags, allowed, [24] * 6, lambda numbers: None)
        return [
            [split_tag(tag) for tag in ("O", *row, "O")]  # both borders are O
            for row in decoded
        ]

    def legal(rows):
        return all(may_follow(before, after, scheme) for row in rows for before, after in pairwise(row))

    assert legal(run(tags.allowed()))
    assert not legal(run(None)), "without constraints it does as the scores ask"


def test_constraints_are_those_of_the_setting(trained, monkeypatch):
    seen = []
    decode = type(trained._chain).decode
    monkeypatch.setattr(
        type(trained._chain), "decode", lambda self, e, m, allowed: seen.append(allowed) or decode(self, e, m, allowed)
    )
    trained.predict(["去北京"])
    monkeypatch.setattr(trained, "constrained", False)
    trained.predict(["去北京"])
    assert [each is None for each in seen] == [False, True]


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, SequenceTagger)
    for name in SequenceTagger.settings_types:
        assert getattr(again, name) == getattr(trained, name)
    texts = [text for text, _ in HELD_OUT]
    assert again.predict(texts) == trained.predict(texts)
    transitions = [keras.ops.convert_to_numpy(made._chain.transition_scores()) for made in (trained, again)]
    np.testing.assert_array_equal(*transitions)


def test_whole_numbers_among_the_settings_can_be_loaded(tmp_path):
    made = SequenceTagger(
        backbone(vocab_size=len(WORDPIECES)), tokenizer(), ["LOC"], max_length=16, dropout=0, lr_multiplier=10
    )
    made.save(tmp_path / "model")
    assert load(tmp_path / "model").dropout == 0.0


def test_a_run_that_was_stopped_goes_on_exactly(tmp_path):
    options = FIT | {"epochs": 3, "save_every": 2}
    whole = tagger().fit(ROWS, HELD_OUT, directory=tmp_path / "whole", **options)

    class Stop(keras.callbacks.Callback):
        seen = 0

        def on_train_batch_begin(self, batch, logs=None):
            self.seen += 1
            if self.seen == 11:
                raise TrainingInterrupted("test")

    with pytest.raises(TrainingInterrupted):
        tagger().fit(ROWS, HELD_OUT, directory=tmp_path / "cut", callbacks=[Stop()], **options)
    resumed = tagger().fit(ROWS, HELD_OUT, directory=tmp_path / "cut", resume=True, **options)
    assert resumed.keys() == whole.keys() == {"loss", "val_precision", "val_recall", "val_f1"}
    for key, values in whole.items():
        np.testing.assert_allclose(resumed[key], values, rtol=1e-5, atol=1e-6)
    texts = [text for text, _ in HELD_OUT]
    assert load(tmp_path / "whole" / "best").predict(texts) == load(tmp_path / "cut" / "best").predict(texts)


def test_unknown_labels_are_noted_with_their_line_where_they_are_held_out(trained, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(
        '{"text": "去北京", "spans": [[1, 3, "LOC"]]}\n\n{"text": "李四", "spans": [[0, 2, "ORG"]]}\n', encoding="utf-8"
    )
    assert trained.evaluate(path).per_label["ORG"].support == 1
    assert any("dev.jsonl, line 3: label 'ORG' is not in the training data" in note for note in trained.cut.values())
    tagger().check_data(ROWS, path)
    with pytest.raises(DataError, match="training data, item 2: label 'ORG'"):
        tagger(labels=["LOC", "PER"]).fit([ROWS[0], ("李四", [(0, 2, "ORG")])], verbose=0)


BORDERS = {
    "a space on either side": ("王五 看 北京 去", [(0, 3, "PER"), (4, 8, "LOC")]),
    "invisible characters inside the borders": ("\ufeff王五\u200b看北京\ufe0f去", [(0, 4, "PER"), (5, 8, "LOC")]),
    "invisible characters outside the borders": (
        "\ufeff王五\u200b看\u2060北京\ufe0f去",
        [(1, 3, "PER"), (6, 8, "LOC")],
    ),
    "joiners, soft hyphens, control characters": ("王五\u200d看\u00ad北京\x07去", [(0, 2, "PER"), (5, 7, "LOC")]),
}


@pytest.mark.parametrize("row", BORDERS.values(), ids=list(BORDERS))
@pytest.mark.parametrize("head", ["softmax", "global_pointer"])
def test_blank_characters_at_a_border_are_no_part_of_a_name(head, row):
    made = tagger(head=head, labels=["PER", "LOC"])
    (found,), _ = gold(made, [row])
    assert [(row[0][start:end], label) for start, end, label in found] == [("王五", "PER"), ("北京", "LOC")]
    assert made.cut == {}


@pytest.mark.parametrize("blank", ["\u200b", "\ufe0f", " ", "\u00ad"])
def test_blank_characters_change_no_score(trained, blank):
    rows = []
    for text, spans in HELD_OUT:
        borders = {place for span in spans for place in span[:2]}
        odd = "".join(blank * (place in borders) + character for place, character in enumerate(text)) + blank
        moved = [sum(place <= border for place in sorted(borders)) for border in range(len(text) + 1)]
        rows.append((odd, [(s + moved[s] - 1, e + moved[e], label) for s, e, label in spans]))  # with the blanks
    assert all(odd[span[0]] == odd[span[1] - 1] == blank for odd, spans in rows for span in spans)
    assert trained.evaluate(rows).f1 == 1.0
    assert {each.text for found in trained.predict([odd for odd, _ in rows]) for each in found.entities} <= set(NAMES)


def test_one_long_text_is_decoded_alone(trained, monkeypatch):
    shapes, text = [], "我在北京看王五" * 500
    monkeypatch.setattr(tagger_decoding, "STEPS", 4096)
    decode = type(trained._chain).decode
    monkeypatch.setattr(
        type(trained._chain),
        "decode",
        lambda self, e, m, allowed: shapes.append(e.shape) or decode(self, e, m, allowed),
    )
    long, short = trained.predict([text, "去北京"])
    assert [shape[:2] for shape in shapes] == [(64, 16), (1, 4096)], "no rows of padding beside a long text"
    assert len(long.entities) > 900
    assert short.entities == (Entity(1, 3, "LOC", "北京"),)


def cut_of(rows, **options):
    made = tagger(labels=["LOC", "PER"], **options)
    made.cut = {"an earlier": "fit"}
    made.fit(rows, **FIT | {"epochs": 1, "batch_size": 4})
    return made


def test_notes_of_what_is_not_learnt():
    odd = [("去abcd", [(1, 3, "LOC"), (2, 5, "LOC")]), ("去ａｂＥ北京", [(1, 2, "PER"), (4, 6, "LOC")]), ROWS[0]]
    made = cut_of(odd, head="softmax")
    (note,) = made.cut.values()
    wanted = "training data, item 1: the LOC 'bcd' begins or ends within a token and is not learnt; 2 of 5 spans"
    assert note == wanted
    assert "an earlier" not in made.cut
    made.fit(ROWS[:4], **FIT | {"epochs": 1, "batch_size": 4})
    assert made.cut == {}


def test_notes_of_spans_too_long_for_windows():
    text = FILLER * 4
    rows = [ROWS[0], (text, [(0, 2, "LOC"), (3, 25, "PER"), (10, 24, "PER")]), ROWS[1]]
    made = tagger(labels=["LOC", "PER"], head="global_pointer")
    found, _ = gold(made, rows)
    (note,) = made.cut.values()
    assert note.startswith("rows, item 2: a PER of 22 tokens is longer than what two windows share")
    assert "; 1 such spans are not learnt" in note
    assert found[1] == [Span(0, 2, "LOC"), Span(10, 24, "PER")]


TEXTS = [
    "ＮＢＡ 2001年，我想看。",
    "Cafe\u0301 去",
    "a\u200bb \x00 看",
    "😀👨\u200d👩 Abcd's\t北京\u3000上海",
    "abcdX赵",
    "\u200b",
]
SEGMENTED = [
    ("我想去北京", [(0, 1), (1, 3), (3, 5)]),
    ("abcd北京", [(0, 3), (3, 4), (4, 6)]),
    ("我 abE想", [(0, 1), (2, 4)]),
]


@pytest.fixture(scope="module")
def segmenter():
    made = tagger(scheme="bmes", labels=["word"])
    rows = [(text, [(start, end, "word") for start, end in places]) for text, places in SEGMENTED]
    made.fit(rows * 8, **FIT)
    return made


def test_words_of_a_segmenter_make_up_the_text(segmenter):
    for text, found in zip(TEXTS, segmenter.predict(TEXTS)):
        assert "".join(found.words) == "".join(text.split())
        assert all(found.words)
    assert segmenter.predict(["我想去北京"])[0].words == ["我", "想去", "北京"]


def test_words_within_a_token_are_noted_and_the_rest_is_learnt(segmenter):
    (note,) = segmenter.cut.values()
    assert "training data, item 2: the word 'abc' begins or ends within a token" in note
    assert segmenter.predict(["abcd北京"])[0].words == ["abcd", "北京"]


def test_invisible_characters_are_no_words():
    text = "\ufeff今天\u200b真\ufe0f好 \u200b吗"
    found = Tagging(text, (Entity(1, 3, "word", "今天"), Entity(4, 5, "word", "真")))
    assert found.words == ["\ufeff今天\u200b", "真\ufe0f", "好", "\u200b吗"]


def test_words_are_cut_at_white_space():
    text = "今天 好\u3000吗\x1c啊"
    assert Tagging(text, (Entity(0, 4, "word", "今天 好"),)).words == ["今天", "好", "吗", "啊"]


@pytest.mark.slow
def test_half_precision_trains():
    made = SequenceTagger.from_scratch("tiny", WORDPIECES, max_length=16, stride=4, dtype="mixed_bfloat16")
    curve = made.fit(ROWS, **FIT | {"learning_rate": 1e-3})
    assert made.backbone.token_embedding.compute_dtype == "bfloat16"
    assert curve["loss"][-1] < 0.7 * curve["loss"][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("head", "transform"),
    [("crf", FGM(0.5)), ("crf", RDrop(4.0, "softmax")), ("global_pointer", RDrop(1.0, "sigmoid"))],
)
def test_transforms_of_the_objective_change_the_run_and_let_it_learn(head, transform):
    options = FIT | {"epochs": 3}
    plain = tagger(head=head, dropout=0.3).fit(ROWS, **options)["loss"]
    other = tagger(head=head, dropout=0.3).fit(ROWS, transforms=[transform], **options)["loss"]
    assert np.isfinite(other).all()
    assert abs(other[0] - plain[0]) > 1e-3
    assert other[-1] < other[0]


def test_adapters_hold_all_that_training_changed(tmp_path):
    made = tagger()
    made.backbone.enable_lora(2)
    made.fit(ROWS, **FIT)
    made.save_adapters(tmp_path / "adapters")
    texts = [text for text, _ in HELD_OUT]
    wanted = made.predict(texts)
    assert any(each.entities for each in wanted)
    again = tagger()
    assert again.load_adapters(tmp_path / "adapters")
    assert again.labels == made.labels
    assert again.predict(texts) == wanted
    made.save(tmp_path / "whole")
    assert load(tmp_path / "whole").predict(texts) == wanted
    with pytest.raises(CheckpointError, match=r"lr_multiplier 100\.0 where this task has 1\.0"):
        tagger(lr_multiplier=1.0).load_adapters(tmp_path / "adapters")
    with pytest.raises(CheckpointError, match="head crf where this task has softmax"):
        tagger(head="softmax").load_adapters(tmp_path / "adapters")


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: tagger(head="lstm"), ConfigError, "head is 'lstm'; choose one of crf, memm"),
        (lambda: tagger(scheme="bilou"), ConfigError, "scheme is 'bilou'; choose one of bio"),
        (lambda: tagger(labels="LOC"), ConfigError, "list of labels"),
        (lambda: tagger(labels=["a", "a"]), ConfigError, "'a' occurs twice"),
        (lambda: tagger(stride=14).fit(ROWS, verbose=0), ConfigError, "stride is 14; .* 0 to 13"),
        (lambda: tagger(max_length=99), ConfigError, "max_length is 99"),
        (lambda: tagger().predict(["我"]), ConfigError, "call fit"),
        (lambda: tagger().fit([("我", [])], verbose=0), DataError, "not a single span"),
        (lambda: tagger().fit(["我"], verbose=0), DataError, "training data, item 1: "),
        (lambda: tagger().fit([], verbose=0), DataError, "training data: "),
        (lambda: tagger().fit(ROWS, epoch=3, verbose=0), TypeError, "epoch"),
    ],
)
def test_arguments_that_cannot_be_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
