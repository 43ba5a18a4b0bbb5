import pytest
import torch

from evenseg.data.transforms import ColorJitter, Normalize, Pipeline, RandomCrop, RandomFlip, RandomScale, Resize


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
    ],
)
def test_bad_values(make, message):
    with pytest.raises(ValueError, match=message):
        make()
