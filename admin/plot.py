"""A picture of one call: what the caller said and heard over one time axis, with the moments that matter.

It reads a WAV file and a timeline and writes a PNG; it judges nothing.
"""

import wave
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from admin.timeline import Moment, Source, Timeline

COLUMNS = 3000
"""Lowest and highest sample are drawn for this many slices: about two for each pixel of the picture's width."""

CALLER, POOL, PHONE_MARK, RECORD_MARK = "#2166ac", "#b2182b", "#333333", "#1b7837"

LABEL_ROW_IN = 0.21
"""Height of one row of labels in inches."""

WAVE_IN = 1.9
"""Height of one of the two waves in inches."""

_SHORT = {
    (Source.PHONE, "invite"): "INVITE",
    (Source.RECORD, "lease"): "lease",
    (Source.RECORD, "session_ready"): "session ready",
    (Source.PHONE, "answered"): "200 OK",
    (Source.PHONE, "greeting_first_packet"): "greeting heard",
    (Source.PHONE, "speech_start"): "caller speaks",
    (Source.PHONE, "speech_end"): "caller has spoken",
    (Source.RECORD, "speech_stopped"): "end of speech detected",
    (Source.PHONE, "answer_first_packet"): "answer heard",
    (Source.PHONE, "bye"): "BYE",
}


def draw(recording: Path, recording_start_ms: float, timeline: Timeline, title: str, picture: Path) -> None:
    """Writes the picture of a two-channel recording (left: said, right: heard) that began at `recording_start_ms`.

    `recording_start_ms` is Unix time; the picture's axis counts seconds from the INVITE.
    """
    rate, said, heard = _read(recording)
    start_s = (recording_start_ms - timeline.invite_ms) / 1000
    marks = [(m, _SHORT[m.source, m.name]) for m in timeline.moments if (m.source, m.name) in _SHORT]
    figure = Figure(figsize=(13, 6), layout=ConstrainedLayoutEngine(h_pad=0.02, hspace=0))
    FigureCanvasAgg(figure)  # without pyplot: it keeps global state and may look for a display
    grid = figure.add_gridspec(3, 1, hspace=0)
    lower = figure.add_subplot(grid[2])
    upper = figure.add_subplot(grid[1], sharex=lower)
    labels = figure.add_subplot(grid[0], sharex=lower)
    upper.tick_params(labelbottom=False)
    _wave(upper, said, rate, start_s, "caller says", CALLER)
    _wave(lower, heard, rate, start_s, "caller hears", POOL)
    lower.set_xlabel("seconds since the INVITE   (marks: black as the telephone saw them, green from the call record)")
    last_s = max([start_s + len(said) / rate, *(mark.at_ms / 1000 for mark, _ in marks)])
    lower.set_xlim(-0.01 * last_s, 1.01 * last_s)
    figure.suptitle(title, x=0.01, ha="left", fontsize=10)
    for axes in (upper, lower):
        for mark, _ in marks:
            axes.axvline(mark.at_ms / 1000, color=_colour(mark), linewidth=0.9, alpha=0.7)
    _label(figure, grid, labels, marks)
    figure.savefig(picture, dpi=110)


def _read(recording: Path) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
    with wave.open(str(recording)) as file:
        frames = np.frombuffer(file.readframes(file.getnframes()), dtype="<i2").reshape(-1, file.getnchannels())
        return file.getframerate(), frames[:, 0] / 32768, frames[:, -1] / 32768


def _wave(axes: Axes, signal: NDArray[np.float64], rate: int, start_s: float, title: str, colour: str) -> None:
    times, low, high = envelope(signal, rate)
    axes.fill_between(start_s + times, low, high, color=colour, linewidth=0.4)
    axes.set_ylim(-1, 1)
    axes.set_yticks([-0.5, 0, 0.5])
    axes.set_ylabel(title, color=colour)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def envelope(
    signal: NDArray[np.float64], rate: int, columns: int = COLUMNS
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Returns times in seconds, and lowest and highest sample of each of at most `columns` slices."""
    size = max(1, -(-len(signal) // columns))
    padded = np.pad(signal, (0, -len(signal) % size), mode="edge") if len(signal) else signal
    slices = padded.reshape(-1, size)
    return np.arange(len(slices)) * size / rate, slices.min(axis=1), slices.max(axis=1)


def _label(figure: Figure, grid: GridSpec, axes: Axes, marks: Sequence[tuple[Moment, str]]) -> None:
    """Writes the labels above the waves, each at its line, in as many rows as it takes for none to touch another."""
    axes.set_axis_off()
    axes.set_ylim(0, 1)
    texts = [
        axes.text(m.at_ms / 1000, 0, f" {name}  {m.at_ms:,.0f} ms", color=_colour(m), fontsize=8.5, va="center")
        for m, name in marks
    ]
    figure.canvas.draw()  # only now the texts have a size
    begins = [mark.at_ms / 1000 for mark, _ in marks]
    shares = [text.get_window_extent().width / axes.get_window_extent().width for text in texts]
    first_s, last_s = axes.get_xlim()
    # The axis goes on until the last label fits in as well.
    fitting = [(begin - share * first_s) / (1 - share) for begin, share in zip(begins, shares, strict=True)]
    last_s = max(last_s, *fitting)
    axes.set_xlim(first_s, last_s)
    ends = [begin + share * (last_s - first_s) for begin, share in zip(begins, shares, strict=True)]
    rows = label_rows(list(zip(begins, ends, strict=True)))
    count = 1 + max(rows)
    grid.set_height_ratios([count * LABEL_ROW_IN, WAVE_IN, WAVE_IN])
    figure.set_figheight(count * LABEL_ROW_IN + 2 * WAVE_IN + 1)
    for (mark, _), text, begin, row in zip(marks, texts, begins, rows, strict=True):
        height = 1 - (row + 0.5) / count
        text.set_y(height)
        axes.plot([begin, begin], [0, height], color=_colour(mark), linewidth=0.9, alpha=0.7)


def label_rows(spans: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the row from the top for each label, of which the left and right ends are given from left to right.

    A label begins at its line, which goes down from there. So the next label takes the highest row under which no
    earlier label is in the way of its line: near ones go down like stairs.
    """
    rows: list[int] = []
    ends: list[float] = []
    for left, right in spans:
        row = next((row for row in range(len(ends)) if all(end <= left for end in ends[row:])), len(ends))
        ends[row:] = [right, *ends[row + 1 :]]
        rows.append(row)
    return rows


def _colour(mark: Moment) -> str:
    return PHONE_MARK if mark.source is Source.PHONE else RECORD_MARK
