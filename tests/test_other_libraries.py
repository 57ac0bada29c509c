"""Networks of Hugging Face and of Lightning, by the classes of these libraries."""

import warnings

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import ftwt
from ftwt import losses, runtime, training
from ftwt.training.tasks import Classification

IMAGES = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(3))
LABELS = torch.arange(12) % 4
BATCHES = DataLoader(TensorDataset(IMAGES, LABELS), 6)
LOSS = losses.CrossEntropy() + losses.GateBCE()


def resnet(transformers):
    config = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic", num_labels=4
    )
    return transformers.ResNetForImageClassification(config)


def convnext(transformers):
    config = transformers.ConvNextConfig(
        hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, num_labels=4
    )
    return transformers.ConvNextForImageClassification(config)


@pytest.mark.parametrize("make", [resnet, convnext])
def test_hugging_face(make):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    plain = make(transformers).eval()
    every = ftwt.attach(plain, ftwt.Pruning(ftwt.gates.Fixed({})), example=IMAGES[:1]).eval()
    torch.testing.assert_close(every(IMAGES), plain(IMAGES))
    model = ftwt.attach(plain, ftwt.Pruning(), example=IMAGES[:1])
    before = {name: one.clone() for name, one in model.named_parameters()}
    task = Classification(logits="logits")
    settings = training.Settings(
        (training.Phase("all", 1),), training.AdamW(0.01), training.AdamW(0.01)
    )
    state = training.start(model, settings, len(BATCHES))
    training.fit(state, LOSS, settings, BATCHES, BATCHES, task=task)
    changed = {name for name, one in model.named_parameters() if not one.equal(before[name])}
    assert {name.partition(".")[0] for name in changed} == {
        name.partition(".")[0] for name in before
    }
    found = training.evaluate(model, BATCHES, task=task)
    fast = runtime.skip(model.eval())
    answer = fast(IMAGES)
    assert type(answer) is type(plain(IMAGES))
    torch.testing.assert_close(answer, model(IMAGES))
    assert found.accuracy == (answer.logits.argmax(1) == LABELS).float().mean()
    assert 0 < fast.audit(IMAGES).macs.min() < model.dense_macs


@pytest.mark.filterwarnings("ignore::")
def test_lightning():
    with warnings.catch_warnings():
        # Its own, of the libraries that it uses.
        warnings.simplefilter("ignore")
        lightning = pytest.importorskip("lightning")

    class Classifier(lightning.LightningModule):
        """As one writes it; the network inside is a gated one."""

        def __init__(self, network):
            super().__init__()
            self.network = network

        def forward(self, images):
            return self.network(images)

        def training_step(self, batch, _):
            images, labels = batch
            return LOSS(self.network.trace(images), labels)[0]

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip
    assert ftwt.attach(Classifier(plain), ftwt.Pruning(), example=IMAGES[:1]).sites == (
        "network.0", "network.2",
    )  # fmt: skip
    module = Classifier(ftwt.attach(plain, ftwt.Pruning(), example=IMAGES[:1]))
    before = {name: one.clone() for name, one in module.named_parameters()}
    trainer = lightning.Trainer(
        max_epochs=1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, BATCHES)
    assert not any(one.equal(before[name]) for name, one in module.named_parameters())
    found = training.evaluate(module.network, BATCHES)
    fast = runtime.skip(module.network.eval())(IMAGES)
    torch.testing.assert_close(fast, module(IMAGES))
    assert found.accuracy == (fast.argmax(1) == LABELS).float().mean()
