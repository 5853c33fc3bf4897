"""The instruments over kernels and ways to double a map: tables (Markdown) and figures.

    GAN_DATA=... python benchmarks/instruments.py [RUN ...] [--seeds 3] [--stack-seeds 8] [--out results/instruments]

Writes erosion.md and erosion.png (the paper's 54-layer stack, untrained), layers.md and layers.png (untrained DCGANs, and the RUNs
named). Real images: CIFAR-10's test split, else generated shapes. A figure of one run: `python run_gan.py probe RUN`.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import torch
from instruments_erosion import erosion
from torch import Tensor, nn

from data import DataError
from data.files import write_atomically
from gan.config import Config
from gan.models.build import build_generator, resolve
from gan.models.counting import parameter_count
from gan.models.summary import macs
from gan.plots import INK, RED, WIDTH, save_figure
from gan.probe import Probe, measure
from gan.probe.figure import STYLE
from gan.probe.inputs import Real, calibrate, real_images, untrained
from gan.probe.measurement import measure_networks, over_seeds
from gan.randomness import latents
from gan.run_directory import read_config

LAYERS = [
    ("transposed", "c3"), ("transposed", "c5"), ("transposed", "c2"), ("transposed", "c4"), ("transposed", "c3sp"),
    ("transposed", "c5sp"),
    ("nearest", "c3"), ("nearest", "c2"), ("nearest", "c2sp"), ("nearest", "c4sp"), ("bilinear", "c3"),
    ("pixelshuffle", "c3"), ("pixelshuffle", "c2sp"), ("unpool", "c3"), ("unpool", "c2sp"),
]  # fmt: skip
DCGAN = ["dataset.name=cifar10", "generator.family=dcgan", "generator.width=16", "discriminator.width=16"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("runs", nargs="*", type=Path)
    arguments.add_argument("--seeds", type=int, default=3)
    arguments.add_argument("--stack-seeds", type=int, default=8)
    arguments.add_argument("--samples", type=int, default=1000)
    arguments.add_argument("--out", type=Path, default=Path("results/instruments"))
    args = arguments.parse_args()
    real = open_real(args.samples)
    text = erosion(real.images[:32], real.source, args.stack_seeds, args.out / "erosion.png")
    write(text, args.out / "erosion.md")
    text = layers(real, args.runs, args.samples, args.seeds, args.out)
    write(text, args.out / "layers.md")


def open_real(samples: int) -> Real:
    for name in ("cifar10", "shapes"):
        try:
            return real_images(Config.load(None, [f"dataset.name={name}"]), samples)
        except DataError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    raise SystemExit("no images to measure with")


def write(text: str, path: Path) -> None:
    write_atomically(path, (text + "\n").encode())
    print(text, flush=True)


# --- layers that double a map ------------------------------------------------------------------------------------------------

POSITION = (  # heading, key, digits
    ("S1 drift px", "drift_px", 2), ("by padding alone", "geometric_drift_px", 2), ("spread px", "spread_px", 1),
    ("S2 px right", "phase_slope_x_px", 1), ("S2 px down", "phase_slope_y_px", 1), ("S3 dB", "roll_psnr_db", 1),
    ("S4 excess", "border_asymmetry_excess", 3),
)  # fmt: skip
CHECKERBOARD = (
    ("W1", "overlap_variation", 3), ("W2", "phase_gain", 2), ("W3 grey levels", "constant_texture", 1),
    ("W4", "noise_response", 2), ("I1", "phase_mean_variance", 4), ("I2 dB", "nyquist_peaks_db", 1),
    ("I2 at period 4", "half_nyquist_peaks_db", 1), ("I3", "phase_variance_ratio", 3),
)  # fmt: skip
GAPS = (("I4", "spectrum_gap", 2), ("I5", "dct_gap", 2))  # to real images: of an untrained network they say nothing


def layers(real: Real, runs: list[Path], samples: int, seeds: int, out: Path) -> str:
    """Untrained DCGANs of every kind of layer, with the weights they start from and with smooth kernels; then the runs."""
    untrained_nets, smooth_nets, costs = {}, {}, {}
    for upsampling, kernel in LAYERS:
        name = f"{upsampling} {kernel}"
        config = resolve(Config.load(None, [*DCGAN, f"generator.upsampling={upsampling}", f"generator.kernel={kernel}"]))
        untrained_nets[name] = measure(config, samples=samples, seeds=range(seeds), real=real)
        smooth_nets[name] = measure_smooth(config, samples, seeds, real)
        costs[name] = cost(config)
        print(f"{name}: measured", file=sys.stderr)
    trained = {}
    for run in runs:
        config = resolve(read_config(run))
        g = config.generator
        found = measure(run, samples=samples, seeds=range(seeds), real=real)
        steps, seed = found.record["card"]["step"], config.train.seed
        name = f"{g.family}, {g.upsampling} {g.kernel}, width {g.width:g}, {steps:,} steps, seed {seed}"
        trained[name], costs[name] = found, cost(config)
    draw_layers(untrained_nets, smooth_nets, out / "layers.png")

    start = f"DCGANs, 32 px, width 16, mean ± standard deviation over {seeds} seeds, {samples:,} images each, real: {real.source}."
    lines = [f"Untrained {start}", *references(untrained_nets["transposed c3"].record)]
    lines += ["", "**Position.**", "", *table(untrained_nets, POSITION, costs)]
    lines += [
        "",
        "**Checkerboards**, kernels with independent weights, as training starts.",
        "",
        *table(untrained_nets, CHECKERBOARD),
    ]
    lines += ["", "**Checkerboards**, smooth kernels: equal weights in each pair of channels, and 5 % noise.", ""]
    lines += table(smooth_nets, CHECKERBOARD)
    if trained:
        lines += ["", "**Trained runs**, ± over seeds of latents.", "", *table(trained, POSITION, costs)]
        lines += ["", *table(trained, CHECKERBOARD + GAPS)]
        lines += ["", "**Erosion in the trained runs**, from the seed map to the layer before the picture.", "", *eroded(trained)]
    return "\n".join(lines)


def eroded(trained: dict[str, Probe]) -> list[str]:
    """A row per run: Q_n over Q_0 of the generator's activations in turn; how dull the last one's border is, and where it leans."""
    rows = ["| | Q_n / Q_0, layer by layer | border / inside | leans right | leans down |", "|---|---|---|---|---|"]
    for name, found in trained.items():
        layers = found.record["erosion"]["generator"]
        last = layers[-1]
        qs = ", ".join(f"{layer['q']:.2f}" for layer in layers)
        rows.append(f"| {name} | {qs} | {last['border']:.2f} | {last['lean_x']:+.3f} | {last['lean_y']:+.3f} |")
    return rows


def measure_smooth(config: Config, samples: int, seeds: int, real: Real) -> Probe:
    """As gan.probe.measure, with kernels of equal weights but for 5 % noise: what is left is the geometry's own checkerboard."""
    probes = []
    for seed in range(seeds):
        generator, discriminator = untrained(config, seed)
        noise = torch.Generator().manual_seed(seed)
        for layer in generator.trunk.modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                weight = layer.weight[:, :, :1, :1] * (1 + 0.05 * torch.randn(layer.weight.shape, generator=noise))
                layer.weight.copy_(weight)
        calibrate(generator, latents(seed, 0, 256, generator.latent))
        probes.append(measure_networks(generator, discriminator, seed, samples, real))
    return Probe(over_seeds([p.record["numbers"] for p in probes]) | {"stages": probes[0].record["stages"]}, probes[0].pictures)


