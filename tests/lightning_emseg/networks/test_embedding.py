"""Embeddings of images."""

import torch

from lightning_emseg.networks.embedding import Embedding
from tests.support import tiny


def test_every_embedding_has_length_one() -> None:
    torch.manual_seed(0)
    found = Embedding(tiny.TIMM_ENCODER, 6)(torch.randn(3, 1, 32, 32))
    assert found.shape == (3, 6)
    torch.testing.assert_close(found.square().sum(dim=1), torch.ones(3))
