"""How alike prompts are: SPoT's measures by their definitions."""

import numpy as np
import pytest

from ptjax.interpret import alike


def cosine(a: np.ndarray, b: np.ndarray) -> float:
  return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def prompts(*lengths: int) -> list[np.ndarray]:
  rng = np.random.default_rng(0)
  return [rng.normal(size=(n, 5)) * rng.uniform(1, 9, (n, 1)) for n in lengths]


def test_measures_between_prompts_of_other_lengths():
  a, b = prompts(3, 4)
  pairs = [cosine(x, y) for x in a for y in b]
  assert alike.of_pairs(a, b) == pytest.approx(np.mean(pairs), rel=1e-5)
  expected = cosine(a.mean(0), b.mean(0))
  assert alike.of_means(a, b) == pytest.approx(expected, rel=1e-5)
  # Long tokens count for more in a mean of tokens, not among pairs.
  assert alike.of_means(a, b) != pytest.approx(np.mean(pairs), rel=0.1)
  assert alike.flattened(a, b) is alike.by_token(a, b) is None


def test_of_equal_lengths_positions_are_compared():
  a, b = prompts(4, 4)
  expected = np.mean([cosine(x, y) for x, y in zip(a, b)])
  assert alike.by_token(a, b) == pytest.approx(expected, rel=1e-5)
  # The order of tokens says nothing of a task.
  assert alike.of_pairs(a, b[::-1]) == pytest.approx(alike.of_pairs(a, b))
  found = alike.matrices([a, b])
  for name, matrix in found.items():
    np.testing.assert_allclose(matrix, np.transpose(matrix), rtol=1e-5)
    itself = 1.0 if name != 'of_pairs' else alike.of_pairs(a, a)
    assert matrix[0][0] == pytest.approx(itself, rel=1e-5)


def test_the_most_like_comes_first():
  """In SPoT's sense, though another has a mean that is more like."""
  target = np.array([[1.0, 0, 0, 0, 0], [0, 1.0, 0, 0, 0]])
  bank = {
    'far': -target,
    'by mean': np.array([[9.0, 9, 0, 0, 9], [0, 0, 0, 0, -9]]),
    'by pairs': np.array([[1.0, 1, 0, 0, 0], [1, 1, 1, 0, 0]]),
  }
  found = alike.ranked(target, bank)
  assert [line['prompt'] for line in found] == ['by pairs', 'by mean', 'far']
  assert found[1]['of_means'] == pytest.approx(1)
  assert found[0]['of_means'] < 0.99
  assert found[0]['of_pairs'] == pytest.approx((2**-0.5 + 3**-0.5) / 2)
