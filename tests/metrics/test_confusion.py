"""Counting: against a loop, hand-made matrices, and every message of bad input."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import torch.multiprocessing as mp
from torch.utils._python_dispatch import TorchDispatchMode

from evenseg.metrics import ConfusionMatrix, confusion_matrix


def count_by_loop(pred, target, num_classes, ignore_index=255):
    """The oracle: one pixel at a time, numpy only."""
    matrix = np.zeros((num_classes, num_classes), dtype=np.int64)
    for p, t in zip(np.asarray(pred).reshape(-1).tolist(), np.asarray(target).reshape(-1).tolist()):
        if t != ignore_index:
            matrix[int(t), int(p)] += 1
    return matrix


def random_maps(shape=(3, 7, 9), num_classes=4, seed=0):
    rng = np.random.default_rng(seed)
    pred, target = rng.integers(0, num_classes, shape), rng.integers(0, num_classes, shape)
    target[rng.random(shape) < 0.2] = 255
    return torch.from_numpy(pred), torch.from_numpy(target)


@pytest.mark.parametrize("shape", [(3, 7, 9), (5,), (2, 6), (2, 3, 4, 5)], ids=str)
def test_index_maps_of_any_number_of_dimensions(shape):
    pred, target = random_maps(shape)
    cm = confusion_matrix(pred, target, 4)
    assert cm.dtype == torch.int64
    np.testing.assert_array_equal(cm.numpy(), count_by_loop(pred, target, 4))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_largest_logit_wins(dtype):
    _, target = random_maps()
    logits = torch.randn(3, 4, 7, 9, generator=torch.Generator().manual_seed(1)).to(dtype)
    expected = count_by_loop(logits.to(torch.float64).numpy().argmax(1), target, 4)
    np.testing.assert_array_equal(confusion_matrix(logits, target, 4).numpy(), expected)


def test_one_binary_logit_is_class_1_above_0():
    logits = torch.tensor([[[-1.0, 0.0, 0.5, 2.0]]])
    target = torch.tensor([[0, 0, 0, 1]])
    assert confusion_matrix(logits, target, 2).tolist() == [[2, 1], [0, 1]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool], ids=str)
def test_integer_types_of_every_width(dtype):
    pred, target = torch.tensor([[0, 1, 1, 0]]).to(dtype), torch.tensor([[0, 1, 0, 0]]).to(dtype)
    assert confusion_matrix(pred, target, 2).tolist() == [[2, 1], [0, 1]]


def test_ignore_index_does_not_wrap_around_in_narrow_types():
    target = torch.tensor([[255, 0]], dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"255 \(1 pixels\)"):
        confusion_matrix(torch.zeros(1, 2, dtype=torch.int64), target, 2, ignore_index=-1)


def test_predictions_on_ignored_pixels_do_not_matter():
    pred, target = random_maps()
    expected = confusion_matrix(pred, target, 4)
    assert torch.equal(confusion_matrix(pred.masked_fill(target == 255, 77), target, 4), expected)


def test_ignore_index_may_be_a_class_or_nothing():
    pred, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 1, 0]])
    assert confusion_matrix(pred, target, 2, ignore_index=0).tolist() == [[0, 0], [0, 1]]
    assert confusion_matrix(pred, target, 2, ignore_index=None).tolist() == [[1, 1], [0, 1]]


def test_per_image_matrices_sum_to_the_whole():
    pred, target = random_maps()
    target[1] = 255
    cms = confusion_matrix(pred, target, 4, per_image=True)
    assert cms.shape == (3, 4, 4)
    for image in range(3):
        np.testing.assert_array_equal(cms[image].numpy(), count_by_loop(pred[image], target[image], 4))
    assert torch.equal(cms.sum(0), confusion_matrix(pred, target, 4))


def test_nothing_to_count():
    empty = torch.zeros(0, 3, 3, dtype=torch.int64)
    assert confusion_matrix(empty, empty, 2).tolist() == [[0, 0], [0, 0]]
    assert confusion_matrix(empty, empty, 2, per_image=True).shape == (0, 2, 2)
    ignored = torch.full((2, 3, 3), 255)
    assert int(confusion_matrix(torch.zeros_like(ignored), ignored, 2).sum()) == 0


def test_inputs_are_not_written_to():
    pred, target = random_maps()
    versions = pred._version, target._version
    confusion_matrix(pred, target, 4)
    assert (pred._version, target._version) == versions


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor any operator returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor):
            self.numel = max(self.numel, out.numel())
        return out


def test_deterministic_mode_counts_the_same_without_a_table_of_all_pixels():
    """torchmetrics' own deterministic path compares every pixel with every cell of the matrix."""
    pred, target = random_maps((1, 50, 60), 16)
    expected = confusion_matrix(pred, target, 16)
    metric = ConfusionMatrix(16)
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with LargestTensor() as largest:
            assert torch.equal(confusion_matrix(pred, target, 16), expected)
            metric.update(pred, target)
        assert torch.equal(metric.compute(), expected)
        assert largest.numel == pred.numel()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_accumulator_equals_one_count_over_everything():
    pred, target = random_maps((4, 7, 9))
    metric = ConfusionMatrix(4)
    assert int(metric.compute().sum()) == 0
    metric.update(pred[:1], target[:1])
    metric.compute()
    metric.update(torch.nn.functional.one_hot(pred[1:], 4).movedim(-1, 1).float(), target[1:])
    assert metric.compute().dtype == torch.int64
    assert torch.equal(metric.compute(), confusion_matrix(pred, target, 4))
    metric.compute().zero_()
    assert torch.equal(metric.compute(), confusion_matrix(pred, target, 4)), "the result must be the caller's own"
    metric.half()
    assert metric.compute().dtype == torch.int64, "counts must not follow the module's precision"
    metric.reset()
    assert int(metric.compute().sum()) == 0


