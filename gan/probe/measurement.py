"""All instruments applied to a generator: position, borders and high frequencies, compared with real images.

A run is measured as it is sampled: EMA weights, eval mode, float32. An untrained generator of a config would give grey images: its
batch norm gets the statistics of 256 latents, and its output layer is scaled to a contrast of 0.5 (`calibrate`).
docs/instruments.md has the definitions.
"""

import json
import math
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from data.checksums import sealed
from data.files import write_atomically
from gan import sampling
from gan.config import Config
from gan.models.build import resolve
from gan.probe.inputs import LEAST, Real, trained, untrained
from gan.randomness import latents
from gan.run_directory import RunError, read_config
from metrics.instruments.checkerboard import constant_picture, layer_checkerboard, taps_per_phase
from metrics.instruments.erosion import activations, erosion
from metrics.instruments.impulse import spatial_layers, up_layers
from metrics.instruments.registry import image_numbers, layer_numbers, numbers_of
from metrics.instruments.shift import flat_twin, layer_drift, network_drift, roll_equivariance
from metrics.instruments.spectrum import azimuthal_mean, power_spectrum
from metrics.precision import ieee_float32
from metrics.protocol import library_versions

FORMAT = 1  # of a record
IMPULSES, LATER_IMPULSES, FLAT_IMPULSES = 32, 16, 8  # into the seed map; into later maps; where no weights differ
SIZES = (("drift_px", "drift_x_px", "drift_y_px"),)  # numbers that are the root mean square of signed ones
FEW = 4  # latents whose seed maps are perturbed, rolled and flattened


@dataclass
class Probe:
    """What `measure` returns."""

    record: dict  # plain numbers; what goes to probe.json
    pictures: dict[str, Tensor] = field(default_factory=dict)  # what the figure shows besides


def probe(target: Path | str | Config, **options) -> dict:
    """The record of `measure`: {'card', 'numbers', 'spread', 'real', 'floor', 'layers', 'stages', 'erosion'}."""
    return measure(target, **options).record


def measure(
    target: Path | str | Config, *, step: int | str | None = None, samples: int = 1000, seeds: range = range(1),
    real: Real | None = None, device: torch.device | str = "cpu", progress: Callable[[int], object] = lambda n: None,
) -> Probe:  # fmt: skip
    """Measure a run directory at a checkpoint (a step, "best", or None: the last), or the untrained networks of a config.

    seeds: of a run, of the latents; of a config, of the initial weights too. Numbers are means over seeds, layers and pictures
    those of the first. real: from `real_images`; without it, what compares with real images is left out.
    RunError or CheckpointError in one sentence.
    """
    if samples < LEAST or not seeds:
        raise RunError(f"the instruments need at least {LEAST} images and 1 seed, not {samples} and {len(seeds)}")
    config = resolve(target if isinstance(target, Config) else read_config(target))
    resolution = config.dataset.resolution
    if real is not None and real.images.shape[-1] != resolution:
        raise RunError(f"{real.source} has images of {real.images.shape[-1]} pixels, the generator paints {resolution}")
    probes = []
    for seed in seeds:
        if isinstance(target, Config):
            networks = untrained(config, seed, device)
            about = {"what": "untrained networks of a config", "step": 0}
        else:
            networks, reached = trained(Path(target), step, device)
            about = {"what": Path(target).resolve().name, "step": reached}
        probes.append(measure_networks(*networks, seed, samples, real))
        progress(samples)
    g = config.generator
    card = about | {
        "format": FORMAT, "family": g.family, "kernel": g.kernel, "padding": g.padding, "flat_layers": g.flat_layers,
        "conditional": g.conditional, "attention": g.attention, "spectral_norm": g.spectral_norm,
        "upsampling": g.upsampling, "resolution": resolution,
        "train_seed": config.train.seed if about["step"] else None, "samples": samples, "seed": seeds[0], "seeds": len(seeds),
        "real": real.source if real else None,
        "real_count": len(real.images) if real else 0, "ema": not isinstance(target, Config), "batch_norm": "eval",
        "versions": library_versions(),
    }  # fmt: skip
    record = {"card": card, **over_seeds([p.record["numbers"] for p in probes])}
    record |= {key: value for key, value in probes[0].record.items() if key != "numbers"}
    return Probe(_plain(record), probes[0].pictures)


def summary(record: dict) -> dict[str, float]:
    """The main numbers of a record, for a row of a table; those that were not measured are left out."""
    headlines = (
        "drift_x_px", "drift_y_px", "drift_px", "spread_px", "border_left_right_excess", "border_top_bottom_excess",
        "border_asymmetry_excess", "overlap_variation", "phase_gain", "phase_mean_variance", "nyquist_peaks_db", "spectrum_gap",
    )  # fmt: skip
    return {name: record["numbers"][name] for name in headlines if record["numbers"].get(name) is not None}


