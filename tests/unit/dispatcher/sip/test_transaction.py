"""The four transactions, as ladders in time."""

import pytest

from dispatcher.sip.alarms import Alarms
from dispatcher.sip.transaction import (
    CLIENT,
    INVITE_CLIENT,
    INVITE_SERVER,
    SERVER,
    Do,
    Event,
    Machine,
    State,
    Timers,
    Transaction,
)

MACHINES = [INVITE_CLIENT, INVITE_SERVER, CLIENT, SERVER]


class Line(Transaction):
    """A transaction on an empty line: it notes when it sent what."""

    def __init__(self, machine: Machine, timers: Timers | None = None) -> None:
        self.clock = Alarms()
        super().__init__(machine, timers or Timers(), self.clock)
        self.now = 0.0
        self.sent: list[tuple[float, bytes]] = []
        self.todo: list[tuple[float, Do]] = []
        self.over = 0

    def transmit(self, data: bytes) -> None:
        self.sent.append((self.now, data))

    def ended(self) -> None:
        self.over += 1

    def fire(self, event: Event, now: float, message: bytes = b"") -> tuple[Do, ...]:
        todo = super().fire(event, now, message)
        self.todo += [(now, do) for do in todo if do in (Do.FAIL, Do.TELL, Do.ACK, Do.TRYING)]
        return todo

    def at(self, now: float, event: Event | None = None, message: bytes = b"") -> "Line":
        """Lets time pass until `now`, then lets `event` happen."""
        while (due := self.clock.next_at()) is not None and due <= now:
            self.now = due
            self.clock.run(due)
        self.now = now
        if event:
            self.fire(event, now, message)
        return self

    def times(self) -> list[float]:
        """Returns when something was sent."""
        return [at for at, _ in self.sent]


def client(machine: Machine, timers: Timers | None = None) -> Line:
    line = Line(machine, timers)
    line.start(0.0, b"request")
    return line


def server(machine: Machine, timers: Timers | None = None) -> Line:
    line = Line(machine, timers)
    line.start(0.0)
    return line


def test_an_invite_is_retransmitted_at_doubling_intervals_until_timer_b() -> None:
    line = client(INVITE_CLIENT).at(40.0)
    assert line.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert line.todo == [(32.0, Do.FAIL)]
    assert (line.state, line.over) == (State.TERMINATED, 1)


def test_a_provisional_response_stops_the_retransmission_of_an_invite_and_timer_b() -> None:
    line = client(INVITE_CLIENT).at(0.7, Event.PROVISIONAL).at(500.0)
    assert line.times() == [0.0, 0.5]
    assert line.state is State.PROCEEDING


def test_a_refused_invite_gets_an_ack_for_each_copy_of_the_refusal() -> None:
    line = client(INVITE_CLIENT).at(0.1, Event.FAILURE).at(0.6, Event.FAILURE).at(33.0)
    assert line.todo == [(0.1, Do.ACK), (0.1, Do.TELL), (0.6, Do.ACK)]
    assert line.over == 1


def test_every_2xx_to_an_invite_reaches_the_user_for_64_t1() -> None:
    line = client(INVITE_CLIENT).at(0.1, Event.SUCCESS).at(5.0, Event.SUCCESS).at(32.0)
    assert line.todo == [(0.1, Do.TELL), (5.0, Do.TELL)]
    assert line.state is State.ACCEPTED
    assert line.at(32.1).state is State.TERMINATED


def test_a_refusal_after_a_2xx_is_absorbed() -> None:
    line = client(INVITE_CLIENT).at(0.1, Event.SUCCESS).at(0.2, Event.FAILURE)
    assert line.todo == [(0.1, Do.TELL)]


def test_an_unreachable_destination_ends_an_invite_even_while_it_rings() -> None:
    assert client(INVITE_CLIENT).at(0.0, Event.UNREACHABLE).todo == [(0.0, Do.FAIL)]
    assert client(INVITE_CLIENT).at(0.0, Event.PROVISIONAL).at(3.0, Event.UNREACHABLE).todo[-1] == (3.0, Do.FAIL)


def test_a_100_is_due_150_ms_after_an_invite_unless_there_is_a_final_response() -> None:
    line = server(INVITE_SERVER).at(0.1, Event.REQUEST).at(0.2)
    line.at(0.3, Event.REQUEST)
    assert (line.times(), line.todo) == ([], [(0.15, Do.TRYING)])
    assert server(INVITE_SERVER).at(0.1, Event.FAILURE, b"503").at(0.4).todo == []


def test_an_ack_before_any_final_response_of_ours_is_for_another_replicas() -> None:
    line = server(INVITE_SERVER).at(0.1, Event.ACK)
    assert (line.todo, line.state) == ([(0.1, Do.TELL)], State.PROCEEDING)


def test_a_retransmitted_invite_gets_the_last_provisional_again() -> None:
    line = server(INVITE_SERVER).at(0.0, Event.PROVISIONAL, b"100").at(0.2, Event.PROVISIONAL, b"180")
    line.at(0.5, Event.REQUEST)
    assert line.sent == [(0.0, b"100"), (0.2, b"180"), (0.5, b"180")]


