"""Compiles every CUDA kernel ahead of time for sm_90, as no GPU is needed for it; run as a program, prints one line per kernel.

Not under TRITON_INTERPRET: kernels that call each other must all be compiled ones.
"""

import inspect
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from evenseg.statistics import slots
from evenseg.statistics.triton import margin, softmax

POINTERS = {
    "y": "*i64", "w": "*fp32", "unit": "*fp32", "gammas": "*fp32", "powers": "*fp32", "positive": "*i32", "lse": "*fp32",
    "miss": "*fp32", "miss_map": "*fp32", "best": "*i32", "bad": "*i64", "sums_out": "*fp64", "counts_out": "*i64",
    "totals_out": "*fp64", "excess_out": "*fp64", "histogram": "*i64", "weights": "*i64", "peak": "*i64", "pixel_out": "*fp32",
    "grads": "*fp32", "table": "*fp32", "grad_pixel": "*fp32", "opened": "*u8", "any_open": "*i32", "used": "*i32",
    "error_out": "*fp32", "place_out": "*i64",
}  # fmt: skip
LISTED = {"pixel_out": "*i64"}  # in the lists, pixel_out holds numbers of pixels
WIDE = {"stride_n", "ignore"}  # 64-bit arguments; the others fit into 32 bits
EVERYTHING = (1 << 10) - 1
SOFTMAX = [  # classes in a program, pixels in a tile, all classes at once
    dict(BC=32, BP=128, SINGLE=True), dict(BC=256, BP=16, SINGLE=True), dict(BC=128, BP=32, SINGLE=False), dict(BC=2, BP=1024, SINGLE=True),
]  # fmt: skip
MEMBERS = dict(GAMMAS=1, POWERS=1)


def compile_kernel(kernel, logits, constants):
    """The binary of one kernel for logits of one type."""
    names = list(inspect.signature(kernel.fn).parameters)
    listing = kernel.fn.__name__ == "list_open"
    signature = {}
    for name in names:
        if name in constants:
            signature[name] = "constexpr"
        elif name in ("z", "out"):
            signature[name] = f"*{logits}"
        elif name in POINTERS:
            signature[name] = LISTED.get(name, POINTERS[name]) if listing else POINTERS[name]
        else:
            signature[name] = "i64" if name in WIDE else "i32"
    source = ASTSource(kernel, signature, constexprs={(names.index(k),): v for k, v in constants.items()})
    return triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 4})


def cases(everything):
    """(kernel, type of the logits, constants); a few of them, or all."""
    for shape in SOFTMAX if everything else (SOFTMAX[0], SOFTMAX[2]):
        for logits, weighted in [("fp32", True), ("bf16", False), ("fp32", False), ("bf16", True)][: 4 if everything else 1]:
            every = dict(WANT=EVERYTHING & ~slots.WANT_RANKS, WEIGHTED=weighted, **MEMBERS)
            yield softmax.sums, logits, dict(**every, **shape, BS=16)
            yield softmax.backward, logits, dict(**every, **shape)
        yield softmax.list_open, "fp32", shape
    yield softmax.normalisers, "bf16", dict(WANT=EVERYTHING, BC=128, BP=32)
    for hinge, weighted in [(True, False), (False, True), (True, True), (False, False)][: 4 if everything else 2]:
        every = dict(WANT=EVERYTHING & ~slots.WANT_RANKS, WEIGHTED=weighted, HINGE=hinge, BP=1024, **MEMBERS)
        yield margin.sums, "bf16", dict(**every, BS=16)
        yield margin.backward, "bf16", every
        yield margin.list_open, "fp32", dict(HINGE=hinge, BP=1024)


if __name__ == "__main__":
    for kernel, logits, constants in cases("--all" in sys.argv):
        binary = compile_kernel(kernel, logits, constants)
        assert ".target sm_90" in binary.asm["ptx"], "not compiled for sm_90"
        print(kernel.fn.__module__.rpartition(".")[2], kernel.fn.__name__, logits, constants, len(binary.asm["cubin"]))
