"""Images in which only some classes were annotated: every loss on sums against its own oracle, and what must hold."""

from functools import partial

import pytest
import torch
from cases import close, evaluate, relative

from evenseg import build_loss, functional
from evenseg import losses as L
from evenseg.statistics import PartialLabels
from oracles import partial_labels as oracle
from oracles.segmentation import gradient

ANNOTATED = [[0, 2], [0, 1, 2, 3], [1], [0]]  # the last image tells nothing apart
WEIGHT = [0.5, 1.0, 2.0, 3.5]
IMAGE = {"per_image": True}


def case(name, function, _exact=True, **options):
    renamed = {"label_smoothing": "smoothing"}
    return name, options, partial(function, **{renamed.get(k, k): v for k, v in options.items()}), _exact


def tversky(name, alpha, beta, **options):
    return name, options, partial(oracle.tversky, alpha=alpha, beta=beta, **options), True


CASES = [
    case("CrossEntropyLoss", oracle.pixel_mean),
    case("CrossEntropyLoss", oracle.pixel_mean, weight=WEIGHT, **IMAGE),
    case("CrossEntropyLoss", oracle.pixel_mean, label_smoothing=0.2),
    case("FocalLoss", oracle.focal),
    case("FocalLoss", oracle.focal, gamma=0.5, **IMAGE),
    case("OhemCrossEntropyLoss", oracle.ohem, thresh=0.5, min_kept=5),
    case("OhemCrossEntropyLoss", oracle.ohem, thresh=0.01, min_kept=20),
    case("RecallLoss", oracle.recall),
    case("RecallLoss", oracle.recall, **IMAGE),
    tversky("DiceLoss", 0.5, 0.5),
    tversky("DiceLoss", 0.5, 0.5, classes="all", **IMAGE),
    tversky("JaccardLoss", 1.0, 1.0, classes="all"),
    tversky("TverskyLoss", 0.3, 0.7, **IMAGE),
    case("GeneralizedDiceLoss", oracle.generalized_dice),
    case("GeneralizedDiceLoss", oracle.generalized_dice, **IMAGE),
    case("MCCLoss", oracle.mcc),
    case("MCCLoss", oracle.mcc, classes="all", **IMAGE),
    case("ExponentialLogarithmicLoss", oracle.exponential_logarithmic),
    case("ExponentialLogarithmicLoss", oracle.exponential_logarithmic, **IMAGE),
    case("LovaszSoftmaxLoss", oracle.lovasz, False),
    case("LovaszSoftmaxLoss", oracle.lovasz, False, classes="all", **IMAGE),
]
every = pytest.mark.parametrize(("name", "options", "truth", "exact"), CASES, ids=lambda x: str(x) if isinstance(x, (str, dict)) else "")
NAMES = list(dict.fromkeys(name for name, *_ in CASES))


def batch(images=4, pixels=24, classes=4, seed=0):
    """Logits and labels; in images that lack the annotation of a class its pixels carry label 0 or, by chance, its own."""
    g = torch.Generator().manual_seed(seed)
    z = 1.5 * torch.randn(images, classes, pixels, generator=g, dtype=torch.float64)
    y = torch.randint(0, classes, (images, pixels), generator=g)
    y[torch.rand(images, pixels, generator=g) < 0.1] = 255
    return z, y


def sorted_too(name, options):
    return [options, {**options, "method": "sort"}] if name.startswith("Lovasz") else [options]


@every
@pytest.mark.parametrize("rest", [0, 3])
def test_value(name, options, truth, exact, rest):
    z, y = batch()
    w = torch.randint(0, 4, y.shape, generator=torch.manual_seed(5)) / 2
    labels = PartialLabels(ANNOTATED, rest_label=rest)
    for weight in (None, w):
        expected = truth(z.numpy(), y.numpy(), None if weight is None else weight.double().numpy(), ANNOTATED, rest)
        for variant in sorted_too(name, options):
            sort = variant.get("method") == "sort"
            for engine in ("eager",) if sort else ("eager", "numba"):
                given = z if engine == "eager" else z.float()
                value = L.LOSSES[name](engine=engine, **variant)(given, y, weight, annotated=labels)
                near = 1e-9 if engine == "eager" else 1e-5
                assert close(value, expected, near if exact or sort else 1 / 4096), (engine, variant)


