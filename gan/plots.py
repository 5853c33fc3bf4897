"""Pictures of a run's numbers."""

from pathlib import Path
from types import ModuleType


def pyplot() -> ModuleType:
    """matplotlib's, drawing to files. Imported when there is something to draw, since that takes as long as a few hundred steps."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot

    return matplotlib.pyplot


def plot_curves(records: list[dict], path: Path) -> None:
    """Losses and mean logits over steps, from the records of metrics.jsonl, as a PNG. Nothing is drawn without records."""
    records = [r for r in records if "d_loss" in r]  # the others are scores
    if not records:
        return
    steps = [r["step"] for r in records]
    penalised = any(r["penalty"] for r in records)
    plt = pyplot()
    figure, axes = plt.subplots(1, 3 if penalised else 2, figsize=(12 if penalised else 9, 3.2), layout="constrained")
    panels = [
        ("losses", {"d_loss": ("discriminator", "#1f5fa8", "-"), "g_loss": ("generator", "#d1495b", "-")}),
        ("mean logits", {"d_real": ("D(x), real", "#1f5fa8", "-"), "d_fake": ("D(G(z)), generated", "#d1495b", "--")}),
        ("penalty", {"penalty": ("gradient penalty, unweighted", "#444444", "-")}),
    ]
    for axis, (title, lines) in zip(axes, panels):
        for key, (label, colour, style) in lines.items():
            axis.plot(steps, [r[key] for r in records], style, color=colour, label=label, linewidth=1.3)
        axis.set(title=title, xlabel="step (generator updates)", xlim=(0, steps[-1]))
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def plot_scores(scores: dict[int, dict[str, float]], path: Path) -> None:
    """One panel per score over the steps of training, as a PNG."""
    names = list(next(iter(scores.values())))
    steps = sorted(scores)
    plt = pyplot()
    figure, axes = plt.subplots(1, len(names), figsize=(4.2 * len(names), 3.2), layout="constrained", squeeze=False)
    for axis, name in zip(axes[0], names):
        axis.plot(steps, [scores[step][name] for step in steps], "o-", color="#1f5fa8", markersize=4)
        axis.set(title=name, xlabel="step (generator updates)")
        axis.grid(alpha=0.25)
        axis.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)
