"""How the cyclic garbage collector runs in processes that must not pause.

It frees nothing itself: reference counting does, and the collector looks for what that cannot see.
"""

import gc

_FULL_COLLECTION_EVERY = 10_000
"""Collections of the middle generation for each full one, instead of 10."""


def settle() -> None:
    """Called once everything is loaded: what is there by now is never visited again."""
    gc.collect()
    gc.freeze()


def make_full_collections_rare() -> None:
    """For a process that keeps very many live objects and leaves no cycles: the dispatcher with its transactions.

    A full collection visits every live object. At 500 calls a second it would take 100 to 200 ms, in which no INVITE
    moves, to find next to nothing; made this rare, there is one in a quarter of an hour at that rate.
    """
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _FULL_COLLECTION_EVERY)
