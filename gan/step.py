"""One training step: its inputs, and the updates of both networks."""

import contextlib
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from gan import schedules
from gan.augmentation import DRAWS, augment
from gan.config import Config
from gan.loop import compiled
from gan.objectives import LOSSES, certainty, difference_penalty, gradient_penalty, r1_penalty
from gan.processes import Processes
from gan.randomness import choose_classes, step_noise, step_uniform
from gan.state import LOGGED, Batches, State


class Batch(NamedTuple):
    """The inputs of one update, one row per image; None for what the settings don't need."""

    z: Tensor  # (n, latent)
    real: Tensor | None = None  # (n, 3, R, R) in [-1, 1]; of the generator's update: where the loss is paired
    draws: Tensor | None = None  # (n, 2, DRAWS) in [0, 1): how real and generated images are augmented
    epsilon: Tensor | None = None  # (n,) in [0, 1): where between real and fake gradient_penalty looks
    labels: Tensor | None = None  # (n,) int64, of real and generated images alike, in a conditional run
    directions: Tensor | None = None  # (n, 2, 3, R, R) normal: where the finite differences of R1 and R2 look
    penalised: bool = False  # whether this update has penalties

    def parts(self, count: int) -> list["Batch"]:
        """`count` equal parts, in order."""
        columns = [value.chunk(count) if isinstance(value, Tensor) else [value] * count for value in self]
        return [Batch(*row) for row in zip(*columns)]


class Strengths(NamedTuple):
    """Scheduled strengths of a step: numbers, or scalar tensors on the device where they change from step to step."""

    r1: float | Tensor
    r2: float | Tensor
    probability: float | Tensor  # of augmentation


class Side(NamedTuple):
    """Real or generated images of an update."""

    images: Tensor
    change: Callable[[Tensor], Tensor]  # the augmentation, images -> what D sees
    shown: Tensor  # change(images)
    gamma: float | Tensor  # of R1 or R2


class Inputs(NamedTuple):
    """All inputs of a step: a function of the seed and the step's index."""

    updates: list[Batch]  # of the discriminator
    generator: Batch
    strengths: Strengths


