"""What a new user meets: `ftwt` alone, the doctor, and advice on a network."""

import io
import re

import pytest
import torch
from ftwt_cli import progress
from ftwt_cli.output import show
from hypothesis import assume, given
from hypothesis import strategies as st
from rich.console import Console, Group
from rich.table import Table

import ftwt
from ftwt import data, runtime
from ftwt.io import Card
from ftwt.reports import doctor
from ftwt.reports.advice import advise
from ftwt.reports.advice.found import Advice, OracleSetting, Way
from ftwt.reports.timing.machine import Others
from ftwt.training.epoch import StepEvent
from ftwt.training.inspection import check_classes
from ftwt.training.metrics import Metrics
from tests.command_line import make_folder, make_weights
from tests.small import labelled, resnet8


def test_ftwt_alone_says_what_to_do_first(ftwt_command):
    answer = ftwt_command()
    assert answer.status == 0
    commands = re.findall(r"^  ftwt (\w+)", answer.out, re.MULTILINE)
    assert commands == ["doctor", "demo", "advise"]
    listed = ftwt_command("--help").out
    assert all(f" {name} " in listed for name in commands)
    assert "--install-completion" in listed


@pytest.mark.parametrize("width", [20, 31, 40, 57, 80])
def test_no_figure_is_parted_from_its_unit_at_any_width(width):
    table = Table("a long name of a column", "accuracy", "MAC reduction", title="100.00 % of it")
    table.add_row("words and more words, 3 of them", "12.34 %", "23.44 % ± 1.22")
    table.add_row("as it is", "1.00 %", "")
    text = "of 12.34 % of all that there is 5.00 % is left, in 12.1 ms, and 45.0 % is gone"
    file = io.StringIO()
    show(Console(file=file, width=width, markup=False), Group(table, text))
    lines = file.getvalue().splitlines()
    assert not [line for line in lines if re.match(r"[│┃\s]*(%|ms\b|±)", line)]
    for figure in ("12.34 %", "23.44 % ± 1.22", "5.00 %", "12.1 ms", "45.0 %"):
        assert any(figure in line for line in lines), figure


@pytest.fixture
def idle(monkeypatch):
    """On machines that do other things too, what is faster is chance: as if it was, and soon."""
    monkeypatch.setattr(doctor, "paired_speedup", lambda slow, fast: 2.0)
    monkeypatch.setattr(doctor, "_ROUNDS", 1)
    monkeypatch.setattr(doctor, "_FEW_ROUNDS", 1)
    monkeypatch.setattr(doctor, "deployed", lambda network, batch: ({}, {}))


@pytest.mark.usefixtures("idle")
def test_the_doctor_says_what_a_report_needs(ftwt_command):
    value = ftwt_command("doctor", "--json").json()
    assert value["facts"]["torch"] == torch.__version__
    assert {"CPU", "threads", "instruction set in use"} <= value["facts"].keys()
    assert value["passed"] == all(check["passed"] is not False for check in value["checks"])
    names = [check["name"] for check in value["checks"]]
    assert names == ["kernels", "threads", "right outputs", "right counts", "faster than torch"]


@pytest.mark.usefixtures("idle")
def test_the_doctor_fails_where_skipping_is_wrong(ftwt_command, monkeypatch):
    right = runtime.Skipping.forward
    monkeypatch.setattr(runtime.Skipping, "forward", lambda *given: 1.01 * right(*given))
    answer = ftwt_command("doctor")
    assert answer.status == 1
    assert "right outputs: report this as a fault" in answer.out


@pytest.mark.usefixtures("idle")
@pytest.mark.parametrize("share", [0.0, 0.5])
def test_the_doctor_judges_no_speed_that_other_programs_disturb(ftwt_command, monkeypatch, share):
    monkeypatch.setattr(Others, "share", lambda self: share)
    monkeypatch.setattr(doctor, "paired_speedup", lambda slow, fast: 0.5)
    answer = ftwt_command("doctor")
    assert answer.status == (0 if share else 1)
    assert ("not to be trusted: other programs used 50 %" in answer.out) == bool(share)
    assert "timing it beside torch" in answer.err
    found = re.search(r"faster than torch +[^\w]+ (\w+)", answer.out)
    assert found
    assert found[1] == ("cannot" if share else "wrong")


