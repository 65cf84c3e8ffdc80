"""Synthesised sounds: ambient ones, speech-like and music-like ones, of endless variety and without any licence.

`synthesise(kind, seconds, rng)` draws everything that varies (pitch, pace, colour, resonances) from `rng`. Each sound
starts at once and pauses for less than a second, so that every second of it can be recognised. numpy alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Wave = NDArray[np.float32]

SAMPLE_RATE_HZ = 32_000
NYQUIST_HZ = SAMPLE_RATE_HZ / 2
PEAK = 0.8  # of every synthesised sound


def synthesise(kind: str, seconds: float, rng: Generator) -> Wave:
    """A sound of one of `KINDS`, float32 at 32 kHz, peak 0.8. shape (round(seconds * 32000),)"""
    if kind not in _SYNTHS:
        raise ValueError(f"no sound is called {kind!r}: choose one of {', '.join(KINDS)}")
    num_samples = round(seconds * SAMPLE_RATE_HZ)
    if num_samples < 1:
        raise ValueError(f"a sound of {seconds} s has no samples")
    return peak_normalise(_SYNTHS[kind](num_samples, rng)[:num_samples])


def peak_normalise(x: NDArray, peak: float = PEAK) -> Wave:
    """The sound with this peak, in float32. Silence stays silence."""
    return (x * (peak / max(float(np.abs(x).max()), 1e-9))).astype(np.float32)


def mix(foreground: Wave, background: Wave, background_db: float) -> Wave:
    """Both at once, the background's loudness `background_db` against the foreground's. As long as the foreground."""
    length = min(len(foreground), len(background))
    gain = 10 ** (background_db / 20) * loudness(foreground) / loudness(background)
    out = foreground.copy()
    out[:length] += gain * background[:length]
    return peak_normalise(out)


def follow(first: Wave, second: Wave, crossfade_s: float = 0.05) -> Wave:
    """One after the other, equally loud."""
    second = second * np.float32(loudness(first) / loudness(second))
    overlap = min(round(crossfade_s * SAMPLE_RATE_HZ), len(first), len(second))
    fade = np.linspace(0, 1, overlap, dtype=np.float32)
    seam = first[len(first) - overlap :] * (1 - fade) + second[:overlap] * fade
    return peak_normalise(np.concatenate([first[: len(first) - overlap], seam, second[overlap:]]))


def loudness(x: Wave) -> float:
    """RMS of a waveform over its loudest tenths of a second: a bark is as loud as it is while it lasts."""
    step = SAMPLE_RATE_HZ // 10
    if len(x) < 2 * step:
        return float(np.sqrt(np.mean(np.square(x)))) + 1e-9
    power = np.square(x[: len(x) // step * step]).reshape(-1, step).mean(axis=1)
    return float(np.sqrt(np.quantile(power, 0.9))) + 1e-9


# --- building blocks ---------------------------------------------------------------------------------------------


def _seconds(num_samples: int) -> NDArray:
    return np.arange(num_samples, dtype=np.float32) / np.float32(SAMPLE_RATE_HZ)


def _fft_size(num_samples: int) -> int:
    """The next size whose factors are small, as Fourier transforms like it."""
    power = 1 << max(num_samples - 1, 1).bit_length()
    return min(size for size in (power, power * 3 // 4, power * 5 // 8) if size >= num_samples)


def _noise(num_samples: int, rng: Generator, gain: Callable[[NDArray], NDArray]) -> NDArray:
    """Gaussian noise of unit RMS with the spectrum `gain(hz)`."""
    size = _fft_size(num_samples)
    hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    spectrum = rng.standard_normal(len(hz)) + 1j * rng.standard_normal(len(hz))
    x = np.fft.irfft(spectrum * gain(hz), size)[:num_samples]
    return x / (np.sqrt(np.mean(np.square(x))) + 1e-12)


def _band(low_hz: float, high_hz: float, order: float = 4) -> Callable[[NDArray], NDArray]:
    """A band-pass with Butterworth-like slopes."""

    def gain(hz: NDArray) -> NDArray:
        hz = np.maximum(hz, 1.0)
        return 1 / np.sqrt((1 + (low_hz / hz) ** (2 * order)) * (1 + (hz / high_hz) ** (2 * order)))

    return gain


def _resonance(hz: NDArray, centre_hz: float, width_hz: float) -> NDArray:
    return 1 / np.sqrt(1 + ((hz - centre_hz) / (width_hz / 2)) ** 2)


def _wander(num_samples: int, rng: Generator, points_per_s: float, low: float, high: float) -> NDArray:
    """A smooth random curve between `low` and `high`."""
    num_points = max(round(num_samples / SAMPLE_RATE_HZ * points_per_s), 1) + 3
    points = rng.uniform(low, high, num_points)
    at = rng.uniform(0, 1) + np.arange(num_samples) * (points_per_s / SAMPLE_RATE_HZ)
    i = at.astype(np.int64)
    blend = (1 - np.cos(np.pi * (at - i))) / 2
    return points[np.minimum(i, num_points - 1)] * (1 - blend) + points[np.minimum(i + 1, num_points - 1)] * blend


def _add(out: NDArray, sound: NDArray, start: int) -> None:
    """Add a short sound at a sample; what sticks out is cut."""
    if start >= len(out):
        return
    end = min(start + len(sound), len(out))
    out[start:end] += sound[: end - start]


def _attack_decay(num_samples: int, attack_s: float, decay_s: float) -> NDArray:
    t = _seconds(num_samples)
    return np.minimum(t / attack_s, 1) * np.exp(-np.maximum(t - attack_s, 0) / decay_s)


def _phase(hz: NDArray) -> NDArray:
    return 2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ


# --- weather and water -------------------------------------------------------------------------------------------


def _rain(num_samples: int, rng: Generator) -> NDArray:
    """A bright hiss, and drops that ring on what they hit."""
    hiss = _noise(num_samples, rng, _band(rng.uniform(700, 1_800), rng.uniform(9_000, 14_000), 1))
    drops = np.zeros(num_samples)
    hits = rng.integers(0, num_samples, max(round(num_samples / SAMPLE_RATE_HZ * rng.uniform(60, 250)), 1))
    np.add.at(drops, hits, rng.exponential(1.0, len(hits)) * rng.choice([-1, 1], len(hits)))
    t = _seconds(round(0.02 * SAMPLE_RATE_HZ))
    ring = np.sin(2 * np.pi * rng.uniform(1_500, 5_000) * t) * np.exp(-t / rng.uniform(0.001, 0.004))
    size = _fft_size(num_samples + len(ring))
    drops = np.fft.irfft(np.fft.rfft(drops, size) * np.fft.rfft(ring, size), size)[:num_samples]
    return hiss * _wander(num_samples, rng, 0.7, 0.8, 1.2) + rng.uniform(0.8, 2.5) * drops


def _wind(num_samples: int, rng: Generator) -> NDArray:
    """A dark rush in gusts, and a whistle that rises with them."""
    gusts = _wander(num_samples, rng, rng.uniform(0.4, 1.2), 0.25, 1.0)
    rush = _noise(num_samples, rng, _band(60, rng.uniform(250, 450), 1.5))
    centre = rng.uniform(450, 850)
    whistle = _noise(num_samples, rng, lambda hz: _resonance(hz, centre, 60) ** 2)
    return gusts * rush + rng.uniform(0.1, 0.35) * gusts**3 * whistle


def _waves(num_samples: int, rng: Generator) -> NDArray:
    """Swells: each rises, breaks into a hiss, and runs out."""
    t = np.arange(num_samples) / SAMPLE_RATE_HZ
    swell = np.full(num_samples, 0.12)
    period = rng.uniform(2.5, 5.0)
    start = -rng.uniform(0, 1) * period
    while start < num_samples / SAMPLE_RATE_HZ:
        into = (t - start) / period
        shape = np.where(into < 0.35, into / 0.35, np.exp(-(into - 0.35) * 3.2))
        swell += rng.uniform(0.7, 1.0) * np.where((into >= 0) & (into < 1.8), shape, 0)
        start += period * rng.uniform(0.85, 1.15)
    body = _noise(num_samples, rng, lambda hz: _band(150, 1_200, 2)(hz) / np.sqrt(np.maximum(hz, 150)))
    foam = _noise(num_samples, rng, _band(900, rng.uniform(3_500, 5_500), 1.2))
    return swell * body + 0.8 * swell**1.5 * foam


# --- machines ----------------------------------------------------------------------------------------------------


def _engine(num_samples: int, rng: Generator) -> NDArray:
    """Firing pulses, a hum of harmonics under a muffler's resonance, and noise that beats with them."""
    hz = rng.uniform(24, 60) * _wander(num_samples, rng, 0.8, 0.92, 1.08)
    phase = _phase(hz)
    x = np.zeros(num_samples)
    resonance = rng.uniform(90, 260)
    for k in range(1, 22):
        level = _resonance(np.array(k * hz[0]), resonance, 220) / k**0.35 * rng.uniform(0.5, 1.2)
        x += level * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    beat = 0.5 + 0.5 * np.cos(phase)
    return x + rng.uniform(0.4, 0.9) * beat**3 * _noise(num_samples, rng, _band(150, rng.uniform(1_200, 2_500), 1))


