"""Synthesised sounds: ambient, speech-like and music-like ones, of endless variety and free of anybody's rights.

`synthesise(kind, seconds, rng)` draws everything that varies (pitch, pace, colour, resonances) from `rng`. Each sound
starts at once and pauses for less than a second, so that every second of it can be recognised. Needs numpy alone.
"""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from autorecap.demo.synthesis import (
    NYQUIST_HZ,
    SAMPLE_RATE_HZ,
    Signal,
    add_at,
    attack_decay,
    band_pass,
    fft_size,
    noise,
    phase_of,
    resonant_gain,
    times_s,
    wander,
)

Wave = NDArray[np.float32]

PEAK = 0.8  # of every synthesised sound


def synthesise(kind: str, seconds: float, rng: Generator) -> Wave:
    """Return a sound of one of `KINDS`, float32 at 32 kHz, peak 0.8. shape (round(seconds * 32000),)

    Raises ValueError for an unknown kind, or a length without samples.
    """
    if kind not in _SYNTHS:
        raise ValueError(f"no sound is called {kind!r}: choose one of {', '.join(KINDS)}")
    num_samples = round(seconds * SAMPLE_RATE_HZ)
    if num_samples < 1:
        raise ValueError(f"a sound of {seconds} s has no samples")
    return peak_normalise(_SYNTHS[kind](num_samples, rng)[:num_samples])


def peak_normalise(x: Signal, peak: float = PEAK) -> Wave:
    """Return the sound scaled to this peak, in float32. Silence stays silence."""
    return (x * (peak / max(float(np.abs(x).max()), 1e-9))).astype(np.float32)


def mix(foreground: Wave, background: Wave, background_db: float) -> Wave:
    """Return both at once, as long as the foreground. background_db: its loudness against the foreground's"""
    length = min(len(foreground), len(background))
    gain = 10 ** (background_db / 20) * loudness(foreground) / loudness(background)
    out = foreground.copy()
    out[:length] += gain * background[:length]
    return peak_normalise(out)


def follow(first: Wave, second: Wave, crossfade_s: float = 0.05) -> Wave:
    """Return one sound after the other, equally loud."""
    second = second * np.float32(loudness(first) / loudness(second))
    overlap = min(round(crossfade_s * SAMPLE_RATE_HZ), len(first), len(second))
    fade = np.linspace(0, 1, overlap, dtype=np.float32)
    seam = first[len(first) - overlap :] * (1 - fade) + second[:overlap] * fade
    return peak_normalise(np.concatenate([first[: len(first) - overlap], seam, second[overlap:]]))


