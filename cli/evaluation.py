"""`ftwt eval`: accuracy and cost of a run on the test set."""

from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Images, Json, Machine, Own, grouped, import_own
from .output import percent, report, results_columns


@grouped
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run folder or a saved model.")],
    images: Images,
    machine: Machine,
    reductions: Annotated[
        str | None,
        typer.Option(help="Also the curve from these weights, for example 0.2:0.8:0.1."),
    ] = None,
    diagnose: Annotated[
        bool, typer.Option("--diagnose", help="Also whether decisions depend on the image.")
    ] = False,
    network: Own = None,
    as_json: Json = False,
) -> None:
    """Accuracy and cost of a run on the test set; written to eval.json in the run folder."""
    from ftwt.budget import reduction_curve
    from ftwt.reports.analysis import diagnose_run, evaluate_run

    from .numbers import span
    from .progress import working

    machine.prepare()
    import_own(network)
    wanted = span(reductions, "--reductions") if reductions is not None else None
    how: dict[str, Any] = {
        "size": images.image_size, "limit": images.limit,
        "device": machine.device, "workers": images.workers,
    }  # fmt: skip
    more: dict[str, Any] = {}
    with working("testing"):
        # First what a run may not have.
        if wanted is not None:
            more["curve"] = reduction_curve(run, images.data, wanted, **how)
        if diagnose:
            more["dynamism"] = diagnose_run(run, images.data, **how).to_json()
        result = {**evaluate_run(run, images.data, **how), **more}
    report(result, _evaluation_table(result), as_json=as_json)


def _evaluation_table(result: dict[str, Any]) -> Any:
    from rich.console import Group

    from ftwt.tables import Column, Table, metric, of_text

    whole = result.get("dense_macs_before_slim")
    score = result["score"]
    held = (result["metrics"], result["dense_metrics"], result["all_on_metrics"])
    own, dense, every = (one and metric(score, one[score]) for one in held)
    rows = [(score, own)]
    rows += [(f"{score} of the dense start", dense or "unknown")]
    rows += [(f"{score} with every filter on", every)]
    rows += [(one, metric(one, value)) for one, value in result["metrics"].items() if one != score]
    rows += [("MACs, plain network", f"{result['dense_macs']:,}")]
    rows += [("the same before ftwt slim", f"{whole:,}")] if whole else []
    rows += [("MACs, mean over images", f"{result['macs']:,.0f}")]
    rows += [("MAC reduction, exact", percent(result["reduction_exact"]))]
    rows += [("the same before ftwt slim", percent(1 - result["macs"] / whole))] if whole else []
    rows += [("MAC reduction, paper's convention", percent(result["reduction_paper"]))]
    title = f"{result['images']} test images of {result['data']}"
    shown: list[Any] = [of_text(("", "value"), rows).rich(title)]
    if "curve" in result:
        columns = (Column("asked", "asked", "{:g}".format), *results_columns())
        shown.append(Table(columns, result["curve"]).rich())
    if "dynamism" in result:
        shown += [_diagnosis_table(result["dynamism"]), result["dynamism"]["verdict"]]
    return Group(*shown)


def _diagnosis_table(found: dict[str, Any]) -> Any:
    from ftwt.tables import Column, Table, count

    columns = (
        Column("decided_by", "decided by"),
        Column("accuracy", "accuracy", percent),
        Column("macs", "MACs, mean over images", count),
    )
    return Table(columns, found["rows"]).rich()
