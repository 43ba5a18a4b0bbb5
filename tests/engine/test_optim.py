import math

import pytest

from evenseg.engine.optim import Constant, Cosine, Poly, Step


def test_poly():
    schedule = Poly(power=0.9, end_lr=0.001)
    assert schedule.rate(0, 100, 0.1) == pytest.approx(0.1)
    assert schedule.rate(50, 100, 0.1) == pytest.approx(0.001 + 0.099 * 0.5**0.9)
    assert schedule.rate(100, 100, 0.1) == pytest.approx(0.001)


def test_cosine():
    assert Cosine().rate(25, 100, 0.2) == pytest.approx(0.1 * (1 + math.cos(math.pi / 4)))
    assert Cosine(end_lr=0.05).rate(100, 100, 0.2) == pytest.approx(0.05)


def test_step_and_constant():
    assert [Step(10, gamma=0.5).rate(step, 100, 0.8) for step in (0, 9, 10, 25)] == pytest.approx([0.8, 0.8, 0.4, 0.2])
    assert Constant().rate(99, 100, 0.3) == 0.3


def test_warmup_rises_and_hands_over_at_the_base_rate():
    rates = [Poly(warmup_iters=4).rate(step, 20, 1.0) for step in range(20)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] > 0


@pytest.mark.parametrize("make", [lambda: Step(0), lambda: Constant(-1)])
def test_bad_values(make):
    with pytest.raises(ValueError, match="got"):
        make()
