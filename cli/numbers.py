"""Lists and spans of numbers, as options give them."""

import re


def numbers(text: str, option: str) -> tuple[float, ...]:
    """Read "0.8,0.85" as (0.8, 0.85).

    Raises:
        FtwtError: something between the commas is no number.
    """
    from ftwt.errors import FtwtError

    found = []
    for part in text.split(","):
        try:
            found.append(float(part))
        except ValueError:
            raise FtwtError(
                f"{option}: {part.strip()!r} in {text!r} is no number; give numbers with commas "
                "between, for example 0.8,0.85,0.9"
            ) from None
    return tuple(found)


def span(text: str, option: str) -> tuple[float, ...]:
    """Read "0.2:0.4:0.1" as (0.2, 0.3, 0.4), and a list with commas as `numbers` does.

    Raises:
        FtwtError: not first:last:step, or the span is empty.
    """
    from ftwt.errors import FtwtError

    between = re.fullmatch(r"\s*([\d.]+)\s*(?:-|to)\s*([\d.]+)\s*", text)
    if between is not None:
        raise FtwtError(
            f"{option}: {text!r} is no span; did you mean {between[1]}:{between[2]}:0.1, which is "
            "first:last:step?"
        )
    if ":" not in text:
        return numbers(text, option)
    wrong = FtwtError(
        f"{option}: {text!r} is no span; give first:last:step with a step above 0 and first no "
        "larger than last, for example 0.2:0.8:0.1"
    )
    parts = text.split(":")
    if len(parts) != 3:
        raise wrong
    first, last, step = (numbers(part, option)[0] for part in parts)
    # NaN is refused too.
    if not (step > 0 and first <= last):
        raise wrong
    count = int((last - first) / step + 1e-9) + 1
    return tuple(round(first + place * step, 10) for place in range(count))
