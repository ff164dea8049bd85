"""Collects the digits a caller types into entries. Pure: it is told when each came, and asked when none is to come."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Entry:
    """What ends an entry: a key, a number of digits, or a pause."""

    max_digits: int
    terminator: str
    """Key that ends it and does not belong to it; empty is none."""
    inter_digit_s: float


class Collector:
    """One entry in the making."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._digits = ""
        self.terminator = entry.terminator
        self.pause_s = entry.inter_digit_s
        """How long to wait for the next digit, in seconds."""

    @property
    def begun(self) -> bool:
        """Whether a digit is waiting for more."""
        return bool(self._digits)

    def press(self, digit: str) -> str | None:
        """Takes a digit and returns the entry when it is complete, else None."""
        if digit != self._entry.terminator:
            self._digits += digit
            if len(self._digits) < self._entry.max_digits:
                return None
        return self.take()

    def take(self) -> str:
        """Returns what there is, complete or not, and begins anew."""
        digits, self._digits = self._digits, ""
        return digits
