"""Presets as a user meets them: by name, in a configuration, in a mix, and when a word is wrong. Their numbers: test_golden_core.py."""

import pytest
import torch
from golden_cases import SMALL, read_golden

from evenseg import build_loss
from evenseg.losses import PRESETS, LossConfigError, preset
from evenseg.losses.build import build_single_loss
from evenseg.losses.presets import preset_section
from evenseg.losses.presets.adapted import Adapted

# what a preset cannot do without
NEEDED = {"kornia.tversky": {"alpha": 0.3, "beta": 0.7}}
BINARY = {
    "smp.soft_bce", "smp.mcc", "paddleseg.lovasz_hinge", "kornia.binary_focal", "kornia.lovasz_hinge", "torch.bce_with_logits",
    "torchvision.sigmoid_focal", "berman.lovasz_hinge", "berman.bce",
}  # fmt: skip


def batch(name):
    torch.manual_seed(1)
    C = 1 if name in BINARY else 3
    return torch.randn(2, C, 6, 5, requires_grad=True), torch.randint(0, max(C, 2), (2, 6, 5))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_works_with_its_defaults(name):
    logits, target = batch(name)
    before = target.clone()
    loss = preset(name, **NEEDED.get(name, {}))
    value = loss(logits, target)
    (gradient,) = torch.autograd.grad(value, logits)
    assert value.dim() == 0
    assert torch.isfinite(value)
    assert gradient.isfinite().all()
    assert gradient.any()
    assert torch.equal(target, before)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_takes_the_data_sets_ignored_label(name):
    logits, target = batch(name)
    target[:, :2] = 9
    section = {"types": [{"type": name, **NEEDED.get(name, {})}], "coef": [1]}
    loss = build_loss(section, num_classes=2 if name in BINARY else 3, ignore_index=9)
    value = loss(logits, target)
    assert torch.isfinite(value)
    assert list(loss.terms) == (["DiceLoss", "CrossEntropyLoss"] if name == "monai.dice_ce" else [name])
    if name != "mmseg.dice":  # what is predicted at ignored pixels counts there
        changed = logits.detach().clone()
        changed[:, :, :2] += 3.0
        assert loss(changed, target).item() == pytest.approx(value.item(), rel=1e-6)


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_says_what_to_use_instead(name):
    assert len(PRESETS[name].why) > 3
    from evenseg import losses

    for call in PRESETS[name].instead.split(" or "):
        loss = eval(call, vars(losses))
        assert isinstance(loss, torch.nn.Module)


def test_known_numbers():
    """The values that the libraries give for two pixels of probability 1/2, one of each class."""
    logits, target = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    assert preset("smp.dice", mode="multiclass")(logits, target).item() == pytest.approx(0.5, abs=1e-6)
    assert preset("smp.dice", mode="multiclass", smooth=1.0)(logits, target).item() == pytest.approx(0.25, abs=1e-6)
    assert preset("monai.dice", softmax=True, batch=True, smooth_nr=1.0, smooth_dr=1.0)(logits, target).item() == pytest.approx(1 / 3)
    assert preset("paddleseg.dice")(logits, target).item() == pytest.approx(1 / 3)
    assert preset("odyssey.dice")(logits, target).item() == pytest.approx(-2 / 3)


@pytest.mark.parametrize(
    ("logit", "target", "error"),
    # error 1 - z on the foreground and 1 + z on the background, with z = log(p1): a sure foreground pixel still costs 1
    [(20.0, 1, 1.0), (0.0, 1, 1.6931472), (0.0, 0, 0.3068528), (-3.0, 0, 0.0)],
)
def test_two_channel_hinge_of_paddleseg_is_the_defect(logit, target, error):
    logits = torch.tensor([0.0, logit], dtype=torch.float64).view(1, 2, 1, 1)
    labels = torch.full((1, 1, 1), target)
    wrong = preset("paddleseg.lovasz_hinge")(logits, labels).item()
    # at p1 = 1 within 2e-9 their eps over eps adds up to log 2
    assert wrong == pytest.approx(error, abs=0.7 if logit == 20 else 1e-6)
    if logit == 20:
        assert preset("paddleseg.lovasz_hinge")(logits[:, 1:], labels) == 0


def test_two_channel_hinge_of_paddleseg_has_their_value():
    """1.485845 on two channels whose softmax is the sigmoid of these logits; on one channel they give the hinge, 0.874494."""
    g = next(g for g in read_golden(SMALL, "lovasz_hinge") if g.case == "b1_rand")
    two = torch.cat([torch.zeros_like(g.logits), g.logits], 1)
    assert preset("paddleseg.lovasz_hinge")(two, g.labels).item() == pytest.approx(1.485845, abs=1e-6)
    assert preset("paddleseg.lovasz_hinge")(g.logits, g.labels).item() == pytest.approx(0.874494, abs=1e-6)


