"""The smallest report's command line, and its refusals."""

from dataclasses import replace
from pathlib import Path

from tests.test_cli import refused

MAIN = "resnet8-mass0.85-decoupled-seed0"
SHARES = ("accuracy", "reduction_exact", "reduction_paper")


def arguments(name: str, out: Path, *more: object) -> list[str]:
    return list(
        map(str, ("paper", name, "--data", "shapes", "--scale", "tiny", "--out", out, *more))
    )


def refused_after_progress(answer, *texts):
    answer.err = "\n".join(
        line for line in answer.err.splitlines() if not line.startswith(("training", "measuring"))
    )
    refused(answer, *texts)


def replace_runs(study, *runs):
    return replace(study, given=runs, _measured=study._measured)