def _siren(num_samples: int, rng: Generator) -> NDArray:
    """A loud tone that wails up and down, yelps, or alternates between two pitches."""
    low, high = rng.uniform(450, 700), rng.uniform(1_000, 1_500)
    period = {"wail": rng.uniform(2, 4.5), "yelp": rng.uniform(0.25, 0.5), "two": rng.uniform(0.8, 1.2)}
    style = str(rng.choice(list(period)))
    cycle = (_seconds(num_samples) / period[style] + rng.uniform(0, 1)) % 1
    if style == "two":
        bend = np.clip((0.25 - np.abs(cycle - 0.5)) * 60, 0, 1)
        high = low * rng.uniform(1.25, 1.45)
    else:
        bend = 0.5 - 0.5 * np.cos(2 * np.pi * cycle)
    phase = _phase(low + (high - low) * bend)
    return sum(rng.uniform(0.6, 1.0) / k * np.sin(k * phase) for k in range(1, 6)) + np.zeros(num_samples)


def _clock(num_samples: int, rng: Generator) -> NDArray:
    """Tick and tock: two short, dry clicks at an even pace."""
    out = 0.002 * _noise(num_samples, rng, _band(100, 3_000, 1))
    t = _seconds(round(0.05 * SAMPLE_RATE_HZ))
    centre = rng.uniform(2_200, 4_500)
    clicks = []
    for ratio in (1.0, rng.uniform(0.75, 0.92)):
        tone = np.sin(2 * np.pi * centre * ratio * t) + 0.6 * np.sin(2 * np.pi * centre * ratio * 1.73 * t)
        clicks.append((tone + 0.5 * rng.standard_normal(len(t))) * np.exp(-t / rng.uniform(0.002, 0.006)))
    interval = rng.uniform(0.25, 0.6)
    for i, start in enumerate(np.arange(rng.uniform(0, interval), num_samples / SAMPLE_RATE_HZ, interval)):
        _add(out, clicks[i % 2] * rng.uniform(0.85, 1.0), round(start * SAMPLE_RATE_HZ))
    return out


