"""How alike prompts are, and which of many is most like one (Vu et al. 2022).

Owns the measures between prompts of one width, [P, D] each. Knows arrays only.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ptjax.interpret import nearest


def flattened(a_PxD: np.ndarray, b_PxD: np.ndarray) -> float | None:
  """Of all values in a row; None between different lengths."""
  return nearest.cosine(a_PxD, b_PxD) if len(a_PxD) == len(b_PxD) else None


def by_token(a_PxD: np.ndarray, b_PxD: np.ndarray) -> float | None:
  """The mean over positions of their tokens'; None as above."""
  if len(a_PxD) != len(b_PxD):
    return None
  return float(nearest.scores(a_PxD, b_PxD, by='cosine').diagonal().mean())


def of_means(a_PxD: np.ndarray, b_QxD: np.ndarray) -> float:
  """SPoT's "cosine similarity of average tokens" (§3.2.1)."""
  return nearest.cosine(a_PxD.mean(axis=0), b_QxD.mean(axis=0))


def of_pairs(a_PxD: np.ndarray, b_QxD: np.ndarray) -> float:
  """SPoT's "per-token average": the mean over all pairs of tokens.

  A prompt is no more like itself than its tokens are like one another.
  """
  return float(nearest.scores(a_PxD, b_QxD, by='cosine').mean())


MEASURES = {
  'flattened': flattened,
  'by_token': by_token,
  'of_means': of_means,
  'of_pairs': of_pairs,
}


def matrices(arrays: Sequence[np.ndarray]) -> dict[str, list[list[Any]]]:
  """{measure: [E, E]} between E prompts; None where it is not defined."""
  return {
    name: [[measure(a, b) for b in arrays] for a in arrays]
    for name, measure in MEASURES.items()
  }


def ranked(
  target_PxD: np.ndarray, bank: Mapping[str, np.ndarray]
) -> list[dict[str, Any]]:
  """SPoT's retrieval: a bank's prompts, the most like first, by `of_pairs`.

  [{'prompt': name, 'of_means': …, 'of_pairs': …}]; of equals in their order.
  """
  found = [
    {
      'prompt': name,
      'of_means': of_means(target_PxD, rows_QxD),
      'of_pairs': of_pairs(target_PxD, rows_QxD),
    }
    for name, rows_QxD in bank.items()
  ]
  return sorted(found, key=lambda line: -line['of_pairs'])
