"""The run-time type checker of the tests."""

from typing import Literal

from beartype import BeartypeConf, FrozenDict, beartype

# Bad values of these are the library's own to refuse, with a message that tests look at.
_CHECKED_BY_FTWT = (
    Literal["max", "mean", "l2"],
    Literal["max", "mean"],
    Literal["softmax", "layer", "none"],
    Literal["below", "reach"],
    Literal["decoupled", "joint"],
    Literal["masked", "dense", "teacher"],
    Literal["site", "filter"],
)

checked = beartype(
    conf=BeartypeConf(
        # An int is a float, as type checkers see it (PEP 484).
        is_pep484_tower=True,
        hint_overrides=FrozenDict(dict.fromkeys(_CHECKED_BY_FTWT, object)),
    )
)
