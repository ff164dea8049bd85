"""The native audio port between two Python owners: format, connections, ring policy, errors."""

from array import array

import pytest
from pjaudioport import AudioPort

from tests.unit.worker.pjsip.bridge import DOWN_RING_MS, Bridge, Encoding, noise, samples

BOTH_RATES = pytest.mark.parametrize("open_bridge", [8000, 16000], indirect=True)
SILENCE = {"pcm16": b"\0\0", "g711_ulaw": b"\xff", "g711_alaw": b"\xd5"}
UP_RING_MS = 2048


@BOTH_RATES
def test_pcm16_at_the_bridge_rate_passes_bit_for_bit(bridge: Bridge) -> None:
    audio = noise(2 * 10 * bridge.frame)
    assert bridge.carry(audio, bridge.port(), bridge.port()) == audio


@pytest.mark.parametrize("encoding", ["g711_ulaw", "g711_alaw"])
def test_g711_passes_bit_for_bit(bridge: Bridge, encoding: Encoding) -> None:
    audio = noise(10 * bridge.frame)
    assert bridge.carry(audio, bridge.port(encoding), bridge.port(encoding)) == audio


@pytest.mark.parametrize("encoding", ["pcm16", "g711_ulaw", "g711_alaw"])
def test_a_last_partial_frame_is_filled_with_silence(bridge: Bridge, encoding: Encoding) -> None:
    sample = len(SILENCE[encoding])
    audio = noise((bridge.frame + 50) * sample)
    heard = bridge.carry(audio, bridge.port(encoding), bridge.port(encoding))
    assert heard == audio + SILENCE[encoding] * (bridge.frame - 50)


def test_half_a_sample_stays_with_the_caller(bridge: Bridge) -> None:
    port = bridge.port()
    assert port.write(b"\1\2\3") == 2
    assert port.counters().queued == 1
    assert port.counters().downlink_rejected == 0


def test_any_contiguous_buffer_can_be_written(bridge: Bridge) -> None:
    port = bridge.port()
    for audio in (b"\1\2", bytearray(b"\1\2"), memoryview(b"\1\2"), array("h", [7])):
        assert port.write(audio) == 2
    with pytest.raises(BufferError):
        port.write(memoryview(b"\1\2\3\4")[::2])
    with pytest.raises(TypeError):
        port.write("audio")  # type: ignore[arg-type]


