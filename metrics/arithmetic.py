"""How a GPU multiplies: in IEEE float32, or in TF32, which keeps ten bits of each number.

Set through PyTorch's older switches: it keeps both its interfaces readable after those, but not after the newer ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


def allow_tf32(products: bool, convolutions: bool) -> None:
    """Whether CUDA may use TF32. Nothing on the CPU changes."""
    torch.backends.cuda.matmul.allow_tf32 = products
    torch.backends.cudnn.allow_tf32 = convolutions


@contextmanager
def ieee_float32() -> Iterator[None]:
    """No TF32, whose ten bits show in the third digit of a score, and only such algorithms of cuDNN as repeat to the bit."""
    cudnn = torch.backends.cudnn
    tf32 = [place.fp32_precision == "tf32" for place in (torch.backends.cuda.matmul, cudnn.conv)]
    algorithms = cudnn.benchmark, cudnn.deterministic
    try:
        allow_tf32(False, False)
        cudnn.benchmark, cudnn.deterministic = False, True
        yield
    finally:
        allow_tf32(*tf32)
        cudnn.benchmark, cudnn.deterministic = algorithms
