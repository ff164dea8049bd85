"""Labels as one setting has them."""

import pytest

from shared.agents.labels import labels_in


def test_labels_are_pairs_with_commas_between() -> None:
    assert labels_in(" region = westeurope,pool=gold, ") == {"region": "westeurope", "pool": "gold"}
    assert labels_in("") == {}
    assert labels_in("a=b=c") == {"a": "b=c"}


@pytest.mark.parametrize(("text", "problem"), [("gold", "must be NAME=VALUE"), ("a=1,a=2", "has a name twice")])
def test_what_is_no_labels_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        labels_in(text)
