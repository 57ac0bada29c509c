"""`cut`: from a gated network and one fixed mask for each site to a plain, smaller network."""

from collections.abc import Mapping

import torch
from jaxtyping import Bool
from torch import Tensor, fx, nn

from ftwt.errors import FtwtError
from ftwt.gated.model import Gated
from ftwt.graph import calls
from ftwt.graph.live import Evaluator
from ftwt.graph.sites import shape_of
from ftwt.slicing.builder import Builder
from ftwt.slicing.moves import follow
from ftwt.slicing.parts import UnionAdd
from ftwt.slicing.weighted import Weighted


def cut(
    model: Gated, masks: Mapping[str, Bool[Tensor, "C"]], *, fold: bool = True
) -> fx.GraphModule:
    """Return the plain network that computes what `model` does when its masks are always these.

    Each convolution keeps the filters that its mask keeps, and of these the inputs that can be
    non-zero; gates are gone. A sum carries the union of the channels of both sides. Its MACs are
    `model.anatomy.plan`'s for these masks, less the gates'. What has no rule of its own runs on
    whole tensors, with zeros put where channels are missing.

    Args:
        model: a gated network; its gates are not asked.
        masks: a mask (C_out,) for each site.
        fold: fold batch norms into the convolutions before them, for inference. Without, the
            network can be trained, and `attach` knows all its operations.

    Raises:
        FtwtError: a mask is missing or of the wrong width, or an operation cannot be cut: a
            functional convolution, or one that changes in place what is read again later.

    Example:
        >>> import ftwt
        >>> model = ftwt.attach(ftwt.backbones.resnet8(), ftwt.Pruning(),
        ...                     example=torch.zeros(1, 3, 32, 32)).eval()
        >>> trace = model.trace(torch.randn(1, 3, 32, 32))
        >>> small = cut(model, {name: mask[0] for name, mask in trace.masks.items()})
        >>> small(torch.randn(5, 3, 32, 32)).shape
        torch.Size([5, 10])
    """
    return build(model, masks, fold=fold)[0]


def build(
    model: Gated, masks: Mapping[str, Bool[Tensor, "C"]], *, fold: bool
) -> tuple[fx.GraphModule, Builder]:
    """The network that `cut` returns, and what it was made with."""
    rows = check_masks(model, masks)
    live = Evaluator(rows, next(iter(rows.values())))
    builder = Builder(model, live, traceable=not fold)
    inside = _inside(model)
    weighted = Weighted(builder, inside, fold=fold)
    done: set[fx.Node] = set()
    for node in builder.traced.graph.nodes:
        done.add(node)
        if node.op == "output":
            builder.graph.output(fx.map_arg(node.args[0], builder.whole))
        elif node.op == "placeholder":
            builder.placeholder(node)
        elif node.op == "get_attr":
            builder.attribute(node)
        elif not weighted.follow(node):
            follow(builder, node, in_site=node in inside)
        _after_changes(builder, node, done)
    if fold:
        _work_in_place(builder)
    builder.graph.lint()
    made = fx.GraphModule(builder.modules, builder.graph, type(model).__name__)
    return made.train(model.training), builder


def check_masks(
    model: Gated, masks: Mapping[str, Bool[Tensor, "C"]]
) -> dict[str, Bool[Tensor, "1 C"]]:
    """The masks as those of one sample; FtwtError unless each site has one of its width."""
    rows = {}
    for site in model.anatomy.sites:
        width = shape_of(site, model.anatomy.traced).out_channels
        mask = masks.get(site.name)
        if mask is None:
            raise FtwtError(f"cut: no mask for site {site.name!r}; give one for each site")
        if mask.dtype != torch.bool or tuple(mask.shape) != (width,):
            raise FtwtError(
                f"cut: the mask for {site.name!r} is {mask.dtype} of shape {tuple(mask.shape)}; "
                f"give booleans of shape ({width},)"
            )
        rows[site.name] = mask[None]
    unknown = [name for name in masks if name not in rows]
    if unknown:
        raise FtwtError(f"cut: {unknown[0]!r} is no site; the sites are {', '.join(model.sites)}")
    return rows


def _inside(model: Gated) -> dict[fx.Node, fx.Node]:
    """The output of the site that each node is part of: its convolution, norm and activation."""
    found = {}
    for site in model.anatomy.sites:
        node: fx.Node | None = site.output
        while node is not None:
            found[node] = site.output
            node = calls.source(node) if node is not site.convolution else None
    return found


def _after_changes(builder: Builder, node: fx.Node, done: set[fx.Node]) -> None:
    """Later readers of a tensor that `node` changes in place; the cut network changes none."""
    names = builder.traced.changed.get(node.name, ())
    for changed in (one for one in done if one.name in names):
        later = [user for user in changed.users if user not in done]
        if later and changed is calls.source(node) and changed in builder.pieces:
            builder.pieces[changed] = builder.pieces[node]
        elif later:
            raise builder.refuse(node, f"it changes in place what {later[0].name} reads")


def _work_in_place(builder: Builder) -> None:
    """Save copies: sums and ReLUs go into a tensor that was just made and nobody else reads."""
    order = {node: place for place, node in enumerate(builder.graph.nodes)}
    for node in builder.graph.nodes:
        module = builder.modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(module, (UnionAdd, nn.ReLU, nn.ReLU6)):
            continue
        source = node.args[0]
        assert isinstance(source, fx.Node)
        made = builder.modules.get(str(source.target)) if source.op == "call_module" else None
        if not isinstance(made, (nn.Conv2d, UnionAdd, nn.ReLU, nn.ReLU6)):
            continue
        # Who read it before has made a tensor of its own from it.
        readers = [builder.modules.get(str(user.target)) for user in source.users]
        alone = all(order[user] <= order[node] for user in source.users)
        if alone and all(isinstance(one, (nn.Conv2d, UnionAdd, nn.ReLU)) for one in readers):
            module.inplace = True
