"""Samplers are functions of (seed, item) alone, and show every class as often as they say."""

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from evenseg.data import SAMPLERS, Classes, DataFacts, FolderDataset, Pipeline, RankBatches, TrainingSamples, check_data
from evenseg.data.transforms import Aim, Normalize, RandomCrop, RandomScale, window_corner

NAMES = ("sky", "road", "pole", "rider", "train")


def facts(presence_NC):
    """Facts of a data set whose masks hold the given classes, ten pixels each."""
    counts_NC = np.asarray(presence_NC, np.int64) * 10
    names = NAMES[: counts_NC.shape[1]]
    total = dict(enumerate(counts_NC.sum(0).tolist()))
    return DataFacts(total, ((8, 8),), counts_NC, Classes(names, ((0, 0, 0),) * len(names)))


def random_facts(rng):
    n, c = int(rng.integers(4, 30)), int(rng.integers(2, 6))
    presence_NC = rng.random((n, c)) < rng.choice([0.05, 0.5, 0.95], c)
    presence_NC[rng.integers(n, size=c), np.arange(c)] = True
    return facts(presence_NC)


def make(kind, data, seed=0, **keywords):
    return SAMPLERS[kind](len(data.class_counts), seed, data, **keywords)


@pytest.fixture
def uneven(make_folder):
    """Ten masks of 40x40: all hold class 0, each other class is one block of 3x3 in the corners of few of them."""
    masks = {}
    for i in range(10):
        mask = np.zeros((40, 40), np.uint8)
        if i % 2:
            mask[0:3, 37:40] = 1
        if i == 4:
            mask[37:40, 0:3] = 2
        mask[18:22, 18:22] = 255
        masks[f"m{i}"] = mask
    return FolderDataset(str(make_folder({"train": masks}, classes=NAMES[:3])))


def samples_of(dataset, kind, length=60, seed=5, scale=None, **keywords):
    sampler = SAMPLERS[kind](len(dataset), seed, check_data(dataset), **keywords)
    pipeline = Pipeline([*([RandomScale(*scale)] if scale else []), RandomCrop((12, 12)), Normalize()])
    return TrainingSamples(dataset, pipeline, length, seed, sampler)


@pytest.mark.parametrize("trial", range(20))
def test_equibatch_shows_every_class_in_any_c_consecutive_slots(trial):
    rng = np.random.default_rng(trial)
    data = random_facts(rng)
    num_classes = data.classes.num_classes
    sampler = make("Equibatch", data, seed=trial)
    draws = [sampler.draw(item) for item in range(6 * num_classes)]
    for first in range(len(draws) - num_classes + 1):
        window = draws[first : first + num_classes]
        assert {draw.aim.label for draw in window} == set(range(num_classes))
    for draw in draws:
        assert data.class_counts[draw.pair, draw.aim.label] > 0


@pytest.mark.parametrize("trial", range(10))
def test_equibatch_goes_through_all_pairs_of_a_class_before_it_repeats_one(trial):
    data = random_facts(np.random.default_rng(100 + trial))
    sampler = make("Equibatch", data, seed=trial)
    shown = {label: [] for label in sampler.labels}
    for item in range(len(sampler.labels) * 60):
        draw = sampler.draw(item)
        shown[draw.aim.label].append(draw.pair)
    for label, pairs in shown.items():
        holding = np.flatnonzero(data.class_counts[:, label]).tolist()
        for start in (0, len(holding)):
            assert sorted(pairs[start : start + len(holding)]) == holding


def test_equibatch_leaves_absent_classes_out():
    data = facts([[1, 0, 1], [1, 0, 0]])
    assert {make("Equibatch", data).draw(item).aim.label for item in range(10)} == {0, 2}


@pytest.mark.parametrize("scale", [None, (0.8, 1.5)])
def test_every_class_is_in_the_crops(uneven, scale):
    samples = samples_of(uneven, "Equibatch", scale=scale)
    for first in range(0, 57):
        shown = torch.cat([samples[item].mask.flatten() for item in range(first, first + 3)])
        assert {0, 1, 2} <= set(shown.tolist())


def test_without_aim_equibatch_chooses_pairs_only(uneven):
    samples = samples_of(uneven, "Equibatch", aim_crops=False)
    assert all(samples.draw(item).aim is None for item in range(9))
    missed = [2 not in samples[item].mask for item in range(60) if samples.draw(item).pair == 4]
    assert any(missed)


def test_class_balanced_crops_are_centred_on_the_class(uneven):
    samples = samples_of(uneven, "ClassBalancedCrop", length=300)
    labels = [samples.draw(item).aim.label for item in range(300)]
    assert all(70 <= labels.count(label) <= 130 for label in range(3))
    for item in range(300):
        mask = samples[item].mask
        # the blocks lie in corners, so the window that is centred on them as far as possible lies in the corner
        if labels[item] == 1:
            assert (mask[0:3, 9:12] == 1).all()
        elif labels[item] == 2:
            assert (mask[9:12, 0:3] == 2).all()
        else:
            assert (mask == 0).any()


