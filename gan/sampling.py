"""Sampling from a generator: uint8 batches, grids, files, interpolations in latent space.

Always from the EMA weights, in eval mode (batch norm uses the EMA's own statistics), in float32. Image i of a seed has the same
latent, and of a conditional generator the same class, in any batch size.
"""

import difflib
import io
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from data.files import replacing, replacing_folder, write_atomically
from gan import checkpoint, weights, zoo
from gan.config import Config
from gan.models.build import build_generator
from gan.randomness import class_labels, latents
from gan.run_directory import RunError, RunFiles, read_config
from metrics.devices import open_device
from metrics.precision import ieee_float32


@dataclass(frozen=True)
class Trained:
    """A trained generator, ready to sample from; what `gan.load` returns."""

    generator: nn.Module  # in eval mode, without gradients
    config: Config
    step: int

    def __call__(self, z: Tensor, labels: Tensor | None = None) -> Tensor:
        """z (N, latent) -> images (N, 3, R, R) float32 in [-1, 1], on the generator's device.

        labels: of a conditional generator: classes (N,) int64, or weights of the classes (N, classes), rows that sum to 1.
        """
        device = next(self.generator.parameters()).device
        with torch.no_grad(), ieee_float32():
            return self.generator(*(x.to(device) for x in (z, labels) if x is not None)).float().contiguous()

    @property
    def class_names(self) -> tuple[str, ...]:
        """Of a conditional generator; else ()."""
        return getattr(self.generator, "class_names", ())

    def classes(self, text: str) -> list[int]:
        """'cat,dog' or 'all', by names or numbers of classes -> their numbers. RunError for a class that doesn't exist."""
        names = self.class_names
        if not names:
            raise RunError("the generator has no classes to choose from: name none, or train one with generator.conditional=true")
        if text == "all":
            return list(range(len(names)))
        numbers = {str(i): i for i in range(len(names))} | {name: i for i, name in enumerate(names)}
        wanted = [text] if text in numbers else [part.strip() for part in text.split(",")]
        if unknown := [name for name in wanted if name not in numbers]:
            near = difflib.get_close_matches(unknown[0], names, 1)
            there = f"{', '.join(names[:20])}{', …' if len(names) > 20 else ''}; or all"
            rest = f"did you mean {near[0]}?" if near else f"its {len(names)} are {there}"
            raise RunError(f"the generator has no class {unknown[0]!r}; {rest}")
        return [numbers[name] for name in wanted]

    def sample(self, n: int, seed: int = 0, *, batch_size: int = 64, of_class: str | int | None = None) -> Tensor:
        """The first n images of a seed, (n, 3, R, R) uint8 on the CPU. Image i is the same whatever n and the batch size.

        of_class: of a conditional generator, one class by name or number; None: classes in the proportions of the training images.
        """
        return torch.cat(list(self.batches(n, seed, batch_size=batch_size, of_class=of_class)))

    def batches(
        self, n: int, seed: int = 0, *, batch_size: int = 64, of_class: str | int | None = None
    ) -> Iterator[Tensor]:  # fmt: skip
        """What `sample` gives, batch by batch: (batch_size, 3, R, R) uint8, and fewer in the last."""
        if n < 1 or batch_size < 1:
            raise RunError(f"at least 1 image is drawn, in batches of at least 1, not {n} in batches of {batch_size}")
        labels = None if of_class is None else self.classes(str(of_class))
        if labels and len(labels) > 1:
            raise RunError(f"one class is drawn at a time, not {of_class!r}: call it for each")
        return samples(self.generator, seed, n, batch_size, labels[0] if labels else None)

    def walk(self, rows: int = 1, steps: int = 10, seed: int = 0) -> Tensor:
        """Walks between two latents along the great circle, (rows, steps, 3, R, R) uint8; each begins at a latent of the seed."""
        if rows < 1 or steps < 2:
            raise RunError(f"a walk has at least 2 steps, and there is at least 1, not {rows} of {steps} steps")
        pictures = interpolations(self.generator, seed, rows, steps)
        return pictures.view(rows, steps, *pictures.shape[1:])


