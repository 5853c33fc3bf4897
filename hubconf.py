"""For torch.hub: the layers, `convert`, and the generators of the zoo, each by its name with _ for -.

layer = torch.hub.load("OWNER/NAME", "symmetric_conv2d", 64, 128, kernel_size=2)
shapes = torch.hub.load("OWNER/NAME", "generator", "shapes32-c2sp")
images = shapes.sample(16, seed=0)
"""

from pathlib import Path

dependencies = ["torch"]  # of the layers; a generator needs requirements.txt, and says so


def symmetric_conv2d(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1, **options):
    """nn.Conv2d that keeps the size, with symmetric padding for even kernels (gan.kernels.SymmetricConv2d)."""
    from gan.kernels import SymmetricConv2d

    return SymmetricConv2d(in_channels, out_channels, kernel_size, stride, **options)


def convert(module, kernel: str, **options):
    """Every eligible convolution of a model by `kernel`, in place; returns the model (gan.kernels.convert)."""
    from gan.kernels import convert as replace

    return replace(module, kernel, **options)


def generator(name: str, device: str = "auto"):
    """A generator of the zoo, to draw from: .sample(n, seed), .walk(), .config, .step (gan.load)."""
    try:
        from gan import load
    except ImportError as error:
        raise RuntimeError(f"a generator needs {error.name}: pip install -r requirements.txt of this repository") from error
    return load(f"zoo:{name}", device=device)


def _entry(name: str):
    def load(device: str = "auto"):
        return generator(name, device)

    load.__doc__ = f"The generator zoo:{name}."
    return load


globals().update(
    {file.stem.replace("-", "_"): _entry(file.stem) for file in sorted(Path(__file__).with_name("zoo").glob("*.json"))}
)
