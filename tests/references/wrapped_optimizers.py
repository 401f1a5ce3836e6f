"""Wrapped optimizers for one array, written down as plainly as possible.

`step(x, g)` gives (new x, whether there was an update); `count` is the number of updates so far.
"""

import numpy as np


class Adam:
    def __init__(self, rate=0.01, beta_1=0.9, beta_2=0.999, epsilon=1e-6, bias_correction=True):
        self.rate_at = rate if callable(rate) else lambda step: rate
        self.settings = beta_1, beta_2, epsilon, bias_correction
        self.m = self.v = 0.0
        self.count = 0

    @property
    def rate(self):
        return self.rate_at(self.count)

    def step(self, x, g):
        b1, b2, epsilon, correct = self.settings
        rate = self.rate
        self.count += 1
        self.m = b1 * self.m + (1 - b1) * g
        self.v = b2 * self.v + (1 - b2) * g**2
        m = self.m / (1 - b1**self.count) if correct else self.m
        v = self.v / (1 - b2**self.count) if correct else self.v
        return x - rate * m / (np.sqrt(v) + epsilon), True


class Around:
    def __init__(self, inner):
        self.inner = inner

    @property
    def count(self):
        return self.inner.count

    @property
    def rate(self):
        return self.inner.rate

    def step(self, x, g):
        rate, count = self.rate, self.count
        new, updated = self.inner.step(x, g)
        return (self.change(x, new, g, rate, count) if updated else new), updated


class Factor(Around):
    def __init__(self, inner, factor):
        super().__init__(inner)
        self.factor = factor

    def change(self, x, new, g, rate, count):
        return x + self.factor * (new - x)


class Decay(Around):
    def __init__(self, inner, amount):
        super().__init__(inner)
        self.amount = amount

    def change(self, x, new, g, rate, count):
        return new - rate * self.amount * x


class Adapt(Around):
    def change(self, x, new, g, rate, count):
        length, step = np.linalg.norm(x), np.linalg.norm(new - x)
        return x + (length * rate / step if length > 0 and step > 0 else 1) * (new - x)


class Hold(Around):
    def __init__(self, inner, until):
        super().__init__(inner)
        self.until = until

    def change(self, x, new, g, rate, count):
        return x if count < self.until else new


class Rows(Around):
    def change(self, x, new, g, rate, count):
        out = x.copy()
        for i in range(len(x)):
            if np.any(g[i] != 0):
                out[i] = new[i]
        return out


class Drop(Around):
    def __init__(self, inner, keep, mask_at):
        super().__init__(inner)
        self.keep, self.mask_at = keep, mask_at

    def change(self, x, new, g, rate, count):
        return x + np.where(self.mask_at(count), (new - x) / self.keep, 0)


class Look(Around):
    def __init__(self, inner, steps, size):
        super().__init__(inner)
        self.steps, self.size, self.slow = steps, size, None

    def step(self, x, g):
        self.slow = x.copy() if self.slow is None else self.slow
        return super().step(x, g)

    def change(self, x, new, g, rate, count):
        if self.count % self.steps:
            return new
        self.slow = self.slow + self.size * (new - self.slow)
        return self.slow


class Average(Around):
    def __init__(self, inner, momentum):
        super().__init__(inner)
        self.momentum, self.average, self.updates = momentum, 0.0, 0

    def change(self, x, new, g, rate, count):
        self.average = self.momentum * self.average + (1 - self.momentum) * new
        self.updates += 1
        return new

    @property
    def corrected(self):
        return self.average / (1 - self.momentum**self.updates)


class Accumulate(Around):
    def __init__(self, inner, steps):
        super().__init__(inner)
        self.steps, self.seen = steps, []

    def step(self, x, g):
        self.seen.append(g)
        if len(self.seen) < self.steps:
            return x, False
        mean, self.seen = np.mean(self.seen, axis=0), []
        return self.inner.step(x, mean)
