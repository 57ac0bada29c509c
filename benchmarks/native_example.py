"""The example in C beside Python: class and MACs of single images, for docs/c-program.md.

    python -m benchmarks.native_example

A gated network and one that escalates from it are exported, and the example that is exported with
them is compiled with the library of this installation.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import torch
from torch import Tensor, nn

import ftwt
from benchmarks import native_c, pages
from ftwt import runtime, tables
from ftwt.data import shapes
from ftwt.export.native.folder import NETWORK
from ftwt.reports.timing.subjects import plain_network
from ftwt.runtime.native import binding

PAGE, PART = pages.DOCS / "c-program.md", "example"
_NETWORK = "resnet20"
_IMAGES = 3


def main() -> None:
    """Write the part of the page."""
    pixels = shapes.render_shapes(_IMAGES, 0, size=32).pixels
    gated, _ = native_c.gated_network(_NETWORK)
    std, mean = torch.std_mean(pixels / 255, (0, 2, 3))
    either = ftwt.escalate([gated, plain_network(gated)]).eval()
    images = (pixels / 255 - mean[:, None, None]) / std[:, None, None]
    (sureness,) = (one.sureness for one in either.trace(images).passes if one.sureness is not None)
    either = either.with_thresholds((sureness.median().item(),))
    card = ftwt.Card(None, 10, (), tuple(mean.tolist()), tuple(std.tolist()))
    rows = []
    for kind, model in (("gated", gated), ("escalating", either)):
        with tempfile.TemporaryDirectory() as name:
            said = _said(model, card, pixels, Path(name))
        fast = runtime.skip(model)
        for place, line in enumerate(said):
            image = images[place : place + 1]
            macs = fast.audit(image).macs.item()
            rows.append((kind, str(place), line, f"class {fast(image).argmax()}, {macs} MACs"))
    made = tables.of_text(("network", "image", "the example in C prints", "Python"), rows)
    PAGE.write_text(pages.with_part(PAGE.read_text(), PART, made.markdown()))


def _said(model: nn.Module, card: ftwt.Card, pixels: Tensor, scratch: Path) -> list[str]:
    """What the example prints of each image."""
    folder, library = scratch / "native", Path(binding.__file__).parent
    ftwt.export(model, folder, format="native", card=card)
    command = [
        os.environ.get("CC", "cc"), f"-I{folder / 'libftwt'}", str(folder / "example.c"),
        str(library / binding.NAME), f"-Wl,-rpath,{library}", "-o", str(scratch / "example"),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    lines = []
    for image in pixels:
        picture = scratch / "image.ppm"
        picture.write_bytes(b"P6\n32 32\n255\n" + image.permute(1, 2, 0).numpy().tobytes())
        run = [str(scratch / "example"), str(folder / NETWORK), str(picture)]
        lines.append(subprocess.run(run, check=True, capture_output=True, text=True).stdout.strip())
    return lines


if __name__ == "__main__":
    main()
