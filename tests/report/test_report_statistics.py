"""Statistics of a comparison: published t tables, closed forms, hand-computed intervals."""

import math

import numpy as np
import pytest

from evenseg.report.statistics import bootstrap_interval, holm, mean_sd, paired_difference, regularised_beta, t_quantile

# Two-sided 90, 95, 98 and 99 % points as printed in statistics textbooks, df 1 to 30
TABLE = {
    1: (6.314, 12.706, 31.821, 63.657),
    2: (2.920, 4.303, 6.965, 9.925),
    3: (2.353, 3.182, 4.541, 5.841),
    4: (2.132, 2.776, 3.747, 4.604),
    5: (2.015, 2.571, 3.365, 4.032),
    6: (1.943, 2.447, 3.143, 3.707),
    7: (1.895, 2.365, 2.998, 3.499),
    8: (1.860, 2.306, 2.896, 3.355),
    9: (1.833, 2.262, 2.821, 3.250),
    10: (1.812, 2.228, 2.764, 3.169),
    11: (1.796, 2.201, 2.718, 3.106),
    12: (1.782, 2.179, 2.681, 3.055),
    13: (1.771, 2.160, 2.650, 3.012),
    14: (1.761, 2.145, 2.624, 2.977),
    15: (1.753, 2.131, 2.602, 2.947),
    16: (1.746, 2.120, 2.583, 2.921),
    17: (1.740, 2.110, 2.567, 2.898),
    18: (1.734, 2.101, 2.552, 2.878),
    19: (1.729, 2.093, 2.539, 2.861),
    20: (1.725, 2.086, 2.528, 2.845),
    21: (1.721, 2.080, 2.518, 2.831),
    22: (1.717, 2.074, 2.508, 2.819),
    23: (1.714, 2.069, 2.500, 2.807),
    24: (1.711, 2.064, 2.492, 2.797),
    25: (1.708, 2.060, 2.485, 2.787),
    26: (1.706, 2.056, 2.479, 2.779),
    27: (1.703, 2.052, 2.473, 2.771),
    28: (1.701, 2.048, 2.467, 2.763),
    29: (1.699, 2.045, 2.462, 2.756),
    30: (1.697, 2.042, 2.457, 2.750),
}


@pytest.mark.parametrize("df", TABLE)
def test_t_quantile_against_published_tables(df):
    for p, published in zip((0.95, 0.975, 0.99, 0.995), TABLE[df]):
        assert t_quantile(p, df) == pytest.approx(published, abs=0.00051)


def test_t_quantile_against_closed_forms():
    for p in (0.6, 0.9, 0.975, 0.9999):
        assert t_quantile(p, 1) == pytest.approx(math.tan(math.pi * (p - 0.5)), rel=1e-10)
        assert t_quantile(p, 2) == pytest.approx((2 * p - 1) / math.sqrt(2 * p * (1 - p)), rel=1e-10)
    assert t_quantile(0.5, 7) == 0
    assert t_quantile(0.025, 4) == -t_quantile(0.975, 4)
    assert t_quantile(0.975, 1_000_000) == pytest.approx(1.959966, abs=2e-6)  # the normal distribution's 1.959964


def test_regularised_beta_against_closed_forms():
    for x in (0.0, 0.01, 0.3, 0.5, 0.9, 1.0):
        assert regularised_beta(x, 1, 1) == pytest.approx(x)
        assert regularised_beta(x, 3, 1) == pytest.approx(x**3)
        assert regularised_beta(x, 1, 3) == pytest.approx(1 - (1 - x) ** 3)
        assert regularised_beta(x, 2.5, 4.5) == pytest.approx(1 - regularised_beta(1 - x, 4.5, 2.5))


def test_mean_sd_is_numpy_with_n_minus_1():
    values = np.random.default_rng(0).normal(50, 3, 9)
    summary = mean_sd(list(values))
    assert summary.mean == pytest.approx(np.mean(values))
    assert summary.sd == pytest.approx(np.std(values, ddof=1))
    assert summary.n == 9
    assert mean_sd([4.0]).sd is None


def test_paired_difference_by_hand():
    """d = 1, 2, 3: mean 2, sd 1, half width 4.303 / sqrt(3)."""
    result = paired_difference([11, 22, 33], [10, 20, 30])
    assert (result.mean, result.sd, result.n, result.wins) == (2, 1, 3, 3)
    assert result.low == pytest.approx(2 - 4.302653 / math.sqrt(3), abs=1e-6)
    assert result.high == pytest.approx(2 + 4.302653 / math.sqrt(3), abs=1e-6)
    assert result.verdict == "undecided"


