"""Lists of numbers as text: `0-3, 7`."""

from collections.abc import Iterable

from logitstore.errors import SpecError


def compact(numbers: Iterable[int], *, most: int = 20) -> str:
    """Ascending integers as ranges, `0-3, 7, 9-12`; after `most` ranges the remaining numbers are counted."""
    ranges: list[list[int]] = []
    for number in sorted(set(numbers)):
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    texts = [str(a) if a == b else f"{a}-{b}" for a, b in ranges[:most]]
    rest = sum(b - a + 1 for a, b in ranges[most:])
    return ", ".join(texts) + (f" and {rest} more" if rest else "")


def parse(text: str) -> list[int]:
    """The numbers of `0,2-3`, ascending and without repetition. Raises `SpecError`."""
    numbers: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or (dash and int(last) < int(first)):
            raise SpecError(f"{text!r} is not a list of numbers such as 0,2-3")
        numbers.update(range(int(first), int(last or first) + 1))
    return sorted(numbers)
