"""How the kernels are launched: tile sizes, number of programs, what they leave behind. No host synchronisation anywhere."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from evenseg.statistics.ranking import CAPACITY, bin_slopes, open_bins, rank
from evenseg.statistics.triton.packing import MOST, WEIGHT_BITS, packed_table

REGISTER_CLASSES = 256  # classes that a program holds at once
CHUNK = 128  # classes of a program when there are more
TILE = 4096  # logits of a tile
PROGRAMS = 4  # per multiprocessor
COPY_BYTES = 1 << 26  # histograms are kept in several copies, against programs waiting for each other, up to this size
COPIES = 8


@dataclass(frozen=True)
class Plan:
    """Sizes of a launch over (N, C, P) logits."""

    single: bool
    classes: int  # of a program, a power of two
    pixels: int  # of a tile, a power of two
    tiles: int  # of an image
    programs: int  # of an image and range of classes
    chunks: int  # ranges of classes
    warps: int


def power_of_two(n: int) -> int:
    """The smallest power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def plan(N: int, C: int, P: int, device: torch.device) -> Plan:
    """How to cut the logits."""
    single = C <= REGISTER_CLASSES
    classes = max(2, power_of_two(C)) if single else CHUNK
    pixels = max(16, min(1024, TILE // classes))
    tiles = -(-P // pixels)
    chunks = 1 if single else -(-C // classes)
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    programs = max(1, min(tiles, -(-processors * PROGRAMS // (N * chunks))))
    return Plan(single, classes, pixels, tiles, programs, chunks, 8 if classes * pixels > 4096 else 4)


def margin_plan(N: int, R: int, P: int, device: torch.device) -> Plan:
    """As `plan` for rows of margins, which have one channel."""
    pixels = min(1024, max(16, power_of_two(P)))
    tiles = -(-P // pixels)
    processors = torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 1
    programs = max(1, min(tiles, -(-processors * PROGRAMS // (N * R))))
    return Plan(True, 1, pixels, tiles, programs, 1, 4)


def rounds(plan_: Plan, images: int) -> list[tuple[int, int]]:
    """Ranges of tiles of every image whose pixels fit into one packed histogram."""
    most = max(1, MOST // (plan_.pixels * images))
    return [(first, min(first + most, plan_.tiles)) for first in range(0, plan_.tiles, most)]


def histograms(groups: int, rows: int, num_bins: int, wanted: bool, weighted: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Zeroed counters, and those of the weights."""
    if not wanted:
        none = torch.zeros(1, 1, 1, 2, 2, dtype=torch.int64, device=device)
        return none, none
    size = groups * rows * 2 * (num_bins + 1) * 8
    copies = 1 if device.type == "cpu" else max(1, min(COPIES, COPY_BYTES // size))
    table = packed_table(copies, groups, rows, num_bins, device)
    return table, packed_table(copies, groups, rows, num_bins, device) if weighted else table


def weight_unit(weight: Tensor) -> Tensor:
    """(1,) float32: what weights are multiplied with so that the largest fills WEIGHT_BITS."""
    return ((1 << WEIGHT_BITS) / weight.amax().clamp(min=1e-30)).float().reshape(1)


def decode_peaks(key: Tensor, pixels: int, per_image: bool) -> tuple[Tensor, Tensor]:
    """Largest errors, 0 where there is none, and image x P + pixel of each, -1 where there is none."""
    found = key >= 0
    error = (key >> 32).to(torch.int32).view(torch.float32).double()
    at = 0xFFFFFFFF - (key & 0xFFFFFFFF)
    if per_image:
        at = at + pixels * torch.arange(key.shape[0], device=key.device).view(-1, *[1] * (key.dim() - 1))
    return torch.where(found, error, 0.0), torch.where(found, at, -1)


class OpenList:
    """The errors whose exact rank is wanted; its size is fixed, so that nobody has to ask how many there are."""

    def __init__(self, wanted: bool, device: torch.device):
        size = CAPACITY if wanted else 0
        self.wanted = wanted
        self.error = torch.zeros(size, device=device)
        self.place = torch.full((size, 4), -1, dtype=torch.int64, device=device)
        self.pixel = torch.zeros(size, dtype=torch.int64, device=device)
        self.above = torch.zeros(size, 2, dtype=torch.float64, device=device)
        self.used = torch.zeros(1, dtype=torch.int32, device=device)

    def open(self, counts: Tensor, foreground: Tensor, kind: str) -> tuple[Tensor, Tensor]:
        """(G, rows, K) uint8, which bins to open, and (1,) int32, whether any is."""
        opened = open_bins(counts, foreground, bin_slopes(counts.shape[-1], kind).to(counts.device))
        return opened.to(torch.uint8), opened.any().to(torch.int32).reshape(1)

    def rank(self, counts: Tensor) -> None:
        """Sort what was listed, in an order that does not depend on who listed what first."""
        rows = counts.shape[1]
        unused = self.place[:, 0] < 0
        by_pixel = torch.where(unused, torch.iinfo(torch.int64).max, self.pixel * rows + self.place[:, 1]).argsort(stable=True)
        error, place, pixel = self.error[by_pixel], self.place[by_pixel], self.pixel[by_pixel]
        order, self.above = rank(error, place, counts)
        self.error, self.place, self.pixel = error[order], place[order], pixel[order]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Error, place, number of errors above, pixel."""
        return self.error.double(), self.place, self.above, self.pixel


def outside_labels(bad: Tensor, *sums: Tensor) -> list[Tensor]:
    """The sums, NaN if a label was outside the classes: the host learns of it later than the loss is used."""
    return [torch.where(bad > 0, torch.nan, x) for x in sums]


def slots_of(fixed: int, gammas: list[float], powers: list[float], counts: int) -> int:
    """Number of sums of a row."""
    return fixed + len(gammas) + len(powers) + counts


def floats(values: list[float], device: torch.device) -> Tensor:
    """Exponents for a kernel; never empty, so that there is something to point at. Made without waiting for the device."""
    made = torch.tensor(values or [0.0], dtype=torch.float32)
    return made if device.type == "cpu" else made.pin_memory().to(device, non_blocking=True)