def test_presets_in_a_mix_share_a_pass_and_have_their_names():
    section = {
        "type": "MixedLoss",
        "losses": [{"type": "paddleseg.cross_entropy"}, {"type": "paddleseg.lovasz_softmax", "method": "histogram"}],
        "coef": [0.8, 0.2],
    }
    loss = build_loss(section, num_classes=3)
    logits, target = batch("")
    value = loss(logits, target)
    assert list(loss.terms) == ["paddleseg.cross_entropy", "paddleseg.lovasz_softmax"]
    assert value.item() == pytest.approx(0.8 * loss.terms["paddleseg.cross_entropy"] + 0.2 * loss.terms["paddleseg.lovasz_softmax"])
    assert len(loss.losses[0].passes(False)) == 1


def test_lovasz_presets_are_exact_unless_told_or_synchronised():
    assert preset_section("smp.lovasz", {})["method"] == "sort"
    assert preset_section("smp.lovasz", {"method": "histogram"})["method"] == "histogram"
    assert preset_section("smp.lovasz", {}, sync=True)["method"] == "histogram"
    assert "method" not in preset_section("smp.dice", {})


def test_pixel_weights_reach_through_a_preset():
    torch.manual_seed(0)
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 2, (2, 3, 4, 5))
    weight = torch.zeros(2, 4, 5)
    weight[:, 1:] = 1
    loss = preset("smp.lovasz", mode="multilabel")
    cut = loss(logits[:, :, 1:], target[:, :, 1:])
    assert loss(logits, target, weight).item() == pytest.approx(cut.item(), rel=1e-6)


REFUSED = {
    "name": (lambda: preset("smp.dise"), r"unknown preset 'smp.dise'; did you mean 'smp.dice'\?"),
    "loss of a small library": (lambda: preset("ocnet.pyramid"), "unknown preset 'ocnet.pyramid'; of ocnet there are ocnet.ohem"),
    "loss of a library": (lambda: preset("kornia.hausdorff_er"), "of kornia there are kornia.dice, kornia.tversky,"),
    "library": (lambda: preset("smq.dice"), r"unknown preset 'smq.dice'; did you mean 'smp.dice'\?"),
    "keyword": (lambda: preset("smp.dice", smoth=1.0), r"smp.dice has no keyword 'smoth'; did you mean 'smooth'\?"),
    "needed keyword": (lambda: preset("kornia.tversky", alpha=0.3), "kornia.tversky: missing 1 required .* 'beta'"),
    "two names": (lambda: preset("berman.bce", ignore=1, ignore_index=2), "ignore_index and ignore of berman.bce mean the same"),
    "method of no Lovász": (lambda: preset("smp.dice", method="sort"), "smp.dice has no keyword 'method'"),
    "mode": (lambda: preset("smp.dice", mode="multi"), "mode must be one of 'multiclass', 'binary', 'multilabel', got 'multi'"),
    "classes as a number": (lambda: preset("smp.dice", classes=3), "classes must be a list of class numbers, got 3"),
    "probabilities": (lambda: preset("smp.jaccard", from_logits=False), "from_logits must be True, got False: losses here take logits"),
    "sum": (lambda: preset("monai.focal", reduction="sum"), "reduction='sum' of MONAI averages over space before it sums"),
    "both activations": (lambda: preset("monai.dice", sigmoid=True, softmax=True), "sigmoid and softmax exclude each other"),
    "reduced": (lambda: preset("smp.focal", reduced_threshold=2.0), r"reduced_threshold must lie in \(0, 1\], got 2.0"),
    "background": (lambda: preset("monai.focal", include_background=False), "takes the background channel out before the softmax"),
    "bad label": (
        lambda: preset("mmseg.dice")(torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 7]]])),
        r"labels outside the classes 0..1: \[7\]",
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused(what):
    call, message = REFUSED[what]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize(
    ("term", "path", "message"),
    [
        ({"type": "smp.dise"}, "loss.types[0].type", "did you mean 'smp.dice'?"),
        ({"type": "smp.dice", "smoth": 1.0}, "loss.types[0].smoth", "did you mean 'smooth'?"),
        ({"type": "smp.dice", "smooth": -1.0}, "loss.types[0]", "smp.dice: smooth_num must lie in [0, inf], got -1.0"),
        ({"type": "smp.dice", "class_weights": [1, 2]}, "loss.types[0]", "has 2 entries, 3 are needed for 3 classes"),
        ({"type": "hrnet.losses.Ohem"}, "loss.types[0].type", "there is no module 'hrnet'"),
    ],
)
def test_mistakes_in_a_configuration_are_named(term, path, message):
    with pytest.raises(LossConfigError) as error:
        build_loss({"types": [term], "coef": [1]}, num_classes=3)
    assert error.value.key_path == path
    assert message in str(error.value)


def test_adapted_can_be_written_in_a_configuration():
    path = "evenseg.losses.presets.adapted.Adapted"
    loss = build_single_loss({"type": path, "loss": {"type": "DiceLoss"}, "offset": -1.0}, ignore_index=9)
    assert isinstance(loss, Adapted)
    assert loss.loss.ignore_index == 9
    with pytest.raises(LossConfigError, match=r"loss.loss.smoth: DiceLoss has no keyword"):
        build_single_loss({"type": path, "loss": {"type": "DiceLoss", "smoth": 1}})
