"""What a training step changes (State), and the real images that it reads (Batches)."""

import copy
import hashlib
from typing import NamedTuple

import torch
from torch import Tensor, nn

import data
from gan.augmentation import AdaptiveProbability
from gan.checkpoint import all_finite
from gan.config import Config
from gan.models.build import build
from gan.models.layers import spectral_norms
from gan.objectives import LOSSES
from gan.optimizers import Adam
from gan.processes import Processes
from gan.randomness import derive, step_uniform
from gan.settings import ConfigError
from metrics.statistics import fingerprint

# What a step yields, in the order it is computed: losses; mean D(x) and D(G(z)); the unweighted penalties, which count n times in
# an update that stands for n.
LOGGED = ("d_loss", "d_real", "d_fake", "penalty", "g_loss")
ADAPTIVE = ("overfitting", "augmentation")  # r_t and the probability that it made
FORMERLY_LOGGED = ("d_loss", "g_loss", "d_real", "d_fake", "penalty")  # in checkpoints that don't name theirs


class Classes(NamedTuple):
    """The classes of a data set."""

    names: tuple[str, ...]
    counts: Tensor  # (K,) int64: images of each


class State:
    """Weights, optimizers, EMA, step, a probability that adapts, and the losses not yet logged: all that a checkpoint holds."""

    def __init__(self, config: Config, processes: Processes, classes: Classes | None = None):
        """classes: those of the data set, for a conditional run."""
        t = config.train
        networks = build(config, len(classes.names) if classes else None)
        if classes and config.generator.conditional:
            networks[0].class_names = classes.names
            networks[0].class_counts.copy_(classes.counts)
        if processes.world > 1 and processes.device.type == "cuda":
            networks = tuple(nn.SyncBatchNorm.convert_sync_batchnorm(net) for net in networks)
        memory_format = torch.channels_last if t.channels_last else torch.contiguous_format
        self.generator, self.discriminator = (net.to(processes.device, memory_format=memory_format) for net in networks)
        self.ema = copy.deepcopy(self.generator).eval().requires_grad_(False)
        self.generator.recompute = self.discriminator.recompute = t.activation_checkpointing
        self.ema_decay = t.ema_decay
        self.ema_starts_fast = config.schedule.ema_decay is None  # a schedule says itself how it starts
        adapts = config.augment.target is not None
        self.adaptive = AdaptiveProbability(config.augment, t.batch_size * t.d_steps, processes.device) if adapts else None
        betas = (t.beta1, t.beta2)
        self.optimizer_g = Adam(self.generator.parameters(), lr=t.lr_g, betas=betas, fused=True)
        self.optimizer_d = Adam(self.discriminator.parameters(), lr=t.lr_d, betas=betas, fused=True)
        self.step = 0
        self.logged = LOGGED + (ADAPTIVE if self.adaptive else ())
        self.pending: list[Tensor] = []  # the values named in `logged` of the steps that are not logged yet
        self.device = processes.device

    def set_learning_rates(self, g: float, d: float) -> None:
        """Set the rates of the next step. On a GPU a rate is a device tensor, filled in place: a captured CUDA graph reads it.

        Elsewhere it stays a number: a float32 tensor would change the last bits of the weights.
        """
        for optimizer, rate in ((self.optimizer_g, g), (self.optimizer_d, d)):
            for group in optimizer.param_groups:
                if self.device.type != "cuda":
                    group["lr"] = rate
                elif isinstance(group["lr"], Tensor) and group["lr"].is_cuda:
                    group["lr"].fill_(rate)
                else:  # a new run's number, or what a checkpoint held
                    group["lr"] = torch.full((), rate, device=self.device)

    def set_beta2(self, beta2: float) -> None:
        """Set Adam's beta2 of the next step."""
        for optimizer in (self.optimizer_g, self.optimizer_d):
            for group in optimizer.param_groups:
                group["betas"] = (group["betas"][0], beta2)

    @torch.no_grad()
    def update_ema(self) -> None:
        """Move the average towards the weights and the batch-norm statistics; it starts fast, so that the first weights fade."""
        decay = min(self.ema_decay, (1 + self.step) / (10 + self.step)) if self.ema_starts_fast else self.ema_decay
        averages, values = (_averaged(net) for net in (self.ema, self.generator))
        torch._foreach_lerp_(averages, values, 1 - decay)
        for norm, weight in spectral_norms(self.ema):
            norm.follow(weight)

    def dump(self) -> dict:
        optimizer_g, optimizer_d = self.optimizer_g.state_dict(), self.optimizer_d.state_dict()
        for group in (*optimizer_g["param_groups"], *optimizer_d["param_groups"]):
            group["lr"] = float(group["lr"])  # a number in every file, whatever device wrote it
        return {
            "step": self.step,
            "generator": self.generator.state_dict(),
            "discriminator": self.discriminator.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer_g": optimizer_g,
            "optimizer_d": optimizer_d,
            "pending": [t.cpu() for t in self.pending],
            "logged": list(self.logged),
            "device": self.device.type,
            **({"adaptive": self.adaptive.numbers.cpu()} if self.adaptive else {}),
            **({"classes": list(self.generator.class_names)} if self.generator.classes else {}),
        }

    def load(self, saved: dict) -> None:
        """Load what `dump` gave. What doesn't fit raises PyTorch's errors, KeyError or ValueError (see checkpoint.load_errors)."""
        self.step = saved["step"]
        for name in ("generator", "discriminator", "ema", "optimizer_g", "optimizer_d"):
            getattr(self, name).load_state_dict(saved[name])
        for optimizer in (self.optimizer_g, self.optimizer_d):
            require_shapes(optimizer, {"step", "exp_avg", "exp_avg_sq"})
        names = saved.get("logged", FORMERLY_LOGGED + self.logged[len(LOGGED) :])
        order = [names.index(name) for name in self.logged]
        self.pending = [t[order].to(self.device) for t in saved["pending"]]
        if self.adaptive:
            self.adaptive.numbers = saved["adaptive"].to(self.device)

    def finite(self) -> bool:
        """Whether every weight, buffer and average of the networks is a finite number."""
        networks = (self.generator, self.discriminator, self.ema)
        return all_finite([t for net in networks for t in (*net.parameters(), *net.buffers())])


