"""Relation extractors turn triples into labels and back without loss, learn, repeat, and refuse what does not fit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qingformer.data.relations import RelationText, RelationTexts, Triple
from qingformer.errors import ConfigError, DataError
from qingformer.tasks import RelationExtractor, load
from qingformer.tasks.relations.cascade import CascadeBatches, spans_of
from qingformer.tasks.relations.gplinker import OUTPUTS, linked, untied
from qingformer.tasks.relations.relation_examples import TokenTriple, found_triples, moved, read_texts
from qingformer.tasks.relations.relation_extractor import DESIGNS
from qingformer.tokenization import Tokenizer
from tests.tasks.helpers import backbone

BOOKS, WRITERS, PLACES, FILLER = "甲乙丙", "子丑寅", "东南西北", "的是在和说去看"
RELATIONS = ["作者", "住在", "写于"]
WORDS = ["alice", "bob", "paris", "new", "york", "lives", "in", "##s", "'"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *BOOKS, *WRITERS, *PLACES, *FILLER, *"书人市,。", *WORDS]
FIT = {"epochs": 40, "batch_size": 16, "learning_rate": 1e-2, "verbose": 0}
LATER = [pytest.param(design, marks=() if design == "gplinker" else pytest.mark.slow) for design in DESIGNS]


def extractor(seed=0, max_length=16, stride=4, **options):
    size = {"vocab_size": len(VOCABULARY), "max_position_embeddings": 32}
    tokenizer = Tokenizer.from_vocabulary(VOCABULARY, lowercase=True)
    return RelationExtractor(
        backbone(seed, **size), tokenizer, max_length=max_length, stride=stride, seed=seed, dropout=0.0, **options
    )


def sentence(number):
    """A book, its writer, and where that one lives: three names of two signs, of which the second is the kind's."""
    random = np.random.default_rng(number)
    book, writer, city = (
        str(random.choice(list(some))) + kind for some, kind in ((BOOKS, "书"), (WRITERS, "人"), (PLACES, "市"))
    )
    parts = [book, writer, *([city] if number % 2 else [])]
    text = "".join(random.choice(list(FILLER), random.integers(0, 9 if len(parts) == 2 else 6)))
    text += "".join(str(random.choice(list(FILLER))) + part for part in parts)
    triples = [Triple(book, "作者", writer)]
    if number % 2:
        triples += [Triple(writer, "住在", city), Triple(book, "写于", city)]
    return text, triples


ROWS = [sentence(number) for number in range(96)] + [("说去看", [])] * 4
HELD_OUT = [sentence(1000 + number) for number in range(30)] + [("去看", [])]


@pytest.fixture(scope="module")
def trained():
    made = extractor()
    made.fit(ROWS, **FIT)
    return made


HARD = [
    ("甲书子人", [("甲书", "作者", "子人"), ("甲书", "写于", "子人"), ("子人", "住在", "甲书")]),  # one pair
    ("甲书和乙书是子人的", [("甲书", "作者", "子人"), ("乙书", "作者", "子人")]),  # a shared object
    ("子人去东市和西市", [("子人", "住在", "东市"), ("子人", "住在", "西市")]),  # a shared subject
    ("东市子人", [("子人", "住在", "东市子人")]),  # the subject inside the object
    ("东市甲书", [("东市甲书", "写于", "甲书"), ("东市甲书", "作者", "东市甲")]),  # the object inside the subject
    ("说去看", []),
    ("Alice lives in New York的东市, bob's in Paris。", [
        ("Alice", "住在", "New York"), ("Alice", "住在", "东市"), ("bob", "住在", "Paris"), ("Alice", "作者", "bob"),
    ]),
    ("Ａlice 在é书", [("Ａlice", "写于", "é书")]),
]  # fmt: skip


def perfect(made, rows, epoch=0):
    """The labels of the windows as scores; of the cascade those of every subject, which one batch draws one of."""
    examples = read_texts(rows, "rows", True, made.relations)
    pieces, windows = made._cut_up([text for text, _ in rows])
    batches = made.training_batches(examples, 4, 0)
    found = [set() for _ in rows]
    for number in range(epoch, epoch + (1 if made.design == "gplinker" else 40)):
        batches.start_at(number)
        for order, (inputs, labels, _) in zip(batches.order(), batches):
            for place, row in enumerate(order.tolist()):
                if row >= 0:
                    shift = windows[row].shift
                    last = shift + windows[row].count - 1
                    read = linker_reads if made.design == "gplinker" else cascade_reads
                    triples = read(made, inputs, labels, place, shift, last)
                    window = windows[row]
                    found[window.text] |= {moved(triple, window.first - shift) for triple in triples}
    named = [found_triples(text, each, some, made.relations) for (text, _), each, some in zip(rows, pieces, found)]
    return [{(t.subject, t.relation, t.object) for t in some} for some in named], windows


