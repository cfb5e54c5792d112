"""Which rows lie near which: cosines, distances, ranks; numpy only.

Owns the geometry of embedding rows, in pieces that fit into memory. Knows
nothing of prompts, pieces and words.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ptjax.config import one_of

MEASURES = ('cosine', 'distance')
_ROWS = 2048  # of a table in float64 at once
# Squared distances below this share of the squared norms are rounding.
_NOISE = 1e-12


def nearest(
  rows_PxD: Any, table_VxD: Any, *, count: int, by: str = 'cosine'
) -> tuple[np.ndarray, np.ndarray]:
  """(ids, values), both [P, K]: the rows of a table nearest to each of P.

  Args:
    count: how many; K is less if the table has fewer rows.
    by: 'cosine', highest first, or 'distance' (Euclidean), lowest first; of
      equals the lower id comes first.
  """
  scores_PxV = scores(rows_PxD, table_VxD, by=by)
  sign = -1 if by == 'cosine' else 1
  # Row by row: the order of all is large, and only its start is kept.
  ids_PxK = np.stack(
    [np.argsort(sign * row, kind='stable')[:count] for row in scores_PxV]
  )
  return ids_PxK, np.take_along_axis(scores_PxV, ids_PxK, axis=1)


def ranks(rows_PxD: Any, table_VxD: Any, *, ids: Sequence[int]) -> np.ndarray:
  """[P, N]: the place of these ids in the order of `nearest`, 1 the first.

  By cosine.
  """
  scores_PxV = scores(rows_PxD, table_VxD, by='cosine')
  places = []
  for number in ids:
    own_Px1 = scores_PxV[:, number : number + 1]
    above_P = (scores_PxV > own_Px1).sum(axis=1)
    before_P = (scores_PxV[:, :number] == own_Px1).sum(axis=1)
    places.append(1 + above_P + before_P)
  return np.stack(places, axis=1)


def scores(rows_PxD: Any, table_VxD: Any, *, by: str) -> np.ndarray:
  """[P, V] cosines or Euclidean distances, float32.

  A row without length has the cosine 0 with everything. Computed in float64
  and rounded, so that equal rows are ties.
  """
  measure = {'cosine': _cosines, 'distance': _distances}[
    one_of('by', by, MEASURES)
  ]
  rows_PxD = float64(rows_PxD)
  parts = [measure(rows_PxD, part_NxD) for part_NxD in _parts(table_VxD)]
  return np.concatenate(parts, axis=1)


def norms(table_VxD: Any) -> np.ndarray:
  """[V] lengths."""
  return np.concatenate(
    [np.linalg.norm(part, axis=1) for part in _parts(table_VxD)]
  )


def cosine(a: np.ndarray, b: np.ndarray) -> float:
  """Of two arrays of one shape, each taken as a vector."""
  return float(scores(a.reshape(1, -1), b.reshape(1, -1), by='cosine')[0, 0])


def float64(array: Any) -> np.ndarray:
  return np.asarray(array).astype(np.float64)


def _parts(table_VxD: Any) -> Iterator[np.ndarray]:
  table_VxD = np.asarray(table_VxD)
  for start in range(0, len(table_VxD), _ROWS):
    yield float64(table_VxD[start : start + _ROWS])


def _cosines(a_PxD: np.ndarray, b_NxD: np.ndarray) -> np.ndarray:
  return (_unit(a_PxD) @ _unit(b_NxD).T).astype(np.float32)


def _distances(a_PxD: np.ndarray, b_NxD: np.ndarray) -> np.ndarray:
  squares_PxN = np.square(a_PxD).sum(1)[:, None] + np.square(b_NxD).sum(1)
  found_PxN = squares_PxN - 2 * a_PxD @ b_NxD.T
  found_PxN[found_PxN < _NOISE * squares_PxN] = 0
  return np.sqrt(found_PxN).astype(np.float32)


def _unit(x_PxD: np.ndarray) -> np.ndarray:
  """Rows of length 1; one without length stays so."""
  lengths = np.linalg.norm(x_PxD, axis=1, keepdims=True)
  return np.divide(x_PxD, lengths, out=np.zeros_like(x_PxD), where=lengths > 0)
