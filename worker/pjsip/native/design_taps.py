"""Designs the low-pass filter of the audio port's resampler and prints it as the C header taps.h.

    .venv/bin/python worker/pjsip/native/design_taps.py > worker/pjsip/native/taps.h

Takes no part in the build, which uses the checked-in header and so needs no scipy.
"""

import sys

import numpy as np
import numpy.typing as npt
from scipy import signal

TAPS = 96
"""32 for each of the three phases of 8 -> 24 kHz: 2 ms of delay at 8 kHz, 1 ms at 16 kHz."""

CUTOFF = 4000 / 24000
"""Half the lower rate as a fraction of the filter's rate. The pass band ends at 3.3 kHz (6.6 kHz of wide-band speech),
what could fold back below that is stopped."""

KAISER_BETA = 8.5
"""Widest pass band that keeps 85 dB of stop band. Unlike an equal-ripple design it is far better in mid-band: 114 dB at
1 kHz, below what 16 bits can hold."""

UNIT = 2**24
"""Taps are multiples of 1 / UNIT: a float holds them exactly, and no version of scipy rounds them differently."""

HEADER = """\
/* Taps of the resampler's low-pass filter in units of 2^-24, symmetric about tap 48, so that it delays by exactly
 * 48 samples of its own rate. Made by design_taps.py; do not edit.
 */
#define TAPS {count}

static const int32_t TAPS_24[TAPS] = {{
{rows}
}};
"""


def design() -> npt.NDArray[np.int64]:
    """Taps in units of 1 / UNIT, gain 1 at 0 Hz.

    An odd number of taps behind a zero: the delay is then a whole number of samples at every rate used.
    """
    taps: npt.NDArray[np.float64] = signal.firwin(TAPS - 1, CUTOFF, window=("kaiser", KAISER_BETA), fs=1)
    scaled: npt.NDArray[np.int64] = np.rint(np.concatenate(([0.0], taps)) * UNIT).astype(np.int64)
    return scaled


def render(taps: npt.NDArray[np.int64]) -> str:
    """The text of taps.h."""
    rows = [", ".join(f"{tap:8d}" for tap in row) for row in taps.reshape(-1, 8)]
    return HEADER.format(count=len(taps), rows=",\n".join(f"    {row}" for row in rows))


if __name__ == "__main__":
    sys.stdout.write(render(design()))
