"""The folder that is written: the network, the runtime's sources and an example."""

import shutil
import tempfile
from pathlib import Path

import torch
from torch import nn

from ftwt.errors import FtwtError
from ftwt.export.exported import Exported
from ftwt.export.exporting import NOT_FINITE, finite
from ftwt.export.native.opened import Opened
from ftwt.export.native.pack import packed
from ftwt.export.native.settings import example_of, settings_of, skipping_of
from ftwt.gated.escalation.model import Escalating
from ftwt.gated.model import Gated
from ftwt.io import Card
from ftwt.io.files import writing
from ftwt.runtime import native as runtime
from ftwt.runtime.escalating import SkippingEscalation
from ftwt.runtime.skipping import Skipping

NETWORK = "model.ftwt"
# The runtime's sources in the folder.
LIBRARY = "libftwt"
_BESIDE = ("CMakeLists.txt", "example.c")
_SOURCES = Path(runtime.__file__).parent / "src"
# Images that are compared, and how far answers may be apart, as a share of the largest.
_IMAGES = 4
_ROUNDING = 1e-4


def write_native(model: nn.Module, path: Path, card: Card | None = None) -> Exported:
    """Write the folder, and compare what the C runtime answers from it with what Python's does.

    Raises:
        FtwtError: a network that the format cannot hold, a full disk, or answers that differ.
    """
    skipping = skipping_of(model)
    settings = settings_of(skipping)
    assert isinstance(model, (Gated, Escalating))
    payload = packed(model, settings, card)
    with writing("export", path, "nothing was written: free space or give another path"):
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        try:
            (partial / NETWORK).write_bytes(payload)
            copy_sources(partial)
            check = _check(skipping, partial / NETWORK)
            # Temporary folders are private; this one is as readable as any other.
            partial.chmod(0o755)
            partial.rename(path)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    files = sorted(one for one in path.rglob("*") if one.is_file())
    sizes = {one.relative_to(path).as_posix(): one.stat().st_size for one in files}
    return Exported(path, "native", sizes, check)


def copy_sources(folder: Path) -> None:
    """Put the runtime's sources, the example and what builds them into a folder."""
    (folder / LIBRARY).mkdir()
    for source in (*_SOURCES.glob("*.c"), *_SOURCES.glob("*.h")):
        shutil.copyfile(source, folder / LIBRARY / source.name)
    for name in _BESIDE:
        shutil.copyfile(Path(__file__).parent / name, folder / name)


def _check(skipping: Skipping | SkippingEscalation, file: Path) -> str:
    """Compare the file's answers and MACs with the network's, on drawn images."""
    images = example_of(skipping, _IMAGES)
    opened = Opened(file, torch.get_num_threads())
    answers, macs = opened.run(images)
    expected = skipping(images).view_as(answers)
    if not finite([expected]):
        raise FtwtError(NOT_FINITE)
    audit = skipping.audit(images)
    apart = ((answers - expected).abs().max() / expected.abs().max().clamp_min(1e-30)).item()
    if not apart <= _ROUNDING or not torch.equal(macs, audit.macs):
        raise FtwtError(
            f"export: the written network answers otherwise than this one: outputs differ by "
            f"{apart:.1e} of the largest, MACs are {macs.tolist()} instead of "
            f"{audit.macs.tolist()}; this is a fault of ftwt, please report it"
        )
    return (
        f"libftwt answers as runtime.skip does on {_IMAGES} drawn images: outputs within "
        f"{apart:.1e} of the largest, the same MACs"
    )
