"""Losses that measure distances to boundaries, once more: loops over pixels in float64 numpy, distances by comparing all pairs.

Nothing here imports the package. z (N, C, *spatial) logits, y (N, *spatial) labels or (N, C, *spatial) 0/1 maps, 255 ignored,
w (N, *spatial) pixel weights or None.
"""

import itertools
import math

import numpy as np

IGNORE = 255


def distances(marked):
    """Distance of every pixel to the nearest marked one, of all pairs; inf without any."""
    places = np.argwhere(np.ones(marked.shape, bool))
    marks = np.argwhere(marked)
    if len(marks) == 0:
        return np.full(marked.shape, math.inf)
    pairs = ((places[:, None] - marks[None]) ** 2).sum(-1)
    return np.sqrt(pairs.min(1)).reshape(marked.shape)


def class_probabilities(z, mode):
    """(N, C, *spatial), each channel's probability."""
    if mode == "multiclass":
        e = np.exp(z - z.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True)
    return 1 / (1 + np.exp(-z))


def one_hot(z, y, w):
    """Truth and weights (N, C, *spatial); both 0 where ignored."""
    C = z.shape[1]
    if y.ndim < z.ndim:
        truth = np.stack([y == (c if C > 1 else 1) for c in range(C)], 1).astype(float)
        y = np.broadcast_to(y[:, None], z.shape)
    else:
        truth = (y == 1).astype(float)
    weight = (y != IGNORE).astype(float)
    return truth, weight if w is None else weight * w[:, None]


# --- active boundary loss

AROUND = [(1, 0), (-1, 0), (0, -1), (0, 1), (-1, 1), (1, 1), (-1, -1), (1, -1)]


def divergence(log_p, log_q):
    return float(sum(math.exp(a) * (a - b) for a, b in zip(log_p, log_q)))


def boundary_of(y, published):
    H, W = y.shape
    out = np.zeros((H, W), bool)
    for i, j in itertools.product(range(H), range(W)):
        out[i, j] = published and y[i, j] < 0
        for v, u in ((i + 1, j), (i, j + 1)):
            if v < H and u < W and (published or min(y[i, j], y[v, u]) >= 0):
                out[i, j] |= y[i, j] != y[v, u]
    return out


def active_boundary_pixels(log_p, fixed_log_p, y, w, seeds, distance, clip, smoothing, divide, published):
    """(weighted cost, weight) of every pixel that counts."""
    H, W = y.shape
    out = []
    for i, j in itertools.product(range(H), range(W)):
        near = [(i + a, j + b) for a, b in itertools.product((-1, 0, 1), repeat=2)]
        if not any(0 <= v < H and 0 <= u < W and seeds[v, u] for v, u in near):
            continue
        if not published and (y[i, j] < 0 or distance[i, j] == 0):
            continue
        far, costs = [], []
        for a, b in AROUND:
            v, u = i + a, j + b
            inside = 0 <= v < H and 0 <= u < W and (published or y[v, u] >= 0)
            far.append(distance[v, u] if inside else 1e5)
            v, u = min(max(v, 0), H - 1), min(max(u, 0), W - 1)
            costs.append(divergence(fixed_log_p[:, v, u], log_p[:, i, j]) if published or y[v, u] >= 0 else 0.0)
        far.append(distance[i, j])
        t = far.index(min(far))
        if t == 8:
            continue
        top = max(costs)
        log_sum = top + math.log(sum(math.exp(k - top) for k in costs))
        cost = sum(-((1 - smoothing) if k == t else smoothing / divide) * (costs[k] - log_sum) for k in range(8))
        out.append((w[i, j] * min(distance[i, j], clip) / clip * cost, w[i, j]))
    return out


