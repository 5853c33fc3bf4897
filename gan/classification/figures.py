"""The figures of a classifier's run: loss and error over epochs, and which class was taken for which."""

from pathlib import Path

from torch import Tensor

from gan.plots import BLUE, GREY, RED, panels, save_figure, styled, subplots, tidy


@styled
def plot_curves(records: list[dict], path: Path) -> None:
    """Loss and error over epochs, of training (augmented images) and test, as a PNG. Nothing is drawn without records."""
    trained, tested = ([r for r in records if key in r] for key in ("loss", "test_loss"))
    if not trained or not tested:
        return
    figure, axes = panels(3)
    per_epoch = tested[-1]["step"] / max(tested[-1]["epoch"], 1)

    def draw(axis, rows: list[dict], value, **style) -> None:
        axis.plot([r["step"] / per_epoch for r in rows], [value(r) for r in rows], linewidth=1.3, **style)

    dots = {"marker": "o", "markersize": 3}
    draw(axes[0], trained, lambda r: r["loss"], color=BLUE, label="training, augmented")
    draw(axes[0], tested, lambda r: r["test_loss"], color=RED, linestyle="--", label="test", **dots)
    draw(axes[1], trained, lambda r: 100 * (1 - r["accuracy"]), color=BLUE, label="training, augmented")
    draw(axes[1], tested, lambda r: 100 * (1 - r["test_accuracy"]), color=RED, linestyle="--", label="test", **dots)
    draw(axes[2], trained, lambda r: r["lr"], color=GREY)
    error = 100 * (1 - tested[-1]["test_accuracy"])
    for axis, title in zip(axes, ("cross-entropy", f"error, %; test at the end: {error:.2f}", "learning rate")):
        axis.set(title=title, xlabel="epoch", xlim=(0, None), ylim=(0, None))
    tidy(axes)
    axes[0].legend(frameon=False)
    save_figure(figure, path)


@styled
def plot_confusion(confusion: Tensor, classes: tuple[str, ...], path: Path) -> None:
    """Which class was taken for which: rows are the true classes, in percent; numbers where there are at most 20 classes."""
    n = len(classes)
    percent = 100 * confusion.double() / confusion.sum(dim=1, keepdim=True).clamp(min=1)
    side = min(3 + 0.45 * n, 14)
    figure, ((axis,),) = subplots(1, 1, (side, side))
    axis.imshow(percent.sqrt().numpy(), cmap="Greys", vmin=0, vmax=10)  # root: single percents are what one wants to see
    if n <= 20:
        axis.set_xticks(range(n), classes, rotation=45, ha="right")
        axis.set_yticks(range(n), classes)
        for i in range(n):
            for j in range(n):
                if confusion[i, j]:
                    colour = "white" if percent[i, j] > 30 else "black"
                    axis.text(j, i, f"{percent[i, j]:.0f}", ha="center", va="center", color=colour, fontsize=8)
    right = 100 * confusion.trace() / confusion.sum()
    axis.set(xlabel="named", ylabel="is", title=f"test images, % of their class; {right:.2f} % right")
    save_figure(figure, path)