def _bell(num_samples: int, rng: Generator) -> NDArray:
    """Strikes on a church bell: partials of a bell's ratios, the higher the sooner gone."""
    out = np.zeros(num_samples)
    prime = rng.uniform(280, 800)
    partials = [0.5, 1.0, 1.19, 1.5, 2.0, 2.53, 2.66, 3.01, 4.17, 5.43]
    levels = rng.uniform(0.3, 1.0, len(partials))
    ring_s = rng.uniform(1.5, 3.0)
    t = _seconds(round(3.0 * SAMPLE_RATE_HZ))
    strike = np.zeros(len(t), dtype=np.float32)
    for ratio, level in zip(partials, levels, strict=True):
        hz = prime * ratio * rng.uniform(0.995, 1.005)
        strike += level * np.sin(2 * np.pi * np.float32(hz) * t) * np.exp(-t * np.float32(ratio**0.6 / ring_s * 1.6))
    clapper = np.exp(-t / 0.01) * rng.standard_normal(len(t))
    strike = (strike + 0.8 * clapper) * np.minimum((t[-1] - t) / 0.3, 1)
    interval = rng.uniform(0.9, 2.0)
    for start in np.arange(rng.uniform(0, 0.3), num_samples / SAMPLE_RATE_HZ, interval):
        _add(out, strike * rng.uniform(0.8, 1.0), round(start * SAMPLE_RATE_HZ))
    return out


