"""Extract triples (subject, relation, object) from text with GPLinker.

python examples/extract_relations.py
"""

import random

import qingformer as qf

AUTHORS = "林远 苏青 何守一 白露 顾长河".split()
BOOKS = "长夜将明 山中书简 北方的河 白日梦 旧城往事 海上来信".split()
CITIES = "苏州 青岛 昆明 大连 长沙".split()


def row(draw: random.Random) -> tuple[str, list[tuple[str, str, str]]]:
    """A text and its triples; subject and object are given as they stand in the text."""
    author, book, city = draw.choice(AUTHORS), draw.choice(BOOKS), draw.choice(CITIES)
    return draw.choice(
        (
            (f"{author}写了《{book}》", [(book, "作者", author)]),
            (f"《{book}》是{author}的小说", [(book, "作者", author)]),
            (f"{author}出生在{city}", [(author, "出生地", city)]),
            (f"{author}生于{city}，著有《{book}》", [(author, "出生地", city), (book, "作者", author)]),
            (f"{city}今天下雨了", []),
        )
    )


# Data: files of DuIE, CasRel and others are read from their path in the same way.
draw = random.Random(0)
rows = [row(draw) for _ in range(700)]
train, dev = rows[:600], rows[600:]

# Load: `design="cascade"` finds subjects first, then the objects of each.
extractor = qf.RelationExtractor.from_scratch("tiny", design="gplinker", max_length=40)

# Fit: the relations are read from the training data; the best epoch by F1 of whole triples is kept.
extractor.fit(train, validation_data=dev, epochs=6, batch_size=16, verbose=0)
report = extractor.evaluate(dev)
print(f"triples: precision {report.exact.precision:.3f}, recall {report.exact.recall:.3f}, F1 {report.exact.f1:.3f}")

# Predict: names may nest and overlap, and one may take part in several triples.
for found in extractor.predict(["顾长河生于大连，著有《海上来信》", "《白日梦》是苏青的小说"]):
    print(found.triples)
