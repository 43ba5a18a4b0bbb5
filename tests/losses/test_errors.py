"""Every mistake has a message that says what was received and what would be right."""

import re

import pytest
import torch

from evenseg import build_loss
from evenseg import losses as L
from evenseg.losses.build import LossConfigError
from evenseg.statistics import Members, segment_statistics

Z, Y = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
BAD = Y.clone()
BAD[0, 0, :3] = 7
BAD[1, 0, 0] = -3
BINARY = Y.clone()
BINARY[0] = 255


def raises(message):
    return pytest.raises(ValueError, match=message)


CALLS = {
    "logits of another size": (
        lambda: L.DiceLoss()(Z, Y[:, :3]),
        r"target has shape \(2, 3, 4\), logits \(2, 3, 4, 4\): expected labels \(2, 4, 4\) or one map per channel",
    ),
    "integer logits": (lambda: L.DiceLoss()(Z.long(), Y), r"logits must be a floating point tensor .* got torch.int64"),
    "no tensor": (lambda: L.DiceLoss()([1.0], Y), "logits must be a tensor, got list"),
    "no tensor in a mix": (lambda: L.MixedLoss([L.DiceLoss()], [1.0])([1.0], Y), "logits must be a tensor, got list"),
    "target no tensor": (lambda: L.DiceLoss()(Z, [0]), "target must be an integer, bool or float tensor, got list"),
    "target no tensor in a mix": (lambda: L.MixedLoss([L.DiceLoss()], [1.0])(Z, [0]), "target must be .* tensor, got list"),
    "complex target": (lambda: L.DiceLoss()(Z, Y.to(torch.complex64)), "target must be .* got torch.complex64"),
    "one-dimensional logits": (lambda: L.DiceLoss()(Z[0, 0, 0], Y), "needs logits .* at least 2 channels, got"),
    "empty batch": (lambda: L.DiceLoss()(Z[:0], Y[:0]), r"logits have no pixels: shape \(0, 3, 4, 4\)"),
    "empty crop": (lambda: L.CrossEntropyLoss(engine="eager")(Z[..., :0], Y[..., :0]), r"no pixels: shape \(2, 3, 4, 0\)"),
    "one channel softmax": (
        lambda: L.CrossEntropyLoss()(Z[:, :1], Y),
        r"at least 2 channels, got \(2, 1, 4, 4\); use mode='binary'",
    ),
    "three binary channels": (
        lambda: L.LovaszHingeLoss()(Z, Y),
        r"mode='binary' needs logits .* got \(2, 3, 4, 4\) for a target of",
    ),
    "one-hot maps of two binary channels": (
        lambda: L.BinaryCrossEntropyLoss()(Z[:, :2], torch.rand_like(Z[:, :2])),
        r"same shape \(2, 2, 4, 4\): for two channels and a one-hot target pass labels or target\[:, 1\]",
    ),
    "maps for a softmax": (lambda: L.DiceLoss()(Z, torch.zeros_like(Z).long()), "one map per class.* use mode='multilabel'"),
    "label range": (
        lambda: L.DiceLoss()(Z, BAD),
        r"labels outside the classes 0\.\.2 \(255 is ignored\): -3 \(1 pixel\), 7 \(3 pixels\)$",
    ),
    "label range, sorted Lovász": (lambda: L.LovaszSoftmaxLoss(method="sort")(Z, BAD), r"-3 \(1 pixel\), 7 \(3 pixels\)"),
    "label range, definition": (lambda: L.DiceLoss(engine="eager")(Z, BAD), r"-3 \(1 pixel\), 7 \(3 pixels\)"),
    "label range, uint8": (lambda: L.DiceLoss()(Z, (Y + 9).to(torch.uint8)), r"9 \(32 pixels\)"),
    "label range, float": (lambda: L.DiceLoss()(Z, BAD.float()), r"-3 \(1 pixel\), 7 \(3 pixels\)"),
    "label range, maps": (
        lambda: L.DiceLoss(mode="multilabel")(Z, torch.full_like(Z, 2).long()),
        r"classes 0\.\.1 .*: 2 \(96 pixels\)",
    ),
    "labels from one": (lambda: L.DiceLoss()(Z, Y + 3), "3 .32 pixels.; are the labels counted from 1"),
    "0/255 masks": (
        lambda: L.LovaszHingeLoss(ignore_index=None)(Z[:, :1], BINARY),
        r"no label is ignored\): 255 \(16 pixels\); if 255 marks pixels to leave out, set ignore_index=255; if it marks",
    ),
    "fractions as labels": (lambda: L.CrossEntropyLoss()(Z, Y + 0.5), "float labels must be whole numbers"),
    "soft range": (lambda: L.CrossEntropyLoss()(Z, Z + 1.5), r"soft labels must lie in \[0, 1\], got values from 1.5 to 1.5"),
    "soft focal": (lambda: L.FocalLoss()(Z, Z + 0.3), "FocalLoss is not defined for soft labels; give it integer labels"),
    "soft Lovász": (lambda: L.LovaszSoftmaxLoss()(Z, Z + 0.3), "LovaszSoftmaxLoss is not defined for soft labels"),
    "soft sorted Lovász": (
        lambda: L.LovaszSoftmaxLoss(method="sort")(Z, Z + 0.3),
        "LovaszSoftmaxLoss is not defined for soft labels",
    ),
    "soft recall": (lambda: L.RecallLoss()(Z, Z + 0.3), "RecallLoss is not defined for soft labels"),
    "soft OHEM": (lambda: L.OhemCrossEntropyLoss()(Z, Z + 0.3), "OhemCrossEntropyLoss is not defined for soft labels"),
    "soft OHEM in a mix": (lambda: L.MixedLoss([L.OhemCrossEntropyLoss()], [1.0])(Z, Z + 0.3), "not defined for soft labels"),
    "weight length": (
        lambda: L.CrossEntropyLoss(weight=[1.0, 2.0])(Z, Y),
        r"weight has 2 entries, the logits need 3 \(mode='multiclass'\)",
    ),
    "weight length in a mix": (lambda: L.MixedLoss([L.DiceLoss(weight=[1.0, 2.0])], [1.0])(Z, Y), "weight has 2 entries"),
    "weight length BCE": (lambda: L.BinaryCrossEntropyLoss(weight=[1.0])(Z[:, 0], Y), "weight has 1 entries, the logits need 2"),
    "pos_weight length": (
        lambda: L.BinaryCrossEntropyLoss(pos_weight=[1.0, 2.0])(Z[:, 0], Y),
        "pos_weight has 2 entries, .* 1 channels",
    ),
    "alpha length": (lambda: L.FocalLoss(alpha=[0.1, 0.2])(Z, Y), "alpha has 2 entries, the logits have 3 channels"),
    "frequencies length": (
        lambda: L.ExponentialLogarithmicLoss(frequencies=[1.0])(Z, Y),
        "frequencies has 1 entries, the logits have 3",
    ),
    "class number": (lambda: L.DiceLoss(classes=[0, 3])(Z, Y), r"classes \[0, 3\] do not fit logits of 3 channels"),
    "pixel_weight shape": (
        lambda: L.DiceLoss()(Z, Y, torch.ones(2, 3, 4, 4)),
        r"pixel_weight must have the shape of the labels, \(2, 4, 4\), got \(2, 3",
    ),
    "pixel_weight type": (lambda: L.DiceLoss()(Z, Y, 2.0), "pixel_weight must have the shape of the labels, .* got float"),
    "pixel_weight sign": (lambda: L.DiceLoss()(Z, Y, torch.full((2, 4, 4), -1.0)), "pixel_weight must be finite and not negative"),
    "pixel_weight nan": (
        lambda: L.DiceLoss()(Z, Y, torch.full((2, 4, 4), torch.nan)),
        "pixel_weight must be finite and not negative",
    ),
    "pixel_weight gradient": (
        lambda: L.DiceLoss()(Z, Y, torch.ones(2, 4, 4, requires_grad=True)),
        "must not require a gradient; detach it",
    ),
    "another device": (lambda: L.DiceLoss()(Z, Y.to("meta")), "target is on meta, logits are on cpu; move one to the other"),
    "forced engine": (
        lambda: L.DiceLoss(engine="numba")(Z, Z + 0.3),
        "engine='numba' cannot be used: the targets are probabilities",
    ),
    "smoothed map": (lambda: L.CrossEntropyLoss(label_smoothing=0.1, reduction="none")(Z, Y), "does not support label_smoothing"),
    "weighted soft map": (
        lambda: L.BinaryCrossEntropyLoss(pos_weight=2.0, reduction="none")(Z[:, 0], Z[:, 0] + 0.3),
        "reduction='none' with soft labels supports neither weight nor pos_weight",
    ),
    "unreduced part": (
        lambda: L.MixedLoss([L.DiceLoss(reduction="none")], [1.0])(Z, Y),
        "DiceLoss in a mix must give a scalar.* 'none'",
    ),
    "activation": (
        lambda: segment_statistics(Z, Y, Members(), activation="tanh"),
        "activation must be one of softmax, sigmoid, hinge, got 'tanh'",
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    call, message = CALLS[name]
    with raises(message):
        call()


OPTIONS = {
    "unknown keyword": (L.DiceLoss, {"smoth_num": 1}, r"DiceLoss has no keyword 'smoth_num'; did you mean 'smooth_num'\?"),
    "misspelt common keyword": (
        L.LovaszSoftmaxLoss,
        {"ignore": 1},
        "LovaszSoftmaxLoss has no keyword 'ignore'; did you mean 'ignore_index'",
    ),
    "nothing near": (
        L.LovaszSoftmaxLoss,
        {"qqq": 1},
        r"has no keyword 'qqq'; allowed: absent_as_zero, .* method, \.\.\. \(15 in all\)",
    ),
    "negative weight": (
        L.CrossEntropyLoss,
        {"weight": [1.0, -1.0]},
        r"weight must be finite, not negative and not all zero, got \[1.0, -1.0\]",
    ),
    "NaN weight": (L.CrossEntropyLoss, {"weight": [1.0, float("nan")]}, "weight must be finite"),
    "zero weight": (L.CrossEntropyLoss, {"weight": [0.0, 0.0]}, "not all zero"),
    "scalar weight": (L.CrossEntropyLoss, {"weight": 2.0}, "weight must be a list of numbers, one per class, got 2.0"),
    "textual weight": (
        L.CrossEntropyLoss,
        {"weight": "balanced"},
        "weight must be a list of numbers, one per class, got 'balanced'",
    ),
    "nested weight": (L.CrossEntropyLoss, {"weight": [[1.0], [2.0]]}, "weight must be a list of numbers"),
    "classes number": (
        L.DiceLoss,
        {"classes": 1},
        "classes must be 'present', 'all', 'foreground' or a list of distinct class numbers, got 1",
    ),
    "classes word": (L.DiceLoss, {"classes": "some"}, "classes must be one of 'present', 'all', 'foreground', got 'some'"),
    "classes floats": (L.DiceLoss, {"classes": [0.5]}, "list of distinct class numbers"),
    "classes twice": (L.DiceLoss, {"classes": [1, 1]}, "list of distinct class numbers"),
    "classes negative": (L.DiceLoss, {"classes": [-1]}, "list of distinct class numbers"),
    "classes empty": (L.DiceLoss, {"classes": []}, "list of distinct class numbers"),
    "classes of a pixel mean": (L.CrossEntropyLoss, {"classes": [1]}, "CrossEntropyLoss is a mean over pixels.*classes.*weight"),
    "classes of mined pixels": (L.OhemCrossEntropyLoss, {"classes": [1]}, "OhemCrossEntropyLoss is a mean over pixels"),
    "mode": (L.DiceLoss, {"mode": "multi"}, "mode must be one of 'multiclass', 'binary', 'multilabel', got 'multi'"),
    "reduction": (L.DiceLoss, {"reduction": "avg"}, "reduction must be one of 'mean', 'sum', 'none', got 'avg'"),
    "engine": (L.DiceLoss, {"engine": "cuda"}, "engine must be one of 'auto', 'eager', 'numba', 'triton', got 'cuda'"),
    "ignore_index": (L.DiceLoss, {"ignore_index": "255"}, "ignore_index must be an integer or None, got '255'"),
    "flag": (L.DiceLoss, {"per_image": 1}, "per_image must be true or false, got 1"),
    "smooth": (L.DiceLoss, {"smooth_num": -1.0}, r"smooth_num must lie in \[0, inf\], got -"),
    "NaN": (L.TverskyLoss, {"alpha": float("nan")}, "alpha must be a finite number, got nan"),
    "word for a number": (L.TverskyLoss, {"beta": "1e-3"}, "beta must be a finite number, got '1e-3'"),
    "eps": (L.DiceLoss, {"eps": 0.0}, r"eps must lie in \(0, inf\], got 0.0"),
    "gamma": (L.FocalLoss, {"gamma": -1}, r"gamma must lie in \[0, 20\], got -1"),
    "sigmoid alpha": (L.FocalLoss, {"mode": "binary", "alpha": 2.0}, r"alpha must lie in \[0, 1\] for the sigmoid form"),
    "smoothing": (L.CrossEntropyLoss, {"label_smoothing": 1.5}, r"label_smoothing must lie in \[0, 1\], got 1.5"),
    "num_bins": (L.LovaszSoftmaxLoss, {"num_bins": 1000}, "num_bins must be a multiple of 16 between 16 and 16384, got 1000"),
    "num_bins float": (L.LovaszHingeLoss, {"num_bins": 1024.0}, "num_bins must be a multiple of 16 .* got 1024.0"),
    "method": (L.LovaszSoftmaxLoss, {"method": "radix"}, "method must be one of 'histogram', 'sort', got 'radix'"),
    "top_k": (
        L.BootstrappedCrossEntropyLoss,
        {"top_k": 1.5},
        r"top_k must be a number of pixels \(an int\) or a fraction .* got 1.5",
    ),
    "min_kept": (L.OhemCrossEntropyLoss, {"min_kept": -1}, "min_kept must be a number of pixels"),
    "thresh": (L.OhemCrossEntropyLoss, {"thresh": 0}, r"thresh must lie in \(0, 1\], got 0"),
    "fraction per image": (L.OhemCrossEntropyLoss, {"min_kept": 0.5, "min_kept_per_image": True}, "a fraction is relative already"),
    "OHEM sum": (L.OhemCrossEntropyLoss, {"reduction": "sum"}, "OhemCrossEntropyLoss has reduction='mean' only"),
    "OHEM memory": (L.OhemCrossEntropyLoss, {"memory": 0.9}, "selects pixels of this batch: it has no memory"),
    "memory value": (L.DiceLoss, {"memory": 1.5}, "memory must be None, 'accumulate' or a decay between 0 and 1, got 1.5"),
    "memory per image": (L.DiceLoss, {"memory": 0.9, "per_image": True}, "cannot be combined with per_image=True"),
    "sort with memory": (L.LovaszSoftmaxLoss, {"memory": 0.9, "method": "sort"}, "memory needs method='histogram'"),
    "sort with sync": (L.LovaszSoftmaxLoss, {"sync": True, "method": "sort"}, "sync needs method='histogram'"),
    "micro weight": (L.DiceLoss, {"average": "micro", "weight": [1.0]}, "one index for all classes: weight does not apply"),
    "micro absent": (
        L.DiceLoss,
        {"average": "micro", "absent_as_zero": True},
        "one index for all classes: absent_as_zero does not apply",
    ),
    "CE binary": (L.CrossEntropyLoss, {"mode": "binary"}, "for 'binary' use BinaryCrossEntropyLoss"),
    "recall binary": (L.RecallLoss, {"mode": "binary"}, "RecallLoss is for mode='multiclass', got 'binary'"),
    "hinge classes": (L.LovaszHingeLoss, {"mode": "multiclass"}, "for several classes use LovaszSoftmaxLoss"),
    "exp-log binary": (L.ExponentialLogarithmicLoss, {"mode": "binary"}, "is for mode='multiclass', got 'binary'"),
    "exp-log map": (L.ExponentialLogarithmicLoss, {"reduction": "none"}, "has no reduction='none'"),
    "softmax focal of one logit": (
        L.FocalLoss,
        {"mode": "binary", "activation": "softmax"},
        "activation='softmax' needs mode='multiclass'",
    ),
    "weight type": (
        L.GeneralizedDiceLoss,
        {"weight_type": "cubic"},
        "weight_type must be one of 'square', 'simple', 'uniform', got 'cubic'",
    ),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name):
    cls, options, message = OPTIONS[name]
    with raises(message):
        cls(**options)


def test_positional_options_are_refused():
    with pytest.raises(TypeError):
        L.DiceLoss(1.0)


def test_mix_counts():
    with raises("MixedLoss needs one coef per loss: 2 losses, coef has 1"):
        L.MixedLoss([L.DiceLoss(), L.FocalLoss()], [1.0])
    with raises("one coef per loss: 1 losses, coef has 2.0"):
        L.MixedLoss([L.DiceLoss()], 2.0)
    with raises(r"coef\[1\] must be a finite number, got inf"):
        L.MixedLoss([L.DiceLoss(), L.FocalLoss()], [1.0, float("inf")])
    with raises("losses must be a non-empty list, got"):
        L.MixedLoss([], [])
    with raises("losses must be a non-empty list, got {"):
        L.MixedLoss({"type": "DiceLoss"}, [1.0])


CE = {"type": "CrossEntropyLoss"}
SECTIONS = {
    "no mapping": ("DiceLoss", "loss", "must be a mapping with 'types' and 'coef', got 'DiceLoss'"),
    "unknown key": ({"types": [CE], "coef": [1], "phase": 3}, "loss.phase", "unknown key"),
    "misspelt key": ({"type s": [CE], "coef": [1]}, "loss.type s", "did you mean 'types'"),
    "no types": ({"coef": [1]}, "loss.types", "non-empty list of losses, one per model output, got None"),
    "no coef": ({"types": [CE]}, "loss.coef", "must be a list of numbers, got None"),
    "types no list": ({"types": CE, "coef": [1]}, "loss.types", "must be a non-empty list"),
    "counts": ({"types": [CE, CE], "coef": [1, 1, 1]}, "loss.coef", "has 3 entries for 2 entries of types"),
    "coef word": ({"types": [CE], "coef": ["a"]}, "loss.coef", "entry 0 must be a finite number, got 'a'"),
    "unknown type": (
        {"types": [{"type": "LovaszSoftmax"}], "coef": [1]},
        "loss.types[0].type",
        "unknown loss 'LovaszSoftmax'; did you mean 'LovaszSoftmaxLoss'?",
    ),
    "type no word": ({"types": [{"type": ["DiceLoss"]}], "coef": [1]}, "loss.types[0].type", "unknown loss ['DiceLoss']"),
    "no type": ({"types": [{"weight": [1]}], "coef": [1]}, "loss.types[0]", "has no 'type'; allowed: "),
    "entry no mapping": (
        {"types": ["DiceLoss"], "coef": [1]},
        "loss.types[0]",
        "a loss is a mapping with a 'type', got 'DiceLoss'",
    ),
    "unknown keyword": (
        {"types": [CE, {"type": "DiceLoss", "smoth_num": 1}], "coef": [1, 1]},
        "loss.types[1].smoth_num",
        "DiceLoss has no keyword 'smoth_num'; did you mean 'smooth_num'?",
    ),
    "value": (
        {"type": "DiceLoss", "weight_normalization": 3, "weight": [1, 2]},
        "loss.weight_normalization",
        "must be true or false",
    ),
    "value of a short name": ({"type": "DiceLoss", "weight": [-1], "weight_normalization": True}, "loss.weight", "not negative"),
    "value in a mix": (
        {"types": [{"type": "MixedLoss", "coef": [1, 1], "losses": [CE, {"type": "TverskyLoss", "alpha": -1}]}], "coef": [1]},
        "loss.types[0].losses[1].alpha",
        "must lie in [0, inf]",
    ),
    "counts of a mix": (
        {"type": "MixedLoss", "losses": [CE, CE], "coef": [1]},
        "loss.coef",
        "has 1 entries for 2 losses of the mix",
    ),
    "mix without losses": ({"type": "MixedLoss", "coef": [1]}, "loss.losses", "must be a non-empty list of losses, got None"),
    "keyword of a mix": (
        {"type": "MixedLoss", "losses": [CE], "coef": [1], "per_image": True},
        "loss.per_image",
        "MixedLoss has no keyword",
    ),
    "weights for the data": ({"type": "DiceLoss", "weight": [1, 2]}, "loss.weight", "has 2 entries, 3 are needed for 3 classes"),
    "classes for the data": ({"type": "DiceLoss", "classes": [3]}, "loss.classes", "[3] does not fit 3 classes"),
    "binary for three": (
        {"type": "LovaszHingeLoss"},
        "loss.mode",
        "'binary' needs 2 classes, the data set has 3; use 'multiclass'",
    ),
    "alpha for the data": ({"type": "FocalLoss", "alpha": [0.1, 0.2]}, "loss.alpha", "has 2 entries, 3 are needed for 3 classes"),
    "frequencies for the data": (
        {"type": "ExponentialLogarithmicLoss", "frequencies": [1, 2]},
        "loss.frequencies",
        "has 2 entries",
    ),
}


@pytest.mark.parametrize("name", SECTIONS)
def test_sections(name):
    section, path, message = SECTIONS[name]
    with pytest.raises(LossConfigError, match=re.escape(message)) as caught:
        build_loss(section, num_classes=3)
    assert caught.value.key_path == path
    assert str(caught.value).startswith(f"{path}: ")
    with pytest.raises(LossConfigError) as elsewhere:
        build_loss(section, num_classes=3, path="losses.ours")
    assert elsewhere.value.key_path == "losses.ours" + path.removeprefix("loss")


def test_number_of_outputs():
    two = build_loss({"types": [CE], "coef": [1, 0.4]})
    with raises(r"the model gives 1 output, the loss section has 2 \(one entry of loss.coef per output\)"):
        two(Z, Y)
    with raises("the model gives 3 outputs, the loss section has 2"):
        two([Z, Z, Z], Y)


def test_coded_errors_are_not_for_users():
    """A loss that reads what it did not ask for is our mistake, not bad input."""
    stats = segment_statistics(Z, Y, Members(prob=True))
    with pytest.raises(RuntimeError, match="the statistic 'overlap' was not asked for"):
        L.DiceLoss().from_statistics(stats)