def test_pairing_removes_what_the_seeds_share():
    seeds = np.array([10.0, 50.0, 90.0])
    assert paired_difference(seeds + [1.0, 1.1, 0.9], seeds).verdict == "better"
    assert paired_difference(seeds, seeds + [1.0, 1.1, 0.9]).verdict == "worse"


def test_one_seed_has_no_interval():
    result = paired_difference([2.0], [1.0])
    assert (result.mean, result.low, result.high, result.verdict) == (1, None, None, "no interval")


def test_equal_scores_are_undecided():
    result = paired_difference([1.0, 2.0], [1.0, 2.0])
    assert (result.low, result.high, result.wins, result.verdict) == (0, 0, 0, "undecided")


def test_a_higher_confidence_widens_the_interval():
    a, b = [1.0, 2.0, 4.0], [0.0, 0.0, 0.0]
    assert paired_difference(a, b, 0.99).low < paired_difference(a, b, 0.95).low


def test_the_interval_covers_as_often_as_it_says():
    """Three seeds, 4000 studies without any true difference: 5 % of the intervals miss 0 (sd of the share 0.34 %)."""
    draws = np.random.default_rng(3).normal(size=(4000, 3))
    missed = np.mean([paired_difference(d, [0.0] * 3).verdict != "undecided" for d in draws])
    assert 0.035 < missed < 0.065


def test_p_value_by_hand_and_with_the_interval():
    """d = 1, 2, 3: t = 2 sqrt(3), and with 2 degrees of freedom P(|T| >= t) = 1 - t / sqrt(2 + t^2)."""
    t = 2 * math.sqrt(3)
    assert paired_difference([11, 22, 33], [10, 20, 30]).p == pytest.approx(1 - t / math.sqrt(2 + t * t))
    assert paired_difference([1.0, 2.0], [1.0, 2.0]).p == 1
    assert paired_difference([2.0, 3.0], [1.0, 2.0]).p == 0
    assert paired_difference([2.0], [1.0]).p is None
    for seed in range(20):
        result = paired_difference(np.random.default_rng(seed).normal(1, 1, 4), [0.0] * 4)
        assert (result.p < 0.05) == (result.verdict != "undecided")


def test_holm():
    """The second line is the example of R's p.adjust(c(0.01, 0.02, 0.03, 0.04, 0.05), "holm")."""
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.01, 0.02, 0.03, 0.04, 0.05]) == pytest.approx([0.05, 0.08, 0.09, 0.09, 0.09])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_holm_keeps_its_promise():
    """Five true null hypotheses: in 5 % of the studies at least one is rejected, where single tests reject in 23 %."""
    p = np.random.default_rng(0).uniform(size=(4000, 5))
    assert np.mean([min(holm(row)) < 0.05 for row in p]) == pytest.approx(0.05, abs=0.012)


def test_bootstrap_of_many_is_the_normal_interval():
    values = np.random.default_rng(1).normal(3, 2, 400)
    low, high = bootstrap_interval(values)
    half = 1.96 * np.std(values) / 20
    assert (low, high) == (pytest.approx(values.mean() - half, abs=0.03), pytest.approx(values.mean() + half, abs=0.03))
    assert bootstrap_interval(values) == (low, high), "the same each time"
    assert bootstrap_interval([1.0, 1.0, 1.0]) == (1.0, 1.0)


def test_bootstrap_of_three_is_as_narrow_as_the_report_says():
    draws = np.random.default_rng(2).normal(size=(1000, 3))
    held = [low <= 0 <= high for low, high in (bootstrap_interval(d, resamples=400) for d in draws)]
    assert np.mean(held) == pytest.approx(0.75, abs=0.04)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: holm([0.1, 1.2]), r"holm received \[0\.1, 1\.2\]; allowed: numbers in 0\.\.1"),
        (lambda: bootstrap_interval([1.0]), "at least two finite numbers"),
        (lambda: bootstrap_interval([1.0, math.nan]), "at least two finite numbers"),
        (lambda: mean_sd([]), "no value; allowed: at least one"),
        (lambda: mean_sd([1.0, math.nan]), "nan.*; allowed: finite numbers"),
        (lambda: paired_difference([1.0], [1.0, 2.0]), "received 1 and 2 values"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0], 95), "confidence is 95; allowed: a number between 0 and 1"),
        (lambda: t_quantile(1.0, 3), r"p is 1\.0; allowed"),
        (lambda: t_quantile(0.9, 0), "df is 0; allowed: at least 1"),
        (lambda: regularised_beta(1.5, 1, 1), r"x=1\.5"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=message):
        call()
