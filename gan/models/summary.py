"""What a model costs and how far it sees: parameters, multiply-adds, receptive field. Printed when a run starts."""

from collections.abc import Callable

import torch
from rich.table import Table
from torch import nn

from gan.config import Config
from gan.models.build import build_discriminator, build_generator
from gan.models.counting import macs, parameter_count
from metrics.precision import settled


def receptive_fields(config: Config) -> tuple[int | None, int | None]:
    """Pixels per axis that one cell of the generator's seed map reaches, and that one cell of the discriminator's last map sees.

    Measured on narrow copies of the networks (at least four channels, one for each corner) with all weights positive, on maps so
    high that no border cuts them off. None: no height is enough, as where a layer averages whole maps.
    """
    narrow = {"generator.width": 4, "generator.width_rule": "same", "generator.norm": "none"}
    narrow |= {"discriminator.width": 4, "discriminator.norm": "none"}
    narrow |= {"generator.attention": None, "discriminator.attention": None, "generator.spectral_norm": False}
    narrow |= {"generator.padding": "zeros", "discriminator.padding": "zeros"}
    narrow = config.replace(narrow)
    g, d = _positive(build_generator(narrow)), _positive(build_discriminator(narrow))
    # Without the nonlinearity at its end, in which the faint edge of a response is lost.
    trunk = g.trunk if any(True for _ in g.trunk[-1].parameters()) else g.trunk[:-1]

    def reach(height: int) -> torch.Tensor:
        seed = torch.zeros(1, g.seed[0], height, 1, dtype=torch.float64)
        seed[:, :, height // 2] = 1
        with torch.no_grad():
            return trunk(seed)

    def sight(height: int) -> torch.Tensor:
        image = torch.ones(1, 3, height, config.dataset.resolution, dtype=torch.float64, requires_grad=True)
        features = d.features(image)
        return torch.autograd.grad(features[0, :, features.shape[2] // 2, features.shape[3] // 2].sum(), image)[0]

    return _extent(reach, 16), _extent(sight, max(512, 4 * config.dataset.resolution))


def _positive(module: nn.Module) -> nn.Module:
    """Constant positive kernels without bias: what reaches a pixel cannot cancel. Scaled to keep values near 1."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    return module.double().eval()


def _extent(response: Callable[[int], torch.Tensor], height: int, doublings: int = 4) -> int | None:
    """Height of the non-zero part of a response (1, C, H, W) on a map so high, or twice as high until it fits in; None: never."""
    map_ = response(height)
    rows = map_.abs().sum(dim=(0, 1, 3)).nonzero()
    if int(rows.min()) > 0 and int(rows.max()) < map_.shape[2] - 1:
        return int(rows.max() - rows.min()) + 1
    return _extent(response, 2 * height, doublings - 1) if doublings else None


def _pixels(extent: int | None) -> str:
    return "all pixels" if extent is None else f"{extent} px"


def table(config: Config) -> Table:
    """The start-up table of a resolved config: a column for each network."""
    g, d = build_generator(config), build_discriminator(config)
    resolution = config.dataset.resolution
    reach, sight = receptive_fields(config)
    rows = Table(title=f"{resolution}×{resolution} pixels", title_justify="left")
    for heading in ("", f"generator ({config.generator.family})", f"discriminator ({config.discriminator.family})"):
        rows.add_column(heading, overflow="fold")
    rows.add_row("kernel", config.generator.kernel, config.discriminator.kernel)
    rows.add_row("upsampling", config.generator.upsampling, "-")
    if (config.generator.padding, config.discriminator.padding) != ("zeros", "zeros"):
        rows.add_row("padding", config.generator.padding, config.discriminator.padding)
    if config.generator.flat_layers:
        rows.add_row("flat layers", f"{config.generator.flat_layers} at each resolution", "-")
    norm = f"{config.generator.norm}, spectral" if config.generator.spectral_norm else config.generator.norm
    rows.add_row("norm", norm, config.discriminator.norm)
    attention = [f"{side}×{side}" if side else "-" for side in (config.generator.attention, config.discriminator.attention)]
    if attention != ["-", "-"]:
        rows.add_row("self-attention", *attention)
    if config.generator.conditional:
        rows.add_row("class", "embedded beside z" if g.embed is not None else "in each batch norm", "by projection")
    rows.add_row("channels", _channels(g), _channels(d))
    rows.add_row("parameters", f"{parameter_count(g):,}", f"{parameter_count(d):,}")
    precision = settled(config.train.precision, "cpu")
    inputs = ((g, (1, g.latent)), (d, (1, 3, resolution, resolution)))
    costs, executed = ([macs(net, *x, executed=as_run, precision=precision) for net, x in inputs] for as_run in (False, True))
    rows.add_row("multiply-adds per image", *(f"{cost / 1e6:,.1f} M" for cost in costs))
    if executed != costs:
        rows.add_row("executed on a CPU, fused", *(f"{cost / 1e6:,.1f} M" for cost in executed))
    rows.add_row("receptive field", f"a seed cell reaches {_pixels(reach)}", _pixels(sight))
    rule = config.generator.width_rule
    if rule != "same":
        c3 = build_generator(config.replace({"generator.kernel": "c3", "generator.width_rule": "same"}))
        parameters, cost = parameter_count(g) / parameter_count(c3), costs[0] / macs(c3, 1, c3.latent)
        rows.caption = f"width rule {rule}: {parameters:.1%} of the c3 generator's parameters, {cost:.1%} of its multiply-adds"
    return rows


def _channels(module: nn.Module) -> str:
    """Widths along the network, repeats left out: '256' or '512 256 128 64'."""
    counts = [layer.out_channels for layer in module.modules() if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d)]
    if hasattr(module, "seed"):
        counts = [module.seed[0], *counts]
    counts = [c for c in counts if c != 3]
    return " ".join(str(c) for i, c in enumerate(counts) if i == 0 or c != counts[i - 1])
