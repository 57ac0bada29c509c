"""What a traced graph does with inputs: shapes, MACs, and what is changed in place.

Shapes are taken from a batch of two, so that an operation that mixes samples shows itself. MACs
are those of one sample by itself, as torch's own flop counter sees them (its count / 2).
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import flop_registry

from ftwt.errors import FtwtError
from ftwt.graph import randomness, regions
from ftwt.graph.products import Products, Watching
from ftwt.graph.proxies import holds_tensor
from ftwt.graph.rows import ONE_ROW, SampleRows, rows_between

PROBE_BATCH = 2
# Products that torch's counter does not know. Names are those of torch.ops.aten.
_UNCOUNTED = frozenset(
    [
        "addbmm", "addmv", "conv_tbc", "dot", "vdot", "linalg_vecdot", "mv", "bilinear",
        "_trilinear", "_int_mm", "_sparse_mm", "_sparse_addmm", "_grouped_mm",
        "_weight_int8pack_mm", "_weight_int4pack_mm", "lstm", "gru", "rnn_tanh", "rnn_relu",
        "lstm_cell", "mkldnn_rnn_layer", "_cudnn_rnn", "miopen_rnn", "_thnn_fused_lstm_cell",
        "_thnn_fused_gru_cell", "_native_multi_head_attention", "_transformer_encoder_layer_fwd",
    ]
)  # fmt: skip
# Outside of torch's own, what only moves or chooses.
_NO_PRODUCTS = frozenset({"aten", "prim", "prims", "profiler", "_c10d_functional"})
_CHOOSING = ("nms", "roi_align", "roi_pool", "ps_roi_align", "ps_roi_pool")
# Switches of attention and random numbers are the process's.
_ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True)
class Probed:
    """What one batch showed of a graph, by node name."""

    # The shape of a tensor, the value of what is not a tensor.
    shapes: Mapping[str, torch.Size]
    values: Mapping[str, Any]
    macs: Mapping[str, int]
    # Nodes whose MACs are the same for any batch, such as products of weights.
    shared: frozenset[str]
    # For what computes: which samples its rows belong to; None where samples are mixed.
    rows: Mapping[str, SampleRows | None]
    # Operations whose MACs torch's counter does not know.
    uncounted: Mapping[str, tuple[str, ...]]
    # Of a node that works in place: the earlier nodes whose tensors it changes.
    changed: Mapping[str, tuple[str, ...]]


def probe(root: nn.Module, graph: fx.Graph, examples: Sequence[Tensor]) -> Probed:
    """Run a graph on noise of the examples' shapes; modules are in eval mode.

    Raises:
        FtwtError: an operation whose cost is of several samples together.
    """
    several = _Probe(root, graph)
    alone = _Single(root, graph, several)
    with countable(), outside_inference():
        seeded(several.count, noise(examples, PROBE_BATCH))
        try:
            seeded(alone.count, noise(examples, 1))
        except Exception:
            # It takes pairs, or other batches of more than one: half of a pair then.
            alone.macs = {name: macs // PROBE_BATCH for name, macs in several.macs.items()}
            alone.rows = {
                name: ONE_ROW if several.shapes[name][0] == PROBE_BATCH else None
                for name in several.many
            }
        else:
            _check_apart(graph, several, alone)
    return Probed(
        shapes=several.shapes,
        values=several.values,
        macs=alone.macs,
        shared=frozenset(
            name for name, macs in several.macs.items() if macs and macs == alone.macs.get(name)
        ),
        rows=alone.rows,
        uncounted={name: tuple(dict.fromkeys(ops)) for name, ops in several.uncounted.items()},
        changed=several.changed,
    )


def _check_apart(graph: fx.Graph, several: "_Probe", alone: "_Single") -> None:
    """Refuse what relates samples to each other: what it costs is no sample's own."""
    for node in graph.nodes:
        one, two = alone.macs.get(node.name, 0), several.macs.get(node.name, 0)
        if two == PROBE_BATCH * one or (two == one and node.name not in alone.differing):
            continue
        name = str(node.target) if node.op == "call_module" else node.name
        raise FtwtError(
            f"attach: {name!r} relates samples to each other ({one:,} MACs for one sample, "
            f"{two:,} for {PROBE_BATCH}), so that no count could be one sample's; do that outside "
            "of the network"
        )


@contextmanager
def countable() -> Iterator[None]:
    """Let attention run as products of matrices, which torch's counter sees on every device."""
    with _ONE_AT_A_TIME:
        fast = torch.backends.mha.get_fastpath_enabled()
        torch.backends.mha.set_fastpath_enabled(False)
        try:
            with sdpa_kernel(SDPBackend.MATH):
                yield
        finally:
            torch.backends.mha.set_fastpath_enabled(fast)


