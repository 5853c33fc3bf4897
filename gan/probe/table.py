"""The record of the instruments as tables for the terminal."""

from rich.table import Table

# code, key, what is read off
ROWS = (
    ("S1", "drift_px", "px per axis from where a seed cell belongs"),
    ("S1", "geometric_drift_px", "the same by padding alone, with equal weights"),
    ("S1", "spread_px", "px per axis around where it lands"),
    ("S2", "phase_slope_x_px", "px to the right, from the phase of the response"),
    ("S2", "phase_slope_y_px", "px down"),
    ("S3", "roll_psnr_db", "dB; the higher, the less borders reach inwards"),
    ("S4", "border_left_right", "gradient energy, left against right border"),
    ("S4", "border_top_bottom", "top against bottom"),
    ("S4", "border_asymmetry_excess", "mean difference of both from the real images'"),
    ("W1", "overlap_variation", "taps per output phase, worst layer"),
    ("W2", "phase_gain", "kernel sums per output phase, worst layer"),
    ("W3", "constant_response", "variance a constant gets, over its mean squared"),
    ("W3", "constant_texture", "grey levels painted on constant seed maps"),
    ("W4", "noise_response", "log variance of white noise over phases"),
    ("I1", "phase_mean_variance", "share of the residual that is a pattern"),
    ("I2", "nyquist_peaks_db", "dB at period 2, the last layer that doubles"),
    ("I2", "half_nyquist_peaks_db", "dB at period 4, the layer before"),
    ("I3", "phase_variance_ratio", "log variance of the residual over phases"),
    ("I4", "spectrum_gap", "high frequencies, difference of logarithms"),
    ("I5", "dct_gap", "DCT magnitudes, difference of logarithms"),
)


def tables(record: dict) -> list[Table]:
    """The numbers, beside those of real images where there are any; and the layers."""
    return [_numbers(record), _layers(record)]


def _numbers(record: dict) -> Table:
    card, spread = record["card"], record["spread"]
    state = f"step {card['step']:,}" if card["step"] else "untrained"
    title = f"{card['what']}: {card['family']}, {card['upsampling']} {card['kernel']}, {card['resolution']} px, {state}"
    rows = Table(title=title, title_justify="left", caption_justify="left")
    rows.add_column("")
    rows.add_column("instrument", no_wrap=True)
    rows.add_column("generated", justify="right", no_wrap=True)
    if "real" in record:
        rows.add_column("real", justify="right")
        rows.add_column("real against real", justify="right")
    rows.add_column("what it says")
    for code, key, meaning in ROWS:
        value = _text(record["numbers"].get(key))
        value += f" ± {_text(spread[key])}" if spread.get(key) is not None else ""
        beside = []
        if "real" in record:
            against = key in ("spectrum_gap", "dct_gap", "border_asymmetry_excess")
            beside = ["" if against else _text(record["real"].get(key)), _text(record["floor"].get(key)) if against else ""]
        rows.add_row(code, key, value, *beside, meaning)
    weights = "" if card["step"] else " and weights"
    rows.caption = f"{card['samples']:,} images, seed {card['seed']}"
    rows.caption += f"; ± over {card['seeds']} seeds of latents{weights}" if spread else ""
    rows.caption += f"; real: {card['real_count']:,} of {card['real']}" if card["real"] else "; no real images"
    return rows


def _layers(record: dict) -> Table:
    rows = Table(title="layers of the generator", title_justify="left")
    for heading in ("layer", "", "pixels", "S1 drift", "by padding", "taps per phase", "W1", "W2", "W3", "W4"):
        rows.add_column(heading, justify="left" if heading in ("layer", "") else "right")
    for row in record["layers"]:
        taps = " ".join(f"{count:g}" for count in row.get("taps", ()))
        keys = ("overlap_variation", "phase_gain", "constant_response", "noise_response")
        rest = [_text(row[key]) if key in row else "" for key in keys]
        sizes = f"{row['size']} → {row['size'] * row['scale']}"
        rows.add_row(row["name"], row["layer"], sizes, _text(row["drift_px"]), _text(row["geometric_drift_px"]), taps, *rest)
    return rows


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if abs(value) < 5e-7 else f"{value:.3g}"
