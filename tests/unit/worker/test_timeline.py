"""The marks of a call: in order, bounded, and counted beyond the bound."""

from worker.timeline import MARKS_MAX, Timeline


def test_marks_keep_their_order_and_their_first_time() -> None:
    timeline = Timeline()
    timeline.mark("invite", 1)
    timeline.mark("speech_stopped", 2)
    timeline.mark("speech_stopped", 3)
    assert timeline.marks == [("invite", 1), ("speech_stopped", 2), ("speech_stopped", 3)]
    assert (timeline.at("speech_stopped"), timeline.at("hangup")) == (2, None)


def test_a_long_calls_turns_are_counted_after_the_list_is_full() -> None:
    timeline = Timeline()
    for at_ms in range(MARKS_MAX + 20):
        timeline.mark("speech_stopped", at_ms)
    assert len(timeline.marks) == MARKS_MAX
    assert timeline.count("speech_stopped") == MARKS_MAX + 20