@contextmanager
def outside_inference() -> Iterator[None]:
    """Without gradients, but with tensors that know how often they were changed."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def noise(examples: Sequence[Tensor], batch: int, seed: int = 0) -> list[Tensor]:
    """Random inputs for a probe, as an example of zeros hides much; integers stay.

    The first sample is the same for any batch.
    """
    return [_noise(one, batch, seed) for one in examples]


def _noise(example: Tensor, batch: int, seed: int) -> Tensor:
    repeated = torch.cat([example[:1]] * batch)
    if not repeated.is_floating_point() or repeated.is_meta:
        return repeated
    shape = (max(batch, PROBE_BATCH), *repeated.shape[1:])
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return made[:batch].to(repeated)


def seeded(run: Callable[..., Any], inputs: Sequence[Tensor]) -> Any:
    """Run on copies, as a network may change its inputs, with the same random numbers each time."""
    with _ONE_AT_A_TIME, randomness.fixed_seed(0):
        return run(*[one.clone() for one in inputs])


class _Counting(fx.Interpreter):
    """Runs the graph once and notes each node's MACs, for the whole batch."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph=graph)
        # What is refused inside is told in one line.
        self.extra_traceback = False
        self.macs: dict[str, int] = {}
        self._counter = Products()

    def count(self, *inputs: Tensor) -> Any:
        """Run."""
        with self._counter:
            return self.run(*inputs)

    def run_node(self, n: fx.Node) -> Any:
        before = self._counter.macs
        with regions.entered(regions.region_of(n)):
            result = super().run_node(n)
        self.macs[n.name] = self._counter.macs - before
        return result


class _Probe(_Counting):
    """Notes shapes, values, what is changed in place, and what the counter does not know."""

    def __init__(self, root: nn.Module, graph: fx.Graph) -> None:
        super().__init__(root, graph)
        self.shapes: dict[str, torch.Size] = {}
        self.values: dict[str, Any] = {}
        self.changed: dict[str, tuple[str, ...]] = {}
        self.uncounted: dict[str, list[str]] = {}
        # What computes on more rows than samples, as it was at once.
        self.many: dict[str, Tensor] = {}
        # The first numbers of what computes.
        self.begins: dict[str, Tensor] = {}
        self._versions: dict[str, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> Any:
        unknown: list[str] = []
        with _Unknown(unknown):
            result = super().run_node(n)
        if unknown:
            self.uncounted[n.name] = unknown
        self._note_changes(n)
        self._versions[n.name] = _versions(result)
        if isinstance(result, Tensor):
            self.shapes[n.name] = result.shape
            if self.macs[n.name] and result.dim() > 1:
                many = len(result) > PROBE_BATCH
                self.many[n.name] = result.detach().clone() if many else result.detach()[:0]
            if self.macs[n.name]:
                self.begins[n.name] = _beginning(result)
        elif not holds_tensor(result):
            self.values[n.name] = result
        return result

    def _note_changes(self, node: fx.Node) -> None:
        """Which tensors, still to be read later, are not what they were before `node` ran.

        Views share one version counter with their base, so that all of them show.
        """
        changed = []
        for other, value in self.env.items():
            now = _versions(value)
            if now != self._versions[other.name]:
                self._versions[other.name] = now
                changed.append(other.name)
        if changed:
            self.changed[node.name] = tuple(changed)


class _Single(_Counting):
    """The first sample alone."""

    def __init__(self, root: nn.Module, graph: fx.Graph, several: _Probe) -> None:
        super().__init__(root, graph)
        self._several = several
        self.rows: dict[str, SampleRows | None] = {}
        # What computes something else than for several samples.
        self.differing: set[str] = set()

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        begins = self._several.begins.get(n.name)
        if begins is not None and isinstance(result, Tensor) and not result.is_meta:
            same = result.shape == self._several.shapes[n.name] and torch.allclose(
                _beginning(result), begins, rtol=1e-3, atol=1e-6, equal_nan=True
            )
            self.differing |= set() if same else {n.name}
        if n.name in self._several.many and isinstance(result, Tensor):
            two = self._several.many[n.name]
            whole = two if len(two) else two.new_empty(self._several.shapes[n.name])
            self.rows[n.name] = rows_between(result, whole, PROBE_BATCH)
        return result


def _beginning(result: Tensor) -> Tensor:
    return result.detach().flatten()[:64].clone()


class _Unknown(Watching):
    """Notes operations that multiply and that torch's counter does not know."""

    def __init__(self, found: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._found = found

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        packet = getattr(func, "overloadpacket", func)
        name = str(getattr(packet, "__name__", packet))
        own = getattr(func, "namespace", "aten") in _NO_PRODUCTS or name in _CHOOSING
        if packet not in flop_registry and (name in _UNCOUNTED or not own):
            self._found.append(str(packet))
        return func(*args, **(kwargs or {}))


def _versions(value: Any) -> tuple[int, ...]:
    """How often each tensor in a node's result was changed in place."""
    if isinstance(value, (list, tuple)):
        return tuple(version for item in value for version in _versions(item))
    return (value._version,) if isinstance(value, Tensor) and not value.is_inference() else ()