def test_accumulator_is_not_part_of_a_checkpoint():
    model = torch.nn.Sequential(torch.nn.Linear(1, 1), ConfusionMatrix(3))
    assert set(model.state_dict()) == {"0.weight", "0.bias"}


def _count_on_one_rank(rank: int, folder: str) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/init", rank=rank, world_size=2)
    pred, target = random_maps((3, 7, 9))
    metric = ConfusionMatrix(4)
    if rank == 0:  # ranks with different numbers of images
        metric.update(pred[:1], target[:1])
    else:
        metric.update(pred[1:2], target[1:2])
        metric.update(pred[2:], target[2:])
    torch.save(metric.compute(), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this build of torch has no torch.distributed")
def test_accumulator_sums_over_ranks(tmp_path):
    mp.spawn(_count_on_one_rank, (str(tmp_path),), nprocs=2)
    expected = confusion_matrix(*random_maps((3, 7, 9)), 4)
    for rank in range(2):
        assert torch.equal(torch.load(tmp_path / f"{rank}.pt", weights_only=True), expected)


INT = torch.int64


@pytest.mark.parametrize(
    ("pred", "target", "num_classes", "message"),
    [
        (torch.zeros(1, 2, 2, dtype=INT), torch.zeros(1, 2, 2), 3, r"target is torch.float32; allowed: integer"),
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=INT), 3, r"read as class indices, but its type is torch.f"),
        (torch.zeros(1, 3, 2, 2, dtype=INT), torch.zeros(1, 2, 2, dtype=INT), 3, r"as logits, but its type is torch"),
        (torch.zeros(1, 4, 2, 2), torch.zeros(1, 2, 2, dtype=INT), 3, r"4 channels; allowed with num_classes=3: 3"),
        (torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 2, dtype=INT), 2, r"allowed with num_classes=2: 1 or 2"),
        (torch.zeros(1, 3, 4, 2), torch.zeros(1, 2, 4, dtype=INT), 3, r"\(1, 3, 4, 2\) does not fit target \(1, 2"),
        (torch.zeros(2, 2, dtype=INT), torch.zeros(1, 2, 4, dtype=INT), 3, r"\(2, 2\) does not fit target \(1, 2, 4\)"),
        (torch.zeros(3), torch.tensor(0), 3, r"target has no dimensions"),
        (torch.zeros(1, 2, dtype=INT), torch.tensor([[3, 0]]), 3, r"target .*3 \(1 pixels\); allowed: 0 to 2, and 255"),
        (torch.tensor([[-1, -1]]), torch.tensor([[0, 0]]), 3, r"pred .*-1 \(2 pixels\); allowed: 0 to 2$"),
        (np.zeros((1, 2)), torch.tensor([[0, 0]]), 3, r"pred is a ndarray; allowed: a torch.Tensor"),
        (torch.tensor([[0]]), torch.tensor([[0]]), 0, r"num_classes is 0; allowed: an integer of at least 1"),
        (torch.tensor([[0]]), torch.tensor([[0]]), 2.0, r"num_classes is 2.0"),
    ],
)
def test_bad_input_says_what_came_and_what_is_allowed(pred, target, num_classes, message):
    with pytest.raises(ValueError, match=message):
        confusion_matrix(pred, target, num_classes)
    with pytest.raises(ValueError, match=message):
        ConfusionMatrix(num_classes).update(pred, target)


def test_bad_ignore_index():
    with pytest.raises(ValueError, match="ignore_index is 'void'; allowed: an integer or None"):
        confusion_matrix(torch.tensor([[0]]), torch.tensor([[0]]), 2, ignore_index="void")
    with pytest.raises(ValueError, match=r"ignore_index is 1\.5"):
        ConfusionMatrix(2, ignore_index=1.5)


def test_many_wrong_values_are_cut_short():
    with pytest.raises(ValueError, match=r"9 \(1 pixels\) and 12 more values; allowed"):
        confusion_matrix(torch.zeros(1, 20, dtype=INT), torch.arange(2, 22)[None], 2)


def test_torchmetrics_is_imported_on_first_use():
    code = "import sys, evenseg.metrics; sys.exit(any(m in sys.modules for m in ('torchmetrics', 'torchvision')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