def active_boundary(
    z, y, w, *, mode="multiclass", ratio=0.01, clip=20.0, smoothing=0.2, divide=7, published=False, class_weight=None, fixed=None
):  # fmt: skip
    """`fixed`: the logits of which the neighbours' probabilities are taken, if other than z."""

    def log_probabilities(logits):
        if mode != "multiclass":
            logits = logits.reshape(-1, 1, *logits.shape[2:])
            logits = np.concatenate([np.zeros_like(logits), logits], 1)
        shifted = logits - logits.max(1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))

    C = z.shape[1]
    log_p, fixed_log_p = log_probabilities(z), log_probabilities(z if fixed is None else fixed)
    weight = np.ones(y.shape) if w is None else np.broadcast_to(w[:, None] if y.ndim == 4 else w, y.shape).copy()
    y = np.where((y == IGNORE) | (weight == 0), -1, y).astype(int)
    if class_weight is not None:
        per_class = np.asarray(class_weight)
        by_pixel = np.broadcast_to(per_class[None, :, None, None], y.shape) if y.ndim == 4 else per_class[np.maximum(y, 0)]
        weight = weight * np.where(y >= 0, by_pixel, 1.0)
    weight = np.where(y >= 0, weight, 1.0)
    y, weight = (x.reshape(-1, *x.shape[-2:]) for x in (y, weight))
    assert len(y) == len(log_p) == len(z) * (C if mode == "multilabel" else 1)
    H, W = y.shape[1:]
    scores = np.zeros(y.shape)
    for n, i, j in itertools.product(range(len(y)), range(H), range(W)):
        for v, u in ((i + 1, j), (i, j + 1)):
            if v < H and u < W and (published or min(y[n, i, j], y[n, v, u]) >= 0):
                scores[n, i, j] += divergence(fixed_log_p[n, :, i, j], fixed_log_p[n, :, v, u])
    threshold = 1e-5
    if published:
        while (scores > threshold).sum() > ratio * H * W:
            threshold *= 1.2
    pixels = []
    for n in range(len(y)):
        edge = boundary_of(y[n], published)
        if not edge.any():
            continue
        seeds = scores[n] > threshold
        if not published:
            kept = sorted(scores[n].ravel(), reverse=True)[: max(1, int(ratio * H * W))]
            seeds &= scores[n] >= kept[-1]
        distance = distances(edge)
        if published:
            distance = np.where(edge, 0, np.floor(distance - 1))
        pixels += active_boundary_pixels(
            log_p[n], fixed_log_p[n], y[n], weight[n], seeds, distance, clip, smoothing, divide, published
        )  # fmt: skip
    total = sum(b for _, b in pixels)
    return sum(a for a, _ in pixels) / total if total else 0.0


# --- losses weighted by distances to the boundary


def mean_of_classes(values, counted, class_weight):
    """Mean over the counted classes of each group, then over the groups that have one."""
    means = []
    for value, use in zip(values, counted):
        weights = [1.0 if class_weight is None else class_weight[c] for c in range(len(value))]
        total = sum(k for k, u in zip(weights, use) if u)
        if total > 0:
            means.append(sum(k * v for k, v, u in zip(weights, value, use) if u) / total)
    return sum(means) / len(means) if means else 0.0


def class_mean(z, truth, weight, value_of, *, per_image, chosen, class_weight):
    """`value_of(images, c)` averaged; chosen is "present" or a list of classes."""
    groups = [[n] for n in range(len(z))] if per_image else [list(range(len(z)))]
    values, counted = [], []
    for group in groups:
        alive = [weight[group, c].sum() > 0 for c in range(z.shape[1])]
        use = [a and (truth[group, c].sum() > 0 if chosen == "present" else c in chosen) for c, a in enumerate(alive)]
        values.append([value_of(group, c) if u else 0.0 for c, u in enumerate(use)])
        counted.append(use)
    return mean_of_classes(values, counted, class_weight)


def two_sides(truth, weight):
    """Distances of every pixel to the inside and to the outside of a mask; None where there is only one side."""
    inside, outside = (truth > 0) & (weight > 0), (truth == 0) & (weight > 0)
    return (distances(inside), distances(outside), inside, outside) if inside.any() and outside.any() else None


def signed_distance_loss(z, y, w, *, mode="multiclass", chosen="present", per_image=False, class_weight=None, nonnegative=False):
    truth, weight = one_hot(z, y, w)
    p = class_probabilities(z, mode)

    def value_of(group, c):
        total = 0.0
        for n in group:
            sides = two_sides(truth[n, c], weight[n, c])
            if sides is None:
                continue
            for i in itertools.product(*map(range, truth[n, c].shape)):
                phi = -(sides[1][i] - 1) if sides[2][i] else sides[0][i]
                excess = p[n, c][i] - (truth[n, c][i] if nonnegative else 0)
                total += weight[n, c][i] * phi * excess if weight[n, c][i] > 0 else 0.0
        return total / weight[group, c].sum()

    return class_mean(z, truth, weight, value_of, per_image=per_image, chosen=chosen, class_weight=class_weight)


def hausdorff_loss(z, y, w, *, mode="multiclass", chosen=None, per_image=False, class_weight=None, alpha=2.0, one_sided=False):
    truth, weight = one_hot(z, y, w)
    p = class_probabilities(z, mode)

    def value_of(group, c):
        total = 0.0
        for n in group:
            field = np.zeros(truth[n, c].shape)
            for mask in [truth[n, c]] if one_sided else [truth[n, c], (p[n, c] > 0.5).astype(float)]:
                sides = two_sides(mask, weight[n, c])
                if sides is not None:
                    field += np.where(sides[2], sides[1], sides[0]) ** alpha
            total += (weight[n, c] * (p[n, c] - truth[n, c]) ** 2 * field).sum()
        return total / weight[group, c].sum()

    chosen = range(z.shape[1]) if chosen is None else chosen
    return class_mean(z, truth, weight, value_of, per_image=per_image, chosen=chosen, class_weight=class_weight)
