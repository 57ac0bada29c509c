"""Options that commands share: dataclasses whose fields become the options of one panel."""

import copy
import inspect
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, get_args, get_type_hints

import typer

if TYPE_CHECKING:
    from ftwt.data import Dataset, Loaders

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")]
Data = Annotated[
    str,
    typer.Option(
        help="shapes, cifar10, cifar100, imagefolder:DIR (train/ and test/, into memory), "
        "imagenet:DIR (train/ and val/, read while training), or a Python file that defines "
        "dataset()."
    ),
]
ImageSize = Annotated[
    int | None,
    typer.Option(help="Side in pixels that images are brought to; their own by default.", min=1),
]
Threads = Annotated[
    int | None, typer.Option(help="CPU threads; as many as torch takes by default.", min=1)
]
Seed = Annotated[
    int | None, typer.Option(help="Of order, augmentation, new weights; 0 by default.", min=0)
]
Own = Annotated[
    str | None,
    typer.Option(
        "--network",
        help="Where a run's network is your own: my_module:factory, or the recipe file.",
    ),
]
Limit = Annotated[
    int | None, typer.Option(help="Use that many images, a fixed subset; all by default.", min=1)
]
Resume = Annotated[
    bool, typer.Option("--resume", help="Go on with the run in --out, to the same numbers.")
]


@dataclass(frozen=True, kw_only=True)
class Images:
    """Which images."""

    panel: ClassVar = "Data"

    data: Data
    limit: Limit = None
    image_size: ImageSize = None
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that decode the images of imagenet:DIR; one for each core by default.",
            min=0,
        ),
    ] = None

    def named(self) -> tuple[object, ...]:
        """The options that name the same images in another command."""
        size = () if self.image_size is None else ("--image-size", self.image_size)
        return ("--data", self.data, *size)

    def load_training(self) -> "Dataset":
        """The training images, as many as were asked for."""
        from ftwt import data

        from .progress import counting

        with counting("reading images") as progress:
            return data.load(
                self.data,
                size=self.image_size,
                limit=self.limit,
                only="train",
                workers=self.workers,
                progress=progress,
            )

    def load_any_training(self) -> "Dataset | Loaders":
        """The same, or loaders that a file of one's own makes."""
        from ftwt import data
        from ftwt.io.user_code import is_file

        if not is_file(self.data):
            return self.load_training()
        return data.load_any(
            self.data, size=self.image_size, limit=self.limit, only="train", workers=self.workers
        )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where to compute."""

    panel: ClassVar = "Machine"

    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu"
    threads: Threads = None

    def named(self) -> tuple[object, ...]:
        """The options that say the same in another command."""
        return () if self.device == "cpu" else ("--device", self.device)

    def prepare(self) -> None:
        """Use as many threads as were asked for."""
        use_threads(self.threads)


def import_own(name: str | None) -> None:
    """Import what makes a run's own network, so that its files load."""
    if name is None:
        return
    from pathlib import Path

    from ftwt.io.user_code import is_file, known_network
    from ftwt.training.recipes.files import from_file

    if is_file(name):
        from_file(Path(name))
    else:
        known_network(name)


def data_beside(recipe: str, data: str) -> str:
    """The data that were named, or where none were, those of a recipe's own file."""
    from ftwt.io.user_code import is_file

    if not data and not is_file(recipe):
        raise typer.BadParameter(
            "Missing option '--data'; only a recipe file that defines dataset() needs none"
        )
    return data or recipe


def own_option(network: str | None) -> tuple[object, ...]:
    """The option with which other commands build a run's network, where it is the user's own."""
    from ftwt.io.registry import is_qualified
    from ftwt.io.user_code import is_file

    own = network is not None and (is_file(network) or is_qualified(network))
    return ("--network", network) if own else ()


def run_or_network(name: str) -> str:
    """A run's path as it is, or the name of a network after importing what it names."""
    from pathlib import Path

    from ftwt.io.user_code import known_network

    return name if Path(name).exists() else known_network(name)


def use_threads(threads: int | None) -> None:
    """Compute with so many threads, if a number is given."""
    if threads is not None:
        import torch

        torch.set_num_threads(threads)


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """A command whose dataclass parameters are given field by field, as options of a panel."""
    own = inspect.signature(command, eval_str=True).parameters
    groups: dict[str, Any] = {
        name: one.annotation for name, one in own.items() if is_dataclass(one.annotation)
    }
    options = {name: one.replace(kind=one.KEYWORD_ONLY) for name, one in own.items()}
    for group in groups.values():
        options |= _options(group)
    listed = [one for name, one in options.items() if name not in groups]

    @wraps(command)
    def run(**given: Any) -> None:
        values = {
            name: kind(**{one.name: given.pop(one.name) for one in fields(kind)})
            for name, kind in groups.items()
        }
        command(**given, **values)

    run.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in listed}
    return run


def _options(group: Any) -> dict[str, inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    found = {}
    for one in fields(group):
        kind, option = get_args(hints[one.name])
        option = copy.copy(option)
        option.rich_help_panel = group.panel
        default = inspect.Parameter.empty if one.default is MISSING else one.default
        found[one.name] = inspect.Parameter(
            one.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=default,
            annotation=Annotated[kind, option],
        )
    return found
