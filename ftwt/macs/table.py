"""Cost by layer, for a reader."""

from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from ftwt.macs.plan import Plan
from ftwt.tables import Column, Table, count, percent


@runtime_checkable
class HasPlan(Protocol):
    """What is known of a gated network before any image is seen."""

    @property
    def plan(self) -> Plan:
        """What its layers cost."""
        ...


@runtime_checkable
class Priced(Protocol):
    """A gated network: a `ftwt.Gated` is one."""

    @property
    def anatomy(self) -> HasPlan:
        """What is known of it."""
        ...


@runtime_checkable
class HasMasks(Protocol):
    """One pass through it: a `ftwt.Trace` is one."""

    @property
    def masks(self) -> dict[str, Bool[Tensor, "B C"]]:
        """The mask of each site."""
        ...


class LayerRow(NamedTuple):
    """One layer of a table: MACs for one sample, mean over the samples of a trace."""

    name: str
    kind: str
    in_channels: int
    out_channels: int
    dense_macs: int
    gate_macs: int
    macs: float | None
    paper_macs: float | None
    active: float | None


_DENSE = (
    Column("name", "layer"),
    Column("kind", "kind"),
    Column("in_channels", "in"),
    Column("out_channels", "out"),
    Column("dense_macs", "dense MACs", count),
    Column("gate_macs", "gate MACs", count),
)
_TRACED = (
    Column("macs", "exact MACs", count),
    Column("paper_macs", "paper MACs", count),
    Column("active", "active", percent(1, " %")),
)


def table(model: Priced, seen: HasMasks | None = None) -> Table[LayerRow]:
    """Cost of a gated network by layer; with a trace also what its samples cost on average.

    Exact MACs of a layer include its gate.
    """
    costs = model.anatomy.plan
    exact: dict[str, Tensor] = {}
    paper: dict[str, Tensor] = {}
    live_gates: dict[str, Tensor] = {}
    masks = {} if seen is None else seen.masks
    if masks:
        exact, live_gates, paper = costs.exact(masks), costs.gates(masks), costs.paper(masks)
    rows = []
    for layer in costs.layers:
        gate = costs.gate_cost(layer)
        macs = exact.get(layer.name)
        if macs is not None and layer.name in live_gates:
            macs = macs + live_gates[layer.name]
        mask = masks.get(layer.name)
        rows.append(
            LayerRow(
                name=layer.name,
                kind=layer.kind,
                in_channels=layer.in_channels,
                out_channels=layer.out_channels,
                dense_macs=layer.dense_macs,
                gate_macs=gate,
                macs=_mean(macs),
                paper_macs=_mean(paper.get(layer.name)),
                active=_mean(mask),
            )
        )
    total = {
        "name": "all",
        "dense_macs": sum(row.dense_macs for row in rows),
        "gate_macs": sum(row.gate_macs for row in rows),
        "macs": sum(row.macs or 0 for row in rows),
        "paper_macs": sum(row.paper_macs or 0 for row in rows),
    }
    return Table((*_DENSE, *(_TRACED if masks else ())), tuple(rows), total=total)


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else values.double().mean().item()
