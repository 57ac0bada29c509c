"""A skipping network inside of `torch.compile`."""

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import ftwt


def skipping():
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    ).eval()
    model = ftwt.attach(network, ftwt.Pruning(), example=torch.zeros(1, 3, 8, 8)).eval()
    return ftwt.runtime.skip(model)


class Around(nn.Module):
    """A network with a skipping one inside."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.last = inner, nn.Linear(8, 4)

    def forward(self, x):
        return self.last(self.inner(2 * x).flatten(1)).relu()


def test_it_is_one_operator_of_a_whole_graph():
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    whole = Around(skipping()).eval()
    compiled = torch.compile(whole, backend=backend, fullgraph=True, dynamic=True)
    for batch in (2, 3, 5):
        images = torch.randn(batch, 3, 8, 8)
        with torch.no_grad():
            torch.testing.assert_close(compiled(images), whole(images))
    called = [node.target for node in graphs[0].graph.nodes]
    assert torch.ops.ftwt.skip in called or torch.ops.ftwt.skip.default in called
    assert len(graphs) == 1


def test_a_flop_counter_sees_what_was_executed():
    fast = skipping()
    images = torch.randn(3, 3, 8, 8)
    with FlopCounterMode(display=False) as counter:
        fast.operator(images)
    assert counter.get_total_flops() == 2 * int(fast.audit(images).macs.sum())


def test_its_answers_are_foretold():
    fast = skipping()
    torch.library.opcheck(
        torch.ops.ftwt.skip.default,
        ([torch.randn(2, 3, 8, 8)], fast.operator.number),
        test_utils=("test_schema", "test_faketensor"),
    )
