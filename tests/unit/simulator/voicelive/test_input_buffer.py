"""The caller's audio by audio time."""

from simulator.voicelive.audio import AudioFormat
from simulator.voicelive.input_buffer import IDLE_KEEP_MS, UTTERANCE_KEEP_MS, InputBuffer
from tests.unit.simulator.voicelive.driving import ULAW


def test_a_stretch_comes_back_byte_for_byte() -> None:
    buffer = InputBuffer(ULAW)
    data = bytes(range(256)) * 10
    for at in range(0, len(data), 160):
        buffer.append(data[at : at + 160], growing=False)
    assert buffer.between(16, 48).data == data[128:384]


def test_time_counts_all_audio_ever_appended() -> None:
    buffer = InputBuffer(AudioFormat("pcm16", 24000))
    for _ in range(3 * IDLE_KEEP_MS // 1000):
        buffer.append(bytes(48_000), growing=False)
    assert buffer.total_ms == 3 * IDLE_KEEP_MS


def test_what_is_skipped_counts_and_is_not_kept() -> None:
    buffer = InputBuffer(ULAW)
    buffer.skip(bytes(8000))
    assert (buffer.total_ms, buffer.between(0, 1000).data) == (1000, b"")


def test_what_is_kept_is_bounded() -> None:
    for growing, keep_ms in ((False, IDLE_KEEP_MS), (True, UTTERANCE_KEEP_MS)):
        buffer = InputBuffer(ULAW)
        for second in range(2 * keep_ms // 1000):
            buffer.append(bytes([second % 251]) * 8000, growing=growing)
        clip = buffer.between(0, buffer.total_ms)
        assert keep_ms <= clip.ms <= keep_ms + 2000
        assert clip.data[-1] == (2 * keep_ms // 1000 - 1) % 251


def test_what_fell_out_is_left_out_of_a_stretch() -> None:
    buffer = InputBuffer(ULAW)
    for _ in range(30):
        buffer.append(bytes(8000), growing=False)
    assert buffer.between(0, 1000).data == b""
