"""Scalar pieces of the CPU kernels: exponential and logarithm that the compiler turns into vector code.

LLVM vectorises loops over these because they are branch-free arithmetic; calls to the C library would not be. float32
goes through short polynomials (relative error below 3e-7), float64, which is there for checks rather than for speed,
through the C library.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

f32 = np.float32
LN2_HIGH, LN2_LOW, LOG2_E = f32(0.693359375), f32(-2.12194440e-4), f32(1.44269504088896341)


@intrinsic
def float_of_bits(typingctx, bits):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.int32), codegen


@intrinsic
def bits_of_float(typingctx, value):
    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), codegen


def exp(x):
    """Exponential; in float32 x is first clamped to [-87, 87]."""
    return math.exp(x)


def log(x):
    """Natural logarithm of a positive normal number."""
    return math.log(x)


@overload(exp, inline="always")
def _exp(x):
    if x == types.float32:

        def impl(x):
            t = min(max(x, f32(-87.0)), f32(87.0))
            k = np.floor(t * LOG2_E + f32(0.5))
            r = (t - k * LN2_HIGH) - k * LN2_LOW
            # Taylor to r^6 on |r| <= ln(2)/2
            p = f32(1.0 / 120.0) + r * f32(1.0 / 720.0)
            p = f32(1.0 / 24.0) + r * p
            p = f32(1.0 / 6.0) + r * p
            p = f32(0.5) + r * p
            p = f32(1.0) + r * (f32(1.0) + r * p)
            return p * float_of_bits(np.int32((np.int32(k) + np.int32(127)) << np.int32(23)))

        return impl
    return lambda x: math.exp(x)


@overload(log, inline="always")
def _log(x):
    if x == types.float32:

        def impl(x):
            b = bits_of_float(x)
            # mantissa in [sqrt(1/2), sqrt(2)): the series below converges fast around 1
            e = (b - np.int32(0x3F3504F3)) >> np.int32(23)
            m = float_of_bits(np.int32(b - np.int32(e << np.int32(23)))) - f32(1.0)
            s = m / (f32(2.0) + m)
            q = s * s
            # log(1+m) = 2 atanh(s) = 2 s (1 + q/3 + q²/5 + ...), |s| <= 0.1716
            series = f32(2.0 / 9.0) + q * f32(2.0 / 11.0)
            series = f32(2.0 / 7.0) + q * series
            series = f32(2.0 / 5.0) + q * series
            series = f32(2.0 / 3.0) + q * series
            k = np.float32(e)
            return k * LN2_HIGH + (k * LN2_LOW + s * (f32(2.0) + q * series))

        return impl
    return lambda x: math.log(x)


def log1p(x):
    """log(1 + x) for 0 <= x <= 1, to the last bits also for tiny x."""
    return math.log1p(x)


@overload(log1p, inline="always")
def _log1p(x):
    if x == types.float32:

        def impl(x):
            u = f32(1.0) + x
            d = u - f32(1.0)
            # log(u) x / (u - 1) undoes the rounding of 1 + x
            return x if d == f32(0.0) else log(u) * (x / d)

        return impl
    return lambda x: math.log1p(x)


def power(x, q):
    """x^q for x > 0."""
    return x**q


@overload(power, inline="always")
def _power(x, q):
    if x == types.float32:
        return lambda x, q: exp(q * log(x))
    return lambda x, q: x**q



def bits_of(x):
    """Bits of the float32 1 + x less those of 1.0: a monotone integer that counts 2^23 an octave."""
    return x


@overload(bits_of, inline="always")
def _bits_of(x):
    if x == types.float32:
        return lambda x: bits_of_float(f32(1.0) + x) - np.int32(0x3F800000)
    return lambda x: bits_of_float(f32(1.0 + x)) - np.int32(0x3F800000)
