"""A target rule for each site by itself."""

from collections.abc import Mapping
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from ftwt.errors import FtwtError
from ftwt.targets.interface import Rule


@dataclass(frozen=True)
class PerSite:
    """A target for each site by name, such as the mass for each layer that `ftwt.solve` finds.

    It has to name every site.

    Example:
        >>> from ftwt.targets import HeatmapMass
        >>> PerSite({"conv1": HeatmapMass(0.9)}).for_site("conv1")
        HeatmapMass(mass=0.9, boundary='below', min_channels=1, score='max')
    """

    rules: Mapping[str, Rule]

    def __init__(self, rules: Mapping[str, Rule]) -> None:
        if not rules:
            raise FtwtError("PerSite: no rules; give a target for each site by its name")
        object.__setattr__(self, "rules", dict(rules))

    def __hash__(self) -> int:
        return hash(tuple(self.rules.items()))

    @property
    def named_sites(self) -> tuple[str, ...]:
        """The sites that have a rule."""
        return tuple(self.rules)

    def for_site(self, site: str) -> Rule:
        """Return the rule of a site."""
        if site not in self.rules:
            raise FtwtError(
                f"PerSite: no rule for the site {site!r}; it names {', '.join(self.rules)}, "
                "and has to name every site"
            )
        return self.rules[site]

    def keep(self, features: Float[Tensor, "B C *space"]) -> Bool[Tensor, "B C"]:
        """Refuse: features do not say which site they are of."""
        raise FtwtError(
            "PerSite: features do not say their site; use for_site(name).keep(features)"
        )
