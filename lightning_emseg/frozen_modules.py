"""Modules that a network keeps in evaluation mode on purpose, which Lightning takes for a possible mistake."""

import warnings

from torch import nn


def expect_frozen(module: nn.Module) -> None:
    """Silence Lightning's warning of modules in evaluation mode at the start of training, where these are the expected.

    Expected are those that ``train()`` leaves so, as the frozen encoder of a ``UNet`` with ``freeze_norms``. Where
    others are in evaluation mode too, their number is another one and Lightning warns as ever. No mode is changed.

    Args:
        module: That is about to be fitted.
    """
    modes = [(part, part.training) for part in module.modules()]
    module.train()
    frozen = sum(not part.training for part in module.modules())
    for part, mode in modes:
        part.training = mode
    if frozen:
        warnings.filterwarnings("ignore", message=rf"Found {frozen} module\(s\) in eval mode at the start of training")
