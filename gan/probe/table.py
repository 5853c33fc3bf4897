"""The record of a probe as tables for the terminal."""

from rich.table import Table

from data.files import printable
from metrics.instruments.registry import Number, numbers_of

# What is measured of the generator as a whole. Numbers of its images and of its layers are described where they are registered.
OF_THE_NETWORK = (
    Number("drift_x_px", "S1", "px", "to the right of where a seed cell belongs"),
    Number("drift_y_px", "S1", "px", "down from there"),
    Number("drift_px", "S1", "px", "the size of both, per axis"),
    Number("geometric_drift_px", "S1", "", "the same by padding alone, with equal weights"),
    Number("spread_px", "S1", "px", "per axis around where it lands"),
    Number("phase_slope_x_px", "S2", "px", "to the right, from the phase of the response"),
    Number("phase_slope_y_px", "S2", "px", "down"),
    Number("roll_psnr_db", "S3", "dB;", "the higher, the less borders reach inwards"),
    Number("constant_texture", "W3", "grey levels", "painted on constant seed maps"),
)
ORDER = "SWI"  # shift, weights, images; then whatever other letters there are


def listed() -> list[Number]:
    """All numbers of a record, by their codes."""
    every = [*numbers_of("layers", "images", "pairs"), *OF_THE_NETWORK]
    return sorted(every, key=lambda n: (n.code[0] not in ORDER, ORDER.find(n.code[0]), n.code))


def tables(record: dict) -> list[Table]:
    """The numbers, beside those of real images where there are any; and the layers."""
    return [_numbers(record), _layers(record)]


def layers_of(card: dict) -> str:
    """'nearest c2sp', and what isn't as usual: 'nearest c2sp, reflect padding, 2 flat layers'. Older records lack those two."""
    words = f"{card['upsampling']} {card['kernel']}"
    if card.get("padding", "zeros") != "zeros":
        words += f", {card['padding']} padding"
    if card.get("flat_layers"):
        words += f", {card['flat_layers']} flat layers"
    if card.get("attention"):
        words += f", attention at {card['attention']}"
    for key, word in (("spectral_norm", ", spectral norm"), ("conditional", ", conditional")):
        words += word if card.get(key) else ""
    return words


def _numbers(record: dict) -> Table:
    card, spread = record["card"], record["spread"]
    state = f"step {card['step']:,}" if card["step"] else "untrained"
    title = f"{printable(card['what'])}: {card['family']}, {layers_of(card)}, {card['resolution']} px, {state}"
    rows = Table(title=title, title_justify="left", caption_justify="left")
    rows.add_column("")
    rows.add_column("instrument", overflow="fold")  # nothing is cut where the terminal is narrow
    rows.add_column("generated", justify="right", overflow="fold")
    if "real" in record:
        rows.add_column("real", justify="right", overflow="fold")
        rows.add_column("real against real", justify="right", overflow="fold")
    rows.add_column("what it says", overflow="fold")
    compared = {number.name for number in numbers_of("pairs")}
    for number in listed():
        key = number.name
        value = _text(record["numbers"].get(key))
        value += f" ± {_text(spread[key])}" if spread.get(key) is not None else ""
        beside = []
        if "real" in record:
            beside = [_text(record["real"].get(key)), _text(record["floor"].get(key)) if key in compared else ""]
        rows.add_row(number.code, key, value, *beside, f"{number.unit} {number.meaning}".strip())
    weights = "" if card["step"] else " and weights"
    rows.caption = f"{card['samples']:,} images, seed {card['seed']}"
    rows.caption += f"; ± over {card['seeds']} seeds of latents{weights}" if spread else ""
    rows.caption += f"; real: {card['real_count']:,} of {card['real']}" if card["real"] else "; no real images"
    return rows


def _layers(record: dict) -> Table:
    rows = Table(title="layers of the generator", title_justify="left")
    measured = numbers_of("layers")
    for heading in ("layer", "", "pixels", "S1 drift", "by padding", "taps per phase", *(number.code for number in measured)):
        rows.add_column(heading, justify="left" if heading in ("layer", "") else "right", overflow="fold")
    for row in record["layers"]:
        taps = " ".join(f"{count:g}" for count in row.get("taps", ()))
        rest = [_text(row.get(number.name)) for number in measured]
        sizes = f"{row['size']} → {row['size'] * row['scale']}"
        rows.add_row(row["name"], row["layer"], sizes, _text(row["drift_px"]), _text(row["geometric_drift_px"]), taps, *rest)
    return rows


def _text(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if abs(value) < 5e-7 else f"{value:.3g}"
