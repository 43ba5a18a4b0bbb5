"""Auto Seg-Loss from its definition, in float64: the metric's AND, OR and edges per pixel, the curve by bisection."""

import numpy as np


def curve(points, x):
    """y of the piecewise Bezier curve with these inner control points [(x, y), ...] where its x is the given one."""
    points = [(0.0, 0.0), *points, (1.0, 1.0)]
    y = np.zeros_like(x)
    for k in range(0, len(points) - 2, 2):
        (x0, y0), (x1, y1), (x2, y2) = points[k : k + 3]
        low, high = np.zeros_like(x), np.ones_like(x)
        for _ in range(60):
            t = (low + high) / 2
            below = (1 - t) ** 2 * x0 + 2 * t * (1 - t) * x1 + t**2 * x2 < x
            low, high = np.where(below, t, low), np.where(below, high, t)
        t = (low + high) / 2
        inside = (x >= x0) & (x <= x2)
        y = np.where(inside, (1 - t) ** 2 * y0 + 2 * t * (1 - t) * y1 + t**2 * y2, y)
    return y


def split(numbers, curves):
    """[(x, y), ...] of every curve."""
    each = len(numbers) // curves
    return [list(zip(numbers[i : i + each : 2], numbers[i + 1 : i + each : 2])) for i in range(0, len(numbers), each)]


def neighbourhood(a, reach, reduce):
    """The largest or smallest value of (H, W) in the square around every pixel, as far as it lies in the image."""
    H, W = a.shape
    out = np.empty_like(a)
    for i in range(H):
        for j in range(W):
            out[i, j] = reduce(a[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1])
    return out


def each_map(a, reach, reduce):
    return np.stack([[neighbourhood(channel, reach, reduce) for channel in image] for image in a])


def auto_seg(z, y, w=None, *, metric, numbers, binary=False, weight=None, tolerance=5, drop_background=True):
    """One minus the metric. z (N, C, H, W), y (N, H, W) with 255 ignored, w (N, H, W)."""
    if binary:
        z = np.concatenate([np.zeros_like(z), z], 1)
    e = np.exp(z - z.max(1, keepdims=True))
    p = e / e.sum(1, keepdims=True)
    C = p.shape[1]
    w = np.ones(y.shape) if w is None else w
    w = np.where(y == 255, 0.0, w)
    y = np.where(w == 0, 255, y)
    Y = np.stack([(y == c).astype(float) for c in range(C)], 1)
    class_weight = np.ones(C) if weight is None else np.asarray(weight, float)
    if not w.any():
        return 0.0

    def total(a, weights):
        return (a * weights[:, None]).sum((0, 2, 3))

    if metric in ("mIoU", "FWIoU", "BIoU"):
        h_and, h_or = split(numbers, 2)
        if metric == "BIoU":
            edge = Y - each_map(Y, 1, np.min)
            near = each_map(edge[:, int(drop_background) :], tolerance, np.max).max(1)
            w = w * near
        intersection = total(curve(h_and, p) * Y, w)
        bent = curve(h_or, p)
        iou = intersection / (total(bent + Y - bent * Y, w) + 1e-8)
        share = class_weight * (total(Y, w) if metric == "FWIoU" else 1.0)
        return float(1 - (share * iou).sum() / share.sum())
    if metric in ("mAcc", "gAcc"):
        (h,) = split(numbers, 1)
        size = total(Y, w)
        recall = total(curve(h, p) * Y, w) / (size + 1e-8)
        share = class_weight * (size if metric == "gAcc" else 1.0)
        return float(1 - (share * recall).sum() / share.sum())
    h1, h2, h3, h4 = split(numbers, 4)
    p = p * (y != 255)[:, None]
    q = each_map(p, 1, np.min)
    edge = Y - each_map(Y, 1, np.min)
    a, b = curve(h3, p), curve(h4, q)
    predicted = np.maximum(a + b - a * b - curve(h1, p) * curve(h2, q), 0)
    precision = total(predicted * each_map(edge, tolerance, np.max), w) / (total(predicted, w) + 1e-8)
    recall = total(each_map(predicted, tolerance, np.max) * edge, w) / (total(edge, w) + 1e-8)
    share = class_weight * (total(edge, w) > 0)
    if not share.any():
        return 0.0
    return float(1 - (share * 2 * precision * recall / (precision + recall + 1e-8)).sum() / share.sum())


def summed(z, y, w=None, *, parts):
    """Several metrics: [(weight, keywords), ...]."""
    return sum(factor * auto_seg(z, y, w, **keywords) for factor, keywords in parts)
