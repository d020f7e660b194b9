"""The family's table and picture show the networks' own numbers."""

import matplotlib.image
import pytest
import rich.console

from efficientnetv2_tf.networks.variants import VARIANTS
from efficientnetv2_tf.training import pictures
from efficientnetv2_tf.training.family import family_rows, family_table

PUBLISHED = {
    "efficientnetv2-s": 83.9,
    "efficientnetv2-m": 85.2,
    "efficientnetv2-l": 85.7,
    "efficientnetv2-b0": 78.7,
    "efficientnetv2-b1": 79.8,
    "efficientnetv2-b2": 80.5,
    "efficientnetv2-b3": 82.1,
    "efficientnet-b0": 77.1,
    "efficientnet-b1": 79.1,
    "efficientnet-b2": 80.1,
    "efficientnet-b3": 81.6,
    "efficientnet-b4": 82.9,
    "efficientnet-b5": 83.6,
    "efficientnet-b6": 84.0,
    "efficientnet-b7": 84.3,
}


def printed(rows):
    """The table as text, in words: line breaks do not matter."""
    console = rich.console.Console(width=160, highlight=False)
    with console.capture() as capture:
        console.print(family_table(rows))
    return " ".join(capture.get().split())


class TestRows:
    def test_every_network_but_the_one_for_tests(self):
        assert [row.name for row in family_rows()] == [name for name in VARIANTS if name != "testing"]

    def test_the_published_accuracies(self):
        rows = family_rows()
        assert {row.name: row.published_top1 for row in rows if row.published_top1 is not None} == PUBLISHED

    def test_m_in_numbers(self):
        row = next(row for row in family_rows() if row.name == "efficientnetv2-m")
        assert (row.parameters, row.train_size, row.eval_size) == (54_139_356, 384, 480)
        assert row.preprocessing == "v2"
        assert row.multiply_adds / 1e9 == pytest.approx(24.58, abs=0.005)


class TestTable:
    def test_says_which_have_no_published_figure(self):
        text = printed(family_rows())
        without = ", ".join(row.name for row in family_rows() if row.name not in PUBLISHED)
        assert f"These give none for {without}, which the picture leaves out." in text
        assert "│ efficientnetv2-l │ 118.5 │ 56.08 │ 384 │ 480 │ v2 │ 85.7 │" in text
        assert "│ efficientnet-b8 │ 87.4 │" in text

    def test_says_nothing_of_the_kind_where_all_have_one(self):
        text = printed([row for row in family_rows() if row.name in PUBLISHED])
        assert "give none" not in text


class TestPicture:
    @pytest.fixture
    def drawn(self, tmp_path, monkeypatch):
        """Draws rows; the matplotlib figure, which would be closed otherwise."""
        from matplotlib import pyplot

        figures = []
        monkeypatch.setattr(pyplot, "close", figures.append)

        def draw(rows):
            pictures.draw_family(rows, tmp_path / "models.png")
            assert matplotlib.image.imread(tmp_path / "models.png").shape == (990, 1800, 4)
            return figures[-1]

        yield draw
        monkeypatch.undo()
        for figure in figures:
            pyplot.close(figure)

    def test_two_panels_with_the_published_networks(self, drawn):
        left, right = drawn(family_rows()).axes
        millions, billions = ([x for line in axis.lines for x in line.get_xdata()] for axis in (left, right))
        assert millions[:7] == pytest.approx([21.458, 54.139, 118.515, 7.140, 8.141, 10.096, 14.358], abs=5e-4)
        assert billions[:7] == pytest.approx([8.366, 24.582, 56.080, 0.718, 1.197, 1.697, 3.011], abs=6e-4)
        assert len(millions) == len(billions) == 15
        for axis in (left, right):
            assert axis.get_xscale() == "log"
            assert [y for line in axis.lines for y in line.get_ydata()] == [*PUBLISHED.values()]
            v1 = [f"B{number}" for number in range(8)]
            assert [text.get_text() for text in axis.texts] == ["S", "M", "L", "B0", "B1", "B2", "B3", *v1]

    def test_no_label_covers_another_or_a_point(self, drawn):
        figure = drawn(family_rows())
        figure.draw_without_rendering()  # saving has measured the names in another resolution
        for axis in figure.axes:
            boxes = [text.get_window_extent() for text in axis.texts]
            legends = [axis.get_legend().get_window_extent()] if axis.get_legend() else []
            points = [axis.transData.transform(point) for line in axis.lines for point in line.get_xydata()]
            for index, box in enumerate(boxes):
                assert not any(box.overlaps(other) for other in boxes[index + 1 :] + legends)
                assert not any(box.contains(*point) for point in points)
            assert not any(box.contains(*point) for box in legends for point in points)

    def test_of_one_kind_only(self, drawn):
        left, _ = drawn([row for row in family_rows() if row.preprocessing == "v2"]).axes
        assert [line.get_label() for line in left.lines] == ["EfficientNetV2-S, M, L"]

    def test_without_any_published_figure_it_is_an_error(self, tmp_path):
        rows = [row for row in family_rows() if row.published_top1 is None]
        with pytest.raises(ValueError, match="at least one network with a published top-1"):
            pictures.draw_family(rows, tmp_path / "models.png")
        assert not [*tmp_path.iterdir()]
