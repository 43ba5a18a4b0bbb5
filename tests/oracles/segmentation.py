"""Segmentation losses once more, written from the formulas alone, in float64 numpy, slow and plain.

Nothing here imports the package. All functions take
    z   (N, C, P) logits,
    y   (N, P) integer labels; (N, C, P) integer 0/1 maps; or (N, C, P) float class probabilities,
    w   (N, P) pixel weights or None,
and return a Python float. `act` is "softmax" or "sigmoid"; with one channel label 1 is the foreground, with several
channels and (N, P) labels every class is set against the rest.
"""

import math

import numpy as np

IGNORE = 255


def softmax(z):
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_softmax(z):
    shifted = z - z.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def log_sigmoid(z):
    return np.where(z >= 0, -np.log1p(np.exp(-np.abs(z))), z - np.log1p(np.exp(-np.abs(z))))


def probabilities(z, act):
    return softmax(z) if act == "softmax" else np.exp(log_sigmoid(z))


def unpack(z, y, w, ignore=IGNORE):
    """Targets (N, C, P) in [0, 1] and weights (N, C, P), 0 where the pixel is ignored; logits with 0 there."""
    n_images, n_classes, n_pixels = z.shape
    target, weight = np.zeros(z.shape), np.zeros(z.shape)
    for n in range(n_images):
        for i in range(n_pixels):
            pixel = 1.0 if w is None else float(w[n, i])
            for c in range(n_classes):
                if y.ndim == 3:
                    value = float(y[n, c, i])
                    ignored = all(v == ignore for v in y[n, :, i]) if y.dtype.kind == "f" else value == ignore
                else:
                    ignored = y[n, i] == ignore
                    value = float(y[n, i] == (c if n_classes > 1 else 1))
                if not ignored:
                    target[n, c, i], weight[n, c, i] = value, pixel
    return np.where(weight > 0, z, 0.0), target, weight


def groups(n_images, per_image):
    return [[n] for n in range(n_images)] if per_image else [list(range(n_images))]


def mean_of(values):
    """Mean of the values that are not None; 0 if there is none."""
    there = [v for v in values if v is not None]
    return sum(there) / len(there) if there else 0.0


# --- means over pixels ---------------------------------------------------------------------------------------------


def cross_entropy(z, y, w=None, *, weight=None, label_smoothing=0.0, per_image=False, ignore=IGNORE):
    z, t, omega = unpack(z, y, w, ignore)
    logp = log_softmax(z)
    n_images, n_classes, n_pixels = z.shape
    weight = [1.0] * n_classes if weight is None else weight
    values = []
    for images in groups(n_images, per_image):
        top = bottom = 0.0
        for n in images:
            for i in range(n_pixels):
                for c in range(n_classes):
                    q = (1 - label_smoothing) * t[n, c, i] + label_smoothing / n_classes
                    if omega[n, c, i] > 0 and q > 0:
                        top -= omega[n, c, i] * weight[c] * q * logp[n, c, i]
                if y.dtype.kind == "f":
                    bottom += omega[n, 0, i]
                else:
                    bottom += omega[n, 0, i] * sum(weight[c] * t[n, c, i] for c in range(n_classes))
        values.append(top / bottom if bottom > 0 else None)
    return mean_of(values)


def binary_cross_entropy(z, y, w=None, *, weight=None, pos_weight=1.0, per_image=False):
    """`weight` has two entries for one channel (background, foreground), else one per channel."""
    z, t, omega = unpack(z, y, w)
    log1, log0 = log_sigmoid(z), log_sigmoid(-z)
    n_images, n_classes, n_pixels = z.shape
    pos_weight = [pos_weight] * n_classes if np.isscalar(pos_weight) else pos_weight
    values = []
    for images in groups(n_images, per_image):
        top = bottom = 0.0
        for n in images:
            for c in range(n_classes):
                if weight is None:
                    on, off = 1.0, 1.0
                elif n_classes == 1:
                    off, on = weight
                else:
                    off = on = weight[c]
                for i in range(n_pixels):
                    q, pixel = t[n, c, i], omega[n, c, i]
                    top -= pixel * (on * pos_weight[c] * q * log1[n, c, i] + off * (1 - q) * log0[n, c, i])
                    bottom += pixel * (on * q + off * (1 - q))
        values.append(top / bottom if bottom > 0 else None)
    return mean_of(values)


