"""Stop requests: the first signal asks, the second ends the process."""

import signal
import subprocess
import sys
import threading

from autorecap.base.signals import stop_requests

ASKED_TWICE = """
import signal, sys
from autorecap.base.signals import stop_requests
asked = []
with stop_requests(lambda: asked.append(1), print, "work is saved first"):
    signal.raise_signal(signal.SIGTERM)
    print(len(asked), flush=True)
    if sys.argv[1:]:
        signal.raise_signal(signal.SIGTERM)
print("done")
"""


def test_the_first_signal_asks_and_the_second_ends_the_process() -> None:
    said = "SIGTERM: work is saved first; once more to stop at once\n1\n"
    for arguments, code, text in (([], 0, said + "done\n"), (["again"], -signal.SIGTERM, said)):
        child = subprocess.run([sys.executable, "-c", ASKED_TWICE, *arguments], capture_output=True, text=True)
        assert (child.returncode, child.stdout) == (code, text), child.stderr


def test_handlers_are_as_before_afterwards_and_left_alone_outside_the_main_thread() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    inside: list[object] = []

    def elsewhere() -> None:
        with stop_requests(lambda: None, print, ""):
            inside.extend(signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert inside == before
    with stop_requests(lambda: None, print, ""):
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before
