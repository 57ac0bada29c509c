"""What people read: measurements, timings, the paper's items, plots and pages.

It may import every other package, and none imports it.
"""