def _footsteps(num_samples: int, rng: Generator) -> NDArray:
    """Heel thud and sole scrape, step after step."""
    out = 0.004 * _noise(num_samples, rng, _band(80, 1_500, 1))
    heel_hz, scrape = rng.uniform(70, 150), rng.uniform(0.5, 1.2)
    band = _band(rng.uniform(500, 900), rng.uniform(2_000, 4_500), 1.5)
    interval = rng.uniform(0.42, 0.65)
    start = rng.uniform(0, 0.3)
    while start < num_samples / SAMPLE_RATE_HZ:
        length = round(rng.uniform(0.14, 0.2) * SAMPLE_RATE_HZ)
        t = _seconds(length)
        thud = np.sin(2 * np.pi * heel_hz * t * (1 - t)) * np.exp(-t / 0.035)
        sole = _noise(length, rng, band) * _attack_decay(length, 0.02, 0.035)
        _add(out, (thud * 1.6 + scrape * sole) * rng.uniform(0.7, 1.0), round(start * SAMPLE_RATE_HZ))
        start += interval * rng.uniform(0.92, 1.08)
    return out


# --- animals -----------------------------------------------------------------------------------------------------


def _birds(num_samples: int, rng: Generator) -> NDArray:
    """Phrases of quick, bending whistles by two or three birds."""
    out = 0.003 * _noise(num_samples, rng, _band(200, 4_000, 1))
    for _ in range(rng.integers(2, 4)):
        base, level = rng.uniform(2_500, 5_500), rng.uniform(0.5, 1.0)
        start = rng.uniform(0, 0.4)
        while start < num_samples / SAMPLE_RATE_HZ:
            length = round(rng.uniform(0.05, 0.16) * SAMPLE_RATE_HZ)
            bend, arch, pause = rng.uniform(-0.3, 0.3), rng.uniform(-0.15, 0.15), rng.uniform(0.03, 0.1)
            u = np.linspace(0, 1, length)
            chirp = np.sin(_phase(base * rng.uniform(0.85, 1.15) * (1 + bend * u + arch * np.sin(np.pi * u))))
            chirp *= level * np.sin(np.pi * u) ** 0.7
            for _ in range(rng.integers(2, 6)):
                _add(out, chirp * rng.uniform(0.8, 1.0), round(start * SAMPLE_RATE_HZ))
                start += length / SAMPLE_RATE_HZ + pause
            start += rng.uniform(0.1, 0.7)
    return out


def _dog(num_samples: int, rng: Generator) -> NDArray:
    """Barks: a rough voice that drops in pitch, through an open mouth."""
    out = 0.002 * _noise(num_samples, rng, _band(100, 2_000, 1))
    pitch, mouth = rng.uniform(200, 480), rng.uniform(700, 1_300)
    start = rng.uniform(0, 0.3)
    while start < num_samples / SAMPLE_RATE_HZ:
        length = round(rng.uniform(0.13, 0.24) * SAMPLE_RATE_HZ)
        u = np.linspace(0, 1, length)
        phase = _phase(pitch * rng.uniform(0.92, 1.08) * (1 + 0.35 * np.sin(np.pi * u) - 0.45 * u))
        harmonics = np.arange(1, 14)
        levels = (_resonance(harmonics * pitch, mouth, 900) + 0.15) * rng.uniform(0.7, 1.2, len(harmonics))
        voice = (levels[:, None] * np.sin(harmonics[:, None] * phase)).sum(axis=0)
        breath = _noise(length, rng, _band(400, 4_000, 1))
        envelope = np.minimum(u / 0.08, 1) * (1 - u) ** 1.3
        _add(out, (voice + 0.8 * breath) * envelope * rng.uniform(0.7, 1.0), round(start * SAMPLE_RATE_HZ))
        start += length / SAMPLE_RATE_HZ + (rng.uniform(0.08, 0.25) if rng.random() < 0.5 else rng.uniform(0.3, 0.7))
    return out


