"""The device of a command: what `--device` may say, and the GPU where there is one."""

import pytest
import torch

from autorecap.base.device import choose_device
from autorecap.base.errors import ForeseenError


def test_auto_is_the_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, chosen in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == chosen
    assert (choose_device("cpu"), choose_device("cuda:1")) == ("cpu", "cuda:1")


@pytest.mark.parametrize(("name", "said"), [("cuda", "there is no GPU here"), ("gpu", "write cpu, cuda")])
def test_a_device_that_is_not_there_or_is_none_is_refused(
    monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ForeseenError, match=f"--device {name}: {said}"):
        choose_device(name)
