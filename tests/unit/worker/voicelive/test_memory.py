"""What a call remembers of what was said, where a connection is lost before the caller's words have become text."""

from worker.voicelive.memory import Memory, Role, ToolCall, Turn, Utterance


def caller(item_id: str, at: float, text: str = "", *, settled: bool = False) -> Utterance:
    return Utterance(Role.CALLER, item_id, at, text, settled)


def test_what_is_to_be_heard_anew_is_forgotten_with_its_turn() -> None:
    answered, answer = caller("a", 1.0, "Hello.", settled=True), Utterance(Role.AGENT, "b", 3.0, "Hi.", True)
    memory = Memory([answered, answer, caller("c", 5.0), caller("d", 8.0)], [Turn(2.0), Turn(6.0), Turn(9.0)])
    memory.forget_unheard()
    assert memory.entries == [answered, answer]
    assert memory.turns == [Turn(2.0)]


def test_what_has_become_text_or_was_answered_is_not_forgotten() -> None:
    answered = [caller("a", 1.0), Utterance(Role.AGENT, "b", 3.0, "Hi.")]
    understood = [caller("a", 1.0, "Hello.", settled=True)]
    for entries in (answered, understood, []):
        memory = Memory([*entries], [Turn(2.0)])
        memory.forget_unheard()
        assert (memory.entries, memory.turns) == (entries, [Turn(2.0)])


def test_a_tool_call_is_not_forgotten_with_what_was_said_before_it() -> None:
    call = ToolCall("call", "lookup", "{}", 6.0)
    memory = Memory([caller("a", 5.0), call])
    memory.forget_unheard()
    assert memory.entries == [call]
