"""Losses for partly annotated images once more, from the definition alone: probabilities of merged classes are added.

Nothing here imports the package. Takes
    z          (N, C, P) logits, float64,
    y          (N, P) labels, 255 ignored,
    w          (N, P) pixel weights or None,
    annotated  a list of class numbers for each image; `rest` is the label of all other pixels of the image.

Every image becomes a small problem of its own classes; a loss over the batch adds, for every class, the sums of the images in
which that class was annotated. An image in which only the rest is known counts nowhere.
"""

import math

import numpy as np

IGNORE = 255


class Image:
    """One image as its own problem: `p[c]` and `y[c]` by pixel for its classes c, `w` by pixel without the ignored ones."""

    def __init__(self, z, y, w, known, rest):
        everything = range(len(z))
        self.classes = sorted({*known, rest})
        hidden = [c for c in everything if c not in self.classes]
        keep = [i for i in range(len(y)) if y[i] != IGNORE] if len(self.classes) > 1 else []
        self.w = np.array([1.0 if w is None else float(w[i]) for i in keep])
        self.p = {c: np.zeros(len(keep)) for c in self.classes}
        self.y = {c: np.zeros(len(keep)) for c in self.classes}
        for place, i in enumerate(keep):
            e = [math.exp(v - max(z[:, i])) for v in z[:, i]]
            for c in self.classes:
                self.p[c][place] = e[c] / sum(e)
                self.y[c][place] = float(y[i] == c)
            self.p[rest][place] += sum(e[c] for c in hidden) / sum(e)
            self.y[rest][place] += float(y[i] in hidden)
        self.classes = self.classes if keep else []

    def own(self):
        """(-log p of the pixel's class, class, weight) of every pixel."""
        for i, w in enumerate(self.w):
            c = next(c for c in self.classes if self.y[c][i] == 1)
            yield -math.log(self.p[c][i]), c, w


def images_of(z, y, w, annotated, rest):
    return [Image(z[n], y[n], None if w is None else w[n], annotated[n], rest) for n in range(len(z))]


def groups_of(images, per_image):
    return [[image] for image in images] if per_image else [images]


def mean_of(values):
    there = [v for v in values if v is not None]
    return sum(there) / len(there) if there else 0.0


def pixel_mean(z, y, w, annotated, rest=0, *, loss=lambda nll: nll, weight=None, per_image=False, smoothing=0.0):
    """Cross-entropy, or with `loss` a function of it; `weight` by class, in numerator and denominator."""
    values = []
    for group in groups_of(images_of(z, y, w, annotated, rest), per_image):
        top = bottom = 0.0
        for image in group:
            for i, (nll, c, pixel) in enumerate(image.own()):
                factor = 1.0 if weight is None else weight[c]
                every = [(1.0 if weight is None else weight[k]) * -math.log(image.p[k][i]) for k in image.classes]
                top += pixel * ((1 - smoothing) * factor * loss(nll) + smoothing * sum(every) / len(every))
                bottom += pixel * factor
        values.append(top / bottom if bottom > 0 else None)
    return mean_of(values)


def focal(z, y, w, annotated, rest=0, *, gamma=2.0, **options):
    return pixel_mean(z, y, w, annotated, rest, loss=lambda nll: (1 - math.exp(-nll)) ** gamma * nll, **options)


def ohem(z, y, w, annotated, rest=0, *, thresh, min_kept):
    """The pixels below the threshold, or the `min_kept` hardest where these are fewer; no ties in the test's data."""
    pixels = [own for image in images_of(z, y, w, annotated, rest) for own in image.own() if own[2] > 0]
    hard = [own for own in pixels if math.exp(-own[0]) < thresh]
    kept = hard if len(hard) >= min_kept else sorted(pixels, key=lambda own: own[0])[-min_kept:]
    return sum(nll * pixel for nll, _, pixel in kept) / sum(pixel for _, _, pixel in kept)


def recall(z, y, w, annotated, rest=0, *, per_image=False):
    values = []
    for group in groups_of(images_of(z, y, w, annotated, rest), per_image):
        size, missed, cost = {}, {}, {}
        for image in group:
            for i, (nll, c, pixel) in enumerate(image.own()):
                best = max(image.classes, key=lambda k: image.p[k][i])
                size[c] = size.get(c, 0.0) + pixel
                missed[c] = missed.get(c, 0.0) + pixel * (best != c)
                cost[c] = cost.get(c, 0.0) + pixel * nll
        top = sum(max(missed[c], 1) / max(size[c], 1) * cost[c] for c in size)
        values.append(top / sum(size.values()) if sum(size.values()) > 0 else None)
    return mean_of(values)


