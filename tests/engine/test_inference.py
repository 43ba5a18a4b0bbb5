"""Windows, scales and mirrored views: each against the same thing done by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from evenseg.config import ConfigError, EvaluationSection, load_config
from evenseg.engine.inference import Predictor, main_output, most_probable


class Pointwise(nn.Module):
    """Logits of a pixel from that pixel alone, so that windows change nothing."""

    num_outputs = 1

    def __init__(self, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Conv2d(3, classes, 1).requires_grad_(False)

    def forward(self, image):
        return [self.layer(image)]


class Place(nn.Module):
    """Two classes whose logit grows with the column inside the window: shows where windows lie and how they blend."""

    def forward(self, image):
        ramp = torch.linspace(-1, 1, image.shape[-1]).expand(image.shape[0], 1, *image.shape[-2:])
        return torch.cat([ramp, torch.zeros_like(ramp)], 1)


def section(**keywords):
    return EvaluationSection(**keywords)


def image(height, width, n=1):
    return torch.randn(n, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("blend", ["gaussian", "uniform"])
@pytest.mark.parametrize("size", [(20, 27), (8, 8), (5, 30), (16, 9)])
def test_windows_of_a_pointwise_network_are_the_whole_image(blend, size):
    model, picture = Pointwise(), image(*size, n=2)
    whole = model(picture)[0].softmax(1)
    windowed = Predictor(model, section(window=(8, 8), stride=(5, 6), blend=blend, batch_size=3)).probabilities(picture)
    torch.testing.assert_close(windowed, whole, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("blend", ["gaussian", "uniform"])
def test_blending_is_the_weighted_mean_over_windows(blend):
    height, width, size = 4, 14, 6
    lefts = [0, 4, 8]  # evenly, flush with the edges, at most 5 apart
    place = torch.arange(size) - 2.5
    profile = torch.exp(-0.5 * (place / (size / 8)) ** 2) if blend == "gaussian" else torch.ones(size)
    total, weights = torch.zeros(2, height, width), torch.zeros(width)
    for left in lefts:
        probs = Place()(torch.zeros(1, 3, height, size)).softmax(1)[0]
        total[..., left : left + size] += probs * profile
        weights[left : left + size] += profile
    probs = Predictor(Place(), section(window=(8, size), stride=(8, 5), blend=blend)).probabilities(image(height, width))
    torch.testing.assert_close(probs[0], total / weights)


def test_bands_are_the_image_from_top_to_bottom_and_hold_one_row_of_windows():
    model, picture = Pointwise(), image(50, 31)[0]
    asked = []

    def rows(top, bottom):
        asked.append((top, bottom))
        return picture[:, top:bottom]

    predictor = Predictor(model, section(window=(16, 12), stride=(12, 12)))
    bands = [(top, band.clone()) for top, band in predictor.bands(rows, 50, 31)]
    assert [bottom - top for top, bottom in asked] == [16] * 4
    assert [top for top, _ in bands] == [0, 11, 23, 34]
    assert all(band.shape[1] <= 16 for _, band in bands)
    torch.testing.assert_close(
        torch.cat([band for _, band in bands], 1), model(picture[None])[0][0].softmax(0), atol=1e-6, rtol=1e-5
    )


def test_mirrored_view_counts_as_much_as_the_plain_one():
    predictor = Predictor(Place(), section(flip=True))
    probs = Place()(image(3, 10)).softmax(1)
    torch.testing.assert_close(predictor.probabilities(image(3, 10)), (probs + probs.flip(-1)) / 2)


def test_scales_are_averaged_as_probabilities():
    model, picture = Pointwise(), image(12, 10)
    total = torch.zeros(1, 3, 12, 10)
    for size in ((6, 5), (12, 10), (18, 15)):
        scaled = F.interpolate(picture, size, mode="bilinear", antialias=size[0] < 12)
        logits = F.interpolate(model(scaled)[0], (12, 10), mode="bilinear", antialias=size[0] > 12)
        total += logits.softmax(1)
    probs = Predictor(model, section(scales=(0.5, 1, 1.5))).probabilities(picture)
    torch.testing.assert_close(probs, total / 3)


@pytest.mark.parametrize(
    "keywords", [{}, {"window": (4, 7)}, {"flip": True}, {"scales": (1, 1)}, {"window": (9, 5), "flip": True}]
)
def test_however_an_image_is_seen_the_result_are_probabilities(keywords):
    model, picture = Pointwise(), image(9, 7, n=2)
    probs = Predictor(model, section(**keywords)).probabilities(picture)
    torch.testing.assert_close(probs, model(picture)[0].softmax(1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(probs.sum(1), torch.ones(2, 9, 7))


@pytest.mark.parametrize(("scales", "size"), [((0.5, 1), 8), ((0.5,), 4), ((0.5, 0.75, 2), 6), ((1.25, 1.25), 10)])
def test_outputs_are_shown_once_for_each_window(scales, size):
    seen = []
    predictor = Predictor(Pointwise(), section(window=(8, 8), stride=(8, 8), scales=scales, flip=True, batch_size=2))
    predictor.probabilities(image(8, 24), lambda outputs, *place: seen.append((tuple(outputs[0].shape), *place)))
    assert seen == [((1, 3, size, size), 0, left, 8, 8) for left in (0, 8, 16)]


@pytest.mark.parametrize("classes", [1, 2, 7, 300])
def test_the_most_probable_class_is_the_argmax(classes):
    # few different values, so that many are equal
    probs = torch.randint(5, (classes, 6, 9), generator=torch.Generator().manual_seed(2)) / 4
    found = most_probable(probs)
    assert found.dtype == (torch.uint8 if classes <= 256 else torch.int32)
    assert found.tolist() == probs.numpy().argmax(0).tolist()


def test_main_output_of_what_models_return():
    main, other = torch.zeros(1), torch.ones(1)
    for outputs in (main, [main, other], (main, other), {"out": main, "aux": other}):
        assert main_output(outputs) is main


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"windw": [8, 8]}, r"evaluation.windw: unknown key 'windw'; allowed: window, .*, \.\.\. \(9 in all\); did you mean 'window'"),
        ({"window": [8]}, "evaluation.window"),
        ({"window": [8, 0]}, r"evaluation.window\[1\]: input should be greater than 0, got 0"),
        ({"stride": [8, 8]}, r"evaluation: stride \[8, 8\] needs a window: \[HEIGHT, WIDTH\]"),
        ({"window": [8, 8], "stride": [8, 9]}, r"evaluation: stride \[8, 9\] is larger than the window \[8, 8\]"),
        ({"scales": []}, "evaluation.scales"),
        ({"scales": [1, -1]}, r"evaluation.scales\[1\]: input should be greater than 0, got -1"),
        ({"blend": "gauss"}, "evaluation.blend: input should be 'gaussian' or 'uniform', got 'gauss'"),
    ],
)
def test_mistakes_in_the_section(tiny, write_yaml, mapping, message):
    with pytest.raises(ConfigError, match=message):
        load_config(write_yaml(tiny | {"evaluation": mapping}))


def test_default_stride_is_three_quarters_of_the_window():
    assert section(window=(64, 30)).window_stride == (48, 22)
    assert section().window_stride is None
