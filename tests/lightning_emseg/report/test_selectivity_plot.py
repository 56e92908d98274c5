"""The picture of selectivity shows image, truth, maps and masks as they were given."""

import numpy as np
from matplotlib.image import AxesImage

from lightning_emseg.features.selectivity import Selectivity
from lightning_emseg.report.selectivity_plot import SelectivityRow, selectivity_figure


def found(seed: int) -> Selectivity:
    response = np.random.default_rng(seed).random((20, 30), np.float32)
    return Selectivity(np.zeros(4), np.arange(2), response, response > 0.3, 0.1 * seed, 0.05 * seed)


def row(seed: int) -> SelectivityRow:
    image = np.random.default_rng(seed).integers(0, 256, (20, 30), dtype=np.uint8)
    return SelectivityRow(f"image{seed}", image, image > 200, {"one": found(seed), "two": found(seed + 1)})


def shown(image: AxesImage) -> object:
    return np.asarray(image.get_array())


def test_rows_show_image_truth_and_encoder_pictures() -> None:
    rows = [row(1), row(2)]
    figure = selectivity_figure(rows, "nucleus")
    cells = figure.axes[:-1]
    assert len(cells) == 2 * (2 + 2 * 2)
    for number, given in enumerate(rows):
        line = cells[6 * number : 6 * number + 6]
        assert line[0].get_title() == given.name
        np.testing.assert_array_equal(shown(line[0].images[0]), given.image)
        assert line[1].get_title().startswith("nucleus")
        np.testing.assert_array_equal(shown(line[1].images[0]), given.mask)
        for place, (name, result) in enumerate(given.found.items()):
            heat, binary = line[2 + 2 * place : 4 + 2 * place]
            np.testing.assert_array_equal(shown(heat.images[0]), given.image)
            np.testing.assert_array_equal(shown(heat.images[1]), result.response)
            np.testing.assert_array_equal(shown(binary.images[0]), result.binary)
            assert heat.get_title() == f"{name}: r = {result.response_correlation:.3f}"
            assert binary.get_title() == f"{name}: IoU = {result.iou:.3f}"
    assert figure.axes[-1].get_ylabel().startswith("mean response")
