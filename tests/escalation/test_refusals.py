"""What cannot escalate, or not so, is refused by name."""

import pytest
import torch

import ftwt
from ftwt import escalation, gates
from tests.escalation.settings import EXAMPLE, looking, static
from tests.small import refused


def test_settings_that_cannot_answer_for_each_other_are_refused(network):
    quarter, half = static(network, 0.25), static(network, 0.5)
    refused("1 setting, so nothing to go on to", ftwt.escalate, [half])
    refused(r"setting 0 costs .* rising cost", ftwt.escalate, [half, quarter])
    refused(r"setting 1 costs .* rising cost", ftwt.escalate, [quarter, network, network])
    refused("at thresholds as low or lower", ftwt.escalate, [gated := looking(network), gated])
    other = ftwt.attach(ftwt.backbones.resnet8(num_classes=7), ftwt.Pruning(), example=EXAMPLE)
    refused(r"answers with \(10,\), the next one with \(7,\)", ftwt.escalate, [half, other])
    smaller = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 16, 16))
    refused("takes samples of shapes", ftwt.escalate, [half, smaller])
    drawn = ftwt.attach(network, ftwt.Pruning(gates.Random(0.5)), example=EXAMPLE)
    refused("go by the place in the batch", ftwt.escalate, [drawn, network])
    nested = ftwt.escalate([quarter, half])
    refused("one of the settings escalates itself", ftwt.escalate, [nested, network])
    refused("none of the networks has gates", ftwt.escalate, [network, network])
    refused("has no gates, so it is one setting", ftwt.escalate, network)
    refused("none of the settings is of the model", ftwt.escalate, quarter, [network])
    refused("do not fall", ftwt.escalate, quarter, [0.3, 0.6])
    refused("was not calibrated", ftwt.escalate, quarter, [0.6, network])
    refused("hold 0.6, which is no network", ftwt.escalate, [0.6, network])


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"thresholds": [0.5]}, "1 thresholds for 3 settings, so they are another model's"),
        ({"thresholds": {"conv1": 0.0}}, "named conv1: those of another model's gates"),
        ({"thresholds": 1.5}, r"the threshold 1.5 is none for Margin\(\)"),
        ({"thresholds": float("nan")}, "the threshold nan is none"),
        ({"by": escalation.Margin}, "is no signal; give an instance"),
        ({"by": [escalation.Margin()]}, "1 signals for 3 settings"),
        ({"by": 0.5}, "by=0.5 is no signal"),
        ({"weight": 0.0}, r"weight=0.0 is outside \(0, 1\]"),
        ({"settings": [0.5]}, "settings= are those of one gated network"),
    ],
)
def test_options_are_checked(model, options, match):
    refused(match, ftwt.escalate, list(model.gated), **options)
    if "thresholds" in options and not isinstance(options["thresholds"], float):
        refused(match, model.with_thresholds, options["thresholds"])


def test_answers_without_a_confidence_are_refused(model):
    settings, images = list(model.gated), torch.randn(4, 3, 32, 32)
    refused(
        "1.* for 4 samples; give a signal", ftwt.escalate(settings, by=lambda output: 1.0), images
    )
    refused("a tensor .4, 10. for 4 samples", ftwt.escalate(settings, by=lambda out: out), images)
    images[2] = float("nan")
    refused("NaN for 1 of 4 samples", model, images)
    lone = escalation.Margin()
    refused("no two classes", lone, torch.zeros(3, 1))
    refused("answers with a torch.int64 tensor", lone, torch.zeros(3, 4, dtype=torch.int64))
    refused(r"Temperature: value=0 is outside \(0, inf\)", escalation.Temperature, lone, 0)
    refused("only logits can be scaled", escalation.Temperature(lone, 2.0), {"out": images})


def test_no_gates_are_attached_to_what_escalates(model):
    refused("holds a network that has gates", ftwt.attach, model, ftwt.Pruning(), example=EXAMPLE)
