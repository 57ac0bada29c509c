"""The list of tables and figures; a new one is a file and a line here."""

import difflib
from typing import Any

from ftwt.errors import FtwtError
from ftwt.reports.paper import fig1, fig2, fig3, ood, static, table1, table2, table3
from ftwt.reports.paper.item import Item

# In the order of the page. Table 1 comes last: it lists the trainings of all others.
ITEMS: tuple[Item[Any], ...] = (
    fig2.ITEM,
    fig3.ITEM,
    table2.ITEM,
    table3.ITEM,
    static.ITEM,
    fig1.ITEM,
    ood.ITEM,
    table1.ITEM,
)


def items(name: str) -> tuple[Item[Any], ...]:
    """The items of a name: one, or all.

    Raises:
        FtwtError: no item of that name.
    """
    if name == "all":
        return ITEMS
    known = {item.name: item for item in ITEMS}
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise FtwtError(f"paper: no item {name!r}; {hint}known are {', '.join(known)} and all")
    return (known[name],)
