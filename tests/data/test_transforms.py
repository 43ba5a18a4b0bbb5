import pytest
import torch

from evenseg.data.transforms import (
    ColorJitter,
    Normalize,
    Pipeline,
    RandomCrop,
    RandomDistort,
    RandomFlip,
    RandomScale,
    Resize,
    ResizeStepScaling,
)


def picture(height=6, width=8):
    """An image whose red channel is its mask, so that both can be followed together."""
    mask = torch.arange(height * width, dtype=torch.uint8).view(height, width)
    return torch.stack([mask, mask * 2, mask * 3]), mask


def test_crop_moves_image_and_mask_together():
    image, mask = picture()
    for seed in range(10):
        torch.manual_seed(seed)
        cut_image, cut_mask = RandomCrop((3, 4))(image, mask)
        assert cut_mask.shape == (3, 4)
        assert torch.equal(cut_image[0], cut_mask)


def test_crop_reaches_every_corner():
    image, mask = picture()
    torch.manual_seed(0)
    firsts = {int(RandomCrop((5, 7))(image, mask)[1][0, 0]) for _ in range(100)}
    assert firsts == {0, 1, 8, 9}


def test_crop_pads_small_images_with_ignore():
    image, mask = picture(2, 3)
    out_image, out_mask = RandomCrop((4, 5), ignore_index=200)(image, mask)
    assert torch.equal(out_mask[:2, :3], mask)
    assert (out_mask == 200).sum() == 20 - 6
    assert out_image[:, 2:].sum() == 0
    assert out_image[:, :, 3:].sum() == 0


def test_flip():
    image, mask = picture()
    flipped_image, flipped_mask = RandomFlip(horizontal=1, vertical=0)(image, mask)
    assert torch.equal(flipped_mask, mask.flip(1))
    assert torch.equal(flipped_image[0], flipped_mask)
    assert torch.equal(RandomFlip(0, 1)(image, mask)[1], mask.flip(0))
    assert torch.equal(RandomFlip(0, 0)(image, mask)[1], mask)


def test_scale_keeps_labels_and_covers_its_range():
    mask = torch.tensor([0, 1, 255], dtype=torch.uint8).repeat_interleave(20)[None].repeat(40, 1)
    image = mask[None].repeat(3, 1, 1)
    torch.manual_seed(0)
    heights = set()
    for _ in range(30):
        scaled_image, scaled_mask = RandomScale(0.5, 2)(image, mask)
        assert scaled_image.shape[1:] == scaled_mask.shape
        assert set(scaled_mask.unique().tolist()) == {0, 1, 255}
        heights.add(len(scaled_mask))
    assert min(heights) < 30
    assert max(heights) > 70
    assert min(heights) >= 20
    assert max(heights) <= 80


def test_resize():
    image, mask = Resize((3, 4))(*picture())
    assert image.shape == (3, 3, 4)
    assert mask.shape == (3, 4)


def test_jitter_changes_the_image_alone():
    image, mask = picture()
    torch.manual_seed(0)
    changed, same = ColorJitter()(image, mask)
    assert not torch.equal(changed, image)
    assert torch.equal(same, mask)


def test_normalize():
    image = torch.full((3, 1, 1), 255, dtype=torch.uint8)
    out, _ = Normalize(mean=(0.5, 0.0, 1.0), std=(0.5, 1.0, 2.0))(image, torch.zeros(1, 1, dtype=torch.uint8))
    torch.testing.assert_close(out.flatten(), torch.tensor([1.0, 1.0, 0.0]))


