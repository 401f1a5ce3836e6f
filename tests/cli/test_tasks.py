"""Taggers, relations, reading and multiple choice at the command line: the three verbs, and what is refused."""

import json

import pytest

from qingformer.cli import run
from qingformer.cli.console import as_options
from qingformer.cli.run_directory import RUN_FILE
from qingformer.data.tagging import read_tagging
from qingformer.tasks import Entity, Tagging, load
from qingformer.tasks.tagging.tagged_output import TagColumns, coloured, line_by_line, words_of
from qingformer.tasks.tagging.tagged_texts import read_tagged
from tests.cli.conftest import with_options
from tests.tasks.helpers import backbone, rows, tokenizer

PARTS = {"weather": "天气", "music": "唱歌", "food": "吃饭"}


def write_json_lines(path, data):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in data), encoding="utf-8")
    return path


def json_lines(text):
    return [json.loads(line) for line in text.splitlines()]


def write_ner(folder, data):
    return write_json_lines(
        folder / "ner.jsonl",
        [{"text": text, "entities": [[len(text) - 2, len(text), label]]} for text, label in data],
    )


def write_cws(folder, data):
    path = folder / "cws.utf8"
    path.write_text("".join(f"{' '.join(text[:-2])} {text[-2:]}\n".lstrip() for text, _ in data), encoding="utf-8")
    return path


def write_relations(folder, data):
    made = [{"text": f"我{t[-2]}想{t[-1]}", "triples": [[t[-2], label, t[-1]]]} for t, label in data if t[-1] != t[-2]]
    return write_json_lines(folder / "relations.jsonl", made)


def write_reading(folder, data):
    made = [{"id": f"q{n}", "context": t, "question": "我想", "answer": t[-2:]} for n, (t, _) in enumerate(data)]
    return write_json_lines(folder / "reading.jsonl", made)


def write_choice(folder, data):
    made = [{"context": t, "question": "想", "choices": [*PARTS.values()], "answer": PARTS[label]} for t, label in data]
    return write_json_lines(folder / "choice.jsonl", made)


DATA = {
    "ner": write_ner,
    "cws": write_cws,
    "relations": write_relations,
    "reading": write_reading,
    "choice": write_choice,
}
OPTIONS = {
    "ner": ["--lr-multiplier", "1"],
    "cws": ["--head", "softmax"],
    "relations": ["--stride", "2"],
    "reading": ["--stride", "4", "--max-question-length", "4"],
    "choice": [],
}
EPOCHS = {"ner": "6"}
SCORES = {"ner": "F1", "cws": "F1", "relations": "F1", "reading": "exact", "choice": "accuracy"}


class Models:
    """A small encoder, and for each task a data file and a run on it, made when they are first asked for."""

    def __init__(self, folder):
        self.folder, self.bert = folder, folder / "bert"
        backbone().save_pretrained(self.bert, tokenizer=tokenizer())
        self.data = {task: write(folder, rows(48)) for task, write in DATA.items()}

    def arguments(self, task, output, train=None):
        return [
            "train", "--task", task, "--train", str(train or self.data[task]), "--source", str(self.bert),
            "--max-length", "24", "--epochs", EPOCHS.get(task, "1"), "--batch-size", "16", "--learning-rate", "0.01",
            "--output", str(output), *OPTIONS[task],
        ]  # fmt: skip

    def run(self, task):
        output = self.folder / task
        if not output.exists():
            data = str(self.data[task])
            assert run([*self.arguments(task, output), "--dev", data, "--test", data]) == 0
        return output


@pytest.fixture(scope="session")
def models(tmp_path_factory, compiled_once):
    return Models(tmp_path_factory.mktemp("tasks"))


def one_line(outcome, *wanted):
    assert outcome.code == 2
    assert len(outcome.err.splitlines()) == 1, outcome.err
    assert outcome.err.startswith("error: ")
    for part in map(str, wanted):
        assert part in outcome.err, outcome.err


@pytest.mark.parametrize(
    "task", ["ner", *(pytest.param(task, marks=pytest.mark.slow) for task in ("cws", "relations", "reading", "choice"))]
)
def test_train_evaluate_and_predict(cli, models, tmp_path, task):
    model, data = models.run(task), models.data[task]
    report = json.loads((model / "report.json").read_text())
    assert {"best", "state", "curve.jsonl", "curve.png", RUN_FILE} <= {path.name for path in model.iterdir()}
    assert json.loads((model / RUN_FILE).read_text())["task"] == task
    done = cli("evaluate", data, "--model", model)
    assert (done.code, done.err) == (0, "")
    assert f"score on {data}" in done.out
    assert f"\n{SCORES[task]} " in done.out
    done = cli("evaluate", data, "--model", model, "--json", "--output", tmp_path / "report.json")
    found = json.loads(done.out)
    assert found == json.loads((tmp_path / "report.json").read_text())
    assert found.keys() == report.keys()
    done = cli("predict", data, "--model", model)
    assert (done.code, done.err) == (0, "")
    predicted = json_lines(done.out)
    expected = load(model).predict(str(data)) if task != "cws" else load(model).predict([r["text"] for r in predicted])
    assert len(predicted) == len(expected) == len(data.read_text(encoding="utf-8").splitlines())
    for row, prediction in zip(predicted, expected):
        CHECKS[task](row, prediction)


