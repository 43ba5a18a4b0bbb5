"""Energies over pairs of pixels once more, pixel by pixel, in float64 numpy. Nothing here imports the package.

    z  (N, C, H, W) logits; y is not used; w (N, H, W) pixel weights or None; image (N, B, H, W); features (N, D, H, W).

One channel is a sigmoid, or every channel with `act="sigmoid"`; several are a softmax.
"""

import math

import numpy as np


def probabilities(z, act):
    """(N, classes, H, W), and how many maps of two classes there are."""
    if act == "sigmoid" or z.shape[1] == 1:
        ones = np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))
        zeros = np.where(z >= 0, np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))), 1 / (1 + np.exp(-np.abs(z))))
        return np.concatenate([ones, zeros], 1), z.shape[1]
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True), 1


def on_cells(values, weight, side):
    """Weighted means over blocks of side x side pixels, and the share of every block that the weights fill."""
    rows, columns = (math.ceil(s / side) for s in weight.shape)
    means, share = np.zeros((len(values), rows, columns)), np.zeros((rows, columns))
    for r in range(rows):
        for c in range(columns):
            block = (slice(r * side, (r + 1) * side), slice(c * side, (c + 1) * side))
            total = weight[block].sum()
            share[r, c] = total / side**2
            if total > 0:
                means[:, r, c] = (values[(slice(None), *block)] * weight[block]).sum((1, 2)) / total
    return means, share


def kernel(guides, side, sigma_xy, window, self_pairs):
    """(P, P) over the cells in row-major order. guides: (map (D, rows, columns), sigma) pairs."""
    rows, columns = guides[0][0].shape[1:]
    place = [(r, c) for r in range(rows) for c in range(columns)]
    K = np.zeros((len(place), len(place)))
    for i, (r, c) in enumerate(place):
        for j, (s, d) in enumerate(place):
            if (window is not None and max(abs(r - s), abs(c - d)) > window) or (i == j and not self_pairs):
                continue
            squared = side**2 * ((r - s) ** 2 + (c - d) ** 2) / sigma_xy**2
            for guide, sigma in guides:
                squared += ((guide[:, r, c] - guide[:, s, d]) ** 2).sum() / sigma**2
            K[i, j] = math.exp(-squared / 2)
    return K


_kernels = {}  # the kernel does not depend on the logits, which is all that differences change


def energy(
    z, y, w=None, *, image, features=None, act="softmax", sigma_rgb=15 / 255, sigma_xy=100.0, sigma_features=0.5, cell=1,
    max_cells=4096, window=None, self_pairs=True, normalized=True, normalize_features=True,
):  # fmt: skip
    probs, maps = probabilities(z, act)
    N, _, H, W = z.shape
    side = cell
    while math.ceil(H / side) * math.ceil(W / side) > max_cells:
        side += 1
    values = []
    for n in range(N):
        weight = np.ones((H, W)) if w is None else w[n]
        colours, share = on_cells(image[n], weight, side)
        S = on_cells(probs[n], weight, side)[0] * share
        guides = [(colours, sigma_rgb)]
        if features is not None:
            F = on_cells(features[n], np.ones((H, W)), side)[0]
            guides.append((F / np.sqrt((F**2).sum(0)) if normalize_features else F, sigma_features))
        key = (*(g.tobytes() for g, _ in guides), *(s for _, s in guides), side, sigma_xy, window, self_pairs)
        if key not in _kernels:
            _kernels[key] = kernel(guides, side, sigma_xy, window, self_pairs)
        K, R = _kernels[key], share.reshape(-1)
        agreement = sum(s @ K @ s for s in S.reshape(len(S), -1)) / maps
        pairs = R @ K @ R
        if not normalized:
            values.append(-agreement)
        elif pairs > 0:
            values.append(1 - agreement / pairs)
    return sum(values) / (len(values) or 1)