def linker_reads(made, inputs, labels, place, shift, last):
    width = max(inputs["token_ids"].shape[1], 16)
    scores = {name: np.full((*labels[name].shape[:2], width, width), -1.0) for name in OUTPUTS}
    for name in OUTPUTS:
        for row, kind, pair in np.argwhere(labels[name][..., 0] >= 0):
            scores[name][(row, kind, *labels[name][row, kind, pair])] = 1.0
    scores["entities"][:, :, 0] = scores["entities"][..., last + 1 :] = 1.0  # special tokens name nothing
    return linked(untied(scores, place), shift, last)


def cascade_reads(made, inputs, labels, place, shift, last):
    subjects = [span for _, span in spans_of(20 * labels["subjects"][place] - 10, 2.0, shift, last)]
    subject = tuple(inputs["subject"][place].tolist())
    objects = spans_of(20 * labels["objects"][place] - 10, 4.0, shift, last)
    return [TokenTriple(subject, relation, target) for relation, target in objects if subject in subjects]


@pytest.mark.parametrize("design", DESIGNS)
def test_gold_triples_there_and_back(design):
    made = extractor(design=design, relations=RELATIONS, max_length=24)
    found, windows = perfect(made, HARD)
    assert found == [set(triples) for _, triples in HARD]
    assert len(windows) == len(HARD)
    assert made.cut == {}


@pytest.mark.parametrize("design", DESIGNS)
def test_gold_triples_of_texts_in_windows(design):
    """Two names are a triple where they stand in one window; what is too far apart is told."""
    text = "甲书的子人" + "说" * 10 + "乙书在东市" + "看" * 10 + "丙书是丑人"
    rows = [("说", []), (text, [("甲书", "作者", "子人"), ("乙书", "写于", "东市"), ("丙书", "作者", "丑人")])]
    made = extractor(design=design, relations=RELATIONS, stride=6)
    found, windows = perfect(made, rows)
    assert found == [set(), set(rows[1][1])]
    assert len(windows) > 4
    assert made.cut == {}
    rows[1][1].append(("甲书", "作者", "丑人"))
    found, _ = perfect(made, rows)
    assert found == [set(), set(rows[1][1][:3])]
    (note,) = made.cut.values()
    assert "rows, item 2: subject and object of a triple are too far apart for one window; 1 triples" in note


def test_names_that_end_within_a_token_are_told():
    made = extractor(relations=RELATIONS)
    made.cut = {"an earlier": "fit"}
    made.fit([("Zorro住东市", [("Zor", "住在", "东市")]), *ROWS[:7]], **FIT | {"epochs": 1, "batch_size": 8})
    (note,) = made.cut.values()
    assert "item 1: subject or object of ('Zor', '住在', '东市') begins or ends within a token" in note
    assert "1 triples" in note


SCORES = st.integers(0, 2**32 - 1)


@given(SCORES, st.integers(1, 3), st.integers(0, 9), st.integers(1, 9), st.floats(0.05, 0.9))
def test_names_of_starts_and_ends_equal_a_slow_loop(seed, types, first, length, share):
    random = np.random.default_rng(seed)
    scores = np.where(random.random((first + length + 2, types, 2)) < share, 4.0, -4.0)
    scores += random.normal(scale=0.1, size=scores.shape)
    wanted = []
    for start in range(first, first + length):
        for kind in range(types):
            probabilities = (1 / (1 + np.exp(-scores[:, kind]))) ** 2
            if probabilities[start, 0] > 0.6:
                ends = [end for end in range(start, first + length) if probabilities[end, 1] > 0.5]
                wanted += [(kind, (start, ends[0]))] if ends else []
    assert spans_of(scores, 2.0, first, first + length - 1) == wanted


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_the_bounds_are_those_of_the_probabilities(power):
    def score(probability):
        root = probability ** (1 / power)
        return np.log(root / (1 - root))

    def found(start, end):
        return bool(spans_of(np.array([[[score(start), score(end)]]]), power, 0, 0))

    assert found(0.601, 0.501)
    assert not found(0.599, 0.501)
    assert not found(0.601, 0.499)


