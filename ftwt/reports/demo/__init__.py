"""The whole method on embedded images, in minutes, with a page that shows the point of it.

A dense network, gates, and a narrow network that shares its budget over the images with the dense
one: which filters run for which image, milliseconds on this machine, and what is dynamic in truth.
"""

from ftwt.reports.demo.whole import RECIPE, Show, run_demo

__all__ = ["RECIPE", "Show", "run_demo"]
