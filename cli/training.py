"""`ftwt train` and `ftwt eval`."""

from contextlib import ExitStack
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import typer

from . import events
from .options import (
    Data,
    Images,
    Json,
    Machine,
    Resume,
    Seed,
    data_beside,
    grouped,
    own_option,
)
from .output import duration, errors, report

if TYPE_CHECKING:
    from ftwt.training import Recipe
    from ftwt.training.loop import BeforePhase


@dataclass(frozen=True, kw_only=True)
class Gates:
    """What gates are, and what they learn; fields are those of `training.Overrides`."""

    panel: ClassVar = "Gates"

    coupling: Annotated[
        Literal["decoupled", "joint"],
        typer.Option(help="Whether the gates' loss reaches the backbone (joint)."),
    ] = "decoupled"
    normalize: Annotated[
        Literal["softmax", "layer", "none"],
        typer.Option(help="What gates do to pooled inputs: softmax (the paper's)."),
    ] = "softmax"
    distill: Annotated[
        bool, typer.Option("--distill", help="Learn from the dense network of --init as well.")
    ] = False
    target_source: Annotated[
        Literal["masked", "dense", "teacher"],
        typer.Option(
            help="Whose features gates learn from: masked (the paper's), dense (the same weights "
            "without masks) or teacher (the weights of --init)."
        ),
    ] = "masked"


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How much may run."""

    panel: ClassVar = "Budget"

    mass: Annotated[float | None, typer.Option(help="Heatmap mass to keep, in (0, 1].")] = None
    reduction: Annotated[
        float | None,
        typer.Option(help="Share of MACs to save, in place of --mass; calibrated at the end."),
    ] = None
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="With --reduction: a mass for each layer.")
    ] = False

    def __post_init__(self) -> None:
        if self.mass is not None and self.reduction is not None:
            raise typer.BadParameter("give --mass or --reduction, not both")
        if self.reduction is not None:
            from ftwt.budget.profile import check_reduction

            check_reduction(self.reduction, "train")


@dataclass(frozen=True, kw_only=True)
class Optimisation:
    """Steps and their precision; None takes the recipe's own."""

    panel: ClassVar = "Optimisation"

    epochs: Annotated[int | None, typer.Option(help="Instead of the recipe's.", min=1)] = None
    seed: Seed = None
    amp: Annotated[
        Literal["auto", "bf16", "fp16", "none"] | None,
        typer.Option(help="Precision, instead of the recipe's; fp16 needs a GPU."),
    ] = None
    channels_last: Annotated[
        bool | None, typer.Option(help="Memory format, instead of the recipe's.")
    ] = None
    compile: Annotated[bool, typer.Option("--compile", help="Run steps through torch.compile.")] = (
        False
    )
    accumulate: Annotated[
        int | None, typer.Option(help="Compute each step in so many batches.", min=1)
    ] = None
    clip_norm: Annotated[float | None, typer.Option(help="Largest norm of the gradients.")] = None
    ema: Annotated[
        float | None, typer.Option(help="Decay of a moving average of the weights, such as 0.999.")
    ] = None

    def onto(self, recipe: "Recipe") -> "Recipe":
        """The recipe with those switches of its settings that were given."""
        given: dict[str, Any] = {
            "amp": self.amp,
            "channels_last": self.channels_last,
            "compile": self.compile or None,
            "accumulate": self.accumulate,
            "clip_norm": self.clip_norm,
            "ema": self.ema,
        }
        given = {name: value for name, value in given.items() if value is not None}
        if self.amp == "none":
            given["amp"] = None
        return replace(recipe, settings=replace(recipe.settings, **given))


@dataclass(frozen=True, kw_only=True)
class Run:
    """The run folder."""

    panel: ClassVar = "Run"

    out: Annotated[Path, typer.Option(help="New folder for the run.")]
    dense: Annotated[bool, typer.Option("--dense", help="Train the plain network.")] = False
    init: Annotated[
        str | None,
        typer.Option(
            help="What to start from: a run folder, a safetensors file, a state dict of "
            "torch.save, or torchvision for its own weights."
        ),
    ] = None
    resume: Resume = False
    checkpoint_every: Annotated[
        int | None,
        typer.Option(help="Save the state every so many steps, not only every epoch.", min=1),
    ] = None
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Write events to OUT/tensorboard.")
    ] = False


@dataclass(frozen=True, kw_only=True)
class TrainingImages(Images):
    """Which images; a recipe file may make them itself."""

    data: Data = ""

    def beside(self, recipe: str) -> "TrainingImages":
        """The same, where none were named those of the recipe's own file."""
        return replace(self, data=data_beside(recipe, self.data))


