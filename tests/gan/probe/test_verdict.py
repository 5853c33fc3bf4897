"""The verdict of `probe`: words that follow from the numbers."""

import pytest

from gan.probe import measure
from gan.probe.verdict import borders, checkerboards, position, verdicts


def record(**numbers):
    given = {
        "drift_x_px": 0.0,
        "drift_y_px": 0.0,
        "geometric_drift_px": 0.0,
        "overlap_variation": 0.0,
        "phase_mean_variance": 0.002,
    }
    last = {"lean_x": numbers.pop("lean_x", 0.0), "lean_y": 0.0}
    return {
        "card": {"resolution": 32},
        "numbers": given | numbers,
        "erosion": {"generator": [{"lean_x": 1.0, "lean_y": 1.0}, last]},
    }


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (-3.5, -3.2, "drifting, 3.5 px left and 3.2 px up"),
        (0.2, 1.5, "drifting, 0.2 px right and 1.5 px down"),
        (0.4, -0.9, "centred, to 0.9 px"),
    ],
)
def test_position(x, y, words):
    assert words in position(record(drift_x_px=x, drift_y_px=y))


def test_a_network_that_lets_nothing_through_has_no_position():
    found = position(record(drift_x_px=None, drift_y_px=None, geometric_drift_px=None))
    assert found == "position: no change in the seed map reaches the picture (nothing gets through by padding alone)"


def test_a_pixel_of_a_larger_picture_is_less():
    large = record(drift_x_px=-1.5)
    large["card"]["resolution"] = 128
    assert "centred" in position(large) and "drifting" in position(record(drift_x_px=-1.5))


def test_checkerboards_and_real_images_beside():
    assert checkerboards(record()).startswith("checkerboards: taps per output pixel are even; 0.0020 of the detail")
    prone = record(overlap_variation=0.484) | {"real": {"phase_mean_variance": 0.0018}}
    assert "prone, taps per output pixel vary by 0.48" in checkerboards(prone) and "0.0018 in real images" in checkerboards(prone)


def test_networks_whose_resampling_has_no_weights_are_not_called_even():
    assert checkerboards(record(overlap_variation=None)).startswith("checkerboards: no layer with weights doubles a map; 0.0020")


def test_borders_go_by_the_last_map():
    assert "even" in borders(record()) and "eroding at one side" in borders(record(lean_x=-0.06))
    assert "empty" in borders(record(lean_x=None))


@pytest.mark.parametrize(("kernel", "words"), [("c3", ("drifting", "prone")), ("c3sp", ("centred", "are even"))])
def test_kernels_get_the_verdict_that_geometry_gives_them(tiny, kernel, words):
    config = tiny("dcgan", f"generator.kernel={kernel}", "generator.width=16", "generator.upsampling=transposed")
    found = verdicts(measure(config, samples=16).record)
    assert words[0] in found[0] and words[1] in found[1] and found[2].startswith("borders: ")
