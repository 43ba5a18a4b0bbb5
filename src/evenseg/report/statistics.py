"""The statistics of a comparison over a few seeds: mean and spread, paired differences, Student's t.

Plain Python floats and numpy, no scipy: a handful of numbers needs no more.
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

    `low`, `high` and `p` are None for n = 1, where no interval can be given; `wins` counts the differences above 0; `p` is
    the two-sided p-value of Student's paired test of "no difference".
    """

    mean: float
    sd: float | None
    n: int
    wins: int
    low: float | None
    high: float | None
    confidence: float
    p: float | None = None

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
    p = paired_p_value(summary)
    return PairedDifference(summary.mean, summary.sd, summary.n, wins, low, high, confidence, p)


def paired_p_value(differences: MeanSd) -> float:
    """Two-sided p-value of Student's test that the true mean difference is 0.

        t = mean / (sd / sqrt(n))        p = P(|T| >= |t|) = I_x((n - 1) / 2, 1 / 2),  x = (n - 1) / (n - 1 + t^2)

    Args:
        differences: mean and sd of n >= 2 paired differences.

    Returns:
        p in [0, 1]; 1 for differences that are all 0, 0 for differences that all have the same other value.

    Raises:
        ValueError: n = 1.
    """
    if differences.sd is None:
        raise ValueError("paired_p_value received one difference; allowed: at least two")
    if differences.sd == 0:
        return 1.0 if differences.mean == 0 else 0.0
    t = differences.mean / (differences.sd / math.sqrt(differences.n))
    df = differences.n - 1
    return regularised_beta(df / (df + t * t), df / 2, 0.5)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjustment for testing several hypotheses at once.

        sorted p_(1) <= ... <= p_(m):    adjusted_(k) = max_{j <= k} min(1, (m - j + 1) p_(j))

    A difference counts as shown at level a when its adjusted value is below a: the chance of even one false claim among all
    m is then at most a, whatever the tests have to do with each other.

    Args:
        p_values: m numbers in [0, 1].

    Returns:
        The adjusted values, in the order given.

    Raises:
        ValueError: a value outside [0, 1].

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    Source: Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of Statistics 6 (1979).
    """
    if not all(0 <= p <= 1 for p in p_values):
        raise ValueError(f"holm received {list(p_values)}; allowed: numbers in 0..1")
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = largest
    return adjusted


def bootstrap_interval(
    differences: Sequence[float], confidence: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of paired differences.

    The n differences are drawn n times with replacement, `resamples` times; the interval holds the middle `confidence` of
    the means. It assumes no distribution, but with few differences it is too narrow: of three it covers the true mean in 75 % of all cases.

    Args:
        differences: n >= 2 finite numbers, one for each pair.
        confidence: of the interval, between 0 and 1.
        resamples: how many means are drawn.
        seed: of the draws, so that a report says the same each time it is written.

    Returns:
        Lower and upper end, in the unit of the differences.

    Raises:
        ValueError: fewer than two differences, one that is not finite, or a `confidence` outside (0, 1).

    Source: Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13.
    """
    import numpy as np

    values = np.asarray(differences, dtype=float)
    if values.size < 2 or not np.isfinite(values).all():
        raise ValueError(f"bootstrap_interval received {list(differences)}; allowed: at least two finite numbers")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence!r}; allowed: a number between 0 and 1, both excluded")
    generator = np.random.default_rng(seed)
    # in blocks: a thousand images times ten thousand draws would not fit everywhere
    block = max(1, 2_000_000 // values.size)
    means = [
        values[generator.integers(0, values.size, (min(block, resamples - start), values.size))].mean(1)
        for start in range(0, resamples, block)
    ]
    low, high = np.quantile(np.concatenate(means), [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


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