def check_ner(row, prediction):
    assert row.keys() == {"text", "entities", "line", "input_entities"}
    for entity, other in zip(row["entities"], prediction.entities, strict=True):
        assert row["text"][entity["start"] : entity["end"]] == entity["text"] == other.text
        assert entity["label"] == other.label


def check_cws(row, prediction):
    assert row.keys() == {"text", "entities", "words", "line"}
    assert "".join(row["words"]) == row["text"].replace(" ", "")
    assert [entity["start"] for entity in row["entities"]] == [entity.start for entity in prediction.entities]


def check_relations(row, prediction):
    assert {"text", "triples", "line"} < row.keys()
    for triple, other in zip(row["triples"], prediction.found, strict=True):
        assert row["text"][slice(*triple["subject_place"])] == triple["subject"] == other.subject
        assert row["text"][slice(*triple["object_place"])] == triple["object"]
        assert triple["relation"] == other.relation


def check_reading(row, prediction):
    assert {"id", "question", "answer", "answers", "context", "line"} < row.keys()
    assert (row["id"], row["answer"], row["question"]) == (prediction.id, prediction.answer, "我想")
    assert row["answers"][0].keys() == {"text", "start", "end", "probability"}


def check_choice(row, prediction):
    assert {"id", "answer", "text", "probabilities", "choices", "line"} < row.keys()
    assert (row["answer"], row["text"]) == (prediction.number, prediction.text)
    assert sum(row["probabilities"]) == pytest.approx(1, abs=1e-4)


CHECKS = {
    "ner": check_ner,
    "cws": check_cws,
    "relations": check_relations,
    "reading": check_reading,
    "choice": check_choice,
}


def test_entities_in_other_forms(cli, models, tmp_path):
    model, texts = models.run("ner"), tmp_path / "texts.txt"
    texts.write_text("我想听歌\n下雨\n", encoding="utf-8")
    plain = json_lines(cli("predict", texts, "-m", model).out)
    assert plain[0]["entities"], "the model has learnt something"
    done = cli("predict", texts, "-m", model, "--output-format", "conll", "-o", tmp_path / "out.conll")
    assert (done.code, done.out, done.err) == (0, "", "")
    again = read_tagging(tmp_path / "out.conll")
    spans = [[(each["start"], each["end"], each["label"]) for each in row["entities"]] for row in plain]
    assert [[tuple(span) for span in item.spans] for item in again.items] == spans
    assert [item.text for item in again.items] == ["我想听歌", "下雨"]
    brat = tmp_path / "brat"
    assert cli("predict", texts, "-m", model, "--output-format", "brat", "-o", brat).code == 0
    assert sorted(path.name for path in brat.iterdir()) == ["0001.ann", "0001.txt", "0002.ann", "0002.txt"]
    assert (brat / "0001.txt").read_text(encoding="utf-8") == "我想听歌"
    first = plain[0]["entities"][0]
    expected = f"T1\t{first['label']} {first['start']} {first['end']}\t{first['text']}\n"
    assert (brat / "0001.ann").read_text(encoding="utf-8").startswith(expected)
    one_line(cli("predict", texts, "-m", model, "--output-format", "brat", "-o", brat), brat, "new folder")
    shown = cli("predict", texts, "-m", model, "--color").out
    assert "\x1b[" in shown
    assert f"[{first['label']} {first['start']}:{first['end']}]" in shown
    for more, wanted in (
        (["--output-format", "brat"], ("brat", "--output")),
        (["--output-format", "words"], ("words", "jsonl, conll, brat")),
        (["--color", "-o", tmp_path / "x"], ("--color", "--output")),
        (["--all"], ("--all", "a model for ner", "classification")),
        (["--n-best", "2"], ("--n-best", "reading")),
    ):
        one_line(cli("predict", texts, "-m", model, *more), *wanted)
    one_line(cli("evaluate", texts, "-m", model, "--threshold", "0.4"), "--threshold", "classification")
    rates = cli("suggest-lr", texts, "--model", model, "--learning-rate", "0.01")
    one_line(rates, model, "not a text classifier")
    one_line(cli("evaluate", tmp_path / "gone.conll", "-m", model), "gone.conll", "no such file")


