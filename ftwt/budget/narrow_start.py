"""A network without some of its filters, as a start that the rest is trained from."""

from collections.abc import Callable
from pathlib import Path

from jaxtyping import Float
from torch import Tensor, nn

from ftwt.budget.static import inner_sites
from ftwt.data import Dataset
from ftwt.data.batches import evaluation_batches
from ftwt.gated.attach import attach
from ftwt.gated.known_masks import fixed_masks
from ftwt.gated.model import Gated
from ftwt.gated.pruning import Pruning
from ftwt.gates import Fixed
from ftwt.io import storage
from ftwt.io.files import make_folder
from ftwt.slicing import narrow
from ftwt.training.distributed import on_main
from ftwt.training.inspection import Loader
from ftwt.training.preparation import training_split

# Training images, spread over the classes, by which filters are chosen.
_IMAGES = 2000


def narrow_start(
    folder: Path,
    plain: nn.Module,
    choose: Callable[[Gated], Fixed],
    *,
    example: Float[Tensor, "1 C H W"],
    card: storage.Card,
) -> Gated:
    """Write a narrow network into a folder, unless it is there, and read it.

    The folder is an `init` for `train_run` with the network's `pruning`: it holds the whole network
    too, which then teaches where a recipe distils.

    Args:
        folder: where to write `model.safetensors` and `dense.safetensors`.
        plain: the whole network, trained.
        choose: picks masks for the whole network, gated at its `inner_sites`.
        example: an input.
        card: the whole network's.
    """

    def write() -> None:
        sites = inner_sites(plain, example)
        whole = attach(plain, Pruning(Fixed({})), example=example, where=sites)
        fixed = choose(whole)
        masked = attach(plain, Pruning(fixed), example=example, where=sites)
        masks = fixed_masks(masked)
        assert masks is not None
        small = narrow(masked, masks)
        make_folder(folder)
        # The teacher first: with the narrow network the folder is complete.
        storage.save(plain, folder / "dense.safetensors", card)
        storage.save(small, folder / "model.safetensors", card)

    if not (folder / "model.safetensors").is_file():
        on_main(write)
    model, _ = storage.load(folder)
    assert isinstance(model, Gated)
    return model


def chosen_on(dataset: Dataset) -> Loader:
    """Some training images as they are, without augmentation, to choose filters by."""
    training, _ = training_split(dataset)
    return evaluation_batches(dataset, training, limit=_IMAGES)
