"""Numbers of an attribution that go to loggers."""

from lightning_emseg.attribution.accuracy import Accuracy
from lightning_emseg.callbacks.attribution_report import AttributionReport, scalars


def test_errors_are_logged_under_their_thresholds() -> None:
    accuracy = Accuracy((0.01, 0.1), 4, (0.25, 0.5), (0.75, 1.0), (0.0, 0.0), 0.9, 0.8)
    assert scalars([], AttributionReport([], [], accuracy, {"validation_share": 0.125})) == {
        "attribution/fast_error_0.01": 0.25,
        "attribution/fast_error_0.1": 0.5,
        "attribution/validation_share": 0.125,
    }
