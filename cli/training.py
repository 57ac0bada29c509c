"""`ftwt train` and `ftwt eval`."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from . import events
from .output import Json, errors, percent, report

if TYPE_CHECKING:
    from ftwt.training import Recipe
    from ftwt.training.loop import BeforePhase

Data = Annotated[
    str,
    typer.Option(
        help="shapes, cifar10, cifar100, imagefolder:DIR (train/ and test/, into memory), or "
        "imagenet:DIR (train/ and val/, read while training)."
    ),
]
ImageSize = Annotated[
    int | None, typer.Option(help="Side in pixels that images of a folder are brought to.", min=1)
]
Device = Annotated[str, typer.Option(help="cpu or cuda.")]
Workers = Annotated[
    int | None, typer.Option(help="Processes that decode the images of imagenet:DIR.", min=0)
]
Threads = Annotated[int | None, typer.Option(help="CPU threads.", min=1)]


def train(
    recipe: Annotated[str, typer.Argument(help="A name that `ftwt recipes` lists.")],
    data: Data,
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    dense: Annotated[bool, typer.Option("--dense", help="Train the plain network.")] = False,
    init: Annotated[
        str | None,
        typer.Option(
            help="What to start from: a run folder, a safetensors file, a state dict (.pt, .pth), "
            "or torchvision for its own weights."
        ),
    ] = None,
    mass: Annotated[float | None, typer.Option(help="Heatmap mass to keep, in (0, 1].")] = None,
    reduction: Annotated[
        float | None,
        typer.Option(help="Share of MACs to save, in place of --mass; calibrated at the end."),
    ] = None,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="With --reduction: a mass for each layer.")
    ] = False,
    coupling: Annotated[str, typer.Option(help="decoupled or joint.")] = "decoupled",
    normalize: Annotated[
        str,
        typer.Option(
            help="What gates do to pooled inputs: softmax (the paper's) or layer or none."
        ),
    ] = "softmax",
    distill: Annotated[
        bool, typer.Option("--distill", help="Learn from the dense network of --init as well.")
    ] = False,
    target_source: Annotated[
        str,
        typer.Option(
            help="Whose features gates learn from: masked (the paper's), dense (the same weights "
            "without masks) or teacher (the weights of --init)."
        ),
    ] = "masked",
    epochs: Annotated[int | None, typer.Option(help="Epochs, instead of the recipe's.")] = None,
    limit: Annotated[
        int | None, typer.Option(help="Train on that many images, a fixed subset.")
    ] = None,
    image_size: ImageSize = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and augmentation.")] = 0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, to the same numbers.")
    ] = False,
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Save the state every so many steps, not only every epoch.", min=1),
    ] = None,
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = None,
    amp: Annotated[
        str | None, typer.Option(help="auto, bf16, fp16 (GPU) or none, instead of the recipe's.")
    ] = None,
    channels_last: Annotated[
        bool | None, typer.Option(help="Memory format, instead of the recipe's.")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Run steps through torch.compile.")
    ] = False,
    accumulate: Annotated[
        int | None, typer.Option(help="Compute each step in so many batches.", min=1)
    ] = None,
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None,
    ema: Annotated[
        float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.999.")
    ] = None,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events to OUT/tensorboard.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Train the dense baseline (--dense), or the gated network from a start (--init).

    Many processes: torchrun --nproc-per-node 2 -m ftwt_cli train ...
    """
    import torch

    from ftwt import budget
    from ftwt import data as datasets
    from ftwt.training import Choices, distributed, runs
    from ftwt.training import recipe as make_recipe
    from ftwt.training.folders import check_free
    from ftwt.training.phases import epochs_of
    from ftwt.training.precision import is_slow

    from .progress import watching

    _set_threads(threads)
    named: dict[str, Any] = {"coupling": coupling, "normalize": normalize}
    named["target_source"] = target_source
    choices = Choices(mass, epochs=epochs, seed=seed, distill=distill, **named)
    if dense and choices != Choices(epochs=epochs, seed=seed):
        raise typer.BadParameter(
            "--mass, --coupling, --normalize, --distill and --target-source are for gated training"
        )
    if mass is not None and reduction is not None:
        raise typer.BadParameter("give --mass or --reduction, not both")
    switches = {
        "amp": amp,
        "channels_last": channels_last,
        "compile": compile_ or None,
        "accumulate": accumulate,
        "clip_norm": clip_norm,
        "ema": ema,
    }
    made = _switched(make_recipe(recipe, choices, dense=dense), switches)
    if made.escalation is not None and (per_layer or choices != Choices(epochs=epochs, seed=seed)):
        raise typer.BadParameter(
            f"{recipe} has no gates: --mass, --coupling, --normalize, --distill, --target-source "
            "and --per-layer are for recipes that have; give --reduction"
        )
    with ExitStack() as stack:
        own = stack.enter_context(distributed.joined(device))
        if not (resume and reduction is not None and budget.waits_for_calibration(out)):
            distributed.on_main(lambda: check_free(out, resume))
        runs.check_device(own)
        main = distributed.world().main
        if main and is_slow(made.settings.amp, torch.device(own)):
            errors.print(f"bfloat16 is slower than float32 on this {own}: use --amp auto")
        dataset = datasets.load(data, size=image_size, limit=limit, only="train", workers=workers)
        watch = runs.Watch()
        if main:
            watch = stack.enter_context(watching(out.name, epochs_of(made.settings.phases)))
            if tensorboard:
                watch = stack.enter_context(events.writing(out / "tensorboard", watch))

        def run(
            chosen: "Recipe", before_phase: "BeforePhase | None" = None
        ) -> tuple[Any, dict[str, Any]]:
            return runs.train_run(
                chosen, dataset, out,
                name=recipe, init=init, resume=resume, checkpoint_every=checkpoint_every,
                device=own, before_phase=before_phase, watch=watch,
            )  # fmt: skip

        def stage(called: str, chosen: "Recipe", start: Path | str) -> tuple[Any, dict[str, Any]]:
            return runs.finished_or_trained(
                chosen, dataset, out / called,
                name=f"{recipe} {called}", init=start, checkpoint_every=checkpoint_every,
                device=own, watch=watch,
            )  # fmt: skip

        if reduction is None:
            _, record = run(made)
        elif made.escalation is not None:
            _, record = budget.train_escalated_run(
                made, dataset, out, reduction=reduction, init=init, train=stage, name=recipe
            )
        else:
            _, record = budget.train_to(
                made, dataset, out,
                reduction=reduction, init=init, train=run, per_layer=per_layer,
            )  # fmt: skip
    if not main:
        return
    best = record.get("best_validation_accuracy")
    report(
        record,
        f"{out}: best validation accuracy {percent(best or 0)} after epoch "
        f"{record.get('best_epoch', -1) + 1}, {record.get('hours', 0):.2f} hours; "
        f"next: ftwt eval {out} --data {data}",
        as_json=as_json,
    )