@given(SCORES, st.integers(1, 3), st.integers(2, 6), st.floats(0.1, 0.6))
def test_linked_equals_all_pairs_of_all_spans(seed, relations, length, share):
    random = np.random.default_rng(seed)
    width, first, last = length + 2, 1, length
    scores = {
        name: random.random((2 if name == "entities" else relations, width, width)) - 1 + share for name in OUTPUTS
    }
    spans = [(start, end) for start in range(first, last + 1) for end in range(start, last + 1)]
    wanted = {
        TokenTriple(subject, relation, target)
        for subject in spans
        for target in spans
        for relation in range(relations)
        if scores["entities"][(0, *subject)] > 0
        and scores["entities"][(1, *target)] > 0
        and scores["heads"][relation, subject[0], target[0]] > 0
        and scores["tails"][relation, subject[1], target[1]] > 0
    }
    found = linked(scores, first, last)
    assert set(found) == wanted
    assert len(found) == len(wanted)


TRIPLES = st.builds(
    lambda s, r, o: TokenTriple(tuple(sorted(s)), r, tuple(sorted(o))),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
    st.integers(0, 2),
    st.tuples(st.integers(1, 6), st.integers(1, 6)),
)


def cascade_batches(triples, **options):
    features = [([2, *range(5, 11), 3], [0] * 8)] * len(triples)
    return CascadeBatches(features, triples, None, relations=3, buckets=(8,), **{"batch_size": 4, "seed": 1} | options)


@given(st.lists(st.lists(TRIPLES, max_size=5), min_size=1, max_size=9), st.integers(0, 5), st.booleans())
def test_cascade_batches_draw_a_subject_and_its_objects(triples, epoch, shuffle):
    batches = cascade_batches(triples, shuffle=shuffle)
    batches.start_at(epoch)
    for order, (inputs, labels, weights) in zip(batches.order(), batches):
        assert inputs["subject"].dtype == np.int32
        for place, row in enumerate(order.tolist()):
            mine = triples[row] if row >= 0 else []
            subjects, objects = np.zeros((8, 1, 2)), np.zeros((8, 3, 2))
            start, end = subject = tuple(inputs["subject"][place].tolist())
            for t in mine:
                subjects[t.subject[0], 0, 0] = subjects[t.subject[1], 0, 1] = 1
                if t.subject == subject:
                    objects[t.object[0], t.relation, 0] = objects[t.object[1], t.relation, 1] = 1
            np.testing.assert_array_equal(labels["subjects"][place], subjects)
            np.testing.assert_array_equal(labels["objects"][place], objects)
            assert weights[place] == (row >= 0)
            if mine:
                assert start in {t.subject[0] for t in mine}
                assert end in {t.subject[1] for t in mine}
                assert start <= end
            else:
                assert subject == (0, 0)


def drawn(batches, epoch):
    batches.start_at(epoch)
    return {
        row: tuple(inputs["subject"][place].tolist())
        for order, (inputs, *_) in zip(batches.order(), batches)
        for place, row in enumerate(order.tolist())
        if row >= 0
    }


def test_what_is_drawn_depends_on_seed_epoch_and_row_alone():
    same = [TokenTriple((1, 2), 0, (5, 5)), TokenTriple((4, 4), 1, (5, 6))]
    triples = [same] * 40
    first = drawn(cascade_batches(triples), 3)
    again = cascade_batches(triples)
    drawn(again, 0), drawn(again, 7)
    assert drawn(again, 3) == first
    assert drawn(cascade_batches(triples, batch_size=7), 3) == first, "nor on the batch"
    assert drawn(cascade_batches(triples), 4) != first
    assert drawn(cascade_batches(triples, seed=2), 3) != first
    assert set(first.values()) == {(1, 2), (1, 4), (4, 4)}, "all subjects, and one that is none"
    halfway = cascade_batches(triples, start=(3, 5))
    whole = cascade_batches(triples, start=(3, 0))
    np.testing.assert_array_equal(halfway[0][0]["subject"], whole[5][0]["subject"])
    fixed = cascade_batches(triples, shuffle=False)
    assert drawn(fixed, 0) == drawn(fixed, 3), "without shuffling every epoch is the same"


