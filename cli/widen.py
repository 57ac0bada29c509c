"""`ftwt widen`."""

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Images, Json, Machine, Own, Resume, Seed, grouped, import_own, own_option
from .output import percent, report

if TYPE_CHECKING:
    from ftwt.training import Recipe


@grouped
def widen(
    run: Annotated[Path, typer.Argument(help="A finished run with gates.")],
    images: Images,
    machine: Machine,
    out: Annotated[Path, typer.Option(help="New folder for the run.")],
    reductions: Annotated[
        str, typer.Option(help="Shares of MACs to save: first:last:step, or a list.")
    ] = "0.3:0.6:0.1",
    epochs: Annotated[int, typer.Option(help="Epochs of training.", min=1)] = 4,
    lr: Annotated[float, typer.Option(help="The cycle's highest learning rate.")] = 0.02,
    seed: Seed = None,
    resume: Resume = False,
    network: Own = None,
    as_json: Json = False,
) -> None:
    """Train a gated run on for a range of reductions: one set of weights, several budgets."""
    from ftwt import budget
    from ftwt.training import runs
    from ftwt.training.folders import check_free

    from .numbers import span
    from .progress import watching

    machine.prepare()
    import_own(network)
    seed = seed or 0
    wanted = span(reductions, "--reductions")
    if not (resume and budget.waits_for_calibration(out, "budgets")):
        check_free(out, resume)
    runs.check_device(machine.device)
    dataset = images.load_training()
    with ExitStack() as stack:
        callbacks = stack.enter_context(watching(out.name, epochs))

        def train(recipe: "Recipe") -> tuple[Any, dict[str, Any]]:
            return runs.train_run(
                recipe, dataset, out,
                name=f"widen {run.name}", init=run, resume=resume, device=machine.device,
                callbacks=callbacks,
            )  # fmt: skip

        _, record = budget.widen(
            run, dataset, out,
            reductions=wanted, train=train, epochs=epochs, lr=lr, seed=seed, device=machine.device,
        )  # fmt: skip
    asked = ",".join(f"{row['reduction']:g}" for row in record["budgets"])
    where = (*images.named(), *own_option(network), *machine.named())
    follow = ("ftwt", "eval", out, *where, "--reductions", asked)
    report(record, _table(record), as_json=as_json, follow=follow)


def _table(record: dict[str, Any]) -> Any:
    from ftwt.tables import of_text

    rows = []
    for row in record["budgets"]:
        before, after = row["before"], row["after"]
        values = (row["reduction"], before["accuracy"], after["accuracy"], after["reduction_exact"])
        rows.append([percent(value) for value in values])
    heads = ("asked", "before", "after", "MAC reduction, exact")
    return of_text(heads, rows).rich("validation accuracy")
