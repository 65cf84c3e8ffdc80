"""Returns the clip that a run reads at each position of its endless order, and fetches what comes soon."""

from functools import partial

from autorecap.dataset.reading.clips import Clip, Clips
from autorecap.dataset.reading.manifest import Manifest
from autorecap.dataset.reading.order import Order
from autorecap.dataset.reading.shard_reader import Ahead

_LOOK_AHEAD_EVERY = 32  # positions
_SEEN_KEPT = 64  # windows known as fetched; some are fetched again after all, which costs a look into the cache


class Positions:
    """The clips of a run in the order in which it reads them, without end; what comes soon is fetched meanwhile."""

    def __init__(self, clips: "Clips | Manifest", seed: int, window: int) -> None:
        manifest = clips if isinstance(clips, Manifest) else Manifest([clips])
        self.sets, self.window = manifest.sets, window
        self.order = Order([each.shard_sizes for each in self.sets], manifest.shares, seed, window)
        self._ahead = Ahead()
        self._seen: set[tuple[int, ...]] = set()

    def __call__(self, position: int) -> Clip:
        if position % _LOOK_AHEAD_EVERY == 0:
            self._look_ahead(position)
        place = self.order(position)
        return self.sets[place.number][place.clip]

    def _look_ahead(self, position: int) -> None:
        for number, (now, after) in enumerate(self.order.windows(position)):
            for shards in (now, after):
                what = (number, *shards)
                if what not in self._seen:
                    self._seen.add(what)
                    for shard in shards:
                        self._ahead.add(partial(self.sets[number].prepare, shard, self.window))
        if len(self._seen) > _SEEN_KEPT:
            self._seen.clear()
