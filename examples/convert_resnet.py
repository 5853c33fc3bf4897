"""ResNet-18 of torchvision with 2×2 kernels, padded symmetrically: what `convert` makes of it, and that it trains.

pip install .      (or PYTHONPATH=. and gan for even_kernels)
python examples/convert_resnet.py [STEPS]
"""

import sys

import torch
import torchvision

try:
    from even_kernels import convert
except ImportError:  # not installed, but run from the checkout
    from gan import convert

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 20


def million(model: torch.nn.Module) -> str:
    return f"{sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters"


torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=10)
print("3×3:", million(model))
convert(model, "c2sp")  # every 3×3 convolution, in place; strided ones become an average and a convolution
print("c2sp:", million(model))

# It learns eight noisy pictures by heart.
images, labels = torch.randn(8, 3, 64, 64), torch.arange(8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(1, STEPS + 1):
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step in (1, STEPS):
        print(f"step {step}: loss {loss.item():.3f}")