def test_a_window_in_the_middle_has_the_pixel_at_its_centre():
    mask = torch.zeros(50, 60, dtype=torch.uint8)
    mask[30, 25] = 3
    assert window_corner(mask, (11, 7), Aim(3, centered=True)) == (25, 22)
    corners = {window_corner(mask, (3, 3), Aim(3)) for _ in range(200)}
    assert corners == {(top, left) for top in (28, 29, 30) for left in (23, 24, 25)}


def test_a_mask_that_lost_the_class_is_cut_anywhere():
    mask = torch.zeros(5, 5, dtype=torch.uint8)
    assert {window_corner(mask, (4, 4), Aim(1)) for _ in range(50)} == {(0, 0), (0, 1), (1, 0), (1, 1)}


def test_share_and_weights_of_class_balanced_crops():
    data = facts(np.ones((20, 3)))
    sampler = make("ClassBalancedCrop", data, share=0.25, classes=("pole", "road"), weights=(3, 1))
    draws = [sampler.draw(item) for item in range(4000)]
    labels = [draw.aim.label for draw in draws if draw.aim]
    assert abs(len(labels) / 4000 - 0.25) < 0.03
    assert abs(labels.count(2) / len(labels) - 0.75) < 0.05
    assert set(labels) == {1, 2}
    plain = make("Shuffle", data)
    assert all(draw == plain.draw(item) for item, draw in enumerate(draws) if draw.aim is None)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_draws_depend_on_seed_and_item_alone(kind):
    data = random_facts(np.random.default_rng(7))
    one, other = make(kind, data, seed=3), make(kind, data, seed=3)
    items = np.random.default_rng(0).permutation(200)
    scattered = {int(item): one.draw(int(item)) for item in items}
    np.random.seed(1)
    torch.manual_seed(1)
    assert [scattered[item] for item in range(200)] == [other.draw(item) for item in range(200)]
    assert [make(kind, data, seed=4).draw(item) for item in range(200)] != [other.draw(item) for item in range(200)]


@pytest.mark.parametrize("kind", SAMPLERS)
@pytest.mark.parametrize("num_ranks", [1, 2, 3])
def test_global_batches_do_not_depend_on_the_number_of_ranks(uneven, kind, num_ranks):
    samples = samples_of(uneven, kind, length=24)
    ranks = [list(RankBatches(4, 6, rank, num_ranks)) for rank in range(num_ranks)]
    assert all(len(rank) == 4 for rank in ranks)
    for step in range(4):
        slots = [None] * 6
        for rank, batches in enumerate(ranks):
            slots[rank::num_ranks] = batches[step]
        assert slots == list(range(6 * step, 6 * step + 6))
        # an own copy of the samples on every rank, asked for its items only
        copies = [samples_of(uneven, kind, length=24) for _ in range(num_ranks)]
        for slot, item in enumerate(slots):
            one, other = copies[slot % num_ranks][item], samples[item]
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_run_resumed_at_any_step_goes_on_with_the_same_batches(uneven, kind):
    def batches(first_step):
        loader = DataLoader(samples_of(uneven, kind, length=18), batch_sampler=RankBatches(6, 3, first_step=first_step))
        return list(loader)

    whole = batches(0)
    for first_step in (1, 4, 6):
        rest = batches(first_step)
        assert len(rest) == 6 - first_step
        for one, other in zip(rest, whole[first_step:], strict=True):
            assert torch.equal(one.image, other.image)
            assert torch.equal(one.pair, other.pair)


def test_workers_give_the_same_batches(uneven):
    def batches(workers):
        context = "spawn" if workers else None
        samples = samples_of(uneven, "Equibatch", length=12)
        return list(DataLoader(samples, 3, num_workers=workers, multiprocessing_context=context))

    for one, other in zip(batches(0), batches(2), strict=True):
        assert torch.equal(one.image, other.image)
        assert torch.equal(one.mask, other.mask)


@pytest.mark.parametrize(
    ("kind", "keywords", "message"),
    [
        ("Equibatch", {"classes": ("sky", "raod")}, "unknown class 'raod'; allowed: sky, road, pole; did you mean 'road'"),
        ("Equibatch", {"classes": ("pole",)}, "no training mask holds a pixel of 'pole'"),
        ("Equibatch", {"classes": ("sky", "sky")}, "each once"),
        ("ClassBalancedCrop", {"share": 1.5}, r"share must be in 0\.\.1, got 1\.5"),
        ("ClassBalancedCrop", {"weights": (1, 2, 3)}, r"weights has 3 entries for 2 classes \(sky, road\)"),
        ("ClassBalancedCrop", {"weights": (0, 0)}, "not all 0"),
    ],
)
def test_what_a_sampler_refuses(kind, keywords, message):
    with pytest.raises(ValueError, match=message):
        make(kind, facts([[1, 1, 0], [1, 0, 0]]), **keywords)


def test_masks_without_any_class():
    with pytest.raises(ValueError, match="no training mask holds a pixel of any class"):
        make("Equibatch", facts([[0, 0]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, 6, 2, 2), r"rank must be in 0\.\.1, got 2"),
        ((4, 6, 0, 4), "batch_size 6 does not divide evenly among 4 processes"),
        ((4, 6, 0, 1, 5), r"first_step must be in 0\.\.4, got 5"),
    ],
)
def test_what_rank_batches_refuse(arguments, message):
    with pytest.raises(ValueError, match=message):
        RankBatches(*arguments)
