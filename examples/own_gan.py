"""A GAN of one's own with our layers and scores: c2sp generator, a loop one can read, the distance as it falls.

PYTHONPATH=. python examples/own_gan.py [STEPS]
"""

import sys

import torch
import torch.nn.functional as F
from torch import nn

import data
import metrics
from gan import conv2d

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 500
SCORED, IMAGES, BATCH, LATENT = min(STEPS, 250), min(1000, 20 * STEPS), 32, 64


def up(c_in: int, c_out: int) -> nn.Sequential:
    """(N, in, H, W) -> (N, out, 2H, 2W), without a drift: 2×2 kernels, padded symmetrically."""
    return nn.Sequential(nn.Upsample(scale_factor=2), conv2d("c2sp", c_in, c_out), nn.BatchNorm2d(c_out), nn.ReLU())


G = nn.Sequential(
    nn.Linear(LATENT, 64 * 16), nn.Unflatten(1, (64, 4, 4)), up(64, 64), up(64, 32), up(32, 16), conv2d("c3", 16, 3), nn.Tanh()
)
D = nn.Sequential(
    *(layer for c_in, c_out in ((3, 16), (16, 32), (32, 64)) for layer in (conv2d("c4", c_in, c_out, 2), nn.LeakyReLU(0.2))),
    nn.Flatten(),
    nn.Linear(64 * 16, 1),
)
optimizers = [torch.optim.Adam(network.parameters(), lr=4e-4, betas=(0.5, 0.99)) for network in (G, D)]


@torch.no_grad()
def drawn(count: int):
    """Batches of uint8 images."""
    G.eval()
    for _ in range(count // 20):
        yield G(torch.randn(20, LATENT)).add(1).mul(127.5).round().to(torch.uint8)
    G.train()


images = data.load("shapes").images
reference = metrics.Reference(data.load("shapes", split="test").images[:IMAGES])
for step in range(1, STEPS + 1):
    real = images[torch.randint(len(images), (BATCH,))].float() / 127.5 - 1
    fake = G(torch.randn(BATCH, LATENT))
    d_loss = F.softplus(-D(real)).mean() + F.softplus(D(fake.detach())).mean()
    g_loss = F.softplus(-D(fake)).mean()
    for loss, network in ((g_loss, G), (d_loss, D)):
        for parameter, gradient in zip(network.parameters(), torch.autograd.grad(loss, list(network.parameters()))):
            parameter.grad = gradient
    for optimizer in optimizers:
        optimizer.step()
    if step % SCORED == 0:
        score = reference.frechet_distance(drawn(IMAGES))
        print(f"step {step}: {score.name} {score.value:.1f}, of {score.card.generated_count} images")
