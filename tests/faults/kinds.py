"""Each kind of file that is read: a small real one, damage to it, and what reads it."""

import io
import json
import os
import random
import signal
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import safetensors.torch
import torch

import ftwt
from ftwt import backbones, gates, losses
from ftwt.budget.sweep import Sweep, _plain, run_sweep
from ftwt.data import Images
from ftwt.data.dataset import Dataset
from ftwt.gated.operating_points import OperatingPoint
from ftwt.io import storage
from ftwt.reports.paper.claim import claim
from ftwt.reports.paper.runs import read_run
from ftwt.reports.paper.write import write_page
from ftwt.training import Interrupted, Overrides, Phase, Recipe, Settings, Sgd
from ftwt.training.initial import starting_weights
from ftwt.training.recipes import recipe
from ftwt.training.runs import Callbacks, train_run
from tests.faults.mutations import damaged, damaged_json, mutated

EXAMPLE = torch.zeros(1, 3, 16, 16)
IMAGES = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@dataclass(frozen=True)
class Kind:
    """A file in a folder of its own: who writes it, damages it and reads it.

    `read` gives numbers, which have to be finite, or anything that can be compared.
    """

    name: str
    make: Callable[[Path], Path]
    damage: Callable[[bytes, random.Random], bytes]
    read: Callable[[Path], Any]


def gated(seed: int = 0) -> ftwt.Gated:
    torch.manual_seed(seed)
    network = backbones.resnet8(2)
    model = ftwt.attach(network, ftwt.Pruning(), example=EXAMPLE).eval()
    low, high = (dict.fromkeys(model.sites, at) for at in (0.0, 0.1))
    return model.with_thresholds(
        low, (OperatingPoint(0.2, 0.2, 0.9, low), OperatingPoint(0.4, 0.4, 0.8, high))
    )


def escalating() -> torch.nn.Module:
    whole = gated()
    masks = {
        site.name: [place % 2 == 0 for place in range(site.out_channels)]
        for site in (one.site for one in whole.gates.values())
    }
    narrow = ftwt.escalation.with_gate(whole, gates.Fixed(masks))
    return ftwt.escalate([narrow, ftwt.escalation.every_filter(whole)], example=EXAMPLE)


CARD = ftwt.Card("cifar10-resnet8", 2, ("a", "b"), (0.5,) * 3, (0.25,) * 3, {"data": "mine"})


def saved(model: torch.nn.Module, folder: Path) -> Path:
    ftwt.save(model, folder / "model.safetensors", CARD)
    return folder / "model.safetensors"


def answers(file: Path) -> Any:
    model, card = ftwt.load(file)
    with torch.no_grad():
        found = [model(IMAGES)]
        if getattr(model, "operating_points", ()):
            found.append(model.at(reduction=0.3)(IMAGES))
    return [*found, card.num_classes]


def about_damaged(content: bytes, draw: random.Random) -> bytes:
    """As somebody who writes such files would: without a sum, or with one that is right."""
    weights = safetensors.torch.load(content)
    length = struct.unpack("<Q", content[:8])[0]
    metadata = json.loads(content[8 : 8 + length])["__metadata__"]
    text = damaged_json(metadata["ftwt"].encode(), draw).decode()
    found = {"ftwt": text}
    if draw.random() < 0.5:
        found["sha256"] = storage._sum(weights, text)
    return safetensors.torch.save(weights, metadata=found)


def tensors_damaged(content: bytes, draw: random.Random) -> bytes:
    """Other tensors under the same names, or the same under other names."""
    weights = safetensors.torch.load(content)
    length = struct.unpack("<Q", content[:8])[0]
    text = json.loads(content[8 : 8 + length])["__metadata__"]["ftwt"]
    name = draw.choice(sorted(weights))
    one = weights.pop(name)
    others = (
        one.double(), one.half(), one.bfloat16(), one.int(), one.bool(), one.to(torch.complex64),
        one.reshape(-1), one[None], one[:0] if one.dim() else one,
        torch.full_like(one.float(), torch.nan),
        one.to(torch.float8_e4m3fn), torch.zeros(()), torch.zeros(1),
    )  # fmt: skip
    match draw.randrange(4):
        case 0:
            weights[f"{name}.x"] = one
        case 1:
            pass
        case _:
            weights[name] = draw.choice(others).clone()
    return safetensors.torch.save(weights, metadata={"ftwt": text})


