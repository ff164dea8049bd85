"""How the cyclic garbage collector runs in processes that must not pause.

It frees nothing itself: reference counting does, and the collector looks for what that cannot see.
"""

import gc

FULL_COLLECTION_EVERY = 10_000
"""Collections of the middle generation for each full one, instead of 10. A full one visits every live object: with the
transactions of 500 calls a second that takes 100 to 200 ms, in which no INVITE and no audio moves, to find next to
nothing. So rare, there is one in a quarter of an hour at that rate and one in hours at a usual one."""


def settle() -> None:
    """Called once everything is loaded: what is there now is never visited again, and full collections become rare."""
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, FULL_COLLECTION_EVERY)