def focal(z, y, w=None, *, act="softmax", gamma=2.0, alpha=None, weight=None, per_image=False):
    z, t, omega = unpack(z, y, w)
    n_images, n_classes, n_pixels = z.shape
    weighted = weight is not None
    weight = weight if weighted else [1.0] * n_classes
    alphas = [alpha] * n_classes if alpha is None or np.isscalar(alpha) else alpha
    if act == "softmax":
        log1 = log_softmax(z)
    else:
        log1, log0 = log_sigmoid(z), log_sigmoid(-z)
    values = []
    for images in groups(n_images, per_image):
        top = bottom = 0.0
        for n in images:
            for i in range(n_pixels):
                for c in range(n_classes):
                    pixel = omega[n, c, i]
                    if pixel == 0:
                        continue
                    on, off = (1.0, 1.0) if alphas[c] is None else (alphas[c], 1 - alphas[c])
                    if t[n, c, i] == 1:
                        p = math.exp(log1[n, c, i])
                        top -= pixel * weight[c] * on * (1 - p) ** gamma * log1[n, c, i]
                    elif act == "sigmoid":
                        p = math.exp(log0[n, c, i])
                        top -= pixel * weight[c] * off * (1 - p) ** gamma * log0[n, c, i]
                    if act == "sigmoid" or t[n, c, i] == 1:
                        bottom += pixel * weight[c]
        values.append(top / bottom if bottom > 0 else None)
    return mean_of(values)


def recall(z, y, w=None, *, normalize="pixels", weight=None, per_image=False):
    z, t, omega = unpack(z, y, w)
    logp = log_softmax(z)
    n_images, n_classes, n_pixels = z.shape
    weight = [1.0] * n_classes if weight is None else weight
    values = []
    for images in groups(n_images, per_image):
        size, found = [0.0] * n_classes, [0.0] * n_classes
        for n in images:
            for i in range(n_pixels):
                for c in range(n_classes):
                    if t[n, c, i] and omega[n, c, i]:
                        size[c] += omega[n, c, i]
                        found[c] += omega[n, c, i] * (int(np.argmax(z[n, :, i])) == c)
        share = [weight[c] * max(size[c] - found[c], 1) / max(size[c], 1) for c in range(n_classes)]
        top = -sum(
            omega[n, c, i] * share[c] * logp[n, c, i]
            for n in images for i in range(n_pixels) for c in range(n_classes) if t[n, c, i]
        )  # fmt: skip
        bottom = sum(size) if normalize == "pixels" else sum(share[c] * size[c] for c in range(n_classes))
        values.append(top / bottom if bottom > 0 else None)
    return mean_of(values)


def _pixel_losses(z, t, omega, images, weight, act):
    """[(loss, pixel weight, class weight)] of the pixels that count (of the pixels and channels for sigmoids)."""
    _, n_classes, n_pixels = z.shape
    log1 = log_softmax(z) if act == "softmax" else log_sigmoid(z)
    log0 = log_sigmoid(-z)
    out = []
    for n in images:
        for c in range(n_classes):
            for i in range(n_pixels):
                if omega[n, c, i] == 0 or (act == "softmax" and t[n, c, i] == 0):
                    continue
                loss = -(log1 if t[n, c, i] else log0)[n, c, i]
                if weight is None:
                    factor = 1.0
                elif act == "sigmoid" and n_classes == 1:
                    factor = weight[int(t[n, c, i])]
                else:
                    factor = weight[c]
                out.append((loss, omega[n, c, i], factor))
    return out


def _selected_mean(pixels, share, weight_normalization):
    top = sum(s * o * f * x for s, (x, o, f) in zip(share, pixels))
    bottom = sum(s * o * (f if weight_normalization else 1.0) for s, (x, o, f) in zip(share, pixels))
    return top / bottom if bottom > 0 else None


def ohem(
    z, y, w=None, *, act="softmax", thresh=0.7, min_kept=100000, min_kept_per_image=False, selection="hrnet", weight=None,
    weight_normalization=False, per_image=False,
):  # fmt: skip
    z, t, omega = unpack(z, y, w)
    values = []
    for images in groups(z.shape[0], per_image):
        pixels = _pixel_losses(z, t, omega, images, weight, act)
        if not pixels:
            values.append(None)
            continue
        n = len(pixels)
        wanted = math.ceil(min_kept * n) if isinstance(min_kept, float) else min_kept * (len(images) if min_kept_per_image else 1)
        wanted = max(1, min(wanted, n - 1 if selection == "hrnet" else n))
        if selection == "hrnet":
            hard = [math.exp(-x) < thresh for x, _, _ in pixels]
        else:
            hard = [math.exp(-x) <= thresh for x, _, _ in pixels]
        if sum(hard) < wanted:
            least = sorted((x for x, _, _ in pixels), reverse=True)[wanted - 1]
            hard = [x >= least for x, _, _ in pixels]
        values.append(_selected_mean(pixels, [float(h) for h in hard], weight_normalization))
    return mean_of(values)


