"""Makes identifiers that look like Voice Live's own. Does not remember them or check that they are unique."""

import random
import string

_ALPHABET = string.ascii_letters + string.digits

# Recorded identifiers carry 20 to 22 characters after the prefix.
_LENGTH = 21


class Ids:
    """Random identifiers such as `item_E4BAsP00UV55RqqV8zSub`.

    A seeded generator gives tests the same identifiers on every run.
    """

    def __init__(self, rng: random.Random | None = None) -> None:
        self._rng = rng or random.Random()

    def new(self, prefix: str) -> str:
        """A fresh identifier, `<prefix>_` and 21 alphanumerics (prefixes: sess, event, item, msg, resp, conv, call)."""
        return f"{prefix}_{''.join(self._rng.choices(_ALPHABET, k=_LENGTH))}"
