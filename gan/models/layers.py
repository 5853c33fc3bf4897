"""Shared by the families: spectral norm, norms, initial weights, channel counts."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize


class SpectralNorm(nn.Module):
    """W / sigma(W), with sigma the largest singular value by one power iteration per training forward. Miyato et al. 2018.

    A parametrization of `weight`, (rows, ...) with the output channels along `dim`. The iteration runs in float32 whatever autocast
    says. The vectors of each forward are its own tensors, so several forwards may come before one backward.
    """

    def __init__(self, weight: Tensor, dim: int = 0):
        super().__init__()
        self.dim = dim
        rows = weight.shape[dim]
        self.register_buffer("u", normal_(torch.empty(rows, device=weight.device)))
        self.register_buffer("v", normal_(torch.empty(weight.numel() // rows, device=weight.device)))
        if not weight.is_meta:
            self.u, self.v = F.normalize(self.u, dim=0), F.normalize(self.v, dim=0)
            for _ in range(15):  # start close to the singular vectors
                self._iterate(self._matrix(weight.detach()))

    def _matrix(self, weight: Tensor) -> Tensor:
        return weight.transpose(0, self.dim).flatten(1).float()

    @torch.no_grad()
    def _iterate(self, matrix: Tensor) -> tuple[Tensor, Tensor]:
        v = F.normalize(matrix.T @ self.u, dim=0)
        u = F.normalize(matrix @ v, dim=0)
        self.u.copy_(u)
        self.v.copy_(v)
        return u, v

    def follow(self, weight: Tensor) -> None:
        """One power iteration for a weight that has changed outside of training, such as that of an EMA."""
        self._iterate(self._matrix(weight.detach()))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.is_meta:
            return weight
        with torch.autocast(weight.device.type, enabled=False):
            matrix = self._matrix(weight)
            u, v = self._iterate(matrix.detach()) if self.training else (self.u.clone(), self.v.clone())
            return weight / torch.dot(u, matrix @ v)


def add_spectral_norm(module: nn.Module) -> nn.Module:
    """Put SpectralNorm on the weight of every convolution and linear layer."""
    for layer in list(module.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            dim = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            parametrize.register_parametrization(layer, "weight", SpectralNorm(layer.weight, dim))
    return module


def spectral_norms(module: nn.Module) -> list[tuple[SpectralNorm, Tensor]]:
    """Every SpectralNorm within a network, and the weight that it divides."""
    layers = [layer for layer in module.modules() if parametrize.is_parametrized(layer, "weight")]
    found = [(norm, layer.parametrizations.weight.original) for layer in layers for norm in layer.parametrizations.weight]
    return [(norm, weight) for norm, weight in found if isinstance(norm, SpectralNorm)]


def norm_layer(norm: str, channels: int) -> nn.Module:
    """Batch norm, or nothing. Spectral norm sits on the weights (add_spectral_norm)."""
    return nn.BatchNorm2d(channels) if norm == "batch" else nn.Identity()


def channel_counts(plan: tuple[float, ...], width: float, multiple: int) -> list[int]:
    """plan x width, each rounded to the nearest multiple (at least one)."""
    return [max(1, round(part * width / multiple)) * multiple for part in plan]


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0) -> Tensor:
    """Fill a tensor from N(mean, std²), and return it; not on the meta device, where PyTorch would first import its compiler."""
    return tensor if tensor.is_meta else nn.init.normal_(tensor, mean, std)


def init_normal(module: nn.Module) -> None:
    """N(0, 0.02) for weights, N(1, 0.02) for batch-norm gains, zero biases. Radford et al. 2016."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            normal_(layer.weight, 1.0, 0.02)
        else:
            continue
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
