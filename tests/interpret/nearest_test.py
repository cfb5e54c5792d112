"""Neighbours and ranks against a loop over all pairs."""

import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.interpret import nearest

P, V, D = 6, 4500, 24  # three parts of a table, the last one short


def case() -> tuple[np.ndarray, np.ndarray]:
  """Rows of very different lengths, equal ones, and some without any."""
  rng = np.random.default_rng(0)
  table = rng.normal(size=(V, D)) * rng.uniform(0.1, 30, size=(V, 1))
  rows = rng.normal(size=(P, D)) * 5
  table[4400] = table[70]  # in another part
  table[71] = 3 * table[70]  # the same direction
  table[9] = table[2100] = 0
  rows[2] = table[70]
  rows[3] = 0
  rows[4] = -table[80]
  table[81] = table[80] * 1.0001
  return rows.astype(np.float32), table.astype(np.float32)


def plainly(rows, table, by):
  """[(ids in order, values by id)] a row, pair by pair."""
  out = []
  for row in rows.astype(np.float64):
    values = []
    for other in table.astype(np.float64):
      if by == 'distance':
        value = np.sqrt(sum((row - other) ** 2))
      else:
        lengths = np.sqrt(sum(row**2)) * np.sqrt(sum(other**2))
        value = sum(row * other) / lengths if lengths else 0.0
      values.append(float(np.float32(value)))
    sign = -1 if by == 'cosine' else 1
    order = sorted(range(len(table)), key=lambda i: (sign * values[i], i))
    out.append((order, values))
  return out


@pytest.fixture(scope='module')
def found():
  rows, table = case()
  return {by: plainly(rows, table, by) for by in nearest.MEASURES}


@pytest.mark.parametrize('by', nearest.MEASURES)
def test_neighbours_are_those_of_a_loop(found, by):
  rows, table = case()
  ids, values = nearest.nearest(rows, table, count=40, by=by)
  assert ids.shape == values.shape == (P, 40)
  for (order, plain), own_ids, own_values in zip(found[by], ids, values):
    assert own_ids.tolist() == order[:40]
    np.testing.assert_allclose(
      own_values, [plain[i] for i in order[:40]], rtol=3e-7, atol=1e-7
    )


def test_the_measures_differ(found):
  """Or the test above could take one for the other."""
  assert found['cosine'][0][0][:40] != found['distance'][0][0][:40]


def test_a_row_that_is_in_the_table():
  rows, table = case()
  ids, values = nearest.nearest(rows[2:3], table, count=4, by='distance')
  assert ids[0, :2].tolist() == [70, 4400]
  assert values[0, :2].tolist() == [0, 0] and values[0, 2] > 0
  ids, values = nearest.nearest(rows[2:3], table, count=4, by='cosine')
  assert ids[0, :3].tolist() == [70, 71, 4400]  # a tie: the lower ids first
  assert values[0, :3].tolist() == [1, 1, 1] and values[0, 3] < 1


def test_a_row_is_at_no_distance_from_itself():
  _, table = case()
  ids, values = nearest.nearest(table[:70], table, count=1, by='distance')
  assert ids[:, 0].tolist() == list(range(70))
  np.testing.assert_array_equal(values, 0)


def test_a_row_without_length_has_no_direction():
  rows, table = case()
  ids, values = nearest.nearest(rows[3:4], table, count=3, by='cosine')
  assert ids.tolist() == [[0, 1, 2]] and values.tolist() == [[0, 0, 0]]
  ids, values = nearest.nearest(rows[3:4], table, count=3, by='distance')
  assert ids[0, :2].tolist() == [9, 2100] and values[0, 2] > 0
  np.testing.assert_array_equal(
    nearest.scores(rows, table, by='cosine')[:, [9, 2100]], 0
  )


def test_close_rows_are_told_apart():
  """A ten-thousandth of the length is more than rounding."""
  rows, table = case()
  ids, values = nearest.nearest(-rows[4:5], table, count=2, by='distance')
  assert ids.tolist() == [[80, 81]] and values[0, 0] == 0
  length = np.linalg.norm(table[80].astype(np.float64))
  assert values[0, 1] == pytest.approx(length * 1e-4, rel=2e-3)


def test_ranks_are_places_in_the_order(found):
  rows, table = case()
  ids = [70, 4400, 71, 9, 80, V - 1, 0]
  expected = [[o.index(i) + 1 for i in ids] for o, _ in found['cosine']]
  assert nearest.ranks(rows, table, ids=ids).tolist() == expected


def test_more_than_there_are():
  rows, table = case()
  for by in nearest.MEASURES:
    ids, values = nearest.nearest(rows, table[:5], count=9, by=by)
    assert ids.shape == values.shape == (P, 5)
    assert sorted(ids[0]) == [0, 1, 2, 3, 4]


def test_a_table_of_bfloat16_on_a_device():
  rows, table = case()
  short = jnp.asarray(table, jnp.bfloat16)
  ids, values = nearest.nearest(jnp.asarray(rows), short, count=5)
  same, close = nearest.nearest(rows, np.asarray(short, np.float32), count=5)
  np.testing.assert_array_equal(ids, same)
  np.testing.assert_array_equal(values, close)


def test_norms_of_all_parts():
  _, table = case()
  expected = [np.sqrt(sum(row.astype(np.float64) ** 2)) for row in table]
  np.testing.assert_allclose(nearest.norms(table), expected, rtol=1e-12)


def test_an_unknown_measure_is_refused():
  rows, table = case()
  with pytest.raises(UserError, match="'cosin' is not known.*'cosine'"):
    nearest.nearest(rows, table, count=1, by='cosin')