def by_class(z, y, w, annotated, rest, per_image, classes, formula):
    """Mean over groups of the mean over classes of formula(p, y, w) over the images that know the class."""
    values = []
    for group in groups_of(images_of(z, y, w, annotated, rest), per_image):
        known = sorted({c for image in group for c in image.classes})
        parts = []
        for c in known:
            where = [image for image in group if c in image.classes]
            p, t, omega = (np.concatenate(x) for x in zip(*[(image.p[c], image.y[c], image.w) for image in where]))
            if omega.sum() > 0 and (classes == "all" or (t * omega).sum() > 0):
                parts.append(formula(p, t, omega))
        values.append(sum(parts) / len(parts) if parts else None)
    return mean_of(values)


def tversky(z, y, w, annotated, rest=0, *, alpha=0.5, beta=0.5, per_image=False, classes="present"):
    def formula(p, t, omega):
        tp, fp, fn = (omega * p * t).sum(), (omega * p * (1 - t)).sum(), (omega * (1 - p) * t).sum()
        return 1 - tp / (tp + alpha * fp + beta * fn)

    return by_class(z, y, w, annotated, rest, per_image, classes, formula)


def mcc(z, y, w, annotated, rest=0, *, eps=1e-5, per_image=False, classes="present"):
    def formula(p, t, omega):
        tp, fp = (omega * p * t).sum() + eps, (omega * p * (1 - t)).sum() + eps
        fn, tn = (omega * (1 - p) * t).sum() + eps, (omega * (1 - p) * (1 - t)).sum() + eps
        return 1 - (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))

    return by_class(z, y, w, annotated, rest, per_image, classes, formula)


def generalized_dice(z, y, w, annotated, rest=0, *, per_image=False):
    values = []
    for group in groups_of(images_of(z, y, w, annotated, rest), per_image):
        top = bottom = 0.0
        for c in {c for image in group for c in image.classes}:
            where = [image for image in group if c in image.classes]
            both = sum((image.w * image.p[c] * image.y[c]).sum() for image in where)
            size_p, size = (sum((image.w * x[c]).sum() for image, x in pairs) for pairs in (
                [(image, image.p) for image in where], [(image, image.y) for image in where]))  # fmt: skip
            if size > 0:
                top += 2 * both / size**2
                bottom += (size_p + size) / size**2
        values.append(1 - top / bottom if bottom > 0 else None)
    return mean_of(values)


def exponential_logarithmic(z, y, w, annotated, rest=0, *, per_image=False):
    values = []
    for group in groups_of(images_of(z, y, w, annotated, rest), per_image):
        pixels = [own for image in group for own in image.own()]
        if not pixels:
            values.append(None)
            continue
        size = {}
        for _, c, pixel in pixels:
            size[c] = size.get(c, 0.0) + pixel
        total = sum(size.values())
        cross = sum(pixel * math.sqrt(total / size[c]) * nll**0.3 for nll, c, pixel in pixels) / total
        terms = []
        for c in {c for image in group for c in image.classes}:
            where = [image for image in group if c in image.classes]
            both, size_p = (sum((image.w * f(image)).sum() for image in where) for f in (
                lambda image, c=c: image.p[c] * image.y[c], lambda image, c=c: image.p[c]))  # fmt: skip
            terms.append((-math.log((2 * both + 1) / (size_p + size.get(c, 0.0) + 1))) ** 0.3)
        values.append(0.8 * sum(terms) / len(terms) + 0.2 * cross)
    return mean_of(values)


def lovasz(z, y, w, annotated, rest=0, *, per_image=False, classes="present"):
    def formula(p, t, omega):
        error = np.where(t == 1, 1 - p, p)
        total, missed, extra, before, value = (omega * t).sum(), 0.0, 0.0, 0.0, 0.0
        for i in sorted(range(len(p)), key=lambda i: -error[i]):
            if omega[i] == 0:
                continue
            missed, extra = missed + omega[i] * t[i], extra + omega[i] * (1 - t[i])
            jaccard = (missed + extra) / (total + extra)
            value, before = value + error[i] * (jaccard - before), jaccard
        return value

    return by_class(z, y, w, annotated, rest, per_image, classes, formula)
