"""Boxes of a parameter, read from foreign files a few rows at a time.

Owns what a parameter is kept as (its values in one type, or whole numbers of
eight bits and their scales) and how any part of that is cut out of the files.
Knows no format, no family and no device.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from ptjax.models import int8
from ptjax.weights import table

_CHUNK = 1 << 20  # values read at a time: 4 MiB of float32

# Of a file that is far: so many are on their way at once, each above its share.
_AHEAD = 8

Index = tuple[slice, ...]  # of whole numbers, along each of our axes


@dataclasses.dataclass(frozen=True)
class Leaf:
  """One array that is kept of a row of a table.

  Attributes:
    path: its slash-name.
    lacks: the axis of the row's parameter that it does not have, if any.
    read: (source, index) -> that box of it, cast.
  """

  path: str
  shape: tuple[int, ...]
  dtype: np.dtype
  read: Callable[[table.Source, Index], np.ndarray]
  lacks: int | None = None


def leaves(row: table.Tensor, dtype: np.dtype, *, eight: bool) -> list[Leaf]:
  """What is kept of a parameter.

  Args:
    eight: whether linear maps in layers are kept in eight bits. What the
      vocabulary meets is not: few of the weights, and the closest to answers.
  """
  shape = row.own_shape()
  if not (eight and row.layers and row.path.endswith('/kernel')):
    read = functools.partial(_floats, row=row, dtype=dtype)
    return [Leaf(row.path, shape, dtype, read)]
  known: dict[tuple, np.ndarray] = {}  # read once for both
  rounded = functools.partial(_rounded, row=row, known=known)
  scale = functools.partial(_scale, row=row, known=known)
  return [
    Leaf(row.path, shape, np.dtype(np.int8), rounded),
    Leaf(
      row.path.removesuffix('kernel') + int8.SCALE,
      (shape[0], *shape[2:]),
      np.dtype(np.float32),
      scale,
      lacks=1,
    ),
  ]


def _floats(
  source: table.Source, index: Index, *, row: table.Tensor, dtype: np.dtype
) -> np.ndarray:
  """A box of our parameter, cast; only the rows it touches are read."""
  block = empty([i.stop - i.start for i in index], dtype)
  layers = _as_filed(block, row)
  for layer, place, rows in _pieces(source, row, index):
    layers[layer][place] = rows
  return block


def _rounded(
  source: table.Source, index: Index, *, row: table.Tensor, known: dict
) -> np.ndarray:
  """A box of it over its outputs' scales, in whole numbers."""
  scale = _scale(source, (index[0], *index[2:]), row=row, known=known)
  block = empty([i.stop - i.start for i in index], np.dtype(np.int8))
  layers = _as_filed(block, row)
  for layer, place, rows in _pieces(source, row, index):
    # Rows are outputs, or inputs, of which each has all outputs.
    over = scale[layer][place][..., None] if row.transpose else scale[layer]
    layers[layer][place] = int8.rounded(rows, over)
  return block


def _scale(
  source: table.Source, index: Index, *, row: table.Tensor, known: dict
) -> np.ndarray:
  """The scales of a box of outputs."""
  bounds = tuple((i.start, i.stop) for i in index)
  if bounds not in known:
    known[bounds] = _measured(source, index, row)
  return known[bounds]


def _measured(
  source: table.Source, index: Index, row: table.Tensor
) -> np.ndarray:
  """Those scales, for which all inputs of these outputs are read."""
  largest = np.zeros([i.stop - i.start for i in index], np.float32)
  inputs = slice(0, row.own_shape()[1])
  index = (index[0], inputs, *index[1:])
  for layer, place, rows in _pieces(source, row, index):
    size = np.abs(rows.astype(np.float32, copy=False))
    if row.transpose:
      largest[layer][place] = size.max(axis=-1)
    else:
      np.maximum(largest[layer], size.max(axis=0), out=largest[layer])
  return int8.scale(largest)


def _pieces(
  source: table.Source, row: table.Tensor, index: Index
) -> Iterator[tuple[int, slice, np.ndarray]]:
  """(layer, place in its box, rows of the file) of a box, axes as filed."""
  names = row.names()
  if row.layers:
    names, index = names[index[0]], index[1:]
  if row.transpose:
    index = (*index[1:], index[0])
  first, rest = index[0], index[1:]
  view = row.view or row.shape
  group = row.shape[0] // view[0]  # rows of the file in one of the view
  parts = [
    (layer, start, stop)
    for layer in range(len(names))
    for start, stop in chunks(view, first.start, first.stop)
  ]

  def read(part: tuple[int, int, int]) -> np.ndarray:
    layer, start, stop = part
    return source.read(names[layer], start * group, stop * group)

  for part, rows in _in_order(read, parts, ahead=_AHEAD if source.far else 1):
    layer, start, stop = part
    rows = rows.reshape(stop - start, *view[1:])[(slice(None), *rest)]
    yield layer, slice(start - first.start, stop - first.start), rows


def _in_order(
  read: Callable[[Any], np.ndarray], parts: Sequence[Any], *, ahead: int
) -> Iterator[tuple[Any, np.ndarray]]:
  """(part, what is read of it); at most `ahead` are held or awaited."""
  if ahead == 1 or len(parts) == 1:
    for part in parts:
      yield part, read(part)
    return
  awaited: collections.deque[Any] = collections.deque()
  with concurrent.futures.ThreadPoolExecutor(ahead) as pool:
    try:
      for part in parts:
        if len(awaited) == ahead:
          yield _next(awaited)
        awaited.append((part, pool.submit(read, part)))
      while awaited:
        yield _next(awaited)
    finally:
      pool.shutdown(cancel_futures=True)


def _next(awaited: collections.deque) -> tuple[Any, np.ndarray]:
  part, reading = awaited.popleft()
  return part, reading.result()


def _as_filed(block: np.ndarray, row: table.Tensor) -> list[np.ndarray]:
  """Each layer of a box of ours, with its axes in the file's order."""
  layers = list(block) if row.layers else [block]
  if row.transpose:
    return [np.moveaxis(layer, 0, -1) for layer in layers]
  return layers


def empty(shape: Sequence[int], dtype: np.dtype) -> np.ndarray:
  """Aligned as XLA wants it: the CPU then takes the memory, not a copy."""
  size = math.prod(shape) * dtype.itemsize
  memory = np.empty(size + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start : start + size].view(dtype).reshape(shape)


def chunks(
  shape: tuple[int, ...], start: int, stop: int
) -> Iterator[tuple[int, int]]:
  """(first, behind the last) of a few rows each."""
  step = max(1, _CHUNK // max(1, math.prod(shape[1:])))
  for begin in range(start, stop, step):
    yield begin, min(begin + step, stop)
