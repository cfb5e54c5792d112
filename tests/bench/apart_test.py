"""Sides in processes: one each, which holds its side and ends."""

import os
import signal

import numpy as np
import pytest

from ptjax.bench import apart
from ptjax.config import UserError


class Counter:
  """A side that is asked for the next number, and where it is."""

  prompt_PxD = np.ones((2, 3))

  def __init__(self, start):
    self.start = self.at = start

  def begin(self):
    self.at = self.start

  def wait(self, value):
    return np.array(value)


def call(side, step):
  def one():
    side.at += step
    if side.at > 100:
      raise ValueError(f'{side.at} is too much')
    return os.getpid(), side.at

  return one


@pytest.fixture(params=[apart.Here, apart.Apart])
def held(request):
  made = request.param(call, Counter, 5)
  yield made
  made.close()


def test_a_side_is_held_and_asked_from_its_start(held):
  assert held.prompt().shape == (2, 3)
  held.of(2)(4)
  assert held.answer(2)[1] == 7
  held.of(2)(4)
  assert held.answer(1)[1] == 6


def test_what_a_side_raises_is_raised_here(held):
  with pytest.raises(ValueError, match='101 is too much'):
    held.answer(96)


def test_two_sides_are_in_two_processes_that_end():
  sides = [apart.Apart(call, Counter, start) for start in (0, 10)]
  places = [int(side.answer(1)[0]) for side in sides]
  assert [int(side.answer(1)[1]) for side in sides] == [1, 11]
  assert len({os.getpid(), *places}) == 3
  for side, place in zip(sides, places):
    side.close()
    with pytest.raises(ProcessLookupError):
      os.kill(place, 0)


def test_a_process_that_the_system_kills_is_told_in_a_sentence():
  """As it does where memory runs out; nobody waits for it for ever."""
  with pytest.raises(UserError, match='ended before its work did, most'):
    apart.in_a_process(os._exit, 9)
  side = apart.Apart(call, Counter, 5)
  os.kill(int(side.answer(0)[0]), signal.SIGKILL)
  with pytest.raises(UserError, match='most likely since memory'):
    side.answer(1)
  side.close()