def test_pipeline_without_normalize_still_gives_floats():
    image, mask = picture()
    out, _ = Pipeline([])(image, mask, seed=0)
    torch.testing.assert_close(out, image.float() / 255)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomScale(2, 1), "got 2 and 1"),
        (lambda: RandomCrop((0, 5)), r"size must be .*got \(0, 5\)"),
        (lambda: RandomFlip(1.5), "0..1, got 1.5"),
        (lambda: Normalize(std=(0.0, 1.0, 1.0)), "std must be positive"),
        (lambda: Normalize(mean=(0.5, 0.5)), "one number per channel, got 2 and 3"),
        (lambda: ResizeStepScaling(step=0), "step > 0, got 0.5, 2.0 and 0"),
        (lambda: RandomCrop((4, 4), fill=300), r"fill must be in 0\.\.255, got 300"),
        (lambda: RandomCrop((4, 4), category_max_ratio=0), "category_max_ratio must be in .*got 0"),
        (lambda: RandomDistort(contrast=2), r"contrast must be in 0\.\.1, got 2"),
        (lambda: RandomDistort(hue=200), r"hue must be in 0\.\.180 degrees, got 200"),
        (lambda: RandomDistort(probability=-1), "probability must be in"),
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def seeded(transform, image, mask, seed):
    torch.manual_seed(seed)
    return transform(image, mask)


def test_step_scaling_draws_each_of_its_factors_alike():
    image, mask = torch.zeros(3, 8, 12, dtype=torch.uint8), torch.zeros(8, 12, dtype=torch.uint8)
    shapes = [tuple(seeded(ResizeStepScaling(), image, mask, seed)[1].shape) for seed in range(700)]
    counts = {shape: shapes.count(shape) for shape in set(shapes)}
    assert set(counts) == {(4, 6), (6, 9), (8, 12), (10, 15), (12, 18), (14, 21), (16, 24)}
    assert min(counts.values()) > 70  # 100 expected, standard deviation 9.3
    assert ResizeStepScaling(0.5, 0.5).factors == [0.5]
    with pytest.raises(ValueError, match=r"steps of 0\.4 from 0\.5 do not meet 2"):
        ResizeStepScaling(0.5, 2.0, 0.4)


def test_a_fill_of_half_grey_is_exactly_zero_after_normalising():
    image, mask = picture(2, 3)
    pipeline = Pipeline([RandomCrop((4, 5), fill=127.5), Normalize((0.5,), (0.5,))])
    out, out_mask = pipeline(image, mask, 0)
    assert (out[:, 2:] == 0).all()
    assert (out[:, :, 3:] == 0).all()
    assert (out_mask[2:] == 255).all()
    torch.testing.assert_close(out[:, :2, :3], (image / 255 - 0.5) / 0.5)
    whole, _ = RandomCrop((4, 5), fill=30)(image, mask)
    assert whole.dtype == torch.uint8
    assert (whole[:, 2:] == 30).all()
    sixteen_bits, _ = RandomCrop((4, 5), fill=51)(image / 255, mask)
    torch.testing.assert_close(sixteen_bits[:, 2:], torch.full((3, 2, 5), 0.2))


def test_class_limited_crops_avoid_windows_of_one_class():
    mask = torch.zeros(32, 96, dtype=torch.uint8)
    mask[:, 80:] = 1
    mask[:, :40] = 255
    image = torch.zeros(3, 32, 96, dtype=torch.uint8)

    def share_mixed(ratio):
        crop = RandomCrop((16, 16), category_max_ratio=ratio)
        largest = []
        for seed in range(200):
            labels = seeded(crop, image, mask, seed)[1]
            counts = labels[labels != 255].long().bincount()
            largest.append(bool(len(counts) > 0 and counts.max() <= 0.75 * counts.sum()))
        return sum(largest) / len(largest)

    # 8 of the 81 corners along the width give at most 12 of 16 columns of one class: one draw in ten, ten draws
    assert share_mixed(1.0) == pytest.approx(0.11, abs=0.07)
    assert share_mixed(0.75) == pytest.approx(1 - (1 - 9 / 81) ** 10, abs=0.09)


def test_class_limited_crops_still_give_a_window_where_there_is_one_class_only():
    image, mask = picture()
    cut_image, cut_mask = RandomCrop((3, 4), category_max_ratio=0.5)(image, torch.zeros_like(mask))
    assert cut_mask.shape == (3, 4)
    assert cut_image.shape == (3, 3, 4)