@pytest.mark.parametrize("design", LATER)
def test_it_learns_what_can_be_learnt(design, request):
    if design == "gplinker":
        made = request.getfixturevalue("trained")
    else:
        made = extractor(design=design)
        made.fit(ROWS, **FIT)
    assert made.relations == sorted(RELATIONS)
    assert made.evaluate(HELD_OUT).exact.f1 == 1.0
    texts = [text for text, _ in HELD_OUT]
    whole = made.predict(texts)
    assert made.predict(texts[::-1], batch_size=3) == whole[::-1]
    for (text, _), each in zip(HELD_OUT, whole):
        for one in each.found:
            assert text[slice(*one.subject_place)] == one.subject
            assert text[slice(*one.object_place)] == one.object


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_saved_and_loaded_both_say_the_same_and_the_seed_repeats(design, tmp_path):
    options = FIT | {"epochs": 12}
    made, again = extractor(design=design), extractor(design=design)
    curve = made.fit(ROWS, HELD_OUT, **options)
    assert curve.keys() == {"loss", "val_precision", "val_recall", "val_f1"} | (curve.keys() - {"loss"})
    np.testing.assert_allclose(again.fit(ROWS, HELD_OUT, **options)["loss"], curve["loss"], rtol=1e-6)
    made.save(tmp_path / "model")
    texts = [text for text, _ in HELD_OUT]
    assert load(tmp_path / "model").predict(texts) == made.predict(texts) == again.predict(texts)


def test_saved_and_loaded_it_says_the_same(trained, tmp_path):
    trained.save(tmp_path / "model")
    again = load(tmp_path / "model")
    assert isinstance(again, RelationExtractor)
    for name in RelationExtractor.settings_types:
        assert getattr(again, name) == getattr(trained, name)
    texts = [text for text, _ in HELD_OUT]
    assert again.predict(texts) == trained.predict(texts)


def test_long_texts_are_read_in_windows(trained):
    filler = "".join(FILLER[number % 7] for number in range(12))
    (first, one), (second, two) = sentence(2), sentence(4)
    heard = []
    found = trained.predict([first + filler + second, "\u200b", "说"], done=heard.append)
    assert set(found[0].triples) == {*one, *two}
    assert found[1].triples == found[2].triples == ()
    assert sum(heard) == 3
    assert trained.predict([]) == []


def test_unknown_relations_are_noted_where_they_are_held_out_and_refused_in_training(trained, tmp_path):
    path = tmp_path / "dev.jsonl"
    path.write_text(
        '{"text": "甲书子人", "triples": [["甲书", "作者", "子人"]]}\n\n'
        '{"text": "甲书子人", "triples": [["甲书", "出版", "子人"]]}\n',
        encoding="utf-8",
    )
    assert trained.evaluate(path).per_relation["出版"].recall == 0
    assert any("dev.jsonl, line 3: relation '出版' is not in" in note for note in trained.cut.values())
    extractor().check_data(ROWS, path)
    with pytest.raises(DataError, match=r"dev.jsonl, line 3: .*'出版'"):
        extractor(relations=RELATIONS).fit(path, verbose=0)


def test_unlabelled_texts_are_no_texts_without_triples(trained):
    texts = RelationTexts("mine", [RelationText("甲书子人", None, 1)], [], False)
    with pytest.raises(DataError, match=r"mine, item 1: .*not labelled"):
        trained.evaluate(texts)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: extractor(design="tree"), ConfigError, "design is 'tree'; choose one of gplinker, cascade"),
        (lambda: extractor(pointer="crf"), ConfigError, "pointer is 'crf'; choose one of global_pointer"),
        (lambda: extractor(relations=["a", "a"]), ConfigError, "'a' occurs twice"),
        (lambda: extractor().predict(["说"]), ConfigError, "call fit"),
        (lambda: extractor(stride=15).fit(ROWS, verbose=0), ConfigError, "stride is 15"),
        (lambda: extractor().fit([("说", [])], verbose=0), DataError, "not a single triple"),
        (lambda: extractor().fit(["说"], verbose=0), DataError, "training data, item 1: no triples"),
        (lambda: extractor().fit(ROWS, epoch=3, verbose=0), TypeError, "epoch"),
        (lambda: extractor(relations=["a"]).predict("说"), DataError, "put what is asked in a list"),
    ],
)
def test_arguments_that_cannot_be_are_named(make, error, message):
    with pytest.raises(error, match=message):
        make()
