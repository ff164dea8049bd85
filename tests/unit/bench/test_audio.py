"""What is made of a call that went over a wire of known quality, in place of the pool."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from bench import audio, signals
from bench.audio import AudioQuality, Changes, Options, PathQuality, Resampling
from bench.audio_call import RATE, TELEPHONE_RATE, Heard, ProbeSignal, Track, read_trace, whole
from bench.load.clips import PCMU, decode
from bench.rig import RigError
from bench.signals import Signal

FRAME = 160
DELAY_NS = 7_000_000


@cache
def said() -> ProbeSignal:
    return ProbeSignal.make()


def coded() -> Signal:
    """The test signal after G.711."""
    return decode(said().g711, PCMU).astype(np.float64)


def track(samples: Signal, rate: int, late_ns: int = 0) -> Track:
    """Pieces of 20 ms, one every 20 ms."""
    begins = np.arange(0, len(samples), rate // 50)
    return Track(samples, rate, begins, late_ns + begins * (1_000_000_000 // rate))


def g711_call(received: Signal) -> Heard:
    """Both directions alike; three frames of silence come first for whoever listens."""
    early = np.zeros(3 * FRAME)
    sent = track(np.concatenate([early, coded()]), TELEPHONE_RATE)
    heard = track(np.concatenate([early, received]), TELEPHONE_RATE, DELAY_NS)
    return Heard(
        caller_sent=sent, caller_received=heard, model_sent=track(coded(), TELEPHONE_RATE), model_received=heard
    )


def any_pesq(rate: int, clean: Signal, heard: Signal, mode: str) -> float:
    assert (rate, len(clean), mode) == (8000, len(heard), "nb")
    return 4.0


def test_a_transparent_path_is_bit_exact_and_costs_what_g711_costs() -> None:
    call = g711_call(coded())

    up, down = audio.uplink(said(), call, any_pesq), audio.downlink(said(), call, any_pesq)

    only = audio.g711_only(said(), any_pesq)
    for path in (up, down):
        assert isinstance(path.compared, Changes)
        assert (path.slips, path.compared.changed) == (0, 0)
        assert path.compared.compared > 20 * TELEPHONE_RATE
        assert path.heard.sine_snr_db == pytest.approx(only.sine_snr_db, abs=0.01)
        assert path.heard.chirp_snr_db == pytest.approx(only.chirp_snr_db, abs=0.01)
    assert 36 < only.sine_snr_db < 39
    assert up.delay_ms == pytest.approx(7)
    assert down.delay_ms == pytest.approx(7 + 60)  # the model's first sample is the caller's fourth frame


def test_a_changed_sample_is_counted() -> None:
    received = coded()
    received[60_000] += 8

    path = audio.uplink(said(), g711_call(received), any_pesq)

    assert path.compared.as_json()["bit_exact"] is False
    assert path.compared.as_json()["bytes_changed"] == 1


def test_a_lost_frame_is_a_slip_that_costs_no_noise() -> None:
    at = said().chirp[0] // 3 + 10 * FRAME
    received = np.delete(coded(), slice(at, at + FRAME))

    path = audio.downlink(said(), g711_call(received), any_pesq)

    assert path.slips == 1
    assert path.heard.chirp_snr_db > 36
    assert isinstance(path.compared, Changes)
    assert 0 < path.compared.changed <= FRAME


def test_a_resampler_is_told_from_the_g711_beside_it() -> None:
    up = signals.delayed(signals.resample(coded(), TELEPHONE_RATE, RATE), 48)
    error = np.random.default_rng(3).normal(0, 1.0, len(said().samples))
    call = Heard(
        caller_sent=track(coded(), TELEPHONE_RATE),
        caller_received=track(coded(), TELEPHONE_RATE),
        model_sent=track(whole(said().samples).astype(np.float64), RATE),
        model_received=track(whole(up + error).astype(np.float64), RATE),
    )

    path = audio.uplink(said(), call, any_pesq)

    assert isinstance(path.compared, Resampling)
    assert path.compared.snr_db == pytest.approx(77.2, abs=1)
    assert 36 < path.heard.chirp_snr_db < 39


def test_silence_in_place_of_the_test_signal_is_an_error() -> None:
    with pytest.raises(RigError, match="not found"):
        audio.uplink(said(), g711_call(np.zeros(len(coded()))), any_pesq)


def test_the_trace_gives_one_session_and_its_first_answer(tmp_path: Path) -> None:
    file = tmp_path / "trace.log"
    file.write_text(
        '1 s1 in {"type": "session.update"}\n'
        '2 s1 in {"type": "input_audio_buffer.append", "audio": "AQI="}\n'
        '3 s2 in {"type": "input_audio_buffer.append", "audio": "AwQ="}\n'
        '4 s1 out {"type": "response.audio.delta", "response_id": "r1", "delta": "BQY="}\n'
        '5 s1 out {"type": "response.audio.delta", "response_id": "r2", "delta": "Bwg="}\n'
    )

    assert read_trace(file, "s1") == ([(2, b"\x01\x02")], [(4, b"\x05\x06")])
    with pytest.raises(RigError, match="0 of the model's"):
        read_trace(file, "s2")


def test_the_result_is_drawn_and_printed(tmp_path: Path) -> None:
    call = g711_call(coded())
    up = audio.uplink(said(), call, any_pesq)
    resampled: PathQuality = replace(up, compared=Resampling(88.0, None))
    paths = {"g711": {"uplink": up, "downlink": up}, "pcm16": {"uplink": resampled, "downlink": resampled}}
    result = AudioQuality(Options(), paths, audio.g711_only(said(), any_pesq))

    audio.draw(result, tmp_path / "audio.png")

    assert (tmp_path / "audio.png").read_bytes().startswith(b"\x89PNG")
    assert result.as_json()["g711"]["uplink"]["bit_exact"] is True
    assert result.as_json()["pcm16"]["downlink"]["resampler_snr_db"] == 88.0
    assert result.as_json()["g711_only"]["pesq"] == 4.0
