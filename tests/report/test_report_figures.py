"""Figures show the data they are given, in fixed colours, and leave matplotlib's settings alone."""

import re

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from wflib.report import (
    COLOURS,
    FIGURES,
    LABELS,
    barrier_matrix,
    calibration,
    distribution,
    diversity,
    learning_rate,
    mean_excess,
    quality_by_steps,
    theme,
    training_loss,
    variance_ratio,
)
from wflib.report.pictures import network_pictures, weight_image
from wflib.report.theme import dark_counterpart, svg_bytes


@pytest.fixture
def axes():
    with theme():
        yield Figure().subplots()


def ticks(axes):
    return [text.get_text() for text in axes.get_yticklabels()]


def test_distribution_has_every_point_of_every_source_in_its_colour(run, axes):
    distribution(run.networks, "accuracy", axes, text="test accuracy")
    present = [source for source in COLOURS if source in set(run.networks["source"])]
    assert ticks(axes) == [LABELS[source] for source in present]
    assert axes.get_xlabel() == "test accuracy"
    for source, points in zip(present, axes.collections, strict=True):
        expected = run.networks.loc[run.networks["source"] == source, "accuracy"]
        np.testing.assert_allclose(points.get_offsets()[:, 0], expected)
        assert to_hex(points.get_facecolor()[0]).upper() == COLOURS[source]


def test_distribution_leaves_out_sources_without_numbers_and_names_unknown_ones(run, axes):
    table = run.networks.replace({"source": {"gaussian-full": "somebodys-own"}})
    table.loc[table["source"] == "somebodys-own", "nearest_distance"] = 3.0
    distribution(table, "nearest_distance", axes, text="distance")
    assert ticks(axes) == ["samples", "held-out", "training + noise", "somebodys-own"]


def test_log_axis_is_refused_where_a_value_is_not_positive(run, axes):
    distribution(run.networks, "nll", axes, text="NLL", log=True)
    assert axes.get_xscale() == "log"
    other = Figure().subplots()
    distribution(run.networks.assign(nll=run.networks["nll"] - 1), "nll", other, text="NLL", log=True)
    assert other.get_xscale() == "linear"


def test_barrier_title_is_the_mean_over_different_pairs(run, axes):
    barrier_matrix(run.barriers, "aligned", axes, limits=(0, 1))
    pairs = run.barriers.query("stage == 'aligned' and i != j")
    mean, error = mean_excess(run.barriers, "aligned")
    assert axes.get_title(loc="left") == f"aligned: mean excess {mean:.4f} ± {error:.4f}"
    assert mean == pytest.approx(pairs["excess"].mean())
    assert error == pytest.approx(2 * pairs.groupby("i")["excess"].mean().std() / np.sqrt(24))
    one_triangle = mean_excess(run.barriers.query("i <= j"), "aligned")
    assert one_triangle == pytest.approx((mean, error))
    assert np.isnan(mean_excess(run.barriers, "nowhere")).all()


def test_barrier_matrix_is_the_same_from_one_triangle(run, axes):
    other = Figure().subplots()
    barrier_matrix(run.barriers, "unaligned", axes, limits=(0, 1))
    barrier_matrix(run.barriers.query("i <= j"), "unaligned", other, limits=(0, 1))
    np.testing.assert_array_equal(axes.images[0].get_array(), other.images[0].get_array())


def test_barrier_matrices_share_one_colour_scale(run):
    figure = next(plot for plot in FIGURES if plot.name == "barriers").draw(run)
    left, right = (panel.images[0].get_clim() for panel in figure.axes[:2])
    assert left == right


def test_training_loss_shows_both_losses_and_marks_the_best(run, axes):
    training_loss(run.history, axes)
    raw, _, validation, best = axes.get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), run.history["loss"])
    np.testing.assert_array_equal(validation.get_ydata(), run.history["validation_loss"].dropna())
    assert best.get_ydata()[0] == run.history["validation_loss"].min()
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("iteration", "loss")


