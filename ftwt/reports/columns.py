"""Columns that many tables have."""

from ftwt.tables import Column, percent

ACCURACY = Column("accuracy", "accuracy (%)", percent(2))
EXACT = Column("reduction_exact", "MAC reduction, exact (%)", percent(1))
PAPER = Column("reduction_paper", "MAC reduction, paper's count (%)", percent(1))