def loudness(x: Wave) -> float:
    """Return the RMS of the loudest tenths of a second of a sound, so that pauses between barks do not count."""
    step = SAMPLE_RATE_HZ // 10
    if len(x) < 2 * step:
        return float(np.sqrt(np.mean(np.square(x)))) + 1e-9
    power = np.square(x[: len(x) // step * step]).reshape(-1, step).mean(axis=1)
    return float(np.sqrt(np.quantile(power, 0.9))) + 1e-9


# --- weather and water -------------------------------------------------------------------------------------------


def _rain(num_samples: int, rng: Generator) -> Signal:
    """A bright hiss, and drops that ring on what they hit."""
    hiss = noise(num_samples, rng, band_pass(rng.uniform(700, 1_800), rng.uniform(9_000, 14_000), 1))
    drops = np.zeros(num_samples)
    hits = rng.integers(0, num_samples, max(round(num_samples / SAMPLE_RATE_HZ * rng.uniform(60, 250)), 1))
    np.add.at(drops, hits, rng.exponential(1.0, len(hits)) * rng.choice([-1, 1], len(hits)))
    t = times_s(round(0.02 * SAMPLE_RATE_HZ))
    ring = np.sin(2 * np.pi * rng.uniform(1_500, 5_000) * t) * np.exp(-t / rng.uniform(0.001, 0.004))
    size = fft_size(num_samples + len(ring))
    drops = np.fft.irfft(np.fft.rfft(drops, size) * np.fft.rfft(ring, size), size)[:num_samples]
    return hiss * wander(num_samples, rng, 0.7, 0.8, 1.2) + rng.uniform(0.8, 2.5) * drops


def _wind(num_samples: int, rng: Generator) -> Signal:
    """A dark rush in gusts, and a whistle that rises with them."""
    gusts = wander(num_samples, rng, rng.uniform(0.4, 1.2), 0.25, 1.0)
    rush = noise(num_samples, rng, band_pass(60, rng.uniform(250, 450), 1.5))
    centre = rng.uniform(450, 850)
    whistle = noise(num_samples, rng, lambda hz: resonant_gain(hz, centre, 60) ** 2)
    return gusts * rush + rng.uniform(0.1, 0.35) * gusts**3 * whistle


def _waves(num_samples: int, rng: Generator) -> Signal:
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
    body = noise(num_samples, rng, lambda hz: band_pass(150, 1_200, 2)(hz) / np.sqrt(np.maximum(hz, 150)))
    foam = noise(num_samples, rng, band_pass(900, rng.uniform(3_500, 5_500), 1.2))
    return swell * body + 0.8 * swell**1.5 * foam


# --- machines ----------------------------------------------------------------------------------------------------


def _engine(num_samples: int, rng: Generator) -> Signal:
    """Firing pulses, a hum of harmonics under a muffler's resonance, and noise that beats with them."""
    hz = rng.uniform(24, 60) * wander(num_samples, rng, 0.8, 0.92, 1.08)
    phase = phase_of(hz)
    x = np.zeros(num_samples)
    resonance = rng.uniform(90, 260)
    for k in range(1, 22):
        level = resonant_gain(np.array(k * hz[0]), resonance, 220) / k**0.35 * rng.uniform(0.5, 1.2)
        x += level * np.sin(k * phase + rng.uniform(0, 2 * np.pi))
    beat = 0.5 + 0.5 * np.cos(phase)
    return x + rng.uniform(0.4, 0.9) * beat**3 * noise(num_samples, rng, band_pass(150, rng.uniform(1_200, 2_500), 1))


def _siren(num_samples: int, rng: Generator) -> Signal:
    """A loud tone that wails up and down, yelps, or alternates between two pitches."""
    low, high = rng.uniform(450, 700), rng.uniform(1_000, 1_500)
    period = {"wail": rng.uniform(2, 4.5), "yelp": rng.uniform(0.25, 0.5), "two": rng.uniform(0.8, 1.2)}
    style = str(rng.choice(list(period)))
    cycle = (times_s(num_samples) / period[style] + rng.uniform(0, 1)) % 1
    if style == "two":
        bend = np.clip((0.25 - np.abs(cycle - 0.5)) * 60, 0, 1)
        high = low * rng.uniform(1.25, 1.45)
    else:
        bend = 0.5 - 0.5 * np.cos(2 * np.pi * cycle)
    phase = phase_of(low + (high - low) * bend)
    return sum(rng.uniform(0.6, 1.0) / k * np.sin(k * phase) for k in range(1, 6)) + np.zeros(num_samples)


def _clock(num_samples: int, rng: Generator) -> Signal:
    """Tick and tock: two short, dry clicks at an even pace."""
    out = 0.002 * noise(num_samples, rng, band_pass(100, 3_000, 1))
    t = times_s(round(0.05 * SAMPLE_RATE_HZ))
    centre = rng.uniform(2_200, 4_500)
    clicks = []
    for ratio in (1.0, rng.uniform(0.75, 0.92)):
        tone = np.sin(2 * np.pi * centre * ratio * t) + 0.6 * np.sin(2 * np.pi * centre * ratio * 1.73 * t)
        clicks.append((tone + 0.5 * rng.standard_normal(len(t))) * np.exp(-t / rng.uniform(0.002, 0.006)))
    interval = rng.uniform(0.25, 0.6)
    for i, start in enumerate(np.arange(rng.uniform(0, interval), num_samples / SAMPLE_RATE_HZ, interval)):
        add_at(out, clicks[i % 2] * rng.uniform(0.85, 1.0), round(start * SAMPLE_RATE_HZ))
    return out


def _bell(num_samples: int, rng: Generator) -> Signal:
    """Strikes on a church bell: partials of a bell's ratios, the higher the sooner gone."""
    out = np.zeros(num_samples)
    prime = rng.uniform(280, 800)
    partials = [0.5, 1.0, 1.19, 1.5, 2.0, 2.53, 2.66, 3.01, 4.17, 5.43]
    levels = rng.uniform(0.3, 1.0, len(partials))
    ring_s = rng.uniform(1.5, 3.0)
    t = times_s(round(3.0 * SAMPLE_RATE_HZ))
    strike = np.zeros(len(t), dtype=np.float32)
    for ratio, level in zip(partials, levels, strict=True):
        hz = prime * ratio * rng.uniform(0.995, 1.005)
        strike += level * np.sin(2 * np.pi * np.float32(hz) * t) * np.exp(-t * np.float32(ratio**0.6 / ring_s * 1.6))
    clapper = np.exp(-t / 0.01) * rng.standard_normal(len(t))
    strike = (strike + 0.8 * clapper) * np.minimum((t[-1] - t) / 0.3, 1)
    interval = rng.uniform(0.9, 2.0)
    for start in np.arange(rng.uniform(0, 0.3), num_samples / SAMPLE_RATE_HZ, interval):
        add_at(out, strike * rng.uniform(0.8, 1.0), round(start * SAMPLE_RATE_HZ))
    return out


def _footsteps(num_samples: int, rng: Generator) -> Signal:
    """Heel thud and sole scrape, step after step."""
    out = 0.004 * noise(num_samples, rng, band_pass(80, 1_500, 1))
    heel_hz, scrape = rng.uniform(70, 150), rng.uniform(0.5, 1.2)
    band = band_pass(rng.uniform(500, 900), rng.uniform(2_000, 4_500), 1.5)
    interval = rng.uniform(0.42, 0.65)
    start = rng.uniform(0, 0.3)
    while start < num_samples / SAMPLE_RATE_HZ:
        length = round(rng.uniform(0.14, 0.2) * SAMPLE_RATE_HZ)
        t = times_s(length)
        thud = np.sin(2 * np.pi * heel_hz * t * (1 - t)) * np.exp(-t / 0.035)
        sole = noise(length, rng, band) * attack_decay(length, 0.02, 0.035)
        add_at(out, (thud * 1.6 + scrape * sole) * rng.uniform(0.7, 1.0), round(start * SAMPLE_RATE_HZ))
        start += interval * rng.uniform(0.92, 1.08)
    return out


# --- animals -----------------------------------------------------------------------------------------------------


def _birds(num_samples: int, rng: Generator) -> Signal:
    """Phrases of quick, bending whistles by two or three birds."""
    out = 0.003 * noise(num_samples, rng, band_pass(200, 4_000, 1))
    for _ in range(rng.integers(2, 4)):
        base, level = rng.uniform(2_500, 5_500), rng.uniform(0.5, 1.0)
        start = rng.uniform(0, 0.4)
        while start < num_samples / SAMPLE_RATE_HZ:
            length = round(rng.uniform(0.05, 0.16) * SAMPLE_RATE_HZ)
            bend, arch, pause = rng.uniform(-0.3, 0.3), rng.uniform(-0.15, 0.15), rng.uniform(0.03, 0.1)
            u = np.linspace(0, 1, length)
            chirp = np.sin(phase_of(base * rng.uniform(0.85, 1.15) * (1 + bend * u + arch * np.sin(np.pi * u))))
            chirp *= level * np.sin(np.pi * u) ** 0.7
            for _ in range(rng.integers(2, 6)):
                add_at(out, chirp * rng.uniform(0.8, 1.0), round(start * SAMPLE_RATE_HZ))
                start += length / SAMPLE_RATE_HZ + pause
            start += rng.uniform(0.1, 0.7)
    return out


def _dog(num_samples: int, rng: Generator) -> Signal:
    """Barks: a rough voice that drops in pitch, through an open mouth."""
    out = 0.002 * noise(num_samples, rng, band_pass(100, 2_000, 1))
    pitch, mouth = rng.uniform(200, 480), rng.uniform(700, 1_300)
    start = rng.uniform(0, 0.3)
    while start < num_samples / SAMPLE_RATE_HZ:
        length = round(rng.uniform(0.13, 0.24) * SAMPLE_RATE_HZ)
        u = np.linspace(0, 1, length)
        phase = phase_of(pitch * rng.uniform(0.92, 1.08) * (1 + 0.35 * np.sin(np.pi * u) - 0.45 * u))
        harmonics = np.arange(1, 14)
        levels = (resonant_gain(harmonics * pitch, mouth, 900) + 0.15) * rng.uniform(0.7, 1.2, len(harmonics))
        voice = (levels[:, None] * np.sin(harmonics[:, None] * phase)).sum(axis=0)
        breath = noise(length, rng, band_pass(400, 4_000, 1))
        envelope = np.minimum(u / 0.08, 1) * (1 - u) ** 1.3
        add_at(out, (voice + 0.8 * breath) * envelope * rng.uniform(0.7, 1.0), round(start * SAMPLE_RATE_HZ))
        start += length / SAMPLE_RATE_HZ + (rng.uniform(0.08, 0.25) if rng.random() < 0.5 else rng.uniform(0.3, 0.7))
    return out


def _crickets(num_samples: int, rng: Generator) -> Signal:
    """Chirps of a few pulses each, or one long trill, high and steady."""
    out = 0.02 * noise(num_samples, rng, band_pass(200, 6_000, 1))
    t = times_s(num_samples)
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


def _speech(num_samples: int, rng: Generator, pitch: float, tract: float) -> Signal:
    """Syllables of a voice: glottal pulses or hiss, through the formants of changing vowels, in phrases."""
    out = 0.003 * noise(num_samples, rng, band_pass(80, 3_000, 1))
    pace = rng.uniform(0.14, 0.21)
    start, left = rng.uniform(0, 0.15), int(rng.integers(4, 10))
    while start < num_samples / SAMPLE_RATE_HZ:
        if rng.random() < 0.45:
            hiss_s = rng.uniform(0.04, 0.09)
            length = round(hiss_s * SAMPLE_RATE_HZ)
            hiss = noise(length, rng, band_pass(rng.uniform(2_500, 4_500), rng.uniform(6_000, 9_000), 2))
            add_at(out, 0.25 * hiss * np.hanning(length), round(start * SAMPLE_RATE_HZ))
            start += hiss_s * 0.8
        voiced_s = pace * rng.uniform(0.7, 1.5)
        add_at(out, _syllable(round(voiced_s * SAMPLE_RATE_HZ), rng, pitch, tract, left), round(start * SAMPLE_RATE_HZ))
        start += voiced_s * 0.9
        left -= 1
        if left <= 0:
            start, left = start + rng.uniform(0.15, 0.45), int(rng.integers(4, 10))
    return out


def _syllable(num_samples: int, rng: Generator, pitch: float, tract: float, left: int) -> Signal:
    u = np.linspace(0, 1, num_samples)
    hz = pitch * (0.9 + 0.03 * left + rng.uniform(-0.1, 0.15) + rng.uniform(-0.2, 0.2) * u)
    pulses = np.diff(np.floor(phase_of(hz) / (2 * np.pi)), prepend=0.0) + 0.02 * rng.standard_normal(num_samples)
    size = fft_size(num_samples)
    bins_hz = np.fft.rfftfreq(size, 1 / SAMPLE_RATE_HZ)
    spectrum = np.fft.rfft(pulses, size) / (1 + (bins_hz / 500) ** 1.2)

    def through(vowel: Signal) -> Signal:
        gain = sum(
            level * resonant_gain(bins_hz, formant * tract, 90 + 0.04 * formant) ** 2
            for formant, level in zip(vowel, (1.0, 0.8, 0.6), strict=True)
        )
        voice: Signal = np.fft.irfft(spectrum * gain, size)[:num_samples]
        return voice

    first, second = _VOWELS_HZ[rng.choice(len(_VOWELS_HZ), 2, replace=False)]
    x = through(first) * (1 - u) + through(second) * u
    syllable: Signal = x / (np.sqrt(np.mean(np.square(x))) + 1e-9) * np.sin(np.pi * u) ** 0.5 * rng.uniform(0.6, 1.0)
    return syllable


def _speech_man(num_samples: int, rng: Generator) -> Signal:
    return _speech(num_samples, rng, pitch=rng.uniform(85, 130), tract=rng.uniform(0.92, 1.0))


def _speech_woman(num_samples: int, rng: Generator) -> Signal:
    return _speech(num_samples, rng, pitch=rng.uniform(195, 270), tract=rng.uniform(1.1, 1.2))


_SCALES = ([0, 2, 4, 5, 7, 9, 11], [0, 2, 3, 5, 7, 8, 10], [0, 3, 5, 7, 10])  # major, minor, pentatonic; semitones
_TIMBRES = {  # levels of the harmonics, attack and decay in seconds
    "organ": ([1.0, 0.7, 0.5, 0.3, 0.2, 0.15], 0.03, 3.0),
    "plucked": ([1.0, 0.6, 0.4, 0.3, 0.15, 0.1], 0.004, 0.4),
    "strings": ([1.0, 0.5, 0.45, 0.3, 0.25, 0.2], 0.12, 3.0),
    "flute": ([1.0, 0.25, 0.08], 0.05, 3.0),
}


def _music(num_samples: int, rng: Generator) -> Signal:
    """A melody over chords in one key, on two timbres; half of the time with a beat."""
    out = np.zeros(num_samples)
    root_hz = 110 * 2 ** (rng.integers(0, 12) / 12)
    scale = np.array(_SCALES[rng.integers(len(_SCALES))])
    beat_s = rng.uniform(0.24, 0.5)
    lead, pad = rng.choice(list(_TIMBRES), 2)

    def degree_hz(degree: int) -> float:
        octave, step = divmod(degree, len(scale))
        hz: float = root_hz * 2 ** (octave + scale[step] / 12)  # stays numpy's: a float of Python's rounds otherwise
        return hz

    degree = int(rng.integers(5, 12))
    chord = 0
    has_beat = rng.random() < 0.5
    for i, start in enumerate(np.arange(0, num_samples / SAMPLE_RATE_HZ, beat_s)):
        at = round(start * SAMPLE_RATE_HZ)
        if i % 4 == 0:
            chord = int(rng.choice([0, 3, 4, 5]))
            for step in (0, 2, 4):
                add_at(out, 0.3 * _note(degree_hz(chord + step), 4 * beat_s, str(pad)), at)
        if rng.random() < 0.85:
            degree = int(np.clip(degree + rng.integers(-3, 4), 4, 15))
            add_at(out, 0.7 * _note(degree_hz(degree), beat_s * rng.choice([1, 1, 2]), str(lead)), at)
        if has_beat:
            t = times_s(round(0.12 * SAMPLE_RATE_HZ))
            drum = np.sin(2 * np.pi * 60 * t) if i % 2 == 0 else 0.3 * rng.standard_normal(len(t))
            add_at(out, 0.7 * drum * np.exp(-t / 0.04), at)
    return out


def _note(hz: float, seconds: float, timbre: str) -> Signal:
    levels, attack_s, decay_s = _TIMBRES[timbre]
    t = times_s(round(seconds * SAMPLE_RATE_HZ))
    vibrato = 0.004 * np.sin(2 * np.pi * 5.5 * t) if timbre in ("strings", "flute") else 0.0
    phase = (2 * np.pi * hz * t + hz * vibrato / 5.5).astype(np.float32)
    x = sum(level * np.sin(np.float32(k) * phase) for k, level in enumerate(levels, start=1) if k * hz < NYQUIST_HZ)
    note: Signal = x * attack_decay(len(t), attack_s, decay_s) * np.minimum((t[-1] - t) / 0.03, 1)
    return note


_SYNTHS: dict[str, Callable[[int, Generator], Signal]] = {
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
