"""Lists of block numbers as people read them."""

from collections.abc import Iterable


def compact(numbers: Iterable[int], *, most: int = 20) -> str:
    """Ascending integers as ranges, `0-3, 7, 9-12`; after `most` ranges the rest is counted."""
    runs: list[list[int]] = []
    for number in sorted(set(numbers)):
        if runs and runs[-1][1] == number - 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in runs[:most]]
    rest = sum(b - a + 1 for a, b in runs[most:])
    return ", ".join(texts) + (f" and {rest} more" if rest else "")
