"""Documents attended to by themselves: the loss and the gradients of rows under a mask."""

from __future__ import annotations

import copy

import pytest
import torch

from experiments.pair.by_document import document_loss, prepare
from experiments.pair.corpus import packed
from experiments.pair.corruption import lesson
from experiments.pair.pretrain import packed_loss
from experiments.studies.training.continued import START
from steering.model.models import load_model


def test_documents_by_themselves_have_the_loss_and_the_gradients_of_the_masked_rows() -> None:
    batch = packed([*lesson("valid", 0, 0, 5), *lesson("answers", 1, 0, 4)], 256)
    assert len(batch.ids) > 1 and (batch.documents == 0).any(), "several rows, with padding"
    masked, own = (copy.deepcopy(load_model(START).model).double().train() for _ in range(2))
    prepare(own)
    found = []
    for model, loss_of in ((masked, packed_loss), (own, document_loss)):
        for weight in model.parameters():
            weight.requires_grad_(True)
        loss = loss_of(model, batch)
        loss.backward()
        found.append((loss.item(), [weight.grad for weight in model.parameters()]))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-6)
    for one, other in zip(*(grads for _, grads in found), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-5 * float(one.abs().max()))
    with pytest.raises(LookupError):
        own(input_ids=torch.tensor([[1, 2, 3]]))
