"""What a network would gain by fixed masks, by gates and by a budget for each image.

Nothing is trained: a few passes over some hundreds of images, and milliseconds on this machine.
"""

from ftwt.reports.advice.advise import advise
from ftwt.reports.advice.found import Advice, OracleSetting, Way

__all__ = ["Advice", "OracleSetting", "Way", "advise"]