@pytest.mark.slow
def test_words_in_other_forms(cli, models, tmp_path):
    model, texts = models.run("cws"), tmp_path / "texts.txt"
    texts.write_text("我想听歌\n下雨\n", encoding="utf-8")
    words = [row["words"] for row in json_lines(cli("predict", texts, "-m", model).out)]
    done = cli("predict", texts, "-m", model, "--output-format", "words")
    assert done.out.splitlines() == ["  ".join(each) for each in words]
    assert cli("predict", texts, "-m", model, "--color").out.splitlines() == done.out.splitlines()
    done = cli("predict", texts, "-m", model, "--output-format", "conll", "-o", tmp_path / "out.conll")
    assert done.code == 0
    found = read_tagging(tmp_path / "out.conll")
    assert [[item.text[span.start : span.end] for span in item.spans] for item in found.items] == words


@pytest.mark.slow
def test_several_answers_and_metrics(cli, models):
    model, data = models.run("reading"), models.data["reading"]
    found = json_lines(cli("predict", data, "-m", model, "--n-best", "2").out)
    assert all(len(row["answers"]) == 2 for row in found)
    assert "exact" in cli("evaluate", data, "-m", model, "--metric", "squad").out
    one_line(cli("evaluate", data, "-m", model, "--metric", "bleu"), "--metric", "cmrc, squad")
    one_line(cli("predict", data, "-m", model, "--color"), "--color", "a model for reading")


@pytest.mark.slow
def test_resume_takes_the_same_settings_only(cli, models, tmp_path):
    models.run("ner")
    arguments = with_options(models.arguments("ner", tmp_path / "run"), ["--epochs", "1"])
    assert cli(*arguments).code == 0
    one_line(cli(*arguments, "--resume", "--stride", "3"), "stride = None, not 3", "same settings")
    done = cli(*arguments, "--resume")
    assert (done.code, done.err) == (0, "")
    one_line(cli(*arguments), tmp_path / "run", "--resume", "--overwrite")
    assert cli(*arguments, "--overwrite", "--stride", "3").code == 0


@pytest.mark.parametrize(
    ("task", "more", "wanted"),
    [
        ("ner", ["--loss", "focal"], ("--loss", "--task ner", "classification")),
        ("relations", ["--class-weights", "balanced"], ("--class-weights", "--task relations")),
        ("reading", ["--multi-label"], ("--multi-label", "--task reading")),
        ("choice", ["--text-column", "a"], ("--text-column", "--task choice")),
        ("cws", ["--scheme", "bio"], ("--scheme", "--task cws", "only with ner")),
        ("choice", ["--stride", "3"], ("--stride", "ner, cws, relations, reading")),
        ("reading", ["--head", "crf"], ("--head", "--task reading", "ner, cws")),
        ("ner", ["--design", "cascade"], ("--design", "relations")),
        ("ner", ["--no-digits", "--schema", "x"], ("x: no such file",)),
        ("ner", ["--head", "global_pointer"], ("--lr-multiplier", "--head global_pointer")),
        ("ner", ["--head", "memm", "--scheme", "iob"], ("'iob'", "bio, bioes, bmes")),
        ("cws", ["--head", "lstm"], ("'lstm'", "crf, memm, softmax")),
        ("relations", ["--design", "cascade", "--pointer", "global_pointer"], ("--pointer", "--design cascade")),
        ("reading", ["--max-answer-length", "0"], ("--max-answer-length",)),
        ("reading", ["--stride", "40"], ("--max-question-length", "--max-length")),
    ],
)
def test_options_of_other_tasks(cli, models, tmp_path, task, more, wanted):
    # An option may be given once; flags have no value to take the place of another.
    arguments = models.arguments(task, tmp_path / "run")
    arguments = with_options(arguments, more) if len(more) % 2 == 0 else [*arguments, *more]
    one_line(cli(*arguments), *wanted)
    assert not list(tmp_path.glob("run/best"))


def test_unknown_task_and_options_of_structured_tasks(cli, models, tmp_path):
    data, start = models.data["choice"], ["--source", models.bert, "--output", tmp_path / "run"]
    one_line(cli("train", "--train", data, "--task", "poetry", *start), "--task", "'poetry'", "relations, reading")
    one_line(cli("train", "--train", data, "--head", "crf", *start), "--head", "--task classification", "ner, cws")


