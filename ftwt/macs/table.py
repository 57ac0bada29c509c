"""Cost by layer, for a reader."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Bool
from torch import Tensor

from ftwt.macs.plan import Plan

if TYPE_CHECKING:
    from rich.table import Table as RichTable


@runtime_checkable
class Anatomy(Protocol):
    """What is known of a gated network before any image is seen."""

    @property
    def plan(self) -> Plan:
        """What its layers cost."""
        ...


@runtime_checkable
class Priced(Protocol):
    """A gated network: a `ftwt.Gated` is one."""

    @property
    def anatomy(self) -> Anatomy:
        """What is known of it."""
        ...


@runtime_checkable
class Seen(Protocol):
    """One pass through it: a `ftwt.Trace` is one."""

    @property
    def masks(self) -> dict[str, Bool[Tensor, "B C"]]:
        """The mask of each site."""
        ...


class Row(NamedTuple):
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


@dataclass(frozen=True)
class Table:
    """Cost by layer. Without a trace only the dense network's and the gates' are known."""

    rows: tuple[Row, ...]

    def rich(self, title: str | None = None) -> "RichTable":
        """The table for rich to print."""
        from rich.table import Table as RichTable

        traced = any(row.macs is not None for row in self.rows)
        heads = ["layer", "kind", "in", "out", "dense MACs", "gate MACs"]
        heads += ["exact MACs", "paper MACs", "active"] if traced else []
        table = RichTable(title=title, show_footer=True)
        totals = ["all", "", "", "", f"{sum(row.dense_macs for row in self.rows):,}"]
        totals += [f"{sum(row.gate_macs for row in self.rows):,}"]
        if traced:
            totals += [f"{sum(row.macs or 0 for row in self.rows):,.0f}"]
            totals += [f"{sum(row.paper_macs or 0 for row in self.rows):,.0f}", ""]
        for head, total in zip(heads, totals, strict=True):
            left = head in ("layer", "kind")
            table.add_column(head, total, justify="left" if left else "right")
        for row in self.rows:
            cells = [row.name, row.kind, str(row.in_channels), str(row.out_channels)]
            cells += [f"{row.dense_macs:,}", f"{row.gate_macs:,}" if row.gate_macs else ""]
            if traced:
                cells += [f"{row.macs:,.0f}" if row.macs is not None else ""]
                cells += [f"{row.paper_macs:,.0f}" if row.paper_macs is not None else ""]
                cells += [f"{100 * row.active:.1f} %" if row.active is not None else ""]
            table.add_row(*cells)
        return table

    def __str__(self) -> str:
        from rich.console import Console

        console = Console(width=140)
        with console.capture() as capture:
            console.print(self.rich())
        return capture.get()


def table(model: Priced, seen: Seen | None = None) -> Table:
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
            Row(
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
    return Table(tuple(rows))


def _mean(values: Tensor | None) -> float | None:
    return None if values is None else values.double().mean().item()
