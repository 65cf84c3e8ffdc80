"""autorecap builds datasets of captioned ambient sounds from online videos, and trains models on them.

The rooms of the project lie beside this folder in a checkout and inside it in an installation; either way they are
imported as `autorecap.<room>`.
"""

from pathlib import Path

_HERE = Path(__file__).parent
if not (_HERE / "base").is_dir():  # a copy of the checkout in which the links to the rooms were lost
    __path__.append(str(_HERE.parent))
