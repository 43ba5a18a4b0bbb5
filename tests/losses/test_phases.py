"""`phases`: losses that take over at given steps."""

import pytest
import torch
from cases import close

from evenseg import build_loss
from evenseg import losses as L
from evenseg.losses import LossConfigError, PhasedLoss

CE, LOVASZ = {"type": "CrossEntropyLoss"}, {"type": "LovaszSoftmaxLoss"}
SECTION = {
    "types": [CE],
    "coef": [1, 0.4],
    "phases": [{"start": 3, "types": [LOVASZ]}, {"start": 5, "types": [LOVASZ, CE], "coef": [2, 0]}],
}


def data():
    g = torch.Generator().manual_seed(0)
    return [torch.randn(2, 3, 8, 6, generator=g) for _ in range(2)], torch.randint(0, 3, (2, 8, 6), generator=g)


def test_each_phase_is_the_loss_of_its_section():
    heads, y = data()
    loss = build_loss(SECTION, num_classes=3, ignore_index=7)
    assert isinstance(loss, PhasedLoss)
    sections = [{"types": [CE], "coef": [1, 0.4]}, {"types": [LOVASZ], "coef": [1, 0.4]}, {"types": [LOVASZ, CE], "coef": [2, 0]}]
    for step, phase in [(0, 0), (2, 0), (3, 1), (4, 1), (5, 2), (900, 2), (1, 0)]:
        loss.set_step(step)
        alone = build_loss(sections[phase], num_classes=3, ignore_index=7)
        assert loss.phase == phase
        assert torch.equal(loss(heads, y), alone(heads, y))
        assert loss.terms.keys() == alone.terms.keys()
        assert all(torch.equal(loss.terms[name], alone.terms[name]) for name in alone.terms)
    assert all(part.ignore_index == 7 for part in loss.modules() if isinstance(part, L.StatisticLoss))


def test_a_bare_loss_takes_phases_too():
    heads, y = data()
    loss = build_loss(CE | {"phases": [{"start": 1, "types": [LOVASZ]}]})
    assert torch.equal(loss(heads[0], y), L.CrossEntropyLoss()(heads[0], y))
    loss.set_step(1)
    assert close(loss(heads[0], y), L.LovaszSoftmaxLoss()(heads[0], y), 1e-12)


def test_the_step_and_the_memories_lie_in_the_state_dict():
    heads, y = data()
    section = {"types": [CE | {"memory": 0.5}], "coef": [1], "phases": [{"start": 2, "types": [LOVASZ | {"memory": 0.5}]}]}
    loss, fresh = build_loss(section), build_loss(section)
    for step in range(4):
        loss.set_step(step)
        loss(heads[step % 2], y)
    fresh.load_state_dict(loss.state_dict())
    assert fresh.phase == 1
    assert torch.equal(fresh(heads[0], y), loss(heads[0], y))


@pytest.mark.parametrize(
    ("phases", "key_path", "parts"),
    [
        ([], "loss.phases", ["non-empty list"]),
        ({"start": 3}, "loss.phases", ["non-empty list"]),
        ([7], "loss.phases[0]", ["must be a mapping", "got 7"]),
        ([{"types": [CE]}], "loss.phases[0].start", ["step at which the phase begins", "got None"]),
        ([{"start": 1.5, "types": [CE]}], "loss.phases[0].start", ["a fraction of iters lies between 0 and 1, got 1.5"]),
        ([{"start": 600.0, "types": [CE]}], "loss.phases[0].start", ["got 600.0; write 600 for that step"]),
        ([{"start": 1.0, "types": [CE]}], "loss.phases[0].start", ["got 1.0; write 1 for that step"]),
        ([{"start": float("nan"), "types": [CE]}], "loss.phases[0].start", ["got nan"]),
        ([{"start": "2/3", "types": [CE]}], "loss.phases[0].start", ["or a fraction of iters like 0.5, got '2/3'"]),
        ([{"start": True, "types": [CE]}], "loss.phases[0].start", ["got True"]),
        ([{"start": 0.5, "types": [CE]}], "loss.phases[0].start", ["0.5 is a fraction", "give iters= to build_loss"]),
        ([{"start": 0, "types": [CE]}], "loss.phases[0].start", ["after step 0, where training begins"]),
        ([{"start": 4, "types": [CE]}, {"start": 4, "types": [CE]}], "loss.phases[1].start", ["after step 4", "the phase before"]),
        ([{"start": 1, "type": [CE]}], "loss.phases[0].type", ["did you mean 'types'?"]),
        ([{"start": 1}], "loss.phases[0].types", ["non-empty list of losses"]),
        ([{"start": 1, "types": [{"type": "LovazSoftmaxLoss"}]}], "loss.phases[0].types[0].type", ["'LovaszSoftmaxLoss'"]),
        ([{"start": 1, "types": [CE, CE, CE], "coef": [1]}], "loss.phases[0].coef", ["1 entries for 3"]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_with_its_key_path(phases, key_path, parts):
    with pytest.raises(LossConfigError) as caught:
        build_loss({"types": [CE], "coef": [1], "phases": phases})
    assert caught.value.key_path == key_path
    for part in parts:
        assert part in str(caught.value)


def in_phases(*starts):
    return {"types": [CE], "coef": [1], "phases": [{"start": start, "types": [LOVASZ]} for start in starts]}


@pytest.mark.parametrize(
    ("start", "iters", "step"),
    [(0.6667, 900, 600), (0.6667, 90, 60), (0.6667, 10, 7), (0.5, 2, 1), (0.01, 10, 1), (0.99, 10, 9), (600, 900, 600)],
)
def test_a_fraction_of_the_steps(start, iters, step):
    assert build_loss(in_phases(start), iters=iters).starts == (0, step)


@pytest.mark.parametrize(
    ("starts", "iters", "message"),
    [
        ([0.5, 0.51], 10, "loss.phases[1].start: must come after step 5, where the phase before it begins; got 0.51, which is step 5"),
        ([0.5], 1, "loss.phases[0].start: is 0.5, which is step 1 of 1, but the run ends after 1 steps (iters)"),
        ([600], 90, "loss.phases[0].start: is 600, but the run ends after 90 steps (iters); a fraction like 0.5 moves with iters"),
    ],
)
def test_phases_that_do_not_fit_the_run(starts, iters, message):
    with pytest.raises(LossConfigError) as caught:
        build_loss(in_phases(*starts), iters=iters)
    assert str(caught.value).startswith(message)


def test_starts_and_steps_are_checked():
    ce = L.CrossEntropyLoss()
    with pytest.raises(ValueError, match="one start per loss, got 1 losses and 2 starts"):
        PhasedLoss([ce], [0, 1])
    with pytest.raises(ValueError, match=r"must begin with 0 and increase, got \[0, 2, 2\]"):
        PhasedLoss([ce, ce, ce], [0, 2, 2])
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
        PhasedLoss([ce], [0]).set_step(-1)
