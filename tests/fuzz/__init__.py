"""Random networks as people write them, and all that is promised of each of them.

`python -m tests.fuzz --count 10000 --seed 0 --jobs 2` draws networks and checks them; the smallest
one that fails is written as a script.
"""
