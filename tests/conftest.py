"""Shapes are checked in tests, not in use: every jaxtyping annotation goes through beartype."""

import os
from collections.abc import Iterator
from functools import wraps
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

from tests import checking  # noqa: F401 - the import hook finds it by name

# Not `ftwt.backbones`, whose forward functions torch.fx calls with proxies.
_CHECKED = [
    "ftwt.gates",
    "ftwt.graph.live",
    "ftwt.graph.liveness",
    "ftwt.losses",
    "ftwt.macs",
    "ftwt.gated.masking",
    "ftwt.gated.model",
    "ftwt.gated.passes",
    "ftwt.gated.site_gate",
    "ftwt.targets",
    "ftwt.gated.trace",
]
jaxtyping.install_import_hook(_CHECKED, "tests.checking.checked")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from hypothesis.errors import UnsatisfiedAssumption  # noqa: E402

from tests.command_line import ftwt_command, recipe_file  # noqa: E402, F401 - fixtures

torch.set_num_threads(1)
# Shared machines pause at any time: what takes long is bounded by the number of examples.
examples = int(os.environ.get("FTWT_EXAMPLES", "40"))
# CI draws the same each time, so that it tells of the change alone; here each run draws anew.
settings.register_profile(
    "ftwt",
    deadline=None,
    max_examples=examples,
    print_blob=True,
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("ftwt")


@pytest.fixture(scope="session")
def gated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run on shapes in which some filters never run; beside it `dense`, its start."""
    from ftwt import data, training
    from ftwt.training import runs

    folder, shapes = tmp_path_factory.mktemp("shapes"), data.load("shapes", limit=400)
    choices = training.Overrides(mass=0.6, epochs=1)
    for dense in (True, False):
        out = folder / ("dense" if dense else "gated")
        recipe = training.recipe("shapes-resnet8", choices, dense=dense)
        runs.train_run(recipe, shapes, out, init=None if dense else folder / "dense")
    return folder / "gated"


def pytest_configure(config: pytest.Config) -> None:
    """Fail instead of skipping, where the native kernels are wanted."""
    from ftwt.runtime import native  # after the import hook

    if os.environ.get("FTWT_REQUIRE_NATIVE") and (reason := native.missing()):
        raise pytest.UsageError(f"FTWT_REQUIRE_NATIVE is set, and {reason}")


# A law that throws away more of its draws than this says little about what it names.
_MOST_REJECTED, _FEWEST_DRAWS = 0.6, 20


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Bound the share of a law's draws that `assume` and `reject` throw away."""
    law = getattr(getattr(item, "obj", None), "hypothesis", None)
    if law is None:
        return (yield)
    inner, draws, rejected = law.inner_test, 0, 0

    @wraps(inner)
    def counted(*given: Any, **named: Any) -> Any:
        nonlocal draws, rejected
        draws += 1
        try:
            return inner(*given, **named)
        except UnsatisfiedAssumption:
            rejected += 1
            raise

    law.inner_test = counted
    try:
        result = yield
    finally:
        law.inner_test = inner
    if draws >= _FEWEST_DRAWS and rejected > _MOST_REJECTED * draws:
        pytest.fail(f"{rejected} of {draws} draws were rejected; draw what the law is about")
    return result


def pytest_report_header(config: pytest.Config) -> str:
    """Which instruction sets are tested."""
    from ftwt.runtime.native import binding

    return f"native kernels: {', '.join(binding.known_sets()) or binding.missing()}"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep what shares a fixture that takes long in one process, where tests run in several."""
    if config.pluginmanager.hasplugin("xdist"):
        for item in items:
            shared = item.path.parent if item.path.parent.name == "paper" else item.path
            item.add_marker(pytest.mark.xdist_group(str(shared.relative_to(Path(__file__).parent))))