def _crickets(num_samples: int, rng: Generator) -> NDArray:
    """Chirps of a few pulses each, or one long trill, high and steady."""
    out = 0.02 * _noise(num_samples, rng, _band(200, 6_000, 1))
    t = _seconds(num_samples)
    for _ in range(rng.integers(2, 5)):
        hz, pulse_hz = rng.uniform(3_800, 5_600), rng.uniform(28, 60)
        pulses = np.clip(np.sin(2 * np.pi * pulse_hz * t + rng.uniform(0, 6)), 0, 1)
        if rng.random() < 0.65:
            pulses = pulses * ((t * rng.uniform(1.8, 4.0) + rng.uniform(0, 1)) % 1 < rng.uniform(0.35, 0.6))
        out += rng.uniform(0.3, 1.0) * pulses * np.sin(2 * np.pi * np.float32(hz) * t)
    return out


# --- speech and music: what the filter has to find ------------------------------------------------------------------

_VOWELS_HZ = np.array(  # first three formants, roughly: a e i o u and two between
    [[750, 1_200, 2_500], [530, 1_850, 2_500], [290, 2_250, 3_000], [500, 900, 2_450], [320, 850, 2_300],
     [620, 1_650, 2_450], [450, 1_300, 2_300]]
)  # fmt: skip


def _speech(num_samples: int, rng: Generator, pitch: float, tract: float) -> NDArray:
    """Syllables of a voice: glottal pulses or hiss, through the formants of changing vowels, in phrases."""
    out = 0.003 * _noise(num_samples, rng, _band(80, 3_000, 1))
    pace = rng.uniform(0.14, 0.21)
    start, left = rng.uniform(0, 0.15), int(rng.integers(4, 10))
    while start < num_samples / SAMPLE_RATE_HZ:
        if rng.random() < 0.45:
            hiss_s = rng.uniform(0.04, 0.09)
            length = round(hiss_s * SAMPLE_RATE_HZ)
            hiss = _noise(length, rng, _band(rng.uniform(2_500, 4_500), rng.uniform(6_000, 9_000), 2))
            _add(out, 0.25 * hiss * np.hanning(length), round(start * SAMPLE_RATE_HZ))
            start += hiss_s * 0.8
        voiced_s = pace * rng.uniform(0.7, 1.5)
        _add(out, _syllable(round(voiced_s * SAMPLE_RATE_HZ), rng, pitch, tract, left), round(start * SAMPLE_RATE_HZ))
        start += voiced_s * 0.9
        left -= 1
        if left <= 0:
            start, left = start + rng.uniform(0.15, 0.45), int(rng.integers(4, 10))
    return out


def _syllable(num_samples: int, rng: Generator, pitch: float, tract: float, left: int) -> NDArray:
    u = np.linspace(0, 1, num_samples)
    hz = pitch * (0.9 + 0.03 * left + rng.uniform(-0.1, 0.15) + rng.uniform(-0.2, 0.2) * u)
    pulses = np.diff(np.floor(_phase(hz) / (2 * np.pi)), prepend=0.0) + 0.02 * rng.standard_normal(num_samples)
    size = _fft_size(num_samples)
    bins_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(pulses, size) / (1 + (bins_hz / 500) ** 1.2)

    def through(vowel: NDArray) -> NDArray:
        gain = sum(
            level * _resonance(bins_hz, formant * tract, 90 + 0.04 * formant) ** 2
            for formant, level in zip(vowel, (1.0, 0.8, 0.6), strict=True)
        )
        return np.fft.irfft(spectrum * gain, size)[:num_samples]

    first, second = _VOWELS_HZ[rng.choice(len(_VOWELS_HZ), 2, replace=False)]
    x = through(first) * (1 - u) + through(second) * u
    return x / (np.sqrt(np.mean(np.square(x))) + 1e-9) * np.sin(np.pi * u) ** 0.5 * rng.uniform(0.6, 1.0)