class Step:
    """train.d_steps discriminator updates and one generator update: a function of the state, the seed and the step's index."""

    def __init__(self, config: Config, processes: Processes, state: State, batches: Batches):
        self.config, self.processes, self.state, self.batches = config, processes, state, batches
        self.loss = LOSSES[config.objective.loss]
        self.G, self.D = processes.parallel(state.generator), processes.parallel(state.discriminator)
        # DistributedDataParallel waits for gradients of D's weights, which G's step has none of: there D is called bare.
        self.frozen_D = self.D if processes.world == 1 else state.discriminator
        if config.train.compile:
            self.G, self.D, self.frozen_D = (compiled(module) for module in (self.G, self.D, self.frozen_D))

    def __call__(self) -> Tensor:
        """Returns the values named in state.logged, float32, still on the device."""
        state, now = self.state, schedules.at(self.config, self.state.step)
        inputs = self.inputs()
        state.set_learning_rates(now.lr_g, now.lr_d)
        state.set_beta2(now.beta2)
        state.ema_decay = now.ema_decay
        values = self.compute(inputs)
        state.step += 1
        state.update_ema()
        if state.adaptive:
            (r_t,) = self.processes.mean(values[len(LOGGED) :])
            state.adaptive.observe(r_t, state.step)
            values = torch.cat([values[: len(LOGGED)], torch.stack([r_t, state.adaptive.probability])])
        return values

    # --- its inputs ----------------------------------------------------------------------------------------------------------

    def inputs(self) -> Inputs:
        """All inputs of the next step."""
        t, step = self.config.train, self.state.step
        updates = [self.discriminator_batch(update) for update in range(t.d_steps)]
        real = self.batches.get(step, t.d_steps) if self.loss.paired else None
        z = self.noise("z", self.config.generator.latent)
        generator = Batch(z, real, self.draws("augment"), labels=self.labels(t.d_steps, of_real=self.loss.paired))
        return Inputs(updates, generator, self.strengths())

    def discriminator_batch(self, update: int) -> Batch:
        t, o, step = self.config.train, self.config.objective, self.state.step
        penalised = o.penalised and (step * t.d_steps + update) % o.penalty_every == 0
        differences = penalised and o.penalty_form == "finite_difference" and bool(o.r1 or o.r2)
        resolution = self.config.dataset.resolution
        return Batch(
            z=self.noise(f"z{update}", self.config.generator.latent),
            real=self.batches.get(step, update),
            draws=self.draws(f"augment{update}"),
            labels=self.labels(update),
            epsilon=self.uniform(f"epsilon{update}") if penalised and o.gradient_penalty else None,
            directions=self.noise(f"directions{update}", 2, 3, resolution, resolution) if differences else None,
            penalised=penalised,
        )

    def labels(self, update: int, of_real: bool = True) -> Tensor | None:
        """The labels of the update's real images, shared by its generated ones, so that pairs and interpolations are of one class.

        Without real images: drawn in the classes' proportions in the data.
        """
        if not self.config.generator.conditional:
            return None
        if of_real:
            return self.batches.labels(self.state.step, update)
        return choose_classes(self.uniform("labels"), self.state.generator.class_counts)

    def strengths(self) -> Strengths:
        s, now = self.config.schedule, schedules.at(self.config, self.state.step)
        scheduled = lambda end, value: value if end is None else torch.full((), value, device=self.processes.device)
        probability = scheduled(s.probability, now.probability)
        if self.state.adaptive:
            probability = self.state.adaptive.probability
        return Strengths(scheduled(s.r1, now.r1), scheduled(s.r2, now.r2), probability)

    def noise(self, name: str, *shape: int) -> Tensor:
        """(n, *shape), standard normal."""
        p = self.processes
        return step_noise((self.n, *shape), p.rank, p.world, p.device, self.config.train.seed, name, self.state.step)

    def uniform(self, name: str, columns: int = 1) -> Tensor:
        """(n * columns,) uniform in [0, 1), row by row."""
        p = self.processes
        return step_uniform(self.n * columns, p.rank, p.world, p.device, self.config.train.seed, name, self.state.step)

    def draws(self, name: str) -> Tensor | None:
        return self.uniform(name, 2 * DRAWS).view(-1, 2, DRAWS) if self.config.augment.used else None

    @property
    def n(self) -> int:
        """Images of this process."""
        return self.config.train.batch_size // self.processes.world

    # --- its updates ---------------------------------------------------------------------------------------------------------

    def compute(self, inputs: Inputs) -> Tensor:
        """The updates of both networks. Returns the LOGGED values, and r_t where augmentation adapts to it.

        It depends on device tensors alone and never waits for the device, so that it can be captured once as a CUDA graph
        (benchmarks/step_time.py --graphs); unless objective.penalty_every leaves out the penalties of some steps, or beta2 is
        scheduled.
        """
        found = torch.stack([self.update_discriminator(batch, inputs.strengths) for batch in inputs.updates])
        g_loss = self.update_generator(inputs.generator, inputs.strengths)
        last, mean = found[-1], found.mean(dim=0)
        penalty = last if self.config.objective.penalty_every == 1 else mean  # the last update may have none
        return torch.cat([last[:3], penalty[3:4], g_loss, mean[4:]])

    def update_discriminator(self, batch: Batch, strengths: Strengths) -> Tensor:
        """One update of D. Returns d_loss, mean D(x), mean D(G(z)), the unweighted penalty, and r_t where augmentation adapts."""
        state = self.state
        state.discriminator.requires_grad_(True)
        found = self.accumulate(self.D, lambda part: self.discriminator_loss(part, strengths), batch)
        state.optimizer_d.step()
        state.optimizer_d.zero_grad()
        return found

    def discriminator_loss(self, batch: Batch, strengths: Strengths) -> Tensor:
        o = self.config.objective
        # D sees G only through its pictures, so no graph is built through G.
        with torch.no_grad(), self.autocast():
            generated = self.G(batch.z, *label_arguments(batch)).float()
        changes = [self.change(batch.draws, side, strengths) for side in range(2)]
        real, fake = (
            Side(x, change, change(x), gamma)
            for x, change, gamma in zip((batch.real, generated), changes, (strengths.r1, strengths.r2))
        )
        smooth = [side for side, gamma in ((real, o.r1), (fake, o.r2)) if gamma] if batch.penalised else []
        noises = () if batch.directions is None else batch.directions.unbind(1)
        moved = [side.change(side.images + o.penalty_sigma * noise) for side, noise in zip(smooth, noises)]
        one_pass = self.config.train.precision == "fp32"  # of D over all images; bf16 would round the differences away
        D, penalties = lambda x: self.state.discriminator(x, *label_arguments(batch)), []
        with self.autocast():
            on_real, on_fake, *on_moved = (
                x.float() for x in self.discriminate([real.shown, fake.shown, *(moved if one_pass else ())], batch)
            )
            loss = self.loss.discriminator(on_real, on_fake)
            if batch.epsilon is not None:
                penalties.append((o.gradient_penalty, gradient_penalty(D, real.shown, fake.shown, batch.epsilon)))
            if not moved:
                penalties += [(side.gamma, r1_penalty(lambda x, side=side: D(side.change(x)), side.images)) for side in smooth]
        on_smooth = [on_real if side is real else on_fake for side in smooth]
        if moved and not one_pass:
            logits = list(self.discriminate([*(side.shown for side in smooth), *moved], batch))
            on_smooth, on_moved = logits[: len(moved)], logits[len(moved) :]
        for side, here, there in zip(smooth, on_smooth, on_moved):
            penalties.append((side.gamma, difference_penalty(here, there, o.penalty_sigma)))
        penalty = torch.zeros((), device=loss.device)
        for weight, value in penalties:
            loss, penalty = loss + weight * o.penalty_every * value, penalty + o.penalty_every * value
        values = [loss, on_real.mean(), on_fake.mean(), penalty]
        return torch.stack([*values, certainty(self.loss, on_real, on_fake)] if self.state.adaptive else values)

    def discriminate(self, images: list[Tensor], batch: Batch) -> Iterable[Tensor]:
        """D's logits (n,) of each of several (n, 3, R, R), all with the batch's labels; in one pass but for batch norm."""
        if self.config.discriminator.norm == "batch":  # which takes its statistics from each by itself
            return [self.D(x, *label_arguments(batch)) for x in images]
        return self.D(torch.cat(images), *(labels.repeat(len(images)) for labels in label_arguments(batch))).chunk(len(images))

    def change(self, draws: Tensor | None, side: int, strengths: Strengths) -> Callable[[Tensor], Tensor]:
        """The augmentation of real (side 0) or generated (side 1) images, as a function of them."""
        if draws is None:
            return lambda x: x
        return lambda x: augment(x.float(), draws[:, side], self.config.augment, strengths.probability)

    def update_generator(self, batch: Batch, strengths: Strengths) -> Tensor:
        """One update of G. Returns g_loss, (1,) float32."""
        state = self.state
        # The gradient passes through D, but D's own weights need none: that saves a third of its backward.
        state.discriminator.requires_grad_(False)
        found = self.accumulate(self.G, lambda part: self.generator_loss(part, strengths), batch)
        state.optimizer_g.step()
        state.optimizer_g.zero_grad()
        return found

    def generator_loss(self, batch: Batch, strengths: Strengths) -> Tensor:
        of_real, of_fake = (self.change(batch.draws, side, strengths) for side in range(2))
        with self.autocast():
            logits = [self.frozen_D(of_fake(self.G(batch.z, *label_arguments(batch))), *label_arguments(batch))]
            if self.loss.paired:
                with torch.no_grad():
                    logits.append(self.frozen_D(of_real(batch.real), *label_arguments(batch)))
            return self.loss.generator(*(x.float() for x in logits))[None]

    def accumulate(self, network: nn.Module, loss: Callable[[Batch], Tensor], batch: Batch) -> Tensor:
        """Accumulate gradients of the first value of `loss`, averaged over the batch's parts; returns the means of all values."""
        parts = batch.parts(self.config.train.gradient_accumulation)
        found = []
        for part in parts:
            waits = isinstance(network, DistributedDataParallel) and part is not parts[-1]  # processes share the sum, not each part
            with network.no_sync() if waits else contextlib.nullcontext():
                values = loss(part)
                (values[0] / len(parts)).backward()
            found.append(values.detach())
        return torch.stack(found).mean(dim=0)

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.config.train.precision == "bf16")


def label_arguments(batch: Batch) -> tuple[Tensor, ...]:
    """The arguments that a network takes after images or z: the labels in a conditional run, else none."""
    return () if batch.labels is None else (batch.labels,)
