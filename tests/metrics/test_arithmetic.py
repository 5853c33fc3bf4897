"""TF32 is off while scores and pictures are made, and afterwards as it was; PyTorch can read its switches all along."""

import pytest
import torch

from metrics.arithmetic import allow_tf32, ieee_float32


def switches():
    backends = torch.backends
    return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32, backends.cudnn.benchmark, backends.cudnn.deterministic


@pytest.fixture(autouse=True)
def restored():
    before = switches()
    yield
    allow_tf32(*before[:2])
    torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = before[2:]


@pytest.mark.parametrize(("products", "convolutions"), [(True, True), (False, False), (False, True), (True, False)])
def test_it_is_off_within_and_as_before_afterwards(products, convolutions):
    allow_tf32(products, convolutions)
    torch.backends.cudnn.benchmark = True
    before = switches()
    with pytest.raises(RuntimeError, match="whatever ends it"), ieee_float32():
        assert switches() == (False, False, False, True) and torch.get_float32_matmul_precision() == "highest"
        raise RuntimeError("whatever ends it")
    assert switches() == before == (products, convolutions, True, before[3])
    assert torch.get_float32_matmul_precision() == ("high" if products else "highest")
