"""A run's folder in an object store, as a folder of the machine that writes it.

Logs, samples and the page are files that grow: they are written here and sent there, now and then and in the end.
Checkpoints need no mirror, they are written there. Whoever goes on with the run elsewhere finds its logs again.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from autorecap.base.errors import ForeseenError
from autorecap.base.files import explanation
from autorecap.training.checkpoint.tensor_files import Folder

EVERY_S = 60.0
CHECKPOINTS = "checkpoints"


class Mirror:
    """A local folder and its copy under a URL."""

    def __init__(self, url: str, folder: Path) -> None:
        self.place, self.folder = Folder(url.rstrip("/")), folder
        self._sent: dict[str, tuple[int, int]] = {}

    def pull(self) -> None:
        """What is there, but the checkpoints."""
        for path in self.place.fs.find(self.place.root):
            name = path[len(self.place.root) + 1 :]
            if name and ".." not in name.split("/") and not name.startswith(f"{CHECKPOINTS}/"):
                local = self.folder / name
                local.parent.mkdir(parents=True, exist_ok=True)
                local.write_bytes(self.place.fs.cat_file(path))
                self._sent[name] = _state(local)

    def push(self) -> None:
        """What has changed since it was sent."""
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
    """Fetch the folder, keep sending what changes, and send the rest in the end. A failure on the way is only said."""
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
            except Exception as error:  # of botocore, too, which knows no OSError
                say(f"{url}: logs could not be sent now and will be later: {explanation(url, error)}")

    thread = threading.Thread(target=send, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        done.set()
        thread.join()
        with suppress(Exception):  # what ended the run is said, not this
            mirror.push()
        raise
    done.set()
    thread.join()
    mirror.push()


def _state(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size