@grouped
def train(
    images: TrainingImages,
    run: Run,
    gates: Gates,
    budget: Budget,
    optimisation: Optimisation,
    machine: Machine,
    recipe: Annotated[
        str | None,
        typer.Argument(
            help="A name that `ftwt recipes` lists, a Python file that defines `recipe`, or a "
            "network for general fine-tuning: torchvision:NAME, timm:NAME, my_module:factory."
        ),
    ] = None,
    network: Annotated[
        str | None, typer.Option(help="Instead of the recipe's, such as my_module:factory.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train the dense baseline (--dense), or the gated network from a start (--init).

    Many processes: torchrun --nproc-per-node 2 -m ftwt_cli train ...
    """
    machine.prepare()
    name = recipe or network
    if name is None:
        raise typer.BadParameter("give a recipe, a recipe file, or a network")
    images = images.beside(name)
    made = _recipe(name, gates, budget, optimisation, dense=run.dense)
    if recipe is not None and network is not None:
        from ftwt.backbones import networks
        from ftwt.io.user_code import known_network

        networks.check_known(known_network(network))
        made = replace(made, network=known_network(network))
    record = _train(name, made, images, budget, run, machine.device)
    if record is None:
        return
    best, score = next(
        (value, name.removeprefix("best_validation_"))
        for name, value in record.items()
        if name.startswith("best_validation_")
    )
    from ftwt.tables import metric

    shown = "unknown" if best is None else metric(score, best)
    report(
        record,
        f"{run.out}: best validation {score} {shown} after epoch "
        f"{record.get('best_epoch', -1) + 1}, {duration(3600 * record.get('hours', 0))}",
        as_json=as_json,
        follow=(
            "ftwt",
            "eval",
            run.out,
            *images.named(),
            *own_option(network or name),
            *machine.named(),
        ),
    )


def _recipe(
    name: str, gates: Gates, budget: Budget, optimisation: Optimisation, *, dense: bool
) -> "Recipe":
    """The recipe with what was chosen instead of its own."""
    from ftwt.training import Overrides
    from ftwt.training import recipe as make

    chosen = {one.name: getattr(gates, one.name) for one in fields(gates)}
    if dense and (gates != Gates() or budget.mass is not None):
        raise typer.BadParameter(
            "--mass, --coupling, --normalize, --distill and --target-source are for gated training"
        )
    overrides = Overrides(budget.mass, epochs=optimisation.epochs, seed=optimisation.seed, **chosen)
    made = make(name, overrides, dense=dense)
    if made.escalation is not None and (
        budget.per_layer or budget.mass is not None or gates != Gates()
    ):
        raise typer.BadParameter(
            f"{name} has no gates: --mass, --coupling, --normalize, --distill, --target-source "
            "and --per-layer are for recipes that have; give --reduction"
        )
    return optimisation.onto(made)


def _train(
    name: str, made: "Recipe", images: Images, wanted: Budget, run: Run, device: str
) -> dict[str, Any] | None:
    """Train in the run folder; what `run.json` holds then, or None in a process that has no say."""
    import torch

    from ftwt import budget
    from ftwt.training import distributed, runs
    from ftwt.training.folders import check_free
    from ftwt.training.phases import epochs_of
    from ftwt.training.precision import is_slow

    from .progress import watching

    out, reduction = run.out, wanted.reduction
    with ExitStack() as stack:
        own = stack.enter_context(distributed.joined(device))
        if not (run.resume and reduction is not None and budget.waits_for_calibration(out)):
            distributed.on_main(lambda: check_free(out, run.resume))
        runs.check_device(own)
        main = distributed.world().main
        if main and is_slow(made.settings.amp, torch.device(own)):
            errors.print(f"bfloat16 is slower than float32 on this {own}: use --amp auto")
        load = images.load_any_training if made.escalation is None else images.load_training
        dataset: Any = load()
        callbacks = runs.Callbacks()
        if main:
            callbacks = stack.enter_context(watching(out.name, epochs_of(made.settings.phases)))
            if run.tensorboard:
                callbacks = stack.enter_context(events.writing(out / "tensorboard", callbacks))

        def train_recipe(
            chosen: "Recipe", before_phase: "BeforePhase | None" = None
        ) -> tuple[Any, dict[str, Any]]:
            return runs.train_run(
                chosen, dataset, out,
                name=name, init=run.init, resume=run.resume,
                checkpoint_every=run.checkpoint_every,
                device=own, before_phase=before_phase, callbacks=callbacks,
            )  # fmt: skip

        def stage(called: str, chosen: "Recipe", start: Path | str) -> tuple[Any, dict[str, Any]]:
            return runs.finished_or_trained(
                chosen, dataset, out / called,
                name=f"{name} {called}", init=start, checkpoint_every=run.checkpoint_every,
                device=own, callbacks=callbacks,
            )  # fmt: skip

        if reduction is None:
            _, record = train_recipe(made)
        elif made.escalation is not None:
            _, record = budget.train_escalated_run(
                made, dataset, out, reduction=reduction, init=run.init, train=stage, name=name
            )
        else:
            _, record = budget.train_to(
                made, dataset, out,
                reduction=reduction, init=run.init, train=train_recipe,
                per_layer=wanted.per_layer,
            )  # fmt: skip
    return record if main else None
