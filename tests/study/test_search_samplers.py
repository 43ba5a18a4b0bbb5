"""Auto Seg-Loss's policy gradient against its formula, written out in numpy."""

import math

import numpy as np
import optuna
import pytest

from evenseg.study.search_samplers import NUMBER, PPO2Sampler
from evenseg.study.search_space import Choice, Number, Space


def make_space(*start):
    return Space({f"x{i}": Number(f"x{i}", value, 0.0, 1.0) for i, value in enumerate(start)}, [])


def play(sampler, score, trials, before=()):
    """Finished trials of a search whose scores are a function of the values."""
    study = optuna.create_study(direction="maximize")
    for trial in before:
        study.add_trial(trial)
    for number in range(len(before), trials):
        sampler.number = number
        values = sampler.sample_relative(study, None, {})
        value = score(np.array(list(values.values())))
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.FAIL if value is None else optuna.trial.TrialState.COMPLETE, value=value,
                params=values, distributions=sampler.space.distributions(), user_attrs={NUMBER: number},
            )
        )  # fmt: skip
    return study.get_trials()


def normal(x):
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


def surrogate(x, old, units, rewards, sigma, clip):
    """The loss of one round, sample by sample and dimension by dimension."""

    def density(u, mu):
        return math.exp(-((u - mu) ** 2) / (2 * sigma**2)) / (normal((1 - mu) / sigma) - normal(-mu / sigma))

    total = 0.0
    for sample, reward in zip(units, rewards):
        for d, u in enumerate(sample):
            ratio = density(u, 1 / (1 + math.exp(-x[d]))) / density(u, 1 / (1 + math.exp(-old[d])))
            advantage = reward - rewards[0]
            total += min(ratio * advantage, min(max(ratio, 1 - clip), 1 + clip) * advantage)
    return -total / len(units)


def test_one_round_is_the_formula():
    sampler = PPO2Sampler(make_space(0.3, 0.6), samples=5, steps=7, seed=3)
    trials = play(sampler, lambda u: float(u[0] - 2 * u[1] ** 2), 5)
    units = np.array([list(trial.params.values()) for trial in trials])
    rewards = [trial.value for trial in trials]
    assert units[0] == pytest.approx([0.3, 0.6])
    x = np.log(np.array([0.3, 0.6]) / (1 - np.array([0.3, 0.6])))
    old, m, v = x.copy(), np.zeros(2), np.zeros(2)
    for step in range(1, 8):
        gradient = np.zeros(2)
        for d in range(2):
            shift = np.eye(2)[d] * 1e-6
            up, down = (surrogate(x + s * shift, old, units, rewards, 0.2, 0.2) for s in (1, -1))
            gradient[d] = (up - down) / 2e-6
        m, v = 0.9 * m + 0.1 * gradient, 0.999 * v + 0.001 * gradient**2
        x = x - 0.2 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
    assert sampler.means(trials, 1)[1] == pytest.approx(1 / (1 + np.exp(-x)), abs=1e-4)


def test_it_climbs_and_is_a_function_of_its_seed():
    target = np.array([0.8, 0.35, 0.6])

    def score(u):
        return -float(((u - target) ** 2).sum())

    def make(seed=0):
        return PPO2Sampler(make_space(0.2, 0.8, 0.6), samples=12, steps=30, seed=seed)

    trials = play(make(), score, 60)
    means = make().means(trials, 5)
    assert score(np.array(means[-1])) > 0.4 * score(np.array(means[0]))
    rest = play(make(), score, 15, before=trials[:13])
    assert [trial.params for trial in rest] == [trial.params for trial in trials[:15]]
    other = play(make(1), score, 2)
    assert other[0].params == trials[0].params
    assert other[1].params != trials[1].params


def test_samples_are_of_the_truncated_normal_distribution():
    sampler = PPO2Sampler(make_space(*[0.1] * 4000), samples=2)
    units = np.array(sampler._draw([0.1] * 4000, 1, 0))
    assert units.min() >= 0
    assert units.max() <= 1
    low, high = normal(-0.5), normal(4.5)
    for u in (0.05, 0.2, 0.4):
        assert (units <= u).mean() == pytest.approx((normal((u - 0.1) / 0.2) - low) / (high - low), abs=0.03)


def test_a_failed_trial_counts_as_the_lowest_of_its_round():
    def means(lost):
        sampler = PPO2Sampler(make_space(0.5), samples=4)
        calls = iter(range(4))
        return sampler.means(play(sampler, lambda u: (0.5, 0.2, 0.9, lost)[next(calls)], 4), 1)

    assert means(None) == means(0.2)
    assert means(None) != means(0.5)


def test_rounds_wait():
    sampler = PPO2Sampler(make_space(0.5), samples=3)
    assert sampler.ready(2, set())
    assert not sampler.ready(3, {0, 1})
    assert sampler.ready(5, {0, 1, 2})


def test_numbers_and_choices_fill_the_unit_interval():
    log, whole, choice = Number("a", 1.0, 0.1, 10.0, log=True), Number("b", 2, 1.0, 4.0, integer=True), Choice("c", "y", ("x", "y", "z"))
    assert log.from_unit(0.5) == pytest.approx(1.0)
    assert log.to_unit(1.0) == pytest.approx(0.5)
    assert (log.from_unit(0.0), log.from_unit(1.0)) == (0.1, 10.0)
    assert [whole.from_unit(u) for u in (0.0, 0.4, 1.0)] == [1, 2, 4]
    assert [choice.from_unit(choice.to_unit(value)) for value in "xyz"] == ["x", "y", "z"]
    assert choice.from_unit(1.0) == "z"


@pytest.mark.parametrize(("keywords", "message"), [({"sigma": 0.0}, "sigma must be positive"), ({"steps": 0}, "steps must be positive")])
def test_mistakes(keywords, message):
    with pytest.raises(ValueError, match=message):
        PPO2Sampler(make_space(0.5), **keywords)
