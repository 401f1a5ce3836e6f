"""The losses as loops over numbers in float64: one row, one class, one pair at a time."""

import math

import numpy as np


def softmax(row):
    top = max(row)
    terms = [math.exp(x - top) for x in row]
    return [t / sum(terms) for t in terms]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def cosine(u, v):
    return float(np.dot(u, v) / (np.linalg.norm(u) * np.linalg.norm(v)))


def zlpr(labels, scores):
    values = []
    for row, s in zip(labels, scores):
        positive = negative = 1.0
        for y, x in zip(row, s):
            if np.isfinite(x):
                positive += y * math.exp(-x)
                negative += (1 - y) * math.exp(x)
        values.append(math.log(positive) + math.log(negative))
    return np.array(values)


def focal(labels, logits, gamma=2.0, alpha=None):
    values = []
    for y, row in zip(labels, logits):
        p = softmax(row)[y]
        values.append(-(1 if alpha is None else alpha[y]) * (1 - p) ** gamma * math.log(p))
    return np.array(values)


def binary_focal(labels, logits, gamma=2.0, alpha=None):
    values = []
    for targets, row in zip(labels, logits):
        entries = []
        for y, x in zip(targets, row):
            p = sigmoid(x)
            p_true = p if y else 1 - p
            weight = 1 if alpha is None else (alpha if y else 1 - alpha)
            entries.append(-weight * (1 - p_true) ** gamma * math.log(p_true))
        values.append(sum(entries) / len(entries))
    return np.array(values)


def label_smoothed(labels, logits, epsilon):
    values = []
    for y, row in zip(labels, logits):
        p = softmax(row)
        target = [epsilon / len(p) + (1 - epsilon) * (c == y) for c in range(len(p))]
        values.append(-sum(t * math.log(q) for t, q in zip(target, p)))
    return np.array(values)


def logit_adjusted(labels, logits, prior, tau):
    values = []
    for y, row in zip(labels, logits):
        weights = [math.exp(x) * q**tau for x, q in zip(row, prior)]
        values.append(-math.log(weights[y] / sum(weights)))
    return np.array(values)


def dice(labels, logits, alpha, smooth, squared=False):
    values = []
    for y, row in zip(labels, logits):
        p = softmax(row)[y]
        q = (1 - p) ** alpha * p
        bottom = q**2 + 1 if squared else q + 1
        values.append(1 - (2 * q + smooth) / (bottom + smooth))
    return np.array(values)


def binary_dice(labels, logits, alpha, smooth):
    values = []
    for targets, row in zip(labels, logits):
        total = 0.0
        for y, x in zip(targets, row):
            q = (1 - sigmoid(x)) ** alpha * sigmoid(x)
            total += 1 - (2 * q * y + smooth) / (q + y + smooth)
        values.append(total / len(row))
    return np.array(values)


def batch_dice(labels, logits, weights, alpha, smooth):
    classes = len(logits[0])
    total = 0.0
    for c in range(classes):
        top, bottom = smooth, smooth
        for y, row, w in zip(labels, logits, weights):
            q = (1 - softmax(row)[c]) ** alpha * softmax(row)[c]
            top += w * 2 * q * (y == c)
            bottom += w * (q + (y == c))
        total += 1 - top / bottom
    return total / classes


def f1(labels, logits, weights):
    both = total = 0.0
    for targets, row, w in zip(labels, logits, weights):
        for y, x in zip(targets, row):
            both += 2 * w * y * sigmoid(x)
            total += w * (y + sigmoid(x))
    return both / total


def smooth_f1(labels, logits, score):
    values = []
    for targets, row in zip(labels, logits):
        entries = []
        for y, x in zip(targets, row):
            p = sigmoid(x)
            entries.append(-((1 - score / 2) * y * math.log(p) + score / 2 * (1 - y) * math.log(1 - p)))
        values.append(sum(entries) / len(entries))
    return np.array(values)


def margin_softmax(labels, cosines, scale, psi):
    values = []
    for y, row in zip(labels, cosines):
        own = scale * psi(math.acos(row[y]))
        others = sum(math.exp(scale * c) for place, c in enumerate(row) if place != y)
        values.append(-own + math.log(math.exp(own) + others))
    return np.array(values)


def cosent(labels, pairs, weights, scale):
    total = 1.0
    for a, y_a in enumerate(labels):
        for b, y_b in enumerate(labels):
            if y_a < y_b:
                gap = cosine(*pairs[a]) - cosine(*pairs[b])
                total += weights[a] * weights[b] * math.exp(scale * gap)
    return math.log(total)


def info_nce(groups, temperature, taken, negatives="across"):
    values = []
    for i, group in enumerate(groups):
        own = math.exp(cosine(group[0], group[1]) / temperature)
        total = own
        for j, other in enumerate(groups):
            if not taken[j]:
                continue
            if j != i:
                total += math.exp(cosine(group[0], other[1]) / temperature)
                if negatives == "all":
                    total += math.exp(cosine(group[0], other[0]) / temperature)
            for hard in other[2:]:
                total += math.exp(cosine(group[0], hard) / temperature)
        values.append(-math.log(own / total))
    return np.array(values)


def batch_hard(labels, vectors, taken, distance, cost):
    values = []
    for i, (y, x) in enumerate(zip(labels, vectors)):
        others = [j for j in range(len(labels)) if j != i and taken[i] and taken[j]]
        alike = [distance(x, vectors[j]) for j in others if labels[j] == y]
        different = [distance(x, vectors[j]) for j in others if labels[j] != y]
        if alike and different:
            values.append(cost(max(alike) - min(different)))
    return sum(values) / len(values) if values else 0.0


def sequence(tokens, logits, weights, shift, epsilon=0.0):
    top = bottom = 0.0
    for row, scores, weight in zip(tokens, logits, weights):
        for t in range(shift, len(row)):
            if weight[t]:
                top += weight[t] * label_smoothed([row[t]], [scores[t - shift]], epsilon)[0]
                bottom += weight[t]
    return top / bottom if bottom else 0.0
