"""A task of your own in one file: scores of texts, learnt by squared error, the best epoch picked by correlation.

python examples/own_task.py
"""

from tempfile import TemporaryDirectory

import numpy as np

import qingformer as qf
from qingformer.errors import DataError
from qingformer.tasks import Task, register_task
from qingformer.tasks.classification.classifier_network import classifier_model

STARS = {"好吃极了": 5.0, "太香了": 5.0, "味道不错": 4.0, "还会再来": 4.0, "一般般": 3.0, "难吃": 1.0, "踩雷": 1.0}
DISHES = "牛肉面 火锅 烤鸭 小笼包 麻婆豆腐 酸菜鱼 煎饼 豆浆".split()
REVIEWS = [(dish + words, stars) for words, stars in STARS.items() for dish in DISHES]


class Rows(list):
    """(text, score) pairs; messages begin with the name."""

    name = "reviews"


@register_task("text-regressor")
class TextRegressor(Task):
    """A linear layer on the sentence vector that gives a number."""

    settings_types = {"max_length": int, "dropout": float}  # noqa: RUF012 - what task.json holds
    monitor, scores = "val_pearson", ("pearson",)

    def read(self, source, name, labelled=True):
        rows = Rows(source if labelled else [(text, None) for text in source])
        if labelled and not all(isinstance(score, float) for _, score in rows):
            raise DataError(f"{name}: a row without a score; give (text, score)")
        return rows

    def texts(self, examples):
        return (text for text, _ in examples)

    def build_network(self, backbone):
        return classifier_model(backbone, 1, self.dropout, self.seed)

    def training_batches(self, examples, batch_size, seed):
        targets = np.array([[score] for _, score in examples], "float32")
        return self._batches(examples, targets, batch_size=batch_size, shuffle=True, seed=seed)

    def loss(self):
        return "mean_squared_error"

    def score(self, examples):
        return self.evaluate(examples)

    def evaluate(self, test):
        found = self.predict([text for text, _ in self.read(test, "test data")])
        return {"pearson": float(np.corrcoef(found, [score for _, score in test])[0, 1])}

    def predict(self, texts):
        batches = self._batches(self.read(texts, "texts", labelled=False), batch_size=32, shuffle=False)
        return self.ready().predictor(batches)[:, 0].tolist()

    def _batches(self, examples, targets=None, **options):
        features = self.parts().tokenizer.encode_batch(list(self.texts(examples)), max_length=self.max_length)
        return self.padded_batches(list(features), targets, **options)


def main():
    regressor = TextRegressor.from_scratch("tiny", max_length=16)
    regressor.fit(REVIEWS[::2], REVIEWS[1::2], epochs=30, batch_size=4, verbose=0)
    print(regressor.evaluate(REVIEWS[1::2]))
    with TemporaryDirectory() as folder:
        regressor.save(folder)
        print(qf.load(folder).predict(["烤鸭太香了", "煎饼难吃"]))


if __name__ == "__main__":
    main()