def cost(config: Config) -> str:
    generator = build_generator(config).eval()
    return f"{parameter_count(generator):,} | {macs(generator, 1, generator.latent) / 1e6:.1f} M"


def table(probes: dict[str, Probe], columns: tuple, costs: dict[str, str] | None = None) -> list[str]:
    headings = ["", *(heading for heading, _, _ in columns), *(("parameters", "multiply-adds") if costs else ())]
    lines = ["| " + " | ".join(headings) + " |", "|---|" + "---|" * (len(headings) - 1)]
    for name, found in probes.items():
        cells = [cell(found.record["numbers"].get(key), found.record["spread"].get(key), digits) for _, key, digits in columns]
        lines.append(f"| {name} | " + " | ".join([*cells, *([costs[name]] if costs else [])]) + " |")
    return lines


def cell(value: float | None, spread: float | None, digits: int) -> str:
    if value is None:
        return ""
    visible = 0.5 * 10**-digits
    error = f" ± {spread:.{digits}f}" if spread and spread >= visible else ""
    return f"{value:.{digits}f}{error}" if abs(value) >= visible else f"0{error}"


def references(record: dict) -> list[str]:
    """What the same instruments read on real images."""
    real, floor = record["real"], record["floor"]
    return [
        f"Real images: I1 {real['phase_mean_variance']:.4f}, I2 {real['nyquist_peaks_db']:.1f} dB "
        f"({real['half_nyquist_peaks_db']:.1f} at period 4), I3 {real['phase_variance_ratio']:.3f}, "
        f"S4 {real['border_left_right']:+.3f} and {real['border_top_bottom']:+.3f}.",
        f"One half of them against another: S4 excess {floor['border_asymmetry_excess']:.3f}, I4 {floor['spectrum_gap']:.2f}, "
        f"I5 {floor['dct_gap']:.2f}.",
    ]


