"""A process that may die of what it is asked."""

import os

import pytest

from ptjax.config import UserError
from ptjax.plan import apart


def test_what_is_asked_is_done_in_another_process():
  with apart.Apart() as process:
    assert process.ask('', os.getpid) != os.getpid()
    with pytest.raises(UserError, match='as it was raised'):
      process.ask('', _raise, 'as it was raised')


def _raise(text):
  raise UserError(text)


def test_a_process_that_dies_is_one_sentence():
  with apart.Apart() as process:
    with pytest.raises(UserError, match='^tpu9: the compiler itself crashed'):
      process.ask('tpu9', os.abort)