def test_a_refusal_is_repeated_until_the_ack() -> None:
    line = server(INVITE_SERVER).at(0.0, Event.FAILURE, b"486").at(4.0, Event.ACK).at(60.0)
    assert line.times() == [0.0, 0.5, 1.5, 3.5]
    assert line.over == 1


def test_a_refusal_without_ack_is_repeated_every_t2_until_timer_h() -> None:
    line = server(INVITE_SERVER).at(0.0, Event.FAILURE, b"486").at(60.0)
    assert line.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert line.over == 1


def test_after_the_ack_stray_copies_are_absorbed_for_t4() -> None:
    line = server(INVITE_SERVER).at(0.0, Event.FAILURE, b"486").at(0.1, Event.ACK)
    line.at(0.2, Event.ACK).at(0.3, Event.REQUEST).at(5.0)
    assert (line.times(), line.state) == ([0.0], State.CONFIRMED)
    assert line.at(5.2).state is State.TERMINATED


def test_a_2xx_is_not_repeated_here_but_every_copy_passes() -> None:
    line = server(INVITE_SERVER).at(0.0, Event.SUCCESS, b"200").at(0.4, Event.REQUEST).at(0.5, Event.SUCCESS, b"200")
    assert line.times() == [0.0, 0.5]
    assert line.at(31.9).state is State.ACCEPTED
    assert line.at(32.1).state is State.TERMINATED


def test_an_ack_for_a_2xx_with_the_branch_of_its_invite_is_handed_on() -> None:
    assert server(INVITE_SERVER).at(0.0, Event.SUCCESS, b"200").at(0.1, Event.ACK).todo == [(0.1, Do.TELL)]


def test_another_request_is_retransmitted_up_to_t2_until_timer_f() -> None:
    line = client(CLIENT).at(40.0)
    assert line.times() == [0.0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert line.todo == [(32.0, Do.FAIL)]


def test_after_a_provisional_it_is_retransmitted_every_t2_only() -> None:
    line = client(CLIENT).at(0.1, Event.PROVISIONAL).at(40.0)
    assert line.times() == [0.0, 0.5, 4.5, 8.5, 12.5, 16.5, 20.5, 24.5, 28.5]
    assert line.todo[-1] == (32.0, Do.FAIL)


def test_copies_of_a_final_response_are_absorbed_for_t4() -> None:
    line = client(CLIENT).at(0.1, Event.SUCCESS).at(0.6, Event.SUCCESS)
    assert line.todo == [(0.1, Do.TELL)]
    assert line.at(5.2).over == 1


def test_another_request_retransmitted_before_its_answer_is_absorbed() -> None:
    line = server(SERVER).at(0.5, Event.REQUEST).at(1.0, Event.SUCCESS, b"200").at(1.5, Event.REQUEST)
    assert line.sent == [(1.0, b"200"), (1.5, b"200")]
    assert line.at(33.1).over == 1


def test_nothing_is_sent_twice_over_a_reliable_transport() -> None:
    reliable = Timers(reliable=True)
    assert client(INVITE_CLIENT, reliable).at(40.0).times() == [0.0]
    assert client(CLIENT, reliable).at(40.0).times() == [0.0]
    assert server(INVITE_SERVER, reliable).at(0.0, Event.FAILURE, b"486").at(40.0).times() == [0.0]


def test_no_straggler_is_waited_for_over_a_reliable_transport() -> None:
    reliable = Timers(reliable=True)
    assert client(CLIENT, reliable).at(1.0, Event.SUCCESS).at(1.0).over == 1
    assert server(INVITE_SERVER, reliable).at(1.0, Event.FAILURE, b"486").at(1.1, Event.ACK).at(1.1).over == 1


def test_an_abandoned_invite_is_sent_no_more_but_still_heard() -> None:
    line = client(INVITE_CLIENT)
    line.stop_retransmitting()
    assert line.at(10.0, Event.SUCCESS).times() == [0.0]
    assert line.todo == [(10.0, Do.TELL)]


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_each_timer_is_listed_where_it_runs_and_nowhere_else(machine: Machine) -> None:
    running = {(state, timer) for state, timers in machine.timers.items() for timer in timers}
    listed = {(state, event) for state, event in machine.transitions if event.startswith("timer")}
    assert running == listed


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_every_state_is_reached_and_can_be_left(machine: Machine) -> None:
    reached = {machine.first} | {state for state, _ in machine.transitions.values()}
    left = {state for state, _ in machine.transitions}
    assert reached == left | {State.TERMINATED}


@pytest.mark.parametrize("machine", MACHINES, ids=lambda machine: machine.name)
def test_a_transaction_that_ended_has_no_timers_and_ends_once(machine: Machine) -> None:
    line = server(machine)
    line.terminate()
    line.terminate()
    for event in Event:
        line.fire(event, 0.0, b"x")
    assert (line.over, len(line.clock), line.clock.next_at()) == (1, 0, None)
