"""Saving and loading: values as JSON by a registry of types, models as safetensors.

Imports what stands above it: graph, gates, targets, losses, macs and gated. What stands below
registers itself here.
"""

from ftwt.io.registry import register
from ftwt.io.storage import Card, load, save

__all__ = ["Card", "load", "register", "save"]