@every
def test_gradient_by_differences(name, options, truth, exact):
    z, y = batch(pixels=7, seed=1)
    variant = sorted_too(name, options)[-1]
    _, got = evaluate(L.LOSSES[name](engine="eager", **variant), z, y, annotated=ANNOTATED)
    expected = torch.from_numpy(gradient(lambda x: truth(x, y.numpy(), None, ANNOTATED), z.numpy(), 1e-6))
    assert relative(got / -1.7, expected) < 1e-6
    assert not got[3].any()


@every
def test_engines_agree(name, options, truth, exact):
    z, y = batch(pixels=300, seed=2)
    one = evaluate(L.LOSSES[name](engine="eager", **options), z.float(), y, annotated=ANNOTATED)
    other = evaluate(L.LOSSES[name](engine="numba", **options), z.float(), y, annotated=ANNOTATED)
    assert close(other[0], one[0], 1e-6 if exact else 1e-5)
    assert relative(other[1], one[1]) < (1e-5 if exact else 2e-3)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_image", [False, True])
def test_all_annotated_is_the_ordinary_loss(name, per_image):
    z, y = batch()
    loss = L.LOSSES[name](per_image=per_image)
    value, gradient = evaluate(loss, z, y)
    for everything in ([[0, 1, 2, 3]] * 4, torch.ones(4, 4, dtype=torch.bool), [[1, 2, 3]] * 4):
        again, again_gradient = evaluate(loss, z, y, annotated=everything)
        assert close(again, value, 1e-9)
        assert relative(again_gradient, gradient) < 1e-9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("per_image", [False, True])
def test_one_annotated_class_is_the_binary_problem(name, per_image):
    """k against the rest: two channels, log of the summed exponentials and z_k."""
    z, y = batch()
    k = 2
    rest = torch.cat([z[:, :k], z[:, k + 1 :]], 1).logsumexp(1)
    two = torch.stack([rest, z[:, k]], 1)
    binary = torch.where(y == 255, 255, (y == k).long())
    options = {"method": "sort"} if name.startswith("Lovasz") else {}
    loss = L.LOSSES[name](per_image=per_image, **options)
    assert close(loss(z, y, annotated=[[0, k]] * 4), loss(two, binary), 1e-9)


def test_a_class_that_no_image_shows_does_not_enter_the_mean():
    """classes="all" averages over what was annotated: emptied places are not classes that were predicted rightly."""
    z, y = batch()
    loss = L.DiceLoss(classes="all", reduction="none", per_image=True)
    values = loss(z, y, annotated=ANNOTATED)
    assert (values[0, [1, 3]] == 0).all()
    mean = L.DiceLoss(classes="all", per_image=True)(z[:1], y[:1], annotated=ANNOTATED[:1])
    assert close(mean, values[0, [0, 2]].mean(), 1e-9)


def test_mixes_outputs_and_phases_pass_it_on():
    z, y = batch()
    options = {"CrossEntropyLoss": {}, "LovaszSoftmaxLoss": {"per_image": True}, "OhemCrossEntropyLoss": {"min_kept": 5}}
    parts = [{"type": name, **keywords} for name, keywords in options.items()]
    expected = sum(L.LOSSES[name](**keywords)(z, y, annotated=ANNOTATED) for name, keywords in options.items())
    mix = {"type": "MixedLoss", "losses": parts, "coef": [1.0, 1.0, 1.0]}
    built = build_loss({"types": [mix], "coef": [1.0, 0.5], "phases": [{"start": 5, "types": [{"type": "DiceLoss"}]}]})
    assert close(built([z, z], y, annotated=ANNOTATED), 1.5 * expected, 1e-9)
    built.set_step(5)
    assert close(built([z, z], y, annotated=ANNOTATED), 1.5 * L.DiceLoss()(z, y, annotated=ANNOTATED), 1e-9)
    assert close(functional.dice_loss(z, y, annotated=ANNOTATED), L.DiceLoss()(z, y, annotated=ANNOTATED), 0)


def test_sigmoids_leave_out_what_was_not_annotated():
    """One class against the rest: the channel of class 2 alone where only it was annotated; multilabel: the channels named."""
    z, y = batch()
    loss = L.BinaryCrossEntropyLoss(mode="multiclass", per_image=True)
    expected = [
        L.BinaryCrossEntropyLoss()(z[:1, 2], torch.where(y[:1] == 255, 255, (y[:1] == 2).long())),
        loss(z[1:2], y[1:2]),
        L.BinaryCrossEntropyLoss()(z[2:3, 1], torch.where(y[2:3] == 255, 255, (y[2:3] == 1).long())),
    ]
    assert close(loss(z, y, annotated=ANNOTATED), torch.stack(expected).mean(), 1e-9)
    maps = torch.randint(0, 2, z.shape, generator=torch.manual_seed(0))
    for name in ("BinaryCrossEntropyLoss", "LovaszHingeLoss", "DiceLoss"):
        multi = L.LOSSES[name](mode="multilabel", per_image=True)
        chosen = multi(z[:1, [0, 2]], maps[:1, [0, 2]])
        spoilt = z[:1].clone()
        spoilt[:, [1, 3]] = float("nan")
        value, gradient = evaluate(multi, spoilt, maps[:1], annotated=ANNOTATED[:1])
        assert close(value, chosen, 1e-3 if "Lovasz" in name else 1e-9)
        assert gradient.isfinite().all()
        assert not gradient[:, [1, 3]].any()


