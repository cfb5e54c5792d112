"""What a picture shows, read from its axes."""

import warnings

import numpy as np
import pytest

from ptjax.interpret import look as interpret
from ptjax.interpret import plot

figures = pytest.importorskip('matplotlib.figure')

D = 40  # wide enough for small cosines
PIECES = ['$', '▁$a^$', 'true', '漢', '▁of', '▁the', '\n', '▁x_y']


def found(**lengths):
  rng = np.random.default_rng(0)
  return interpret.look(
    {name: rng.normal(size=(size, D)) for name, size in lengths.items()},
    rng.normal(size=(len(PIECES), D)),
    pieces=PIECES,
  )


def drawn(all_):
  figure = figures.Figure()
  one = len(all_['prompts']) == 1
  (plot._tokens if one else plot._prompts)(figure, all_)
  return figure


def shown(axis) -> np.ndarray:
  (image,) = axis.get_images()
  return np.ma.filled(image.get_array().astype(float), np.nan)


def labels(axis) -> list[str]:
  return [text.get_text() for text in axis.get_ticklabels()]


def size(path) -> tuple[int, int]:
  data = path.read_bytes()
  assert data[:8] == b'\x89PNG\r\n\x1a\n'
  return tuple(int.from_bytes(data[i : i + 4], 'big') for i in (16, 20))


def off_diagonal(matrix) -> np.ndarray:
  values = np.array(matrix, float)
  values[np.eye(len(values), dtype=bool)] = np.nan
  return values


def test_one_prompt_shows_its_tokens_and_norms():
  all_ = found(boolq=7)
  prompt = all_['prompts']['boolq']
  left, right, bar = drawn(all_).axes
  expected = off_diagonal(prompt['similarity'])
  np.testing.assert_array_equal(shown(left), expected)
  low, high = left.get_images()[0].get_clim()
  assert low == -high and high >= np.nanmax(np.abs(expected)) > high - 0.1
  assert high < 1
  pieces = [token['pieces'][0] for token in prompt['nearest']['cosine']]
  expected = [f'{piece}  {i}' for i, piece in enumerate(pieces)]
  assert labels(left.yaxis) == expected
  assert labels(left.xaxis) == ['0', '5']
  bars = [patch.get_width() for patch in right.containers[0].patches]
  assert bars == prompt['norm']['tokens']
  assert right.get_ylim() == left.get_ylim()  # a bar stands beside its row
  (line,) = right.get_lines()
  assert line.get_xdata()[0] == all_['vocabulary']['norm']['mean']
  assert 'boolq' in left.get_title()


def test_several_prompts_show_each_measure():
  all_ = found(a=3, b=3, c=4)
  axes = drawn(all_).axes
  assert len(axes) == 6
  for axis, values in zip(axes[::2], all_['similarity'].values()):
    np.testing.assert_array_equal(shown(axis), off_diagonal(values))
    written = sorted(text.get_text() for text in axis.texts)
    known = off_diagonal(values)
    expected = sorted(f'{v:.2f}' for v in known[np.isfinite(known)])
    assert written == expected
  assert labels(axes[0].yaxis) == ['a  1', 'b  2', 'c  3']
  assert labels(axes[2].yaxis) == labels(axes[0].xaxis) == ['1', '2', '3']


def test_many_prompts_are_coloured_only():
  axes = drawn(found(**{str(i): 2 for i in range(11)})).axes
  assert not any(axis.texts for axis in axes[::2])


def test_what_is_known_of_no_pair_is_left_out():
  figure = drawn(found(a=3, b=4))
  assert len(figure.axes) == 2
  assert figure.axes[0].get_title() == 'of mean tokens'


@pytest.mark.parametrize(
  'lengths',
  [{'a': 1}, {'$a_$': 7}, {'a': 300}, {str(i): 2 for i in range(40)}],
)
def test_any_size_is_drawn_quietly(tmp_path, lengths):
  with warnings.catch_warnings():
    warnings.simplefilter('error')
    plot.draw(found(**lengths), tmp_path / 'x.png')
  assert [file.name for file in tmp_path.iterdir()] == ['x.png']
  wide, high = size(tmp_path / 'x.png')
  assert 300 < high < 2000 and 300 < wide < 3000


def test_many_tokens_are_not_all_labelled():
  left, *_ = drawn(found(a=300)).axes
  assert len(labels(left.yaxis)) == 30
  assert labels(left.yaxis)[1].endswith('  10')
