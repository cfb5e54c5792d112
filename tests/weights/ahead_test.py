"""What lies far is asked for ahead, and comes in order."""

import threading

import numpy as np
import pytest
from goldens import t5_models

from ptjax.config import UserError
from ptjax.weights import block, load
from ptjax.weights import t5 as t5_table


class Far:
  """A source whose first answers come when so many were asked for."""

  far = True

  def __init__(self, source, together: int):
    self.source, self.shapes = source, source.shapes
    self.barrier, self.together = threading.Barrier(together), together
    self.lock, self.now, self.most, self.asked = threading.Lock(), 0, 0, 0

  def read(self, name, start, stop):
    with self.lock:
      self.asked += 1
      waits = self.asked <= self.together
      self.now += 1
      self.most = max(self.most, self.now)
    if waits:
      self.barrier.wait(timeout=20)
    rows = self.source.read(name, start, stop)
    with self.lock:
      self.now -= 1
    return rows


@pytest.mark.parametrize('eight', (False, True))
def test_from_afar_some_parts_are_read_ahead_in_order(monkeypatch, eight):
  monkeypatch.setattr(block, '_CHUNK', 20)
  monkeypatch.setattr(block, '_AHEAD', 3)
  source, config = load.describe(t5_models.FOLDER / 't5_1_1')
  path = 'decoder/layers/self_attention/query/kernel'
  (row,) = (r for r in t5_table.tensors(config) if r.path == path)

  def read(source):
    out = []
    for leaf in block.leaves(row, np.dtype(np.float32), eight=eight):
      index = tuple(slice(0, size) for size in leaf.shape)
      out.append(leaf.read(source, index))
    return out

  far = Far(source, together=3)
  for there, here in zip(read(far), read(source), strict=True):
    np.testing.assert_array_equal(there, here)
  assert far.most == 3 and far.asked > 6


def test_a_part_from_afar_that_cannot_be_read_ends_it(monkeypatch):
  monkeypatch.setattr(block, '_AHEAD', 3)
  asked = []

  def read(part):
    asked.append(part)
    raise UserError(f'part {part} is lost')

  with pytest.raises(UserError, match='part 0 is lost'):
    list(block._in_order(read, range(100), ahead=3))
  assert len(asked) <= 4