def test_training_loss_without_validation_is_one_line(run, axes):
    training_loss(run.history.head(50).assign(validation_loss=np.nan), axes)
    assert len(axes.get_lines()) == 1


def test_learning_rate_is_drawn_as_given(run, axes):
    learning_rate(run.history, axes)
    np.testing.assert_array_equal(axes.get_lines()[0].get_ydata(), run.history["learning_rate"])


@pytest.mark.parametrize("guidance", [[0.0], [0.0, 0.1]])
def test_steps_has_a_line_a_guidance_and_the_zoo(run, axes, guidance):
    curve = run.curve[run.curve["guidance"].isin(guidance)]
    quality_by_steps(curve, "nll", axes, text="NLL", zoo=(0.072, 0.2), log=True)
    assert len(axes.containers) == len(guidance)
    for strength, bars in zip(guidance, axes.containers, strict=True):
        np.testing.assert_allclose(
            np.asarray(bars.lines[0].get_ydata(), dtype=float), curve.loc[curve["guidance"] == strength, "nll_mean"]
        )
    assert [text.get_text() for text in axes.get_xticklabels()] == ["8", "16", "32", "64"]
    assert len(axes.patches) == 1
    assert axes.get_ylim()[0] > 0


def test_diversity_and_variance_show_the_numbers(run, axes):
    diversity(run.groups, axes)
    expected = run.groups.dropna(subset="diversity")["diversity"]
    np.testing.assert_allclose([bar.get_width() for bar in axes.patches], expected)
    other = Figure().subplots()
    variance_ratio(run.groups, other)
    dots = [line.get_xdata()[0] for line in other.get_lines() if line.get_marker() == "o"]
    np.testing.assert_allclose(dots, run.groups["variance_ratio"].dropna())


def test_calibration_shows_single_networks_and_their_average(run, axes):
    calibration(run.groups, "ece", axes, text="ECE")
    circles = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "o"]
    diamonds = [line.get_xdata()[0] for line in axes.get_lines() if line.get_marker() == "D"]
    np.testing.assert_allclose(circles, run.groups["ece_mean"])
    np.testing.assert_allclose(diamonds, run.groups["bma_ece"])


@pytest.mark.parametrize("plot", FIGURES, ids=lambda plot: plot.name)
def test_same_data_same_bytes_and_settings_stay(run, plot):
    before = dict(matplotlib.rcParams)
    with theme():
        once, again = svg_bytes(plot.draw(run)), svg_bytes(plot.draw(run))
    assert once == again
    assert dict(matplotlib.rcParams) == before


def test_other_data_other_bytes(run, make_run):
    plot = next(plot for plot in FIGURES if plot.name == "quality")
    with theme():
        assert svg_bytes(plot.draw(run)) != svg_bytes(plot.draw(make_run(networks=run.networks.assign(nll=1.0))))


@pytest.mark.parametrize("name", ["barriers", "steps", "training", "networks"])
def test_figures_without_rows_are_none(make_run, name):
    table = {"steps": "curve", "training": "history", "networks": "pictures"}.get(name, name)
    rows = getattr(make_run(), table).head(0)
    assert next(plot for plot in FIGURES if plot.name == name).draw(make_run(**{table: rows})) is None


def test_figures_without_a_metric_leave_out_its_panel(make_run, run):
    plot = next(plot for plot in FIGURES if plot.name == "quality")
    with theme():
        figure = plot.draw(make_run(networks=run.networks.assign(accuracy=np.nan)))
    assert [panel.get_xlabel() for panel in figure.axes] == ["test negative log-likelihood [nats]"]


def test_a_missing_column_is_an_error_that_names_it(make_run):
    with pytest.raises(ValueError, match=r"curve: expected columns .* missing \['accuracy_mean'"):
        make_run(curve=pd.DataFrame({"steps": [1], "guidance": [0.0]}))