TAG = {"text": "我想听歌", "entities": [[2, 4, "music"]]}
TRIPLE = {"text": "我听想歌", "triples": [["听", "music", "歌"]]}
ASKED = {"context": "我想听歌", "question": "想", "answer": "听歌"}
WRONG = {
    "offsets beyond the text": ("ner", [TAG, {"text": "听歌", "entities": [[0, 5, "music"]]}], ("line 2", "inside")),
    "no labels": ("ner", [TAG, {"text": "听歌"}], ("line 2", "not labelled", "empty list")),
    "relation outside the schema": (
        "relations",
        [TRIPLE, {"text": "听歌", "triples": [["听", "musik", "歌"]]}],
        ("line 2", "'musik'", "did you mean 'music'"),
    ),
    "no answer in the text": ("reading", [ASKED | {"answer": "吃饭"}], ("no question is left", "line 1")),
    "answer that is no choice": (
        "choice",
        [{"context": "我", "question": "想", "choices": ["听", "唱"], "answer": "吃"}],
        ("line 1", "'吃'", "0 to 1"),
    ),
    "no question": ("choice", [{"context": "我", "choices": ["听"], "answer": 0}], ("line 1", "two choices")),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_named(cli, models, tmp_path, case):
    task, data, wanted = WRONG[case]
    path, schema = write_json_lines(tmp_path / "data.jsonl", data), tmp_path / "schema.txt"
    schema.write_text("music\nfood\n")
    more = ["--schema", schema] if task == "relations" else []
    done = cli(*models.arguments(task, tmp_path / "run", path), *more)
    one_line(done, path, *wanted)
    assert "labelled=" not in done.err
    assert not (tmp_path / "run").exists()


def test_wrong_tags_are_named(cli, models, tmp_path):
    path = tmp_path / "data.conll"
    path.write_text("听 B-music\n歌 I-music\n\n听 O\n歌 X-music\n", encoding="utf-8")
    one_line(cli(*models.arguments("ner", tmp_path / "run", path)), f"{path}, line 5", "'X-music'", "B-PER")
    path.write_text("听 O\n歌 I-music\n", encoding="utf-8")
    one_line(cli(*models.arguments("ner", tmp_path / "run", path), "--strict"), f"{path}, line 2", "--no-strict")
    gone = tmp_path / "gone.conll"
    one_line(cli(*models.arguments("ner", tmp_path / "run", gone)), gone, "no such file")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_overlapping_entities_are_noted(cli, models, tmp_path):
    models.run("ner")
    path = write_json_lines(tmp_path / "data.jsonl", [TAG | {"entities": [[1, 4, "music"], [2, 3, "food"]]}] * 16)
    done = cli(*with_options(models.arguments("ner", tmp_path / "run", path), ["--epochs", "1"]))
    assert done.code == 0
    assert len(done.err.splitlines()) == 1
    for wanted in ("note: ", f"{path}, line 1", "overlaps a longer one", "16 of 32"):
        assert wanted in done.err


def test_columns_keep_the_tokens_of_the_file(tmp_path):
    path = tmp_path / "data.conll"
    path.write_text("EU O\nrejects O\nGerman O\n", encoding="utf-8")
    examples, columns = read_tagged(str(path), "data", False), TagColumns("bio")
    text = examples[0].text
    cut = Tagging(text, (Entity(0, 1, "ORG", "E"), Entity(11, 17, "MISC", "German"), Entity(11, 13, "LOC", "Ge")))
    assert list(columns.lines(examples, [cut])) == ["EU\tB-ORG", "rejects\tO", "German\tB-LOC", ""]
    assert [part in " ".join(columns.notes()) for part in ("2 spans begin", "1 spans overlap", "line 1")] == [True] * 3


def test_words_stand_on_the_lines_of_their_texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n今天\n\n \n晴\n\n", encoding="utf-8")
    examples = read_tagged(str(path), "data", False)
    assert list(line_by_line(["今 天", "晴"], examples)) == ["", "今 天", "", "", "晴", ""]
    assert examples.notes == ["4 blank lines were left out (first: line 1)"]
    assert list(line_by_line(["今 天", "晴"], read_tagged(["今天", "晴"], "data", False))) == ["今 天", "晴"]


def test_nested_entities_in_colour():
    inner, outer = Entity(1, 3, "LOC", "北京"), Entity(1, 5, "ORG", "北京大学")
    found = coloured(Tagging("在北京大学\n读", (inner, outer)), ["LOC", "ORG"])
    assert found.plain == "在北京[LOC 1:3]大学[ORG 1:5] 读"
    styles = {found.plain[span.start : span.end]: span.style for span in found.spans}
    assert styles["北京"].removeprefix("bold ") == styles["[LOC 1:3]"] != styles["[ORG 1:5]"]
    assert words_of(Tagging("今天 很好", (Entity(0, 2, "word", "今天"),))) == ["今天", "很好"]


def test_messages_do_not_speak_of_what_the_command_line_lacks():
    assert as_options("add it, or pass labelled=False; here") == "add it; here"
    assert as_options("pass format= one of bio, text, or labelled=False") == "pass --format one of bio, text"