def load_generator(run: str | Path, step: int | str | None = None, device: torch.device | str = "cpu") -> Trained:
    """The EMA generator of a run directory, at its last checkpoint, at a step, or at its "best"; of zoo:NAME; of a .safetensors.

    RunError, CheckpointError, WeightsError or ZooError if there is none, DeviceError for a device that isn't there.
    """
    device = open_device(device)
    file = zoo.file_of(run)
    if file is not None:
        if step is not None:
            raise RunError(f"{run} holds one generator; leave its checkpoint {step} out")
        config, state, reached, names = weights.read(file)
        generator = build_generator(config, len(names))
        weights.load_into(generator, state, file)
        require_finite(generator, str(file))
    else:
        config = read_config(run)
        path = RunFiles(run).checkpoint_of(step)
        found = checkpoint.load(path)
        checkpoint.require_settings(found, config, path)
        reached = found["step"]
        with checkpoint.load_errors(path):
            names = tuple(found["classes"]) if config.generator.conditional else ()
            generator = build_generator(config, len(names))
            generator.load_state_dict(found["ema"])
        if not checkpoint.all_finite([*generator.parameters(), *generator.buffers()]):
            good = checkpoint.latest_good(path.parent)
            instead = f"the last good checkpoint is {good}" if good else "there is no good checkpoint"
            raise checkpoint.CheckpointError(f"{path} has diverged: its EMA weights are not finite; {instead}")
    generator.class_names = names
    generator = generator.to(device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    return Trained(generator, config, reached)


def require_finite(generator: nn.Module, name: str) -> None:
    """RunError for a generator that has diverged: its pictures would be of one colour, or noise."""
    if not checkpoint.all_finite([*generator.parameters(), *generator.buffers()]):
        raise RunError(f"{name} has diverged: its weights are not finite; train another, or take an earlier checkpoint")


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] floats to 0..255 uint8, rounded: truncation would darken images by half a grey level on average."""
    return x.add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8)


@torch.no_grad()
def draw(generator: nn.Module, z: Tensor, batch_size: int = 64, labels: Tensor | None = None) -> Tensor:
    """z (N, latent) -> images (N, 3, R, R) uint8 on the CPU. The generator must be in eval mode: drawing changes nothing.

    labels: as for `Trained`. ValueError in training mode.
    """
    if generator.training:
        raise ValueError("draw: put the generator in eval mode first, or batch norm mixes the images of a batch")
    device = next(generator.parameters()).device
    given = zip(*(rows.split(batch_size) for rows in (z, labels) if rows is not None))
    with ieee_float32():
        return torch.cat([to_uint8(generator(*(x.to(device) for x in rows)).float()).cpu().contiguous() for rows in given])


def labels_of(generator: nn.Module, seed: int, first: int, count: int) -> Tensor | None:
    """Labels (count,) int64 of images first ... first + count - 1 of a seed, in the proportions of the training images; None for a
    generator that is not conditional."""
    return class_labels(seed, first, count, generator.class_counts) if getattr(generator, "classes", 0) else None


def samples(
    generator: nn.Module, seed: int, count: int, batch_size: int = 64, of_class: int | None = None
) -> Iterator[Tensor]:  # fmt: skip
    """The first `count` images of a seed, as batches (n, 3, R, R) uint8; of_class: all of that class, with the same latents."""
    for first in range(0, count, batch_size):
        n = min(batch_size, count - first)
        labels = labels_of(generator, seed, first, n) if of_class is None else torch.full((n,), of_class)
        yield draw(generator, latents(seed, first, n, generator.latent), batch_size, labels)


def by_class(generator: nn.Module, z: Tensor, classes: Sequence[int]) -> Tensor:
    """len(classes) x len(z) images, one row per class, one z per column: (rows * columns, 3, R, R) uint8."""
    return draw(generator, z.repeat(len(classes), 1), labels=torch.tensor(classes).repeat_interleave(len(z)))


GRID_COLUMNS, GRID_CLASSES = 8, 20  # of a grid by class: pictures of each, and classes, the first ones, that have room


def grid(generator: nn.Module, z: Tensor) -> Tensor:
    """Images of fixed latents for a grid of eight columns: one per latent; of a conditional generator a row of eight per class."""
    classes = getattr(generator, "classes", 0)
    return by_class(generator, z[:GRID_COLUMNS], range(min(classes, GRID_CLASSES))) if classes else draw(generator, z)


def interpolations(generator: nn.Module, seed: int, rows: int, columns: int, classes: Sequence[int] = ()) -> Tensor:
    """rows x columns images, each row a walk between two latents along the great circle (White 2016), (rows * columns, 3, R, R).

    classes: of a conditional generator. One: all images are of it. Two: each row keeps its first latent and interpolates from one
    class to the other. None: each row has the class of its first image.
    """
    ends, t = latents(seed, 0, 2 * rows, generator.latent), torch.linspace(0, 1, columns)
    if len(classes) == 2:
        a, b = torch.eye(generator.classes)[list(classes)]
        shares = torch.lerp(a, b, t[:, None])
        return draw(generator, ends[::2].repeat_interleave(columns, 0), labels=shares.repeat(rows, 1))
    walks = torch.cat([slerp(a, b, t) for a, b in zip(ends[::2], ends[1::2])])
    labels = labels_of(generator, seed, 0, 2 * rows) if not classes else torch.full((2 * rows,), classes[0])
    return draw(generator, walks, labels=None if labels is None else labels[::2].repeat_interleave(columns))


def slerp(a: Tensor, b: Tensor, t: Tensor) -> Tensor:
    """Spherical interpolation from a (t = 0) to b (t = 1), both (L,), at t (T,): (T, L). Keeps the norm of Gaussian latents."""
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=0)
    if cosine.abs() > 0.9999:  # on one line with the origin no circle is the one between them
        return torch.lerp(a, b, t[:, None])
    angle = torch.acos(cosine)
    return (torch.sin((1 - t) * angle)[:, None] * a + torch.sin(t * angle)[:, None] * b) / torch.sin(angle)


def tiled(images: Tensor, columns: int, border: int = 0) -> Tensor:
    """(N, C, R, R) images -> (C, H, W): rows of `columns`, with two pixels of grey level `border` around each; a single one, bare.

    What torchvision's make_grid does, which takes a second to import, and a run draws a grid before its first step.
    """
    n, channels, _, width = images.shape
    if n == 1:
        return images[0]
    columns = min(columns, n)
    cell = torch.nn.functional.pad(images, (2, 0, 2, 0), value=border)  # the border above and to the left
    cell = torch.cat([cell, cell.new_full((-n % columns, *cell.shape[1:]), border)])
    grid = cell.view(-1, columns, *cell.shape[1:]).permute(2, 0, 3, 1, 4).reshape(channels, -1, columns * (width + 2))
    return torch.nn.functional.pad(grid, (0, 2, 0, 2), value=border)


def save_grid(images: Tensor, path: Path, columns: int | None = None, scale: int | None = None) -> None:
    """One PNG of (N, 3, R, R) uint8 images, nearly square unless `columns` is given.

    scale: pixels for each of theirs; None: so many that one sees something, as `visible_scale`.
    """
    picture = tiled(images, columns or square(len(images)), 255)
    save_picture(picture, path, scale or visible_scale(picture.shape[2]))


def square(count: int) -> int:
    """How many columns make a grid of so many images nearly square."""
    return -int(-(count**0.5) // 1)


def visible_scale(width: int) -> int:
    """The integer factor that enlarges a picture of this width, in pixels, to about 800; at least 1."""
    return max(1, round(800 / width))


def beside(grids: Sequence[Tensor], gap: int = 12) -> Tensor:
    """(C, H, W) uint8 pictures of one height in a row, white between them."""
    first, *others = grids
    white = first.new_full((first.shape[0], first.shape[1], gap), 255)
    return torch.cat([first, *(part for grid in others for part in (white, grid))], dim=2)


def save_picture(picture: Tensor, path: Path, scale: int = 1) -> None:
    """(3, H, W) uint8 as a PNG, each pixel a square of scale × scale."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, png(picture, scale))


