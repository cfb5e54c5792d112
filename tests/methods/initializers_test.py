"""Where virtual tokens start, on a table whose rows say their number."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ptjax.config import UserError
from ptjax.methods import initializers

V, D = 60, 5
TABLE_VxD = jnp.repeat(jnp.arange(V, dtype=jnp.float32)[:, None], D, axis=1)
KEY = jax.random.key(0)
TRUE, FALSE = [23, 54], [45]


def number(rows_PxD) -> list[float]:
  """What row each is; they are constant over the width."""
  assert rows_PxD.dtype == jnp.float32 and rows_PxD.shape[1] == D
  assert (rows_PxD == rows_PxD[:, :1]).all()
  return rows_PxD[:, 0].tolist()


def vocab(length, population=5000, key=KEY):
  return initializers.sampled_vocab(
    key, TABLE_VxD, length=length, population=population
  )


def labels(label_ids, length, **options):
  return initializers.class_labels(
    KEY, TABLE_VxD, label_ids=label_ids, length=length, **options
  )


@pytest.mark.parametrize('low, high', [(-0.5, 0.5), (0.0, 0.5)])
def test_uniform(low, high):
  rows = initializers.uniform(KEY, (100, 512), low=low, high=high)
  assert rows.shape == (100, 512) and rows.dtype == jnp.float32
  assert low <= rows.min() < low + 1e-3 and high - 1e-3 < rows.max() < high
  # Four standard errors of the mean of 51 200 draws.
  error = 4 * (high - low) / 12**0.5 / 51_200**0.5
  assert abs(float(rows.mean()) - (low + high) / 2) < error


def test_the_default_is_the_papers():
  rows = initializers.uniform(KEY, (100, 100))
  assert rows.min() < -0.49 and rows.max() > 0.49


def test_vocabulary_rows_come_once():
  rows = number(vocab(40, population=40))
  assert sorted(rows) == list(range(40)) != rows


def test_vocabulary_rows_repeat_only_if_they_must():
  rows = number(vocab(41, population=40))
  assert set(rows) <= set(range(40)) and len(set(rows)) < 40


def test_vocabulary_draws_are_those_of_prompt_tuning():
  """jax.random.choice(rng, population, (P,), replace=False), from one key."""
  chosen = jax.random.choice(KEY, 50, (8,), replace=False)
  assert number(vocab(8, population=50)) == chosen.tolist()
  assert number(vocab(8, key=jax.random.key(1))) != number(vocab(8))


def test_population_ends_with_the_vocabulary(caplog):
  with caplog.at_level(logging.INFO):
    assert sorted(number(vocab(V, population=5000))) == list(range(V))
  assert 'the vocabulary has 60 rows' in caplog.text
  with pytest.raises(UserError, match='population=0'):
    vocab(8, population=0)


def test_label_rows_are_means_over_pieces():
  rows = number(labels([TRUE, FALSE], 6, population=20))
  assert rows[:2] == [38.5, 45.0]
  assert rows[2:] == number(vocab(6, population=20))[2:]


def test_labels_that_are_too_many_are_left_out(caplog):
  rows = labels([TRUE, FALSE, [1]], 2)
  assert number(rows) == [38.5, 45.0]
  assert '3 labels for 2 virtual tokens' in caplog.text
  caplog.clear()
  with caplog.at_level(logging.WARNING):
    labels([TRUE, FALSE], 2, population=V)
  assert not caplog.text


def test_no_labels_is_the_vocabulary():
  assert number(labels([], 6)) == number(vocab(6))


def test_text_has_a_row_for_each_piece(caplog):
  def text(ids, length):
    return number(
      initializers.text(KEY, TABLE_VxD, ids=ids, length=length, population=20)
    )

  rows = text([7, 7, 59], 5)
  assert rows[:3] == [7, 7, 59]
  assert rows[3:] == number(vocab(5, population=20))[3:]
  assert not caplog.text
  assert text([7, 8, 9], 2) == [7, 8]
  assert 'has 3 pieces for 2 virtual tokens' in caplog.text


def test_half_precision_rows_are_averaged_in_float32():
  half_VxD = jnp.array([[256.0], [258.0], [258.0]], jnp.bfloat16)
  rows = initializers.class_labels(
    KEY, half_VxD, label_ids=[[0, 1, 2]], length=1, population=3
  )
  np.testing.assert_allclose(rows, [[772 / 3]], rtol=1e-6)
  assert rows.dtype == jnp.float32


def test_an_array_must_fit():
  array = np.arange(6, dtype=np.float64).reshape(2, 3)
  rows = initializers.from_array(array, (2, 3))
  assert rows.dtype == jnp.float32 and rows.tolist() == array.tolist()
  with pytest.raises(UserError, match=r'shape \(2, 3\).*needs \(3, 2\)'):
    initializers.from_array(array, (3, 2))


@pytest.mark.parametrize('wrong', [[TRUE, []], [[V]], [[-1]]])
def test_ids_that_mean_nothing_are_refused(wrong):
  with pytest.raises(UserError, match='empty text|has 60 rows'):
    labels(wrong, 4)
  with pytest.raises(UserError, match='empty text|has 60 rows'):
    initializers.text(KEY, TABLE_VxD, ids=wrong[-1], length=4)