def test_read_takes_the_oldest_whole_samples(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    audio = noise(2 * bridge.frame)
    bridge.pair(speaker, listener)
    speaker.write(audio)
    bridge.tick()
    assert listener.read(max_bytes=11) == audio[:10]
    assert listener.read(0) == b""
    assert listener.read(-1) == audio[10:]
    assert listener.read() == b""


def test_nothing_is_captured_before_the_first_connection_and_silence_without_audio_afterwards(bridge: Bridge) -> None:
    listener, speaker = bridge.port("g711_ulaw"), bridge.port("g711_ulaw")
    bridge.tick(3)
    assert listener.counters().captured == 0
    listener.connect(speaker.slot)
    bridge.tick(2)
    speaker.close()
    bridge.tick(2)
    listener.disconnect()
    bridge.tick(2)
    assert listener.read() == SILENCE["g711_ulaw"] * 6 * bridge.frame


def test_playout_pauses_while_disconnected_and_goes_on_where_it_stopped(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    audio = noise(2 * 4 * bridge.frame)
    bridge.pair(speaker, listener)
    speaker.write(audio)
    speaker.finish()
    bridge.tick(2)
    speaker.disconnect()
    bridge.tick(5)
    assert speaker.counters().queued == 2 * bridge.frame
    listener.read()
    speaker.connect(listener.slot)
    bridge.tick(2)
    assert listener.read() == audio[2 * 2 * bridge.frame :]


def test_a_new_connection_replaces_the_one_before(bridge: Bridge) -> None:
    speaker, first, second = bridge.port(), bridge.port(), bridge.port()
    bridge.pair(speaker, first)
    bridge.tick()
    bridge.pair(speaker, second)
    bridge.tick()
    first.read(), second.read()
    audio = noise(2 * bridge.frame)
    speaker.write(audio)
    bridge.tick()
    assert second.read() == audio
    assert not samples(first.read()).any()


def test_connecting_again_to_the_same_slot_changes_nothing(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    for _ in range(3):
        bridge.pair(speaker, listener)
        bridge.tick()
    listener.read()
    audio = noise(2 * bridge.frame)
    speaker.write(audio)
    bridge.tick()
    assert listener.read() == audio


# Full rings


@pytest.mark.parametrize(("encoding", "rate"), [("pcm16", 8000), ("pcm16", 24000), ("g711_ulaw", 8000)])
def test_full_uplink_keeps_the_oldest_audio_and_counts_what_is_lost(
    bridge: Bridge, encoding: Encoding, rate: int
) -> None:
    listener, speaker = bridge.port(encoding, rate), bridge.port()
    bridge.pair(listener, speaker)
    kept_frames = UP_RING_MS // 20
    bridge.tick(kept_frames + 30)
    counters = listener.counters()
    assert counters.captured == (kept_frames + 30) * bridge.frame
    assert counters.uplink_dropped == 30 * bridge.frame
    assert counters.uplink_queued == kept_frames * bridge.frame
    assert len(listener.read()) == kept_frames * rate // 50 * len(SILENCE[encoding])
    bridge.tick()
    assert listener.counters().uplink_queued == bridge.frame


def test_uplink_drops_the_newest_not_the_oldest(bridge: Bridge) -> None:
    speaker, listener = bridge.port(), bridge.port()
    kept_frames = UP_RING_MS // 20
    audio = noise(2 * (kept_frames + 5) * bridge.frame)
    bridge.pair(speaker, listener)
    speaker.write(audio)
    bridge.tick(kept_frames + 5)
    assert listener.read() == audio[: 2 * kept_frames * bridge.frame]


@BOTH_RATES
@pytest.mark.parametrize("resampled", [False, True])
def test_full_downlink_accepts_less_and_counts_the_rest(bridge: Bridge, resampled: bool) -> None:
    rate = 24000 if resampled else bridge.rate
    port = bridge.port(rate=rate)
    capacity = DOWN_RING_MS * rate // 1000
    assert port.write(bytes(2 * (capacity + 3000))) // 2 - capacity in range(3)  # of the last output's inputs
    counters = port.counters()
    assert counters.queued == DOWN_RING_MS * bridge.rate // 1000
    assert counters.downlink_rejected in (3000 * bridge.rate // rate, 3000 * bridge.rate // rate - 1)


def test_finish_waits_for_room_for_what_the_resampler_holds(bridge: Bridge) -> None:
    speaker, listener = bridge.port(rate=24000), bridge.port()
    bridge.pair(speaker, listener)
    speaker.write(bytes(2 * 24000 * 20))
    assert not speaker.finish()
    bridge.tick()
    assert speaker.finish()


# Errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(bridge_rate=8000, encoding="opus", rate=8000), "encoding is 'opus'"),
        (dict(bridge_rate=48000, encoding="pcm16", rate=48000), "bridge_rate is 48000"),
        (dict(bridge_rate=0, encoding="pcm16", rate=8000), "bridge_rate is 0"),
        (dict(bridge_rate=8000, encoding="pcm16", rate=16000), "rate is 16000"),
        (dict(bridge_rate=8000, encoding="pcm16", rate=-1), "rate is -1"),
        (dict(bridge_rate=8000, encoding="g711_ulaw", rate=24000), "g711_ulaw needs"),
        (dict(bridge_rate=16000, encoding="g711_alaw", rate=16000), "g711_alaw needs"),
        (dict(bridge_rate=8000, encoding="pcm16", rate=8000, wake_ms=19), "wake_ms is 19"),
        (dict(bridge_rate=8000, encoding="pcm16", rate=8000, wake_ms=1001), "wake_ms is 1001"),
        (dict(bridge_rate=16000, encoding="pcm16", rate=16000), "the bridge runs at 8000 Hz"),
    ],
)
def test_impossible_formats_are_refused(bridge: Bridge, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AudioPort(**arguments)  # type: ignore[arg-type]


def test_arguments_are_required_and_named(bridge: Bridge) -> None:
    with pytest.raises(TypeError):
        AudioPort(bridge_rate=8000, encoding="pcm16")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        AudioPort(8000, "pcm16", 8000)  # type: ignore[call-arg]


def test_impossible_slots_are_refused(bridge: Bridge) -> None:
    port = bridge.port()
    for slot in (-1, port.slot, 1 << 40):
        with pytest.raises(ValueError, match="slot"):
            port.connect(slot)
    with pytest.raises(TypeError):
        port.connect("1")  # type: ignore[arg-type]


def test_an_unused_slot_is_refused_in_pjsips_own_words(bridge: Bridge) -> None:
    with pytest.raises(RuntimeError, match=r"slot 99: .*PJ_EINVAL"):
        bridge.port().connect(99)


def test_read_refuses_a_negative_number_of_bytes(bridge: Bridge) -> None:
    with pytest.raises(ValueError, match="max_bytes"):
        bridge.port().read(-2)


def test_a_full_bridge_refuses_the_next_port_in_pjsips_own_words(bridge: Bridge) -> None:
    with pytest.raises(RuntimeError, match="PJ_ETOOMANY"):
        for _ in range(200):
            bridge.port()
