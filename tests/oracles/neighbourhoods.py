"""Losses on small windows of the image, once more: RMI and the structural similarity loss, from the formulas alone.

Float64 numpy, slow and plain; nothing here imports the package. All functions take
    z   (N, C, H, W) logits,
    y   (N, H, W) integer labels or (N, C, H, W) 0/1 maps, 255 ignored,
    w   (N, H, W) pixel weights or None,
and return a Python float. With one channel label 1 is the foreground.
"""

import math

import numpy as np

IGNORE = 255


def sigmoid(z):
    return np.where(z >= 0, 1 / (1 + np.exp(-np.abs(z))), np.exp(-np.abs(z)) / (1 + np.exp(-np.abs(z))))


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def unpack(z, y, w):
    """Logits with 0 at ignored pixels, targets and weights, all (N, C, H, W); weight 0 is ignored."""
    z = z.astype(np.float64)
    n_classes = z.shape[1]
    target, weight = np.zeros(z.shape), np.zeros(z.shape)
    for c in range(n_classes):
        of_class = y[:, c] if y.ndim == 4 else y
        wanted = c if y.ndim == 3 and n_classes > 1 else 1
        weight[:, c] = np.where(of_class == IGNORE, 0.0, 1.0 if w is None else w)
        target[:, c] = np.where(weight[:, c] > 0, of_class == wanted, 0.0)
    return np.where(weight > 0, z, 0.0), target, weight


def pixel_term(z, target, weight, kind, class_weight, added):
    """Summed over the classes, averaged over the pixels."""
    if kind == "bce":
        # -y log p - (1 - y) log(1 - p) = log(1 + e^z) - y z
        loss = np.logaddexp(0, z) - target * z
    else:
        loss = target * (np.log(np.exp(z - z.max(1, keepdims=True)).sum(1, keepdims=True)) + z.max(1, keepdims=True) - z)
    total = (loss * weight * np.asarray(class_weight)[None, :, None, None]).sum()
    pixels = weight.mean(axis=1).sum() + added
    return total / pixels if pixels > 0 else 0.0


def pooled(x, pool, s, label):
    """One map (H, W) made s times smaller."""
    height, width = x.shape
    if pool == "none" or s == 1:
        return x
    if pool == "interp":
        h, w = height // s, width // s
        out = np.zeros((h, w))
        for i in range(h):
            for j in range(w):
                if label:
                    out[i, j] = x[int(i * height / h), int(j * width / w)]
                    continue
                u = i * (height - 1) / (h - 1) if h > 1 else 0.0
                v = j * (width - 1) / (w - 1) if w > 1 else 0.0
                i0, j0 = min(int(u), height - 1), min(int(v), width - 1)
                i1, j1 = min(i0 + 1, height - 1), min(j0 + 1, width - 1)
                du, dv = u - i0, v - j0
                top = (1 - dv) * x[i0, j0] + dv * x[i0, j1]
                out[i, j] = (1 - du) * top + du * ((1 - dv) * x[i1, j0] + dv * x[i1, j1])
        return out
    pad = s // 2
    h, w = (height + 2 * pad - s) // s + 1, (width + 2 * pad - s) // s + 1
    out = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            inside = [
                x[u, v]
                for u in range(i * s - pad, i * s - pad + s)
                for v in range(j * s - pad, j * s - pad + s)
                if 0 <= u < height and 0 <= v < width
            ]
            out[i, j] = sum(inside) / s**2 if pool == "avg" else max(inside)
    return out


def windows(x, radius):
    """Every radius x radius window of a map as a column."""
    h, w = x.shape
    return np.array(
        [x[i : i + radius, j : j + radius].ravel() for i in range(h - radius + 1) for j in range(w - radius + 1)]
    ).T


def rmi(
    z, y, w=None, *, pixel_kind="bce", lam=0.5, form="convex", radius=3, pool="avg", stride=4, alpha=5e-4, eps=1e-6, act="sigmoid",
    weight=None,
):  # fmt: skip
    z, target, v = unpack(z, y, w)
    n_images, n_classes = z.shape[:2]
    class_weight = np.ones(n_classes) if weight is None else np.asarray(weight, dtype=float)
    p = softmax(z) if act == "softmax" else sigmoid(z)
    d = radius**2
    region = 0.0
    for c in range(n_classes):
        bounds = []
        for n in range(n_images):
            if not (v[n, c] > 0).any():
                continue
            a = windows(pooled(target[n, c] * v[n, c], pool, stride, True), radius)
            b = windows(pooled(p[n, c] * v[n, c] + eps, pool, stride, False), radius)
            a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
            known = a @ b.T @ np.linalg.solve(b @ b.T + alpha * np.eye(d), b @ a.T)
            sign, logdet = np.linalg.slogdet(a @ a.T - known + alpha * np.eye(d))
            assert sign == 1
            bounds.append(logdet / (2 * d))
        region += class_weight[c] * (math.fsum(bounds) / len(bounds) if bounds else 0.0)
    if pixel_kind == "none":
        return float(region)
    pixels = pixel_term(z, target, v, pixel_kind, class_weight, 1 if pixel_kind == "bce" else 0)
    return float(lam * pixels + (1 - lam) * region if form == "convex" else pixels + lam * region)


def structural_similarity(z, y, w=None, *, pixel_kind="bce", lam=0.5, beta=0.1, c4=0.01, window_size=3, sigma=1.5, weight=None):
    z, target, v = unpack(z, y, w)
    _, n_classes, height, width = z.shape
    class_weight = np.ones(n_classes) if weight is None else np.asarray(weight, dtype=float)
    half = window_size // 2
    offsets = [(a, b) for a in range(-half, half + 1) for b in range(-half, half + 1)]

    def shifted(x, a, b):
        """x at the pixel a below and b to the right, 0 outside the image."""
        out = np.zeros(x.shape)
        rows, columns = range(max(0, -a), min(height, height - a)), range(max(0, -b), min(width, width - b))
        for i in rows:
            out[:, :, i, columns.start : columns.stop] = x[:, :, i + a, columns.start + b : columns.stop + b]
        return out

    share = {(a, b): shifted(v, a, b) * math.exp(-(a * a + b * b) / (2 * sigma**2)) for a, b in offsets}
    total = np.where(v > 0, sum(share.values()), 1.0)

    def standardised(x):
        mean = sum(share[o] * shifted(x, *o) for o in offsets) / total
        variance = sum(share[o] * (shifted(x, *o) - mean) ** 2 for o in offsets) / total
        return (x - mean + c4) / (np.sqrt(variance + 1e-12) + c4)

    e = np.where(v > 0, np.abs(standardised(target) - standardised(sigmoid(z))), 0.0)
    kept = v * (e > beta * e.max())
    loss = (np.logaddexp(0, z) - target * z) * class_weight[None, :, None, None]
    structure = (kept * e * loss).sum() / kept.sum() if kept.sum() > 0 else 0.0
    if pixel_kind == "none":
        return float(structure)
    return float(lam * pixel_term(z, target, v, pixel_kind, class_weight, 0) + (1 - lam) * structure)
