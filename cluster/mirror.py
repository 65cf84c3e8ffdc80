"""Mirror of a run's remote folder: a local folder whose changes are sent to an object store.

Logs, samples and the report are files that grow: they are written locally, and sent every minute and at the end.
Checkpoints are left out, since they go to the store directly. A run resumed on another machine fetches its logs.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autorecap.base.errors import ForeseenError
from autorecap.base.files import explanation
from autorecap.base.folder import Folder
from autorecap.training.recipe import CHECKPOINTS

EVERY_S = 60.0


class Mirror:
    """A local folder, and its copy at a URL."""

    def __init__(self, url: str, folder: Path) -> None:
        self.place, self.folder = Folder(url.rstrip("/")), folder
        self._sent: dict[str, tuple[int, int]] = {}

    def pull(self) -> None:
        """Fetch all files but the checkpoints."""
        for path in self.place.fs.find(self.place.root):
            name = path[len(self.place.root) + 1 :]
            if name and ".." not in name.split("/") and not name.startswith(f"{CHECKPOINTS}/"):
                local = self.folder / name
                local.parent.mkdir(parents=True, exist_ok=True)
                local.write_bytes(self.place.fs.cat_file(path))
                self._sent[name] = _state(local)

    def push(self) -> None:
        """Send the files that have changed since they were last sent."""
        for local in sorted(path for path in self.folder.rglob("*") if path.is_file()):
            name = local.relative_to(self.folder).as_posix()
            if name.startswith((f"{CHECKPOINTS}/", ".")):
                continue
            state = _state(local)
            if self._sent.get(name) != state:
                self.place.fs.pipe_file(self.place.path(name), local.read_bytes())
                self._sent[name] = state


@contextmanager
def mirrored(url: str, folder: Path, say: Callable[[str], None], every_s: float = EVERY_S) -> Iterator[None]:
    """Fetch the folder; within, send changes every `every_s` seconds; at the end send the rest.

    A failure to send within is only said. Raises ForeseenError if the folder cannot be read.
    """
    done = threading.Event()
    try:
        mirror = Mirror(url, folder)
        mirror.pull()
    except Exception as error:
        raise ForeseenError(f"{url} cannot be read: {explanation(url, error)}") from error

    def send() -> None:
        while not done.wait(every_s):
            try:
                mirror.push()
            except Exception as error:  # botocore's errors are no OSErrors
                say(f"{url}: logs could not be sent now and will be later: {explanation(url, error)}")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        done.set()
        thread.join()
        with suppress(Exception):  # the error that ended the run is the one to report
            mirror.push()
        raise
    done.set()
    thread.join()
    mirror.push()


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