def test_networks_lie_side_by_side_filters_as_tiles(run):
    with theme():
        figure = network_pictures(run.pictures)
    titles = [axes.get_title(loc="left") for axes in figure.axes if axes.get_title(loc="left")]
    assert titles == ["a training network\n1 away", "a sample", "the training network nearest to it\n3 away"]
    part = run.pictures.query("network == 'zoo' and tensor == 'linear1.weight'")
    image = weight_image(part)
    assert image.shape == (5, 5)  # two by two images of two by two, and a gap
    assert image[3:, :2].ravel().tolist() == part.query("unit == 2")["value"].tolist()
    assert np.isnan(image[2]).all()
    assert np.isnan(image[:, 2]).all()
    matrix = weight_image(run.pictures.query("network == 'zoo' and tensor == 'linear2.weight'"))
    assert matrix.shape == (2, 4)
    limits = {image.get_clim() for axes in figure.axes[:3] for image in axes.images}
    assert len(limits) == 1  # one scale for all networks


def test_channels_are_columns_of_tiles():
    places = np.indices((2, 3, 2, 2)).reshape(4, -1).T
    part = pd.DataFrame(places, columns=["unit", "channel", "y", "x"]).assign(value=np.arange(24.0))
    image = weight_image(part.sample(frac=1, random_state=0))
    assert image.shape == (5, 8)
    assert image[3:, 6:].ravel().tolist() == part.query("unit == 1 and channel == 2")["value"].tolist()


def test_figures_are_dark_where_pages_are(run):
    plot = next(plot for plot in FIGURES if plot.name == "quality")
    with theme():
        drawing = svg_bytes(plot.draw(run)).decode()
    style = re.search(r"<style[^>]*>(.*?)</style>", drawing, re.DOTALL)[1]
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert '[style*="fill: #ffffff"]{fill:#14181c!important}' in style
    assert set(re.findall(r"fill: (#[0-9a-f]{6})", style)) < set(re.findall(r"fill: (#[0-9a-f]{6})", drawing))
    assert "fill: #d55e00" not in style  # bright enough on either paper


@pytest.mark.parametrize(
    ("light", "dark"),
    [("#ffffff", "#14181c"), ("#000000", "#e6e6e6"), ("#d55e00", "#d55e00"), ("#56b4e9", "#56b4e9")],
)
def test_colours_have_dark_counterparts(light, dark):
    assert dark_counterpart(light) == dark


def test_dark_colours_are_lightened_and_keep_their_hue():
    red, green, blue = (int(dark_counterpart("#00004d")[k : k + 2], 16) for k in (1, 3, 5))
    assert red == green == 0
    assert blue > 0xC0


def test_numbers_in_figures_have_their_errors(run):
    for name, number in {"quality": "0.130 ± 0.011", "novelty": "12.300 ± 0.037", "diversity": "1.040 ± 0.013"}.items():
        with theme():
            figure = next(plot for plot in FIGURES if plot.name == name).draw(run)
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert any(text.partition(" ± ")[2] == number.partition(" ± ")[2] for text in said), (name, said)


def test_nothing_but_zeros_can_be_drawn(change_group, axes):
    groups = change_group("samples").groups.assign(diversity=0.0, ece_mean=0.0, bma_ece=0.0)
    diversity(groups, axes)
    calibration(groups, "ece", Figure().subplots(), text="ECE")


@pytest.mark.parametrize("plot", FIGURES, ids=lambda plot: plot.name)
def test_no_shape_is_black_by_default_where_paper_is_dark(run, plot):
    """SVG leaves out fills that are black, which no style sheet finds then."""
    with theme():
        drawing = svg_bytes(plot.draw(run)).decode()
    shapes = re.findall(
        r'<(?:path|rect|use)[^>]* style="([^"]*)"', re.sub(r"<(defs|clipPath)\b.*?</\1>", "", drawing, flags=re.DOTALL)
    )
    assert shapes
    assert [style for style in shapes if "fill" not in style and "stroke" not in style] == []
