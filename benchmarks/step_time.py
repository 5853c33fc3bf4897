"""One training step (one D and one G update) of SNGAN-32 and WGAN-GP-32, batch 64, beside mimicry's, in one run.

    pip install --no-deps torch-mimicry
    python benchmarks/step_time.py [--networks sngan wgan_gp] [--kernels c3 c2sp c4sp] [--precisions fp32 bf16] [--device cuda]
                                   [--rounds 7] [--compile] [--graphs] [--alone]

mimicry's networks and its own train_step methods run as they are, in a process of their own. Both sides do the same updates: hinge
loss and spectral norm, or Wasserstein loss and gradient penalty, Adam (2e-4, betas 0 and 0.9). "memory kept" is mimicry in our
process, whose allocator keeps freed memory (gan/allocator.py). The variants take turns within each round; the table shows each
one's fastest, in bf16 too where that is native. To reach on CPU: 2 x mimicry and 1.6 x with memory kept in fp32, 5 x in bf16.

--graphs needs a GPU: it also times each of ours captured as a CUDA graph, to see what launching one kernel after another costs. An
experiment that training doesn't offer. On a GPU the first steps take minutes: cuDNN tries its algorithms for every layer.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

import argparse
import contextlib
import multiprocessing

import mimicry
import torch
from common import fastest, keep_freed_memory, machine, precisions, timed
from rich.console import Console
from rich.table import Table
from torch.utils._pytree import tree_leaves

from gan.config import Config
from gan.loop import set_precision
from gan.models.build import resolve
from gan.processes import Processes
from gan.state import Batches, State
from gan.step import Step
from metrics.precision import allow_tf32

BATCH = 64
OBJECTIVES = {"sngan": ["objective.loss=hinge"], "wgan_gp": ["objective.loss=wasserstein", "objective.gradient_penalty=10"]}


def mimicry_step(network, device):
    """A function that does one D and one G update by mimicry's own code, which must be installed."""
    g, d = (net.to(device) for net in mimicry.networks(network))
    step, images = mimicry.step(g, d, 2e-4, 2e-4, device), torch.rand(BATCH, 3, 32, 32, device=device) * 2 - 1
    return lambda: step(images)


def serve_mimicry(connection, network, device):
    allow_tf32(False, False)  # fp32 means IEEE fp32
    torch.backends.cudnn.benchmark = True  # as we set it for ours
    step = mimicry_step(network, device)
    with contextlib.suppress(EOFError):  # the end of the other side
        while connection.recv():
            timed(step, device)  # to the end of what it starts on a GPU
            connection.send(True)


def mimicry_elsewhere(network, device):
    """The same in a process of its own, with the allocator as Python leaves it: mimicry as its users run it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    context.Process(target=serve_mimicry, args=(theirs, network, device), daemon=True).start()
    theirs.close()

    def step():
        ours.send(True)
        ours.recv()  # EOFError if it died, below its traceback

    return step


def our_step(network, device, kernel, *overrides, graph=False):
    settings = [f"generator.family={network}", f"generator.kernel={kernel}", *OBJECTIVES[network], f"train.batch_size={BATCH}"]
    settings += ["train.beta1=0", "train.beta2=0.9", f"train.device={device}", "generator.width_rule=equal_parameters"]
    config = resolve(Config.load(None, [*settings, *overrides]))
    processes = Processes.start(device)
    step = Step(config, processes, State(config, processes), Batches(config, processes))
    if graph:
        set_precision(config, processes.device)
        step()  # Adam makes its state, and the learning rates become tensors
        step.compute = captured(step)

    def run():
        set_precision(config, processes.device)
        step()

    return run


def captured(step):
    """step.compute as a CUDA graph: inputs are copied to where it was captured with them, then it is launched at once."""
    places, compute = step.inputs(), step.compute
    for optimizer in (step.state.optimizer_g, step.state.optimizer_d):
        for group in optimizer.param_groups:
            group["capturable"] = True  # fused Adam is; PyTorch wants to be told
    aside = torch.cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # as PyTorch advises: libraries choose their algorithms and workspaces before a capture
        for _ in range(3):
            compute(places)
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        values = compute(places)

    def launch(inputs):
        for place, drawn in zip(tree_leaves(places), tree_leaves(inputs)):
            if isinstance(place, torch.Tensor):
                place.copy_(drawn)
        graph.replay()
        return values.clone()

    return launch


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--networks", nargs="+", choices=OBJECTIVES, default=list(OBJECTIVES))
    arguments.add_argument("--kernels", nargs="+", default=["c3", "c2sp", "c4sp"])
    arguments.add_argument("--precisions", nargs="+", choices=["fp32", "tf32", "bf16"], help="default: all native ones")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--compile", action="store_true", help="also time torch.compile (takes minutes to warm up)")
    arguments.add_argument("--graphs", action="store_true", help="also time our steps captured as CUDA graphs (needs a GPU)")
    arguments.add_argument("--alone", action="store_true", help="without mimicry")
    args = arguments.parse_args()
    if args.graphs and not (args.device.startswith("cuda") and torch.cuda.is_available()):
        arguments.error("--graphs captures CUDA graphs: it needs a GPU and --device cuda")
    keep_freed_memory()  # as the command line does
    console = Console(width=110)
    console.print(machine(args.device))

    for network in args.networks:
        console.print(table(network, fastest(variants(network, args, console), args.rounds, args.device)))


def variants(network, args, console):
    """name -> a function that takes a step"""
    runs = {}
    if not args.alone and mimicry.installed():
        runs["mimicry c3 fp32"] = mimicry_elsewhere(network, args.device)
        if args.device == "cpu":
            runs["mimicry c3 fp32, memory kept"] = mimicry_step(network, args.device)
    elif not args.alone:
        console.print("mimicry is not installed (pip install --no-deps torch-mimicry): timing ours alone")
    for precision in args.precisions or precisions(args.device, tf32=True):
        options = [f"train.precision={precision}", "train.deterministic=false"]
        ways = {"": [], ", not fused": ["train.fused=false"]}
        if args.compile and network == "sngan":  # the other's gradient penalty can't be compiled
            ways[", compiled"] = ["train.compile=true"]
        for kernel in args.kernels:
            for way, settings in ways.items() if kernel == "c3" else [("", [])]:
                name, own = f"ours {kernel} {precision}{way}", (network, args.device, kernel, *options, *settings)
                runs[name] = our_step(*own)
                if args.graphs:
                    runs[f"{name}, graph"] = our_step(*own, graph=True)
    return runs


def table(network, times):
    rows = Table(title=f"{network} at 32 pixels, batch {BATCH}: one D and one G update", title_justify="left")
    for heading in ("variant", "ms / step", "images / s", "x mimicry", "x memory kept"):
        rows.add_column(heading, justify="left" if heading == "variant" else "right")
    for name, seconds in times.items():
        beside = [times.get(f"mimicry c3 fp32{kept}") for kept in ("", ", memory kept")]
        ratios = [f"{other / seconds:.2f}" if other else "-" for other in beside]
        rows.add_row(name, f"{seconds * 1e3:.1f}", f"{BATCH / seconds:.0f}", *ratios)
    return rows


if __name__ == "__main__":
    main()