@pytest.mark.parametrize("engine", ["eager", "numba"])
@pytest.mark.parametrize("name", NAMES)
def test_extreme_logits_and_ignored_pixels(name, engine):
    z, y = batch()
    z, out = z.float(), (y == 255)[:, None].expand_as(z)
    loss = L.LOSSES[name](engine=engine)
    value, gradient = evaluate(loss, z, y, annotated=ANNOTATED)
    spoilt, spoilt_gradient = evaluate(loss, z.masked_fill(out, float("nan")), y, annotated=ANNOTATED)
    assert torch.equal(value, spoilt)
    assert torch.equal(gradient, spoilt_gradient)
    for large in (z.sign() * 1e4, z - 1e4, z + 1e4):
        value, gradient = evaluate(loss, large, y, annotated=ANNOTATED)
        assert value.isfinite()
        assert gradient.isfinite().all()
    for nothing in (torch.full_like(y, 255), y):
        value, gradient = evaluate(loss, z, nothing, annotated=[[0]] * 4)
        assert value == 0
        assert not gradient.any()


def test_soft_labels_are_added_too():
    z, _ = batch()
    soft = (3 * torch.rand(z.shape, generator=torch.manual_seed(3), dtype=torch.float64)).softmax(1)
    two = torch.stack([z[:, [0, 1, 3]].logsumexp(1), z[:, 2]], 1)
    merged = torch.stack([soft[:, [0, 1, 3]].sum(1), soft[:, 2]], 1)
    for name in ("CrossEntropyLoss", "DiceLoss"):
        assert close(L.LOSSES[name]()(z, soft, annotated=[[2]] * 4), L.LOSSES[name]()(two, merged), 1e-9)


def test_memory_adds_the_images_of_every_batch():
    z, y = batch()
    remembering = L.DiceLoss(memory="accumulate")
    remembering(z[:2], y[:2], annotated=ANNOTATED[:2])
    assert close(remembering(z[2:], y[2:], annotated=ANNOTATED[2:]), L.DiceLoss()(z, y, annotated=ANNOTATED), 1e-9)


Z, Y = torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long)
MISTAKES = {
    "too few images": (lambda: L.DiceLoss()(Z, Y, annotated=[[0]]), r"list of class numbers for each of the 2 images, got 1 entries"),
    "no class": (lambda: L.DiceLoss()(Z, Y, annotated=[[0], [3]]), r"annotated: image 1 names 3, classes are 0\.\.2"),
    "no list": (lambda: L.DiceLoss()(Z, Y, annotated=[0, 1]), r"got 0 for image 0"),
    "numbers": (lambda: L.DiceLoss()(Z, Y, annotated=torch.ones(2, 3)), r"bool tensor \(2, 3\) .* torch.float32 and shape \(2, 3\)"),
    "rest": (lambda: L.DiceLoss()(Z, Y, annotated=PartialLabels([[0], [1]], 5)), r"rest_label must be a class 0\.\.2, got 5"),
    "binary": (lambda: L.DiceLoss(mode="binary")(Z[:, :1], Y, annotated=[[0], [1]]), "one channel"),
    "label range": (lambda: L.DiceLoss()(Z, Y + 7, annotated=[[0], [1]]), r"outside the classes 0\.\.2 .* 7 \(32 pixels\)"),
    "own loss": (
        lambda: build_loss({"type": "torch.nn.CrossEntropyLoss"})(Z, Y, annotated=[[0], [1]]),
        "CrossEntropyLoss takes no annotated: partial labels need the losses on sums over pixels",
    ),
    "own loss in a mix": (
        lambda: L.MixedLoss([L.DiceLoss(), torch.nn.CrossEntropyLoss()], [1, 1])(Z, Y, annotated=[[0], [1]]),
        "CrossEntropyLoss takes no annotated",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()
