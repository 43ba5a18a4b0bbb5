import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from evenseg.data import EvaluationSamples, Pipeline, SyntheticRoads, TrainingSamples
from evenseg.data.transforms import ColorJitter, Normalize, RandomCrop, RandomFlip, RandomScale


def training_samples(seed=3, length=24):
    pipeline = Pipeline([RandomScale(0.5, 2.0), RandomCrop((24, 24)), RandomFlip(), ColorJitter(), Normalize()])
    return TrainingSamples(SyntheticRoads("train", length=5, size=32), pipeline, length, seed)


def same(first, second):
    return torch.equal(first.image, second.image) and torch.equal(first.mask, second.mask) and first.pair == second.pair


def test_an_item_depends_on_seed_and_number_alone():
    forwards, backwards = training_samples(), training_samples()
    first = [forwards[item] for item in range(24)]
    torch.manual_seed(99)
    np.random.seed(99)
    second = [backwards[item] for item in reversed(range(24))][::-1]
    assert all(same(one, other) for one, other in zip(first, second, strict=True))


def test_another_seed_gives_other_samples():
    assert not any(same(training_samples(3)[item], training_samples(4)[item]) for item in range(8))


def test_the_same_picture_is_transformed_anew_each_time():
    samples = training_samples()
    by_pair = {}
    for item in range(10):
        by_pair.setdefault(samples[item].pair, []).append(samples[item].image)
    assert all(not torch.equal(*images[:2]) for images in by_pair.values() if len(images) > 1)


def test_every_picture_once_per_pass():
    samples = training_samples()
    passes = [[samples.draw(item).pair for item in range(start, start + 5)] for start in (0, 5, 10)]
    assert all(sorted(one) == [0, 1, 2, 3, 4] for one in passes)
    assert len({tuple(one) for one in passes}) > 1


def test_the_global_generator_is_left_alone():
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    training_samples()[0]
    assert torch.equal(torch.rand(3), expected)


def test_workers_give_the_same_batches():
    def batches(workers):
        context = "spawn" if workers else None
        loader = DataLoader(training_samples(length=8), 4, num_workers=workers, multiprocessing_context=context)
        return list(loader)

    for one, other in zip(batches(0), batches(1), strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.mask, other.mask)


def test_masks_stay_bytes():
    sample = training_samples()[0]
    assert sample.mask.dtype == torch.uint8
    assert sample.image.dtype == torch.float32
    assert sample.image.shape == (3, 24, 24)


def test_outside_of_the_run():
    with pytest.raises(IndexError, match=r"24 is outside 0\.\.23"):
        training_samples()[24]


def test_evaluation_keeps_the_full_size_and_order():
    dataset = SyntheticRoads("val", length=3, size=40)
    samples = EvaluationSamples(dataset, Pipeline([Normalize()]))
    for index in range(3):
        sample = samples[index]
        assert sample.pair == index
        np.testing.assert_array_equal(sample.mask.numpy(), dataset.read_mask(index))