def plan_file(folder: Path) -> Path:
    fast = ftwt.runtime.skip(gated(), calibrate=IMAGES)
    file = folder / "plan.json"
    file.write_text(json.dumps(fast.plan.json()))
    return file


def by_plan(file: Path) -> Any:
    try:
        value = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise ftwt.FtwtError("the user's own json.loads refuses it") from None
    fast = ftwt.runtime.skip(gated(), plan=value)
    str(ftwt.runtime.explain(fast, 2))
    with torch.no_grad():
        # Whatever the plan says of speed, the answers are the network's.
        assert torch.allclose(fast(IMAGES), gated()(IMAGES), atol=1e-4)
    return [fast(IMAGES), ftwt.runtime.explain(fast, 2)]


RECIPE = Recipe(
    "cifar10-resnet8",
    Settings((Phase("both", 2),), Sgd(0.01), Sgd(0.1)),
    losses.CrossEntropy() + losses.GateBCE(),
    ftwt.Pruning(),
    batch_size=8,
)


def dataset() -> Dataset:
    pixels = torch.randint(
        256, (12, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    images = Images(pixels, torch.arange(12) % 2)
    return Dataset(
        "mine", ("a", "b"), images, images.select(torch.arange(4)), (0.5,) * 3, (0.25,) * 3
    )


def stopped_run(folder: Path) -> Path:
    """A run that was stopped after its first epoch, with one state."""

    def stop(row: Any) -> None:
        if row.epoch == 0:
            os.kill(os.getpid(), signal.SIGINT)

    with suppress(Interrupted):
        train_run(RECIPE, dataset(), folder / "run", callbacks=Callbacks(epoch=stop))
    (folder / "run" / "resume.previous.pt").unlink(missing_ok=True)
    return folder / "run"


def resumed(file: Path) -> Any:
    model, record = train_run(RECIPE, dataset(), file.parent, resume=True)
    return [*model.state_dict().values(), record["status"]]


def state_damaged(content: bytes, draw: random.Random) -> bytes:
    """The state with values of other types, shapes or names, whole as a file."""
    kept = torch.load(io.BytesIO(content), weights_only=True)
    names = sorted(kept)
    holder, name = kept, draw.choice(names)
    while isinstance(holder[name], dict) and holder[name] and draw.random() < 0.7:
        holder = holder[name]
        name = draw.choice(list(holder))
    if name == "about":
        kept["about"] = json.dumps(mutated(json.loads(kept["about"]), draw))
    elif draw.random() < 0.3:
        del holder[name]
    else:
        holder[name] = draw.choice(
            (None, "x", -1, 10**12, 0.5, [], {}, torch.zeros(1), torch.zeros(2, 2), True)
        )
    buffer = io.BytesIO()
    torch.save(kept, buffer)
    return buffer.getvalue()


MASS, SWEEP = 0.8, Sweep("shapes-resnet8", "nowhere", "start", Overrides(epochs=1))


def sweep_folder(folder: Path) -> Path:
    """A sweep of two runs, all of them finished and tested."""
    for seed in (0, 1):
        run = folder / "sweep" / f"mass{MASS:g}-seed{seed}"
        run.mkdir(parents=True)
        made = recipe(SWEEP.recipe, replace(SWEEP.overrides, mass=MASS, seed=seed))
        record = {"status": "finished", "specification": ftwt.io.specs.recorded(made), "seed": seed}
        (run / "run.json").write_text(json.dumps(record))
        tested = {
            "accuracy": 0.9,
            "dense_accuracy": 0.95,
            "reduction_exact": 0.4,
            "reduction_paper": 0.5,
        }
        (run / "eval.json").write_text(json.dumps(tested))
    (folder / "sweep" / "sweep.json").write_text(json.dumps({"sweep": _plain(SWEEP)}))
    run_sweep(SWEEP, folder / "sweep", [MASS], seeds=2)
    return folder / "sweep"


def swept(file: Path) -> Any:
    out = file.parent if file.name == "sweep.json" else file.parent.parent
    record = run_sweep(SWEEP, out, [MASS], seeds=2)
    return [record["dense_accuracy"], *(list(row.values()) for row in record["rows"])]


def finished_run(folder: Path) -> Path:
    record = {
        "status": "finished", "recipe": "mine", "specification": {"network": "cifar10-resnet8"},
        "seed": 0, "data": {"name": "mine", "train": 24},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(record))
    saved(gated(), folder)
    return folder / "run.json"


def reported(file: Path) -> Any:
    run = read_run(file.parent)
    return [run.network, run.seed, run.how, run.record["data"]["name"]]


ABOUT = {"data": "mine", "scale": "small", "runs": ["a", "b"]}


def report_folder(folder: Path) -> Path:
    claim(folder, ABOUT)
    listing = {"csv": "table1.csv", "columns": ["a", "b"], "rows": [["x", "1.5"]], "caption": "c"}
    page = {"heading": "Table 1", "text": "What it shows.", "content": [listing]}
    (folder / "table1.json").write_text(json.dumps({"name": "table1", "page": page}))
    (folder / "made.json").write_text(json.dumps({"command": "ftwt paper"}))
    return folder


def page_again(file: Path) -> Any:
    claim(file.parent, ABOUT)
    return write_page(file.parent).read_text()


def weights_file(folder: Path) -> Path:
    torch.save(gated().state_dict(), folder / "weights.pt")
    return folder / "weights.pt"


def started(file: Path) -> Any:
    return list(starting_weights(file, "cifar10-resnet8").values())


def in_folder(make: Callable[[Path], Path], name: str) -> Callable[[Path], Path]:
    return lambda folder: make(folder) / name


def gated_file(folder: Path) -> Path:
    return saved(gated(), folder)


def escalating_file(folder: Path) -> Path:
    return saved(escalating(), folder)


_RUN = "mass0.8-seed1"
_SWEPT = in_folder(sweep_folder, f"{_RUN}/run.json")
_TESTED = in_folder(sweep_folder, f"{_RUN}/eval.json")
_SWEEP = in_folder(sweep_folder, "sweep.json")
_STATE = in_folder(stopped_run, "resume.pt")
_RECORD = in_folder(stopped_run, "run.json")
_ITEM = in_folder(report_folder, "table1.json")
KINDS = (
    Kind("model, bytes", gated_file, damaged, answers),
    Kind("model, description", gated_file, about_damaged, answers),
    Kind("model, tensors", gated_file, tensors_damaged, answers),
    Kind("escalating model, description", escalating_file, about_damaged, answers),
    Kind("placement, values", plan_file, damaged_json, by_plan),
    Kind("placement, bytes", plan_file, damaged, by_plan),
    Kind("resume.pt, bytes", _STATE, damaged, resumed),
    Kind("resume.pt, values", _STATE, state_damaged, resumed),
    Kind("run.json of a run to resume, values", _RECORD, damaged_json, resumed),
    Kind("run.json of a run to resume, bytes", _RECORD, damaged, resumed),
    Kind("metrics.jsonl, bytes", in_folder(stopped_run, "metrics.jsonl"), damaged, resumed),
    Kind("run.json of a report's run, values", finished_run, damaged_json, reported),
    Kind("run.json of a sweep's run, values", _SWEPT, damaged_json, swept),
    Kind("eval.json, values", _TESTED, damaged_json, swept),
    Kind("eval.json, bytes", _TESTED, damaged, swept),
    Kind("sweep.json, values", _SWEEP, damaged_json, swept),
    Kind("sweep.json, bytes", _SWEEP, damaged, swept),
    Kind("paper.json, values", in_folder(report_folder, "paper.json"), damaged_json, page_again),
    Kind("a report's item, values", _ITEM, damaged_json, page_again),
    Kind("a report's item, bytes", _ITEM, damaged, page_again),
    Kind("made.json, values", in_folder(report_folder, "made.json"), damaged_json, page_again),
    Kind("state dict, bytes", weights_file, damaged, started),
)