def bootstrapped(
    z, y, w=None, *, act="softmax", top_k=0.25, threshold=None, weight=None, weight_normalization=False, per_image=False
):
    z, t, omega = unpack(z, y, w)
    values = []
    for images in groups(z.shape[0], per_image):
        pixels = _pixel_losses(z, t, omega, images, weight, act)
        if not pixels:
            values.append(None)
            continue
        k = math.ceil(top_k * len(pixels)) if isinstance(top_k, float) else top_k
        k = max(1, min(k, len(pixels)))
        kth = sorted((x for x, _, _ in pixels), reverse=True)[k - 1]
        above, equal = sum(x > kth for x, _, _ in pixels), sum(x == kth for x, _, _ in pixels)
        share = [1.0 if x > kth else (k - above) / equal if x == kth else 0.0 for x, _, _ in pixels]
        if threshold is not None and sum(x > threshold for x, _, _ in pixels) >= k:
            share = [float(x > threshold) for x, _, _ in pixels]
        values.append(_selected_mean(pixels, share, weight_normalization))
    return mean_of(values)


# --- one value per class -------------------------------------------------------------------------------------------


def region_mean(
    value, t, omega, *, classes, per_image, weight=None, absent_as_zero=False, weight_normalization=True, finish=lambda x: x
):
    """Mean over groups of the weighted mean over the counted classes of value(images, classes counted) -> {class: loss}."""
    n_images, n_classes, _ = t.shape
    weight = [1.0] * n_classes if weight is None else weight
    values = []
    for images in groups(n_images, per_image):
        alive = [c for c in range(n_classes) if omega[images, c].sum() > 0]
        labelled = [c for c in alive if (t[images, c] * omega[images, c]).sum() > 0]
        counted = labelled if classes == "present" else alive if classes == "all" else [c for c in classes if c in alive]
        by_class = value(images, counted)
        top = bottom = 0.0
        for c in counted:
            if not (absent_as_zero and c not in labelled):
                top += weight[c] * by_class[c]
            bottom += weight[c] if weight_normalization else 1.0
        values.append(finish(top / bottom) if bottom > 0 else None)
    return mean_of(values)


def tversky(
    z, y, w=None, *, act="softmax", alpha=0.3, beta=0.7, smooth_num=0.0, smooth_den=0.0, squared=False, log_loss=False,
    average="macro", gamma=1.0, power_of_mean=False, eps=1e-7, classes="present", per_image=False, finish=None, **mean,
):  # fmt: skip
    z, t, omega = unpack(z, y, w)
    p = probabilities(z, act)
    soft = y.dtype.kind == "f"

    def sums(images, c):
        tp = size_p = size_t = 0.0
        for n in images:
            for i in range(z.shape[2]):
                pi, ti, o = p[n, c, i], t[n, c, i], omega[n, c, i]
                tp += o * (min(pi, ti) if soft and not squared else pi * ti)
                size_p += o * (pi * pi if squared else pi)
                size_t += o * (ti * ti if squared else ti)
        return np.array([tp, size_p - tp, size_t - tp])

    def one(tp, fp, fn):
        index = (tp + smooth_num) / max(tp + alpha * fp + beta * fn + smooth_den, eps)
        loss = -math.log(max(index, eps)) if log_loss else 1 - index
        return loss if power_of_mean else max(loss, 0.0) ** gamma

    def value(images, counted):
        by_class = {c: sums(images, c) for c in counted}
        if average == "micro" and by_class:
            total = sum(by_class.values())
            by_class = dict.fromkeys(by_class, total)
        return {c: one(*s) for c, s in by_class.items()}

    if power_of_mean:
        finish = lambda x: max(x, 0.0) ** gamma  # noqa: E731
    return region_mean(value, t, omega, classes=classes, per_image=per_image, finish=finish or (lambda x: x), **mean)


def dice(z, y, w=None, *, smooth_num=0.0, smooth_den=0.0, eps=1e-7, **options):
    """2 TP / (|p| + |y|), written through its own formula rather than through Tversky's where nothing else is asked for."""
    return tversky(z, y, w, alpha=0.5, beta=0.5, smooth_num=smooth_num / 2, smooth_den=smooth_den / 2, eps=eps / 2, **options)


def jaccard(z, y, w=None, **options):
    return tversky(z, y, w, alpha=1.0, beta=1.0, **options)


def log_cosh_dice(z, y, w=None, **options):
    return dice(z, y, w, finish=lambda x: math.log(math.cosh(x)), **options)