def _speech_man(num_samples: int, rng: Generator) -> NDArray:
    return _speech(num_samples, rng, pitch=rng.uniform(85, 130), tract=rng.uniform(0.92, 1.0))


def _speech_woman(num_samples: int, rng: Generator) -> NDArray:
    return _speech(num_samples, rng, pitch=rng.uniform(195, 270), tract=rng.uniform(1.1, 1.2))


_SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 3, 5, 7, 10])  # major, minor, pentatonic; semitones
_TIMBRES = {  # levels of the harmonics, attack and decay in seconds
    "organ": ([1.0, 0.7, 0.5, 0.3, 0.2, 0.15], 0.03, 3.0),
    "plucked": ([1.0, 0.6, 0.4, 0.3, 0.15, 0.1], 0.004, 0.4),
    "strings": ([1.0, 0.5, 0.45, 0.3, 0.25, 0.2], 0.12, 3.0),
    "flute": ([1.0, 0.25, 0.08], 0.05, 3.0),
}


def _music(num_samples: int, rng: Generator) -> NDArray:
    """A melody over chords in one key, on two timbres; half of the time with a beat."""
    out = np.zeros(num_samples)
    root_hz = 110 * 2 ** (rng.integers(0, 12) / 12)
    scale = np.array(_SCALES[rng.integers(len(_SCALES))])
    beat_s = rng.uniform(0.24, 0.5)
    lead, pad = rng.choice(list(_TIMBRES), 2)

    def degree_hz(degree: int) -> float:
        octave, step = divmod(degree, len(scale))
        return root_hz * 2 ** (octave + scale[step] / 12)

    degree = int(rng.integers(5, 12))
    chord = 0
    has_beat = rng.random() < 0.5
    for i, start in enumerate(np.arange(0, num_samples / SAMPLE_RATE_HZ, beat_s)):
        at = round(start * SAMPLE_RATE_HZ)
        if i % 4 == 0:
            chord = int(rng.choice([0, 3, 4, 5]))
            for step in (0, 2, 4):
                _add(out, 0.3 * _note(degree_hz(chord + step), 4 * beat_s, str(pad)), at)
        if rng.random() < 0.85:
            degree = int(np.clip(degree + rng.integers(-3, 4), 4, 15))
            _add(out, 0.7 * _note(degree_hz(degree), beat_s * rng.choice([1, 1, 2]), str(lead)), at)
        if has_beat:
            t = _seconds(round(0.12 * SAMPLE_RATE_HZ))
            drum = np.sin(2 * np.pi * 60 * t) if i % 2 == 0 else 0.3 * rng.standard_normal(len(t))
            _add(out, 0.7 * drum * np.exp(-t / 0.04), at)
    return out


def _note(hz: float, seconds: float, timbre: str) -> NDArray:
    levels, attack_s, decay_s = _TIMBRES[timbre]
    t = _seconds(round(seconds * SAMPLE_RATE_HZ))
    vibrato = 0.004 * np.sin(2 * np.pi * 5.5 * t) if timbre in ("strings", "flute") else 0.0
    phase = (2 * np.pi * hz * t + hz * vibrato / 5.5).astype(np.float32)
    x = sum(level * np.sin(np.float32(k) * phase) for k, level in enumerate(levels, start=1) if k * hz < NYQUIST_HZ)
    return x * _attack_decay(len(t), attack_s, decay_s) * np.minimum((t[-1] - t) / 0.03, 1)


_SYNTHS: dict[str, Callable[[int, Generator], NDArray]] = {
    "rain": _rain,
    "wind": _wind,
    "waves": _waves,
    "engine": _engine,
    "siren": _siren,
    "clock": _clock,
    "bell": _bell,
    "footsteps": _footsteps,
    "birds": _birds,
    "dog": _dog,
    "crickets": _crickets,
    "speech_man": _speech_man,
    "speech_woman": _speech_woman,
    "music": _music,
}
KINDS = tuple(_SYNTHS)
SPEECH = ("speech_man", "speech_woman")
MUSIC = ("music",)
AMBIENT = tuple(kind for kind in KINDS if kind not in SPEECH + MUSIC)
