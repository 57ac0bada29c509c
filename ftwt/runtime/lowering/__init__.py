"""Lowering: from a traced graph with gates to a program of steps."""

from ftwt.runtime.lowering.narrowing import narrowed
from ftwt.runtime.lowering.walk import lower

__all__ = ["lower", "narrowed"]
