"""Pieces of whole tensors: the channels that are there, and how others get them as they want."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx

from ftwt.graph.channels import Select, Spread
from ftwt.runtime.numbering import Channels
from ftwt.runtime.program import ConstantValue, Other, Value
from ftwt.slicing.writer import Writer


@dataclass(frozen=True)
class Piece:
    """Channels of a whole tensor, in the order in which `node` holds them; None holds none."""

    node: fx.Node | None
    channels: Channels


class Pieces:
    """What each value, constant and other result of a program has become.

    `strict` says that something works in place: then a tensor has one form only, which all its
    readers share.
    """

    def __init__(self, writer: Writer, *, strict: bool) -> None:
        self.strict = strict
        self._writer = writer
        self._pieces: dict[Value, Piece] = {}
        # What is no tensor with channels, and constants.
        self._others: dict[Other | ConstantValue, Any] = {}
        self._found: dict[tuple[Value, Channels], fx.Node] = {}

    def __getitem__(self, value: Value) -> Piece:
        """The piece that a value became."""
        return self._pieces[value]

    def note(self, value: Value, piece: Piece) -> None:
        """Let a value be a piece."""
        self._pieces[value] = piece

    def note_whole(self, output: Value | Other, made: Any) -> None:
        """Let what a call makes be what a node makes, with every channel if it has any."""
        if isinstance(output, Value):
            self._pieces[output] = Piece(made, tuple(range(output.shape[0])))
        else:
            self._others[output] = made

    def keep(self, value: Value, channels: Channels, make: Callable[[], fx.Node]) -> None:
        """Note what a value became; what has no channels is not computed."""
        self._pieces[value] = Piece(make() if channels else None, channels)

    def in_order(self, channels: Channels, like: Value) -> Channels:
        """Channels in the order of a value's piece, those that it does not have after them.

        Files of narrowed networks count on this order: weights of another would be mixed up.
        """
        kept = set(channels)
        first = [one for one in self._pieces[like].channels if one in kept]
        done = set(first)
        return (*first, *(one for one in channels if one not in done))

    def at(self, value: Value, channels: Channels) -> fx.Node:
        """A value's channels in this order, with zeros for those that are not there."""
        piece, rank = self._pieces[value], len(value.shape) + 1
        if channels == piece.channels and piece.node is not None:
            return piece.node
        key = (value, channels)
        if key in self._found:
            return self._found[key]
        there = {channel: i for i, channel in enumerate(piece.channels)}
        present = tuple(channel for channel in channels if channel in there)
        if piece.node is None or not present:
            writer = self._writer
            zeros = torch.zeros(len(channels), dtype=writer.dtype, device=writer.device)
            made = writer.filled(f"{value.name}_zeros", zeros, value.shape[1:])
        elif len(present) < len(channels):
            place = {channel: i for i, channel in enumerate(present)}
            spread = Spread([place.get(channel, -1) for channel in channels], rank)
            made = self._writer.call(f"{value.name}_spread", spread, self.at(value, present))
        else:
            select = Select([there[channel] for channel in channels])
            made = self._writer.call(f"{value.name}_select", select, piece.node)
        self._found[key] = made
        return made

    def whole(self, leaf: Any) -> Any:
        """An argument of a call that gets whole tensors."""
        if isinstance(leaf, Value):
            made = self.at(leaf, tuple(range(leaf.shape[0])))
            if self.strict:
                self.note_whole(leaf, made)
            return made
        if isinstance(leaf, ConstantValue):
            return self._constant(leaf)
        return self._others[leaf] if isinstance(leaf, Other) else leaf

    def _constant(self, constant: ConstantValue) -> Any:
        if constant not in self._others:
            self._others[constant] = self._written(constant)
        return self._others[constant]

    def _written(self, constant: ConstantValue) -> Any:
        made, run = constant.value, constant.run
        if run is not None:
            if not _holds_tensor(made):
                return made
            return self._writer.run(
                run, constant, self.whole, self._writer.name_of(run, "constant")
            )
        if constant.path is None:
            return made
        if constant.path.rpartition(".")[2] == "training":
            return self._writer.mode()
        return self._writer.attribute(constant.path, made) if isinstance(made, Tensor) else made


def _holds_tensor(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_tensor(one) for one in value)
    return isinstance(value, Tensor)
