"""The statistics of a comparison over a few seeds: mean and spread, paired differences, Student's t.

Plain Python floats, no scipy: a handful of numbers needs no more.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

_EPS = 3e-16
_TINY = 1e-300


@dataclass(frozen=True)
class MeanSd:
    """Mean and sample standard deviation of n numbers; `sd` is None for a single one."""

    mean: float
    sd: float | None
    n: int


@dataclass(frozen=True)
class PairedDifference:
    """Mean of n paired differences with its confidence interval.

    `low` and `high` are None for n = 1, where no interval can be given; `wins` counts the differences above 0.
    """

    mean: float
    sd: float | None
    n: int
    wins: int
    low: float | None
    high: float | None
    confidence: float

    @property
    def verdict(self) -> str:
        """Where the interval lies: "better" (above 0), "worse" (below 0), "undecided" (holds 0), or "no interval"."""
        if self.low is None or self.high is None:
            return "no interval"
        return "better" if self.low > 0 else "worse" if self.high < 0 else "undecided"


def mean_sd(values: Sequence[float]) -> MeanSd:
    """Mean and sample standard deviation.

        mean = sum_i x_i / n        sd = sqrt( sum_i (x_i - mean)^2 / (n - 1) )

    Args:
        values: n >= 1 finite numbers of any unit.

    Returns:
        MeanSd in the same unit; `sd` is None for n = 1.

    Raises:
        ValueError: no value, or one that is not finite.

    Example:
        >>> mean_sd([1.0, 2.0, 3.0])
        MeanSd(mean=2.0, sd=1.0, n=3)
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("mean_sd received no value; allowed: at least one")
    if not all(map(math.isfinite, values)):
        raise ValueError(f"mean_sd received {values}; allowed: finite numbers")
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return MeanSd(mean, None, 1)
    sd = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    return MeanSd(mean, sd, len(values))


def paired_difference(a: Sequence[float], b: Sequence[float], confidence: float = 0.95) -> PairedDifference:
    """Mean of the paired differences a_i - b_i with Student's confidence interval.

        d_i = a_i - b_i        interval = mean(d) +- t((1 + confidence) / 2; n - 1) * sd(d) / sqrt(n)

    The interval covers the true mean difference in `confidence` of all repetitions, if the differences are drawn
    independently from a normal distribution.

    Args:
        a: scores of one method, one for each seed.
        b: scores of the other method for the same seeds, in the same order.
        confidence: coverage of the interval, between 0 and 1.

    Returns:
        PairedDifference in the unit of the scores; without an interval for n = 1.

    Raises:
        ValueError: no pair, different lengths, a value that is not finite, or a `confidence` outside (0, 1).

    Source: Student, "The probable error of a mean", Biometrika 6 (1908).
    """
    if len(a) != len(b):
        raise ValueError(f"paired_difference received {len(a)} and {len(b)} values; allowed: one of each per seed")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; allowed: a number between 0 and 1, both excluded")
    differences = [float(x) - float(y) for x, y in zip(a, b)]
    summary = mean_sd(differences)
    wins = sum(difference > 0 for difference in differences)
    if summary.sd is None:
        return PairedDifference(summary.mean, None, 1, wins, None, None, confidence)
    half = t_quantile((1 + confidence) / 2, summary.n - 1) * summary.sd / math.sqrt(summary.n)
    low, high = summary.mean - half, summary.mean + half
    return PairedDifference(summary.mean, summary.sd, summary.n, wins, low, high, confidence)


def t_quantile(p: float, df: int) -> float:
    """Return the value that Student's t with `df` degrees of freedom stays below with probability p.

    Solved by bisection on the distribution function

        P(T <= t) = 1 - I_x(df / 2, 1 / 2) / 2,    x = df / (df + t^2),    t >= 0

    with I the regularised incomplete beta function.

    Args:
        p: probability, between 0 and 1.
        df: degrees of freedom, at least 1.

    Returns:
        The quantile; negative for p < 1/2.

    Raises:
        ValueError: `p` outside (0, 1) or `df` below 1.

    Example:
        >>> round(t_quantile(0.975, 2), 3)
        4.303

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 26.7.1 and 26.5.27.
    """
    if not 0 < p < 1:
        raise ValueError(f"p is {p!r}; allowed: a number between 0 and 1, both excluded")
    if df < 1:
        raise ValueError(f"df is {df!r}; allowed: at least 1")
    if p == 0.5:
        return 0.0
    if p < 0.5:
        return -t_quantile(1 - p, df)

    def upper_tail(t: float) -> float:
        return regularised_beta(df / (df + t * t), df / 2, 0.5) / 2

    low, high = 0.0, 1.0
    while upper_tail(high) > 1 - p:
        low, high = high, 2 * high
    while high - low > 1e-13 * high:
        middle = (low + high) / 2
        if middle in (low, high):
            break
        low, high = (middle, high) if upper_tail(middle) > 1 - p else (low, middle)
    return (low + high) / 2


def regularised_beta(x: float, a: float, b: float) -> float:
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction.

        I_x(a, b) = x^a (1 - x)^b / (a B(a, b)) * 1 / (1 + d_1 / (1 + d_2 / (1 + ...)))
        d_2m = m (b - m) x / ((a + 2m - 1)(a + 2m))
        d_2m+1 = -(a + m)(a + b + m) x / ((a + 2m)(a + 2m + 1))

    evaluated by Lentz' method where it converges fast, x < (a + 1) / (a + b + 2), and through
    I_x(a, b) = 1 - I_1-x(b, a) elsewhere.

    Args:
        x: in [0, 1].
        a: above 0.
        b: above 0.

    Returns:
        A probability.

    Raises:
        ValueError: an argument outside its range.

    Source: Abramowitz and Stegun (1964), 26.5.8; Lentz, Applied Optics 15 (1976).
    """
    if not 0 <= x <= 1 or a <= 0 or b <= 0:
        raise ValueError(f"regularised_beta received x={x!r}, a={a!r}, b={b!r}; allowed: 0 <= x <= 1, a > 0, b > 0")
    if x in (0, 1):
        return float(x)
    if x > (a + 1) / (a + b + 2):
        return 1 - regularised_beta(1 - x, b, a)
    log_beta = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    front = math.exp(a * math.log(x) + b * math.log1p(-x) - log_beta) / a
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        m = step // 2
        if step % 2 == 0:
            term = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        else:
            term = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        d = 1 / (1 + term * d or _TINY)
        c = 1 + term / c or _TINY
        value *= c * d
        if abs(c * d - 1) < _EPS:
            return front / value
    raise ArithmeticError(f"the continued fraction of I_{x}({a}, {b}) did not converge")
