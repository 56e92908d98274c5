from collections.abc import Iterator

import pytest
import torch

from lightning_emseg.attribution.arithmetic import single_precision


def settings() -> tuple[bool, bool, bool]:
    backends = torch.backends
    return backends.cudnn.allow_tf32, backends.cuda.matmul.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.fixture(params=[True, False])
def tf32(request: pytest.FixtureRequest) -> Iterator[bool]:
    # Not `monkeypatch`, which would delete an attribute that the modules only make up.
    convolutions, products, _ = settings()
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = request.param
    yield request.param
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


def test_single_precision_overrides_settings_and_restores_them(tf32: bool) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        around = settings()
        with single_precision(torch.device("cpu")):
            assert settings() == (False, False, False)
            assert (torch.ones(4, 4) @ torch.ones(4, 4)).dtype is torch.float32
        assert settings() == around == (tf32, tf32, True)


def test_settings_come_back_after_a_failure() -> None:
    before = settings()
    with pytest.raises(ValueError, match="broken"), single_precision(torch.device("cpu")):
        raise ValueError("broken")
    assert settings() == before