def png(picture: Tensor, scale: int = 1) -> bytes:
    """(3, H, W) uint8 as a PNG, each pixel a square of scale × scale."""
    picture = picture.repeat_interleave(scale, 1).repeat_interleave(scale, 2) if scale > 1 else picture
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "png")
    return buffer.getvalue()


def save_images(batches: Iterator[Tensor], target: Path) -> int:
    """Each image as 000000.png, ... into a directory or, where `target` ends in .zip, a zip: all or none. Returns how many.

    RunError for a directory that holds something. OSError (a full disk).
    """
    count = 0
    if target.suffix.lower() == ".zip":
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in _pngs(batches):
                archive.writestr(zipfile.ZipInfo(name), data)  # without a time: the same images make the same file
                count += 1
        return count
    require_empty(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing_folder(target) as folder:
        for name, data in _pngs(batches):
            (folder / name).write_bytes(data)
            count += 1
    return count


def require_empty(target: Path) -> None:
    """RunError unless `target` is an empty directory or doesn't exist."""
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise RunError(f"{target} is not an empty directory; choose another for --images, or old images mix with new ones")


def _pngs(batches: Iterator[Tensor]) -> Iterator[tuple[str, bytes]]:
    index = 0
    for batch in batches:
        for image in batch:
            buffer = io.BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(buffer, "png", compress_level=1)
            yield f"{index:06d}.png", buffer.getvalue()
            index += 1