def generalized_dice(
    z, y, w=None, *, act="softmax", weight_type="square", smooth_num=0.0, smooth_den=0.0, weight=None, classes="present",
    per_image=False,
):  # fmt: skip
    z, t, omega = unpack(z, y, w)
    p = probabilities(z, act)
    soft = y.dtype.kind == "f"
    n_classes = z.shape[1]
    weight = [1.0] * n_classes if weight is None else weight
    exponent = {"square": 2, "simple": 1, "uniform": 0}[weight_type]
    values = []
    for images in groups(z.shape[0], per_image):
        size = {c: (t[images, c] * omega[images, c]).sum() for c in range(n_classes) if omega[images, c].sum() > 0}
        counted = [c for c in size if classes == "all" or (size[c] > 0 if classes == "present" else c in classes)]
        if not counted:
            values.append(None)
            continue
        known = [size[c] ** -exponent for c in counted if size[c] > 0]
        top, bottom = smooth_num, smooth_den
        for c in counted:
            v = weight[c] * (size[c] ** -exponent if size[c] > 0 else max(known, default=1.0))
            inside = np.minimum(p, t) if soft else p * t
            top += 2 * v * (inside * omega)[images, c].sum()
            bottom += v * ((p * omega)[images, c].sum() + size[c])
        values.append(1 - top / bottom)
    return mean_of(values)


def mcc(z, y, w=None, *, act="softmax", eps=1e-5, classes="present", per_image=False, **mean):
    z, t, omega = unpack(z, y, w)
    p = probabilities(z, act)

    def value(images, counted):
        out = {}
        for c in counted:
            pc, tc, o = p[images, c], t[images, c], omega[images, c]
            both = np.minimum(pc, tc)
            tp, fp, fn = (both * o).sum() + eps, ((pc - both) * o).sum() + eps, ((tc - both) * o).sum() + eps
            tn = ((1 - pc - tc + both) * o).sum() + eps
            out[c] = 1 - (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        return out

    return region_mean(value, t, omega, classes=classes, per_image=per_image, **mean)


def exponential_logarithmic(
    z, y, w=None, *, w_dice=0.8, w_cross=0.2, gamma_dice=0.3, gamma_cross=0.3, frequencies=None, smooth=1.0, weight=None,
    classes="all", per_image=False, floor=1e-7,
):  # fmt: skip
    z, t, omega = unpack(z, y, w)
    p, logp = softmax(z), log_softmax(z)
    n_images, n_classes, n_pixels = z.shape
    weight = [1.0] * n_classes if weight is None else weight
    values = []
    for images in groups(n_images, per_image):
        total = omega[images, 0].sum()
        if total == 0:
            values.append(None)
            continue
        size = [(t[images, c] * omega[images, c]).sum() for c in range(n_classes)]
        counted = [c for c in range(n_classes) if classes == "all" or (size[c] > 0 if classes == "present" else c in classes)]
        top = 0.0
        for c in counted:
            d = (2 * (p * t * omega)[images, c].sum() + smooth) / ((p * omega)[images, c].sum() + size[c] + smooth)
            top += weight[c] * max(-math.log(d), floor) ** gamma_dice
        dice_term = top / sum(weight[c] for c in counted)
        f = size if frequencies is None else frequencies
        cross = 0.0
        for n in images:
            for i in range(n_pixels):
                for c in range(n_classes):
                    if t[n, c, i] and omega[n, c, i]:
                        v = math.sqrt(sum(f) / f[c])
                        cross += omega[n, c, i] * weight[c] * v * max(-logp[n, c, i], floor) ** gamma_cross
        values.append(w_dice * dice_term + w_cross * cross / total)
    return mean_of(values)


# --- Lovász --------------------------------------------------------------------------------------------------------


def lovasz_extension(errors, foreground, weights):
    """Textbook form: sum of the sorted errors times the steps of the Jaccard loss of the sets of largest errors."""
    order = sorted(range(len(errors)), key=lambda i: -errors[i])
    total = sum(w for f, w in zip(foreground, weights) if f)
    value = before = missed = extra = 0.0
    for i in order:
        if weights[i] == 0:
            continue
        if foreground[i]:
            missed += weights[i]
        else:
            extra += weights[i]
        loss = (missed + extra) / (total + extra)  # |wrong| / |labelled or wrong|
        value += errors[i] * (loss - before)
        before = loss
    return value


def lovasz(z, y, w=None, *, act="softmax", hinge=False, classes="present", per_image=False, **mean):
    z, t, omega = unpack(z, y, w)
    if hinge:
        errors = np.maximum(0.0, 1 - np.where(t == 1, z, -z))
    else:
        p = probabilities(z, act)
        errors = np.where(t == 1, 1 - p, p)

    def value(images, counted):
        return {
            c: lovasz_extension(errors[images, c].ravel(), t[images, c].ravel() == 1, omega[images, c].ravel()) for c in counted
        }

    return region_mean(value, t, omega, classes=classes, per_image=per_image, **mean)


# --- one pixel at a time: gradients by differences -----------------------------------------------------------------


def gradient(loss, z, step=1e-5):
    """Central differences of loss(z), everywhere."""
    out = np.zeros_like(z)
    for index in np.ndindex(*z.shape):
        up, down = z.copy(), z.copy()
        up[index] += step
        down[index] -= step
        out[index] = (loss(up) - loss(down)) / (2 * step)
    return out
