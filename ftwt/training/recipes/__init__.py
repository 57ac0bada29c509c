"""Recipes: short functions that put parts together, by name."""

from ftwt.training.recipes.catalogue import CATALOGUE, Entry, recipe
from ftwt.training.recipes.recipe import Escalation, Overrides, Recipe
from ftwt.training.recipes.source import source

__all__ = ["CATALOGUE", "Entry", "Escalation", "Overrides", "Recipe", "recipe", "source"]