def _averaged(network: nn.Module) -> list[Tensor]:
    """The tensors that the EMA averages: all but integers and the vectors of spectral norms, which follow the averaged weights."""
    vectors = {id(buffer) for norm, _ in spectral_norms(network) for buffer in norm.buffers()}
    return [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point() and id(t) not in vectors]


def require_shapes(optimizer: torch.optim.Optimizer, names: set[str]) -> None:
    """ValueError unless the state that an optimizer has loaded has its parameters' shapes; else its next step would go wrong."""
    for p, found in optimizer.state.items():
        if found.keys() != names or any(found[name].shape not in (p.shape, ()) for name in names):
            raise ValueError("the optimizer's averages don't fit the weights")


class Batches:
    """Real images on the device, as a function of (seed, step, update): floats in [-1, 1], half of them mirrored.

    Updates 0 ... d_steps - 1 are the discriminator's; number d_steps is the generator's, which has some where the loss is paired.
    A set that fits `dataset.memory` lies on the device as uint8; a larger one is read ahead from the disk, which changes no image.
    """

    def __init__(self, config: Config, processes: Processes):
        if config.train.batch_size % processes.world:
            raise ConfigError(f"train.batch_size={config.train.batch_size} can't be shared evenly by {processes.world} processes")
        parts = config.train.gradient_accumulation
        if config.train.batch_size // processes.world % parts:
            raise ConfigError(
                f"{config.train.batch_size // processes.world} images per process can't be worked through in {parts} equal parts; "
                "choose another train.gradient_accumulation"
            )
        self.config, self.processes = config, processes
        self.per_step = config.train.d_steps + LOSSES[config.objective.loss].paired
        self.set = data.load(**config.dataset.arguments)
        self.order = data.EpochOrder(len(self.set), derive(config.train.seed, "order"), config.dataset.block)
        # A resumed run must find the same images, wherever they are kept. A source's fingerprint stands for its pixels.
        self.sha256 = self.set.fingerprint or fingerprint([self.set.images])
        self.classes = self._labels = None
        if config.generator.conditional:
            require_labels(self.set)
            labels = self.set.labels
            self.sha256 = hashlib.sha256(self.sha256.encode() + labels.numpy().tobytes()).hexdigest()
            self.classes = Classes(self.set.classes, labels.bincount(minlength=len(self.set.classes)))
            self._labels = labels.to(processes.device)
        if isinstance(self.set, data.StreamedSet):
            n = config.train.batch_size // processes.world
            self.feeder = data.Feeder(self.set, self.order, n, config.train.batch_size, processes.device)
        else:
            self.feeder = None
            self.images = self.set.images.to(processes.device)  # decoded once, uint8: CIFAR-10 takes 150 MB

    def get(self, step: int, update: int) -> Tensor:
        """(n, 3, R, R): this rank's share of the batch."""
        t, p = self.config.train, self.processes
        position, n = self._place(step, update)
        x = self._pixels(position, n).float() / 127.5 - 1
        if self.config.dataset.flip:
            mirror = step_uniform(n, p.rank, p.world, p.device, t.seed, f"flip{update}", step) < 0.5
            x = torch.where(mirror[:, None, None, None], x.flip(3), x)
        return x.contiguous(memory_format=torch.channels_last) if t.channels_last else x

    def labels(self, step: int, update: int) -> Tensor:
        """(n,) int64 on the device: the classes of the images that `get` gives, in a conditional run."""
        return self._labels[self._indices(*self._place(step, update))]

    def _place(self, step: int, update: int) -> tuple[int, int]:
        """Where in the order this rank's images begin, and how many they are."""
        n = self.config.train.batch_size // self.processes.world
        return (step * self.per_step + update) * self.config.train.batch_size + self.processes.rank * n, n

    def _indices(self, position: int, n: int) -> Tensor:
        """On the device, from pinned memory."""
        device, indices = self.processes.device, self.order.indices(position, n)
        indices = indices.pin_memory() if device.type == "cuda" else indices
        return indices.to(device, non_blocking=True)

    def _pixels(self, position: int, n: int) -> Tensor:
        """(n, 3, R, R) uint8 on the device, copied from pinned memory, so that a GPU doesn't wait."""
        if self.feeder:
            return self.feeder.get(position).to(self.processes.device, non_blocking=True)
        return self.images[self._indices(position, n)]


def require_labels(images: data.ImageSet | data.StreamedSet) -> None:
    """DataError for images without classes; ConfigError if an unusable image would be replaced by one of any class."""
    if len(images.classes) < 2:
        raise data.DataError(
            f"{images.source} has no classes, which generator.conditional=true needs: sort its images into folders, one a class, "
            "or set generator.conditional=false"
        )
    if isinstance(images, data.StreamedSet) and images.on_bad == "skip":
        raise ConfigError(
            "dataset.on_bad=skip shows the next image in place of an unusable one, which may be of another class, and "
            "generator.conditional=true needs each class: fix or remove those images and set dataset.on_bad=refuse, or raise "
            "dataset.memory so that they are left out for good"
        )
