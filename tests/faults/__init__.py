"""Damaged and crafted files: how they come to be, and what reading them may do."""
