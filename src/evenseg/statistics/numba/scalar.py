"""Scalar pieces of the CPU kernels: exponential and logarithm that the compiler turns into vector code.

LLVM vectorises loops over these because they are branch-free arithmetic; calls to the C library would not be. float32
goes through short polynomials (relative error below 3e-7), float64, which is there for checks rather than for speed,
through the C library.
"""

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
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


def _prefetch(for_writing):
    @intrinsic
    def prefetch(typingctx, array, index):
        def codegen(context, builder, signature, args):
            data = context.make_array(signature.args[0])(context, builder, args[0]).data
            byte, i32 = ir.IntType(8).as_pointer(), ir.IntType(32)
            kind = ir.FunctionType(ir.VoidType(), [byte, i32, i32, i32])
            hint = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
            place = builder.bitcast(builder.gep(data, [args[1]]), byte)
            builder.call(hint, [place, i32(int(for_writing)), i32(2), i32(1)])  # to the second-level cache
            return context.get_dummy_value()

        return types.void(array, index), codegen

    return prefetch


# Hints that array[index] is going to be read or written: no effect but on time, also beyond the end of the array.
prefetch_read, prefetch_write = _prefetch(False), _prefetch(True)


# (exp(r) - 1 - r)/r² on |r| <= ln(2)/2: minimax in the relative error of exp (1.1e-7), by Lawson's iteration
EXP_SERIES = (0.499992311000824, 0.16667115688323975, 0.041890330612659454, 0.008312501013278961)


@intrinsic
def _bounded_exp(typingctx, x):
    """Exp of a float32 in [-87, 87], instruction by instruction: kernels allow the compiler to reorder sums, which this may not."""

    def codegen(context, builder, signature, args):
        f, i, only = ir.FloatType(), ir.IntType(32), ("contract",)  # an instruction with flags of its own gets no others
        number = lambda v: ir.Constant(f, float(f32(v)))  # noqa: E731
        times_plus = lambda a, b, c: builder.fadd(builder.fmul(a, b, flags=only), c, flags=only)  # noqa: E731
        (x,) = args
        # added to 1.5 2^23, a number is rounded to a whole one, which stands in the last bits of the sum
        shifted = times_plus(x, number(LOG2_E), number(12582912.0))
        k = builder.fsub(shifted, number(12582912.0), flags=only)
        r = times_plus(k, number(-LN2_LOW), times_plus(k, number(-LN2_HIGH), x))
        p = number(EXP_SERIES[3])
        for c in (*EXP_SERIES[2::-1], 1.0, 1.0):
            p = times_plus(p, r, number(c))
        exponent = builder.shl(builder.bitcast(shifted, i), i(23))
        return builder.bitcast(builder.add(builder.bitcast(p, i), exponent), f)

    return types.float32(types.float32), codegen


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
            return _bounded_exp(min(max(x, f32(-87.0)), f32(87.0)))

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
