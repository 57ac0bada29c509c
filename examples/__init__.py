"""Whole programs to start from; tests and docs run parts of them."""