def draw_layers(untrained_nets: dict[str, Probe], smooth_nets: dict[str, Probe], path: Path) -> None:
    """For each kind of layer: where a nudge lands, and what becomes of a constant map with random and with smooth kernels."""
    columns = 4
    blocks = -(-len(untrained_nets) // columns)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(3 * blocks, columns, figsize=(WIDTH, 5.3 * blocks + 0.8), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.04, h_pad=0.05, hspace=0.02)
        figure.suptitle(
            "What a layer does in an untrained DCGAN, 4 → 32 px. First rows: where a nudge to one\n"
            "seed cell lands (+ where it belongs, ● its centre of mass, px per axis). Second: what\n"
            "is painted on a constant map (± 64 grey levels; its standard deviation). Third: the\n"
            "same with smooth kernels, equal weights and 5 % noise.",
            x=0.01, ha="left", fontsize=9.5,
        )  # fmt: skip
        for axis in axes.flat:
            axis.axis("off")
        for i, name in enumerate(untrained_nets):
            block, column = divmod(i, columns)
            nudge(axes[3 * block, column], name, untrained_nets[name])
            flat(axes[3 * block + 1, column], untrained_nets[name], "")
            flat(axes[3 * block + 2, column], smooth_nets[name], "smooth: ")
        save_figure(figure, path, dpi=150)


def nudge(axis: plt.Axes, name: str, found: Probe) -> None:
    numbers, first = found.record["numbers"], found.record["stages"][0]
    energy: Tensor = found.pictures["landing"]
    half = len(energy) // 2
    axis.imshow(energy.sqrt().numpy(), cmap="Greys", extent=(-half - 0.5, half + 0.5, half + 0.5, -half - 0.5))
    axis.plot(0, 0, "+", color=INK, markersize=11, markeredgewidth=1.5)
    axis.plot(first["x"], first["y"], "o", color=RED, markersize=5, markeredgecolor="white")
    axis.set_title(f"{name}\n{numbers['drift_px']:.1f} px", loc="center", fontsize=9)


def flat(axis: plt.Axes, found: Probe, prefix: str) -> None:
    picture = found.pictures["constant"][0].mean(dim=0)[:32, :32] * 127.5
    axis.imshow((picture - picture.mean()).numpy(), cmap="Greys_r", vmin=-64, vmax=64, interpolation="nearest")
    axis.set_title(f"{prefix}{found.record['numbers']['constant_texture']:.0f} grey levels", loc="center", fontsize=8.5)


if __name__ == "__main__":
    main()
