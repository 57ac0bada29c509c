"""Measurements whose records are committed, and the pages made from them."""
