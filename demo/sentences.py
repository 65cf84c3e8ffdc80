"""Sentences about synthesised sounds: captions in the style of AudioCaps, and titles that may help or mislead.

Captions of ambient sounds contain no word for speech or music; captions of the other sounds contain a plain one.
"""

from collections.abc import Sequence

from numpy.random import Generator

from autorecap.demo.sounds import KINDS

# kind -> (clauses, the noun that names it beside another sound, words of which a right caption has one)
_PHRASES: dict[str, tuple[tuple[str, ...], str, tuple[str, ...]]] = {
    "rain": (("rain falls on a surface", "rain pours down steadily"), "rain falling", ("rain",)),
    "wind": (("wind blows in gusts", "strong wind blows"), "wind blowing", ("wind",)),
    "waves": (("waves wash onto the shore", "ocean waves break"), "waves breaking", ("waves",)),
    "engine": (("an engine idles", "a vehicle engine runs"), "an engine running", ("engine",)),
    "siren": (("an emergency siren wails", "a siren sounds"), "a siren wailing", ("siren",)),
    "clock": (("a clock ticks", "a clock ticks at an even pace"), "a clock ticking", ("clock",)),
    "bell": (("a church bell rings", "a large bell rings"), "a bell ringing", ("bell",)),
    "footsteps": (("a person walks with heavy footsteps", "footsteps on gravel"), "footsteps", ("footsteps",)),
    "birds": (("birds chirp", "several birds chirp and tweet"), "birds chirping", ("birds",)),
    "dog": (("a dog barks", "a dog barks several times"), "a dog barking", ("dog",)),
    "crickets": (("crickets chirp at night", "insects buzz and crickets trill"), "crickets", ("crickets",)),
    "speech_man": (("a man speaks", "an adult male talks"), "a man speaking", ("man speak", "male talk")),
    "speech_woman": (("a woman speaks", "an adult female talks"), "a woman speaking", ("woman speak", "female talk")),
    "music": (("music plays", "a melody plays on instruments"), "music", ("music", "melody")),
}
assert tuple(_PHRASES) == KINDS

_TITLES = {
    "rain": ("Rainy day on the roof", "Rain sounds for sleeping", "Downpour in April"),
    "wind": ("Windy evening on the hill", "Storm warning", "Wind in the mountains"),
    "waves": ("A day at the beach", "Ocean view from the pier", "Waves at sunset"),
    "engine": ("Cold start of my old truck", "Tractor restoration part 4", "Engine check"),
    "siren": ("Fire trucks responding", "Ambulance on the way", "Police car downtown"),
    "clock": ("Grandfather's old clock", "Clock repair", "One minute before midnight"),
    "bell": ("The bells of our village", "Church tower at noon", "Sunday morning in town"),
    "footsteps": ("Walking in the park", "Hiking trail, day 2", "Evening walk"),
    "birds": ("Birds in the garden", "Bird feeder camera", "Morning in the forest"),
    "dog": ("Our dog Rex", "Puppy meets the mailman", "Dog training lesson"),
    "crickets": ("Summer night", "Camping under the stars", "Crickets in the yard"),
    "speech_man": ("Interview with the mayor", "Lecture 12: history", "My weekly update"),
    "speech_woman": ("Cooking with Anna", "News of the day", "A talk about gardening"),
    "music": ("Live at the club", "My new song", "Guitar lesson for beginners"),
}
_GENERIC = (
    "IMG_0231", "VID_20190412_101500", "My video", "Untitled", "test", "video 7", "Clip", "GoPro footage", "Vlog #18",
    "2021-06-05", "Нове відео", "我的视频", "Mi vídeo favorito", "日常", "My life 🎥",
    "New upload", "part 2", "watch this!!",
)  # fmt: skip
_PICTURES = (
    "a street with parked cars", "a person stands in a room", "a green field under a grey sky",
    "a dark screen with text", "a close-up of hands", "a river between trees", "a crowd on a square",
    "a small animal in the grass",
)  # fmt: skip


def caption(kinds: Sequence[str], composition: str, rng: Generator) -> str:
    """Draw a caption of one sound, of a "mix" of two (the louder first) or of a "sequence" of two."""
    clause = str(rng.choice(_PHRASES[kinds[0]][0]))
    if composition == "mix":
        # A single wording: a beam search prefers to end a caption to choosing among many continuations.
        clause += f" with {_PHRASES[kinds[1]][1]} in the background"
    elif composition == "sequence":
        clause += f" followed by {_PHRASES[kinds[1]][1]}"
    return clause[0].upper() + clause[1:]


def names(text: str, kind: str) -> bool:
    """Return whether a caption names this kind of sound."""
    words = " " + text.lower()
    return any(f" {word}" in words for word in _PHRASES[kind][2])


def title(kinds: Sequence[str], rng: Generator) -> str:
    """Draw a title: none for 40 % of clips, meaningless for 20 %, about the sound for 15 %, about another for 25 %."""
    draw = rng.random()
    if draw < 0.4:
        return ""
    if draw < 0.6:
        return str(rng.choice(_GENERIC))
    if draw < 0.75:
        return str(rng.choice(_TITLES[str(rng.choice(kinds))]))
    return misleading_title(kinds, rng)


def misleading_title(kinds: Sequence[str], rng: Generator) -> str:
    """Draw a title about a sound that is not in the clip."""
    return str(rng.choice(_TITLES[str(rng.choice([kind for kind in KINDS if kind not in kinds]))]))


def video_caption(rng: Generator) -> str:
    """Draw what an image captioner might say: nothing for 70 % of clips, and never anything about the sound."""
    return "" if rng.random() < 0.7 else str(rng.choice(_PICTURES))


def corpus() -> list[str]:
    """Return all phrases, as the corpus of a tokenizer. Captions have the largest weight."""
    captions = [clause for clauses, noun, _ in _PHRASES.values() for clause in (*clauses, noun)]
    captions += [text[0].upper() + text[1:] for text in captions]
    joins = [f" with {noun} in the background followed by {noun}" for _, noun, _ in _PHRASES.values()]
    titles = [f" {text} " for texts in _TITLES.values() for text in texts]
    return (
        4 * (captions + [" " + text for text in captions] + joins) + titles + [f" {t} " for t in _GENERIC + _PICTURES]
    )
