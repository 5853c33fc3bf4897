"""The record of a probe in three sentences: on position, on checkerboards and on borders."""

import math

DRIFT = 1 / 32  # of the picture's side: what is called drifting, a pixel of 32
UNEVEN = 0.01  # of W1: numbers of taps per output phase that differ at all vary by more than 0.2
LEAN = 0.03  # of the map's side, off centre: trained C2 is off by 0.06, centred kernels by < 0.01 (results/classification)


def verdicts(record: dict) -> list[str]:
    """One line each for position, checkerboards and borders. record: of gan.probe."""
    return [position(record), checkerboards(record), borders(record)]


def position(record: dict) -> str:
    numbers, side = record["numbers"], record["card"]["resolution"]
    x, y, padding = (numbers[name] for name in ("drift_x_px", "drift_y_px", "geometric_drift_px"))
    geometry = "nothing gets through by padding alone" if padding is None else f"{padding:.1f} px by padding alone"
    if x is None or y is None:
        return f"position: no change in the seed map reaches the picture ({geometry})"
    if max(abs(x), abs(y)) < DRIFT * side:
        return f"position: centred, to {max(abs(x), abs(y)):.1f} px ({geometry})"
    across, down = f"{abs(x):.1f} px {'right' if x > 0 else 'left'}", f"{abs(y):.1f} px {'down' if y > 0 else 'up'}"
    return f"position: drifting, {across} and {down} ({geometry})"


def checkerboards(record: dict) -> str:
    numbers = record["numbers"]
    overlap = numbers.get("overlap_variation")
    if overlap is None:
        said = "no layer with weights doubles a map"
    else:
        said = f"prone, taps per output pixel vary by {overlap:.2f}" if overlap > UNEVEN else "taps per output pixel are even"
    share = numbers.get("phase_mean_variance")
    if share is not None:
        said += f"; {share:.4f} of the detail is a pattern of period 2"
    real = record.get("real", {}).get("phase_mean_variance")
    return f"checkerboards: {said}" + (f", {real:.4f} in real images" if real is not None else "")


def borders(record: dict) -> str:
    """By the last map of the generator."""
    last = record["erosion"]["generator"][-1]
    lean = [last[key] for key in ("lean_x", "lean_y")]
    if any(value is None or math.isnan(value) for value in lean):
        return "borders: the last map is empty"
    x, y = lean
    word = "even" if max(abs(x), abs(y)) < LEAN else "eroding at one side"
    return f"borders: {word}, the centre of mass of the last map is {x:+.3f} and {y:+.3f} of its side off, right and down"
