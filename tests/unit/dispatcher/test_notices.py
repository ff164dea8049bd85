"""Notices: the first of each kind and source, then counts."""

from dispatcher.notices import MAX_SOURCES, WINDOW_S, Notices


def test_the_first_is_logged_and_the_rest_of_its_second_is_counted() -> None:
    notices = Notices()
    assert [notices.first("sip.malformed", "192.0.2.1", 5.0) for _ in range(1000)] == [True] + [False] * 999
    assert list(notices.counts(5.0 + WINDOW_S)) == [("sip.malformed", "192.0.2.1", 999)]
    assert notices.first("sip.malformed", "192.0.2.1", 7.0)


def test_a_window_that_is_not_over_is_not_counted_yet() -> None:
    notices = Notices()
    notices.first("sip.malformed", "192.0.2.1", 5.0)
    notices.first("sip.malformed", "192.0.2.1", 5.1)
    assert list(notices.counts(5.9)) == []
    assert not notices.first("sip.malformed", "192.0.2.1", 5.9)


def test_kinds_and_sources_are_counted_apart() -> None:
    notices = Notices()
    assert notices.first("sip.malformed", "192.0.2.1", 5.0)
    assert notices.first("sip.malformed", "192.0.2.2", 5.0)
    assert notices.first("sip.source_refused", "192.0.2.1", 5.0)
    assert list(notices.counts(6.0)) == []


def test_a_flood_from_everywhere_is_one_line_more() -> None:
    notices = Notices()
    logged = sum(notices.first("sip.malformed", f"source {number}", 5.0) for number in range(MAX_SOURCES + 500))
    assert logged == MAX_SOURCES
    assert list(notices.counts(6.0)) == [("sip.notices", "", 500)]