def training_instruments(generator: nn.Module, samples: int = 64, seed: int = 0) -> dict[str, float]:
    """A few instruments cheap enough for a training log: I1, I2, I3, S4 (without the real images') and W2.

    generator: the EMA. Nothing that trains is changed: no gradients, eval mode, latents derived from `seed`, no random state used.
    """
    was_training = generator.training
    generator.eval()
    try:
        images = torch.cat(list(sampling.samples(generator, seed, samples)))
        with ieee_float32(), torch.no_grad():
            gains = [layer_checkerboard(layer).phase_gain for _, layer in up_layers(generator)]
    finally:
        generator.train(was_training)
    found = image_numbers(images)
    kept = ("phase_mean_variance", "nyquist_peaks_db", "phase_variance_ratio", "border_asymmetry")
    return {name: found[name] for name in kept} | {"phase_gain": _largest(gains, 0.0)}


def _largest(values: Iterable[float], default: float | None) -> float | None:
    """The largest of them that is a number: of a layer that lets nothing through some are NaN. NaN if all are, else the default."""
    values = list(values)
    return max((v for v in values if not math.isnan(v)), default=math.nan if values else default)


# --- measuring ---------------------------------------------------------------------------------------------------------------


def measure_networks(generator: nn.Module, discriminator: nn.Module | None, seed: int, samples: int, real: Real | None) -> Probe:
    """Numbers, layers, stages, erosion and pictures of networks in the state they are in; the generator in eval mode.

    Of conditional ones the pictures are of all classes, and what looks at maps within sees one, number seed % classes.
    """
    device = next(generator.parameters()).device
    with ieee_float32(), torch.no_grad():
        images = torch.cat(list(sampling.samples(generator, seed, samples)))
        numbers = image_numbers(images, real.images if real else None)
        z = latents(seed, 0, 64, generator.latent).to(device)
        label = _one_class(generator, seed, device)
        seed_maps = generator.seed_maps(z, *label)
        stages, network, pictures = _shift(generator, seed_maps[:FEW], seed)
        layers, worst = _layers(generator.trunk, seed_maps[:FEW])
        flattened, texture = constant_picture(generator.trunk, seed_maps[:FEW])
        eroded = {"generator": erosion(generator.trunk, seed_maps, activations(generator.trunk))}
        if discriminator is not None:
            shown, judge = (real.images if real else images)[:64], lambda x: discriminator(x, *label)
            eroded["discriminator"] = erosion(judge, shown.to(device).float() / 127.5 - 1, activations(discriminator))
    record = {"numbers": numbers | network | worst | {"constant_texture": 127.5 * texture}}
    if real:
        record["real"] = image_numbers(real.images)
        record["floor"] = image_numbers(real.others, real.images)
        pictures |= {"spectrum_real": _rings(real.images), "real": real.images[:16]}
    record |= {"layers": layers, "stages": stages}
    record["erosion"] = {
        net: [{key: value for key, value in asdict(layer).items() if key != "mean_map"} for layer in found]
        for net, found in eroded.items()
    }
    pictures |= {"images": images[:16], "spectrum": _rings(images), "constant": flattened[:FEW].float().cpu()}
    pictures |= {f"map {layer.name}": layer.mean_map for layer in eroded["generator"]}
    return Probe(record, pictures)


def _one_class(generator: nn.Module, seed: int, device: torch.device) -> tuple[Tensor, ...]:
    """Further arguments of a network: for a conditional one, the label of class seed % classes; else none."""
    return (torch.eye(generator.classes, device=device)[[seed % generator.classes]],) if generator.classes else ()


