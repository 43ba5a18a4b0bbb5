"""What proposes the next values of a search: Auto Seg-Loss's policy gradient as an Optuna sampler, and Optuna's own samplers."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
import optuna
import torch
from optuna.trial import FrozenTrial, TrialState
from torch import Tensor

from evenseg.config import ConfigError, Section, check_keywords, construct, look_up
from evenseg.study.search_space import Space

NUMBER = "number"  # user attribute of a trial: its place among the trials of the search, from 0
_NORMAL = NormalDist()


class PPO2Sampler(optuna.samplers.BaseSampler):
    """Values from a truncated normal distribution around a mean that is moved round by round: the search of Auto Seg-Loss.

    All dimensions lie in [0, 1] and are drawn independently: u_d ~ N(mu_d, sigma) cut off at 0 and 1, mu_d = sigmoid(x_d). The
    first sample of every round is mu itself; its score is the baseline b. After a round x takes `steps` steps of Adam on

    L(x) = - mean_s sum_d min(r_sd A_s, clip(r_sd, 1 - clip, 1 + clip) A_s),   A_s = score_s - b,   r_sd = q_x(u_sd) / q_old(u_sd)

    with q the density of the truncated normal distribution. Nothing but the finished trials is kept: their scores are played
    through again, so a search goes on after a kill as it would have. A failed or pruned trial counts as the lowest of its round.

    Args:
        space: what is searched; the search begins at its start.
        samples: of a round.
        sigma: standard deviation, fixed.
        clip: of the ratio.
        lr: of Adam.
        steps: of Adam after a round.
        seed: of the samples.

    Source: Li et al., Auto Seg-Loss, ICLR 2021, section 3.4 and the published code (there 12 rounds of 32 samples).
    """

    def __init__(
        self, space: Space, *, samples: int = 32, sigma: float = 0.2, clip: float = 0.2, lr: float = 0.2, steps: int = 60, seed: int = 0
    ) -> None:
        if samples < 2:
            raise ValueError(f"samples must be at least 2, the mean and one other, got {samples}")
        for name, value in (("sigma", sigma), ("clip", clip), ("lr", lr), ("steps", steps)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        self.space = space
        self.samples, self.sigma, self.clip, self.lr, self.steps, self.seed = samples, sigma, clip, lr, steps, seed
        self.number = 0  # of the trial that is asked for next

    def ready(self, number: int, ended: set[int]) -> bool:
        """Tells whether a trial can be drawn: all trials of the rounds before it have ended."""
        return ended.issuperset(range(number // self.samples * self.samples))

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        return self.space.distributions()

    def sample_relative(self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Any]) -> dict[str, Any]:
        this_round, place = divmod(self.number, self.samples)
        means = self.means(study.get_trials(deepcopy=False), this_round)
        units = means[-1] if place == 0 else self._draw(means[-1], place, this_round)
        dimensions = self.space.dimensions
        return {dimension.name: dimension.from_unit(u) for dimension, u in zip(dimensions, units, strict=True)}

    def sample_independent(self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Any) -> Any:
        raise ValueError(f"{param_name} is no part of the search space")

    def means(self, trials: Sequence[FrozenTrial], rounds: int) -> list[list[float]]:
        """Returns mu before the first round and after each of the given number of rounds."""
        dimensions = self.space.dimensions
        start = torch.tensor([dimension.to_unit(dimension.start) for dimension in dimensions], dtype=torch.float64)
        # the sigmoid never reaches the ends
        x = torch.logit(start.clamp(1e-3, 1 - 1e-3)).requires_grad_()
        optimizer = torch.optim.Adam([x], lr=self.lr)
        means = [start.tolist()]
        by_number = {trial.user_attrs[NUMBER]: trial for trial in trials if _counts(trial)}
        for played in range(rounds):
            those = [by_number.get(played * self.samples + place) for place in range(self.samples)]
            scores = [None if trial is None or trial.state != TrialState.COMPLETE else trial.value for trial in those]
            lowest = min((score for score in scores if score is not None), default=0.0)
            rewards = torch.tensor([lowest if score is None else score for score in scores], dtype=torch.float64)
            units = torch.tensor(
                [
                    means[-1] if trial is None else [d.to_unit(trial.params[d.name]) for d in dimensions]
                    for trial in those
                ],
                dtype=torch.float64,
            )  # fmt: skip
            self._improve(x, optimizer, units, rewards - rewards[0])
            means.append(torch.sigmoid(x.detach()).tolist())
        return means

    def _improve(self, x: Tensor, optimizer: torch.optim.Optimizer, units: Tensor, advantage: Tensor) -> None:
        old = self._log_density(units, torch.sigmoid(x.detach()))
        for _ in range(self.steps):
            ratio = torch.exp(self._log_density(units, torch.sigmoid(x)) - old)
            clipped = ratio.clamp(1 - self.clip, 1 + self.clip)
            loss = -torch.minimum(ratio * advantage[:, None], clipped * advantage[:, None]).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    def _log_density(self, units: Tensor, mean: Tensor) -> Tensor:
        """Logarithm of the truncated normal density of every sample and dimension, up to a constant."""
        inside = torch.special.ndtr((1 - mean) / self.sigma) - torch.special.ndtr(-mean / self.sigma)
        return -0.5 * ((units - mean) / self.sigma) ** 2 - inside.log()

    def _draw(self, mean: Sequence[float], place: int, this_round: int) -> list[float]:
        uniform = np.random.default_rng((self.seed, this_round, place)).random(len(mean))
        drawn = []
        for mu, u in zip(mean, uniform, strict=True):
            low, high = _NORMAL.cdf(-mu / self.sigma), _NORMAL.cdf((1 - mu) / self.sigma)
            drawn.append(min(max(mu + self.sigma * _NORMAL.inv_cdf(low + float(u) * (high - low)), 0.0), 1.0))
        return drawn


def _counts(trial: FrozenTrial) -> bool:
    return NUMBER in trial.user_attrs and "duplicate" not in trial.user_attrs and trial.state.is_finished()


def _tpe(space: Space, **keywords: Any) -> optuna.samplers.BaseSampler:
    return optuna.samplers.TPESampler(**{"multivariate": True, "constant_liar": True, **keywords})


def _random(space: Space, **keywords: Any) -> optuna.samplers.BaseSampler:
    return optuna.samplers.RandomSampler(**keywords)


def _cma(space: Space, **keywords: Any) -> optuna.samplers.BaseSampler:
    if importlib.util.find_spec("cmaes") is None:
        raise ConfigError("CMA needs the package cmaes: pip install cmaes", key_path="search.sampler.type")
    return optuna.samplers.CmaEsSampler(**{"x0": space.start, **keywords})


# name -> (builder, whose keywords it takes)
SAMPLERS: Mapping[str, tuple[Callable[..., optuna.samplers.BaseSampler], Callable[..., Any]]] = {
    "PPO2": (PPO2Sampler, PPO2Sampler),
    "TPE": (_tpe, optuna.samplers.TPESampler),
    "Random": (_random, optuna.samplers.RandomSampler),
    "CMA": (_cma, optuna.samplers.CmaEsSampler),
}


def make_sampler(section: Section, space: Space, seed: int, number: int = 0) -> optuna.samplers.BaseSampler:
    """Returns the sampler of a `search.sampler` section for one trial.

    It is made anew for every trial, with a seed of its own: neither a second worker nor a search that goes on draws the
    same values again.

    Args:
        section: type and keywords.
        space: what is searched.
        seed: of the search.
        number: of the trial.

    Raises:
        ConfigError: an unknown sampler or keyword, or a value that is not allowed.
    """
    path = "search.sampler"
    build, signature = look_up(SAMPLERS, section, "sampler", path)
    ours = build is PPO2Sampler
    keywords = check_keywords(signature, section.keywords, key_path=path, filled=("space", "seed") if ours else ("seed",))
    own_seed = seed if ours else int(np.random.SeedSequence((seed, number)).generate_state(1)[0])
    with warnings.catch_warnings():
        # multivariate TPE and its constant liar have been called experimental for years
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        made: optuna.samplers.BaseSampler = construct(build, {**keywords, "seed": own_seed}, space, key_path=path)
    if isinstance(made, PPO2Sampler):
        made.number = number
    return made
