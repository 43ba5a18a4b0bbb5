"""The centreline Dice once more: in float64 numpy, neighbourhoods by shifted copies.

Nothing here imports the package; inputs as in boundaries.py.
"""

import itertools

import numpy as np

from oracles.boundaries import class_mean, class_probabilities, one_hot


def extreme(x, offsets, choose, outside):
    padded = np.pad(x, 1, constant_values=outside)
    shifted = [padded[tuple(slice(1 + o, 1 + o + size) for o, size in zip(offset, x.shape))] for offset in offsets]
    return choose(np.stack(shifted), axis=0)


def opened(x):
    block = list(itertools.product((-1, 0, 1), repeat=x.ndim))
    cross = [o for o in block if sum(map(abs, o)) <= 1]
    eroded = extreme(x, cross, np.min, np.inf)
    return eroded, extreme(eroded, block, np.max, -np.inf)


def skeleton(x, iterations):
    eroded, open_x = opened(x)
    total = np.maximum(x - open_x, 0)
    for _ in range(iterations):
        x = eroded
        eroded, open_x = opened(x)
        difference = np.maximum(x - open_x, 0)
        total = total + np.maximum(difference - total * difference, 0)
    return total


def cl_dice(z, y, w, *, mode="multiclass", chosen=None, per_image=False, class_weight=None, iterations=3, smooth=1.0):
    truth, weight = one_hot(z, y, w)
    p = np.where(weight > 0, class_probabilities(np.where(weight > 0, z, 0), mode), 0)
    truth = np.where(weight > 0, truth, 0)

    def value_of(group, c):
        thin_p = np.stack([skeleton(p[n, c], iterations) for n in group]) * weight[group, c]
        thin_y = np.stack([skeleton(truth[n, c], iterations) for n in group]) * weight[group, c]
        precision = ((thin_p * truth[group, c]).sum() + smooth) / (thin_p.sum() + smooth)
        sensitivity = ((thin_y * p[group, c]).sum() + smooth) / (thin_y.sum() + smooth)
        return 1 - 2 / (1 / precision + 1 / sensitivity)

    if chosen is None:
        chosen = range(min(1, z.shape[1] - 1), z.shape[1])
    return class_mean(z, truth, weight, value_of, per_image=per_image, chosen=chosen, class_weight=class_weight)
