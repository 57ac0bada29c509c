"""Core filters: those that ran for every image of a set, beside those that never ran."""

from dataclasses import asdict, dataclass
from typing import Any

from ftwt.gated.model import Gated
from ftwt.training.activity import SiteActivity, activity
from ftwt.training.inspection import Loader

# Upper ends of the bins between never and always, as shares of the images.
BINS = (0.2, 0.4, 0.6, 0.8, 1.0)


@dataclass(frozen=True)
class LayerFilters:
    """One site's filters by how many images they ran for.

    `core` and `never` are the places of the filters that ran for every image and for none.
    `between` counts the others by share of images: up to 20 %, 40 %, 60 %, 80 %, below 100 %.
    """

    name: str
    filters: int
    core: tuple[int, ...]
    never: tuple[int, ...]
    between: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """All fields as plain numbers, strings, lists and dicts."""
        return asdict(self)


def core_filters(
    model: Gated, loader: Loader, *, limit: int | None = None
) -> tuple[LayerFilters, ...]:
    """Find which filters of each site ran always, never, and how often the others did.

    Example:
        >>> for layer in core_filters(model, loader):
        ...     print(layer.name, len(layer.core), "of", layer.filters, "are always needed")
        conv1 ... of 16 are always needed
        ...

    Args:
        model: a network with gates; its training mode is restored.
        loader: gives (images, labels).
        limit: look at most at so many images.

    Raises:
        FtwtError: the network has no gates, the loader is empty, or `limit` is below 1.
    """
    return tuple(layer_filters(site) for site in activity(model, loader, limit=limit).sites)


def layer_filters(site: SiteActivity) -> LayerFilters:
    """The same of one site whose activity is known."""
    shares = site.share_of_images_by_filter
    some = [share for share in shares if 0 < share < 1]
    lower = (0.0, *BINS[:-1])
    return LayerFilters(
        name=site.name,
        filters=site.filters,
        core=tuple(place for place, share in enumerate(shares) if share == 1),
        never=tuple(place for place, share in enumerate(shares) if share == 0),
        between=tuple(
            sum(low < share <= high for share in some)
            for low, high in zip(lower, BINS, strict=True)
        ),
    )