def _switched(recipe: "Recipe", switches: dict[str, Any]) -> "Recipe":
    """The recipe with those switches of its settings that were given."""
    given = {name: value for name, value in switches.items() if value is not None}
    if given.get("amp") == "none":
        given["amp"] = None
    return replace(recipe, settings=replace(recipe.settings, **given))


def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder or a saved model.")],
    data: Data,
    limit: Annotated[
        int | None, typer.Option(help="Evaluate only so many test images.", min=1)
    ] = None,
    reductions: Annotated[
        str | None,
        typer.Option(help="Also the curve from these weights, for example 0.2:0.8:0.1."),
    ] = None,
    image_size: ImageSize = None,
    device: Device = "cpu",
    threads: Threads = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Accuracy and cost of a run on the test set; written to eval.json in the run folder."""
    from ftwt.budget import reduction_curve
    from ftwt.reports.analysis import evaluate_run

    from .numbers import span

    _set_threads(threads)
    wanted = span(reductions, "--reductions") if reductions is not None else None
    result = evaluate_run(run, data, size=image_size, limit=limit, device=device, workers=workers)
    if wanted is not None:
        result["curve"] = reduction_curve(
            run, data, wanted, size=image_size, limit=limit, device=device, workers=workers
        )
    report(result, _evaluation_table(result), as_json=as_json)


def _evaluation_table(result: dict[str, Any]) -> Any:
    from rich.console import Group
    from rich.table import Table

    table = Table("", "value", title=f"{result['images']} test images of {result['data']}")
    dense = result["dense_accuracy"]
    table.add_row("accuracy", percent(result["accuracy"]))
    table.add_row("accuracy of the dense start", percent(dense) if dense is not None else "unknown")
    if result["all_on_accuracy"] is not None:
        table.add_row("accuracy with every filter on", percent(result["all_on_accuracy"]))
    table.add_row("MACs, plain network", f"{result['dense_macs']:,}")
    if whole := result.get("dense_macs_before_slim"):
        table.add_row("the same before ftwt slim", f"{whole:,}")
    table.add_row("MACs, mean over images", f"{result['macs']:,.0f}")
    table.add_row("MAC reduction, exact", percent(result["reduction_exact"]))
    if whole:
        table.add_row("the same before ftwt slim", percent(1 - result["macs"] / whole))
    table.add_row("MAC reduction, paper's convention", percent(result["reduction_paper"]))
    if "curve" not in result:
        return table
    curve = Table("asked", "accuracy", "MAC reduction, exact", "paper's convention")
    for row in result["curve"]:
        curve.add_row(f"{row['asked']:g}", *(percent(row[name]) for name in list(row)[1:]))
    return Group(table, curve)


def _set_threads(threads: int | None) -> None:
    if threads is not None:
        import torch

        torch.set_num_threads(threads)