def colours():
    generator = torch.Generator().manual_seed(3)
    return torch.randint(60, 190, (3, 12, 12), generator=generator, dtype=torch.uint8)


def test_distortion_switches_each_part_on_its_own():
    image, mask = colours(), torch.zeros(12, 12, dtype=torch.uint8)
    unchanged = [torch.equal(seeded(RandomDistort(), image, mask, seed)[0], image) for seed in range(300)]
    assert sum(unchanged) / 300 == pytest.approx(1 / 16, abs=0.04)
    assert torch.equal(seeded(RandomDistort(probability=0), image, mask, 1)[0], image)
    assert torch.equal(seeded(RandomDistort(0, 0, 0, 0, probability=1), image, mask, 1)[0], image)
    assert not torch.equal(seeded(RandomDistort(probability=1), image, mask, 1)[0], image)


def test_distortion_stays_in_its_ranges():
    image, mask = colours(), torch.zeros(12, 12, dtype=torch.uint8)
    brightness = RandomDistort(brightness=0.4, contrast=0, saturation=0, hue=0, probability=1)
    ratios = [seeded(brightness, image, mask, seed)[0].float().mean() / image.float().mean() for seed in range(60)]
    assert 0.58 < min(ratios) < 0.68
    assert 1.3 < max(ratios) < 1.42
    red = torch.tensor([200, 0, 0], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    hue = RandomDistort(0, 0, 0, hue=18, probability=1)
    turned = torch.stack([seeded(hue, red, mask, seed)[0][:, 0, 0] for seed in range(60)]).float()
    assert (turned[:, 0] == 200).all()
    # at 18 of the 60 degrees between red and yellow (or magenta) the second channel reaches 0.3 of the first
    assert 52 < turned[:, 1].max() <= 61
    assert 52 < turned[:, 2].max() <= 61


def test_distortion_takes_its_parts_in_every_order(monkeypatch):
    from evenseg.data import transforms

    order = []
    for name in ("adjust_brightness", "adjust_contrast", "adjust_saturation", "adjust_hue"):
        monkeypatch.setattr(transforms.TF, name, lambda image, amount, name=name: order.append(name) or image)
    orders = set()
    for seed in range(150):
        order.clear()
        seeded(RandomDistort(probability=1), *picture(), seed)
        orders.add(tuple(order))
    assert all(len(set(one)) == 4 for one in orders)
    assert len(orders) == 24


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("kind", [torch.uint8, torch.float32])
def test_any_number_of_channels_goes_through(channels, kind):
    image = torch.full((channels, 9, 9), 51, dtype=torch.uint8)
    image = image if kind == torch.uint8 else image.float() / 255
    steps = [ResizeStepScaling(), RandomCrop((8, 8), fill=127.5), RandomFlip()]
    if channels in (1, 3):
        steps.append(RandomDistort(probability=0))
    mean, std = tuple(0.1 * c for c in range(channels)), tuple(0.5 + c for c in range(channels))
    pipeline = Pipeline([*steps, Normalize(mean, std)])
    pipeline.check_channels(channels)
    out, mask = pipeline(image, torch.zeros(9, 9, dtype=torch.int32), 2)
    assert out.shape == (channels, 8, 8)
    assert mask.dtype == torch.int32
    valid = mask == 0
    for channel in range(channels):
        expected = torch.full((int(valid.sum()),), (0.2 - mean[channel]) / std[channel])
        torch.testing.assert_close(out[channel][valid], expected)


@pytest.mark.parametrize(
    ("transform", "channels", "message"),
    [
        (Normalize(), 4, r"Normalize: mean has 3 numbers, but the images have 4 channels"),
        (ColorJitter(), 5, r"ColorJitter: changes the colours of grey and RGB images; these have 5 channels"),
        (RandomDistort(), 2, r"RandomDistort: changes the colours"),
    ],
)
def test_transforms_that_cannot_take_so_many_channels_are_named(transform, channels, message):
    with pytest.raises(ValueError, match=message):
        Pipeline([transform]).check_channels(channels)
    Pipeline([transform]).check_channels(3)