def _shift(generator: nn.Module, seed_maps: Tensor, seed: int) -> tuple[list[dict], dict, dict]:
    """S1 and S2 from the input of every stage of the trunk to the picture, S3 from the middle, and the geometry's own drift.

    seed_maps: (n, C, r, r). Returns what is found per stage, the numbers, and the picture of where impulses into the seed map land.
    """
    trunk = generator.trunk
    inputs, resolution = _stages(trunk, seed_maps)
    first = min(inputs)  # what comes before it, norm and activation, moves nothing
    impulses = {i: IMPULSES if i == first else LATER_IMPULSES for i in inputs}
    landings = {i: network_drift(trunk[i:], maps, impulses[i], seed=seed) for i, maps in inputs.items()}
    stages = [{"name": f"trunk.{i}", "size": inputs[i].shape[-1], **asdict(landings[i].drift)} for i in inputs]
    middle = next((i for i, maps in inputs.items() if maps.shape[-1] >= resolution // 4), None)
    roll = None if middle is None else roll_equivariance(trunk[middle:], inputs[middle])[1]
    flat = network_drift(flat_twin(trunk), seed_maps.abs(), FLAT_IMPULSES, seed=seed).drift
    whole = stages[0]
    numbers = {
        "drift_px": math.hypot(whole["x"], whole["y"]) / math.sqrt(2),
        "drift_x_px": whole["x"],
        "drift_y_px": whole["y"],
        "spread_px": whole["spread"],
        "phase_slope_x_px": whole["slope_x"],
        "phase_slope_y_px": whole["slope_y"],
        "geometric_drift_px": flat.per_axis,
        "roll_psnr_db": roll,
    }
    return stages, numbers, {"landing": landings[first].energy}


def _stages(trunk: nn.Sequential, maps: Tensor) -> tuple[dict[int, Tensor], int]:
    """{index in the trunk: its input} of all that convolve, and the side of the picture that comes out."""
    inputs = {}
    for i, child in enumerate(trunk):
        if any(isinstance(m, nn.Conv2d | nn.ConvTranspose2d) for m in child.modules()):
            inputs[i] = maps
        maps = child(maps.clone())  # an activation may work in place
    return inputs, maps.shape[-1]


def _layers(trunk: nn.Module, maps: Tensor) -> tuple[list[dict], dict]:
    """S1 and W1 to W4 of every layer, and the worst of each W: one such layer is enough for a checkerboard."""
    named = dict(spatial_layers(trunk))
    inputs, scales = _inputs(trunk, list(named.values()), maps)
    doubling = {layer for _, layer in up_layers(trunk)}
    layers = []
    for name, layer in named.items():
        own, flat = layer_drift(layer), layer_drift(layer, flat=True)
        row = {"name": f"trunk.{name}", "layer": _describe(layer), "size": inputs[layer].shape[-1], "scale": scales[layer]}
        row |= {
            "drift_px": own.per_axis,
            "drift_x_px": own.x,
            "drift_y_px": own.y,
            "geometric_drift_px": flat.per_axis,
            "spread_px": own.spread,
        }
        if layer in doubling:
            row |= {"taps": taps_per_phase(layer).tolist(), **layer_numbers(layer, inputs[layer].double().mean(dim=(0, 2, 3)))}
        layers.append(row)
    boards = [row for row in layers if "taps" in row]
    return layers, {n.name: _largest((row[n.name] for row in boards), None) for n in numbers_of("layers")}


def _inputs(trunk: nn.Module, layers: list[nn.Module], maps: Tensor) -> tuple[dict[nn.Module, Tensor], dict[nn.Module, int]]:
    """The input of each layer when the trunk gets these maps, and the factor by which the layer enlarges it."""
    inputs, scales = {}, {}

    def watch(layer: nn.Module, given: tuple[Tensor], output: Tensor) -> None:
        (x,) = given
        inputs[layer], scales[layer] = x, output.shape[-1] // x.shape[-1]

    handles = [layer.register_forward_hook(watch) for layer in layers]
    trunk(maps.clone())
    for handle in handles:
        handle.remove()
    return inputs, scales


def _describe(layer: nn.Module) -> str:
    """'nearest + symmetric 4x4', 'transposed 3x3', 'turning reflect 2x2'."""
    return " + ".join(_describe_part(part) for part in (layer if isinstance(layer, nn.Sequential) else [layer]))


PLACE_WORDS = {"below right": "one-sided", "four corners": "symmetric", "turning corner": "turning", "far side": "far-sided"}


def _describe_part(part: nn.Module) -> str:
    if not isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
        return getattr(part, "mode", type(part).__name__.lower())
    words = [PLACE_WORDS[part.place]] if getattr(part, "place", "") in PLACE_WORDS else []
    words += [part.padding_mode] if part.padding_mode != "zeros" else []
    words += ["transposed"] if isinstance(part, nn.ConvTranspose2d) else []
    return " ".join([*words, f"{part.kernel_size[0]}x{part.kernel_size[1]}"])


def _rings(images: Tensor) -> Tensor:
    return azimuthal_mean(power_spectrum(images)).float()


def over_seeds(numbers: list[dict]) -> dict:
    """Means, of what has a sign with it, and standard deviations (ddof 1) where there are several seeds; NaN where one is None."""
    mean, spread = {}, {}
    for name in numbers[0]:
        values = [n[name] for n in numbers]
        known = torch.tensor([math.nan if v is None else v for v in values], dtype=torch.float64)
        mean[name] = known.mean().item()
        if len(values) > 1:
            spread[name] = known.std().item()
    for size, *signed in SIZES:  # of the mean: a mean of sizes would add up noise
        if size in mean:
            mean[size] = math.hypot(*(mean[name] for name in signed)) / math.sqrt(len(signed))
    return {"numbers": mean, "spread": spread}


def _plain(value):
    """The value with NaN and infinity, which JSON lacks, replaced by None."""
    if isinstance(value, dict):
        return {key: _plain(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_record(record: dict, path: Path) -> None:
    """Write probe.json, whole or not at all."""
    write_atomically(path, (json.dumps(sealed(record), indent=2) + "\n").encode())