def test_a_training_without_a_terminal_says_how_far_it_is(monkeypatch, capsys):
    # What comes before the end of the first step does not come again.
    seconds = iter((0.0, 5.0, 12.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(seconds))
    metrics = Metrics()
    metrics.add({"loss:loss": torch.tensor(2.5)}, 64)
    with progress.watching("run", 2) as callbacks:
        for batch in (1, 2):
            callbacks.step(StepEvent(0, "dense", batch, 4, metrics))
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("run: epoch 1/2 (dense), 25 % done, about 42 s left, loss 2.500")


@pytest.fixture(scope="module")
def advice():
    model = ftwt.attach(resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    return advise(model, labelled(80, 40), reduction=0.4)


def test_advice_counts_what_each_way_costs(advice):
    way = {one.name: one for one in advice.ways}
    assert set(way) == {"as it is", "fixed masks", "gates", "a budget for each image"}
    assert way["as it is"].reduction_exact == 0
    assert way["fixed masks"].reduction_exact == pytest.approx(0.4, abs=0.03)
    assert all(one.ms > 0 for one in way.values() if one.ms is not None)
    saved = [one.reduction_exact for one in advice.settings]
    assert saved == sorted(saved)
    assert all(one.reduction_with_gates < one.reduction_exact for one in advice.settings)
    # The first pass takes 0.7 of what is wanted, and the last is the whole network.
    assert advice.may_go_on == pytest.approx(0.3 * 0.6)
    assert 0 <= advice.depends <= 1
    assert 0 <= advice.unsure <= 1


def found(**other) -> Advice:
    ways = (Way("as it is", 0.0, 0.9, 2.0, "torch"), Way("gates", 0.5, 0.8, 1.0, "skipping"))
    facts = {
        "images": 100, "asked": 0.5, "dense_macs": 1000, "gate_macs": 10, "dense_accuracy": 0.9,
        "depends": 0.5, "unsure": 0.1, "may_go_on": 0.2, "sure_accuracy": 0.99, "ways": ways,
        "settings": (OracleSetting(0.9, 0.5, 0.49),),
    }  # fmt: skip
    return Advice(**{**facts, **other})


@pytest.mark.parametrize(
    ("other", "says"),
    [
        ({}, "gates have something to decide"),
        ({"depends": 0.1}, "fixed masks decide nearly the same"),
        ({"gate_macs": 200}, "gates.Bottleneck cost less"),
        ({"unsure": 0.1}, "there is room"),
        ({"unsure": 0.3}, "has to be right where the whole one hesitates"),
        ({}, "the fastest here would be gates: 1.00 ms against 2.00 ms"),
        ({"ways": (Way("as it is", 0.0, 0.9, 2.0, "torch"),)}, "none is clearly faster"),
    ],
)
def test_notes_follow_from_the_figures(other, says):
    assert any(says in note for note in found(**other).notes)


def test_advice_ends_with_the_command_to_run_next(ftwt_command, tmp_path):
    folder = make_folder(tmp_path / "my images", images=80)
    weights = make_weights(tmp_path)
    given = ("advise", "cifar10-resnet8", "--data", f"imagefolder:{folder}")
    value = ftwt_command(*given, "--init", weights, "--json").json()
    assert value["next"][:5] == [
        "ftwt", "train", "cifar10-resnet8-best", "--data", f"imagefolder:{folder}"
    ]  # fmt: skip
    assert value["next"][value["next"].index("--init") + 1] == str(weights)
    assert value["notes"]
    refused = ftwt_command(*given, "--reduction", 1.5)
    assert refused.status == 2
    assert "--reduction 1.5 is outside (0, 1)" in refused.err


def test_advice_on_a_handful_of_images_is_refused():
    model = ftwt.attach(resnet8(), ftwt.Pruning(), example=torch.zeros(1, 3, 32, 32))
    with pytest.raises(ftwt.FtwtError, match=r"advise: 15 images say too little; give 16 or more"):
        advise(model, labelled(15, 15))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("macs resnet18", "did you mean torchvision:resnet18"),
        ("train resnet18 --data shapes --out run", "did you mean torchvision:resnet18"),
        ("macs torchvison:resnet18", "did you mean torchvision:resnet18?"),
        ("bench runs/none", "there is no file or folder runs/none"),
        ("train shapes-resnet8 --data shapes --out run --device gpu", "did you mean cuda?"),
        ("eval none --data shapes --reductions 0.2-0.8", "did you mean 0.2:0.8:0.1"),
        ("train shapes-resnet8 --data shapes --out run --epochs two", "'--epochs': two should be"),
        (
            "train shapes-resnet8 --data shapes --out run --reduction 1.5",
            "--reduction 1.5 is outside [0, 1)",
        ),
        ("train shapes-resnet8 --data shapes --out run --amp f8", "'f8' is not one of 'auto'"),
        ("train --data shapes --out run", "ftwt: give a recipe, a recipe file, or a network;"),
        ("sweep shapes-resnet8 --data shapes --init no --out run --mass 0.9", "no does not exist"),
    ],
)
def test_what_was_meant_is_told(ftwt_command, monkeypatch, tmp_path, arguments, told):
    monkeypatch.chdir(tmp_path)
    answer = ftwt_command(*arguments.split())
    assert answer.status == 2
    assert told in answer.err
    assert answer.err.count("\n") == 1


@given(st.sets(st.sampled_from("abcdefgh"), min_size=1), st.permutations("abcdefgh"))
def test_classes_that_differ_are_named_for_both_sides(known, order):
    here = tuple(order[:4])
    card = Card(None, len(known), tuple(sorted(known)))
    assume(card.classes != here)
    images = data.Images(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1).long())
    dataset = data.Dataset("mine", here, images, images, (0.5,) * 3, (0.5,) * 3)
    with pytest.raises(ftwt.FtwtError) as raised:
        check_classes("run", card, dataset)
    for who, own in (("the run", known - set(here)), ("mine", set(here) - known)):
        found = re.search(rf"{who} alone has ([a-h, ]+)(;| and)", str(raised.value))
        assert set(found[1].split(", ")) <= own if found else not own
