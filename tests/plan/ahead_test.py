"""What is read out of a compiler's answers, without a compiler."""

import types

import jax
import pytest

from ptjax.plan import ahead, cost, tell

MEMORY = types.SimpleNamespace(
  argument_size_in_bytes=3, temp_size_in_bytes=4, peak_memory_in_bytes=7
)


def traced(*, fails: str = '', unread: bool = False):
  """What compiles to a program of one all-reduce, or does not."""

  def compile_(options):
    del options
    if fails:
      raise jax.errors.JaxRuntimeError(fails)
    return types.SimpleNamespace(memory_analysis=lambda: MEMORY, as_text=text)

  def text():
    if unread:
      raise jax.errors.JaxRuntimeError('INTERNAL: RET_CHECK failure')
    return 'ENTRY %m (a: f32[2]) -> f32[2] {\n  %r = f32[2] all-reduce(%a)\n}'

  return types.SimpleNamespace(
    lower=lambda: types.SimpleNamespace(compile=compile_)
  )


def test_memory_and_what_is_sent_are_read():
  found = ahead.compile_(traced())
  assert (found.arguments, found.temporary, found.peak) == (3, 4, 7)
  assert found.fits
  assert found.sent['all-reduce'].bytes == 8


@pytest.mark.parametrize(
  'said',
  [
    'RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.80G of '
    '15.75G hbm. Exceeded hbm capacity by 1.05G.',
    'RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required '
    'for HLO temporaries (16.80G) exceeds available HBM (15.75G).',
  ],
)
def test_too_much_is_told_with_what_there_is(said):
  """As one version of libtpu and another have it."""
  found = ahead.compile_(traced(fails=said))
  assert not found.fits
  assert found.peak == pytest.approx(16.8 * 2**30)
  assert found.limit == pytest.approx(15.75 * 2**30)


def test_another_failure_is_no_lack_of_memory():
  with pytest.raises(jax.errors.JaxRuntimeError, match='UNIMPLEMENTED'):
    ahead.compile_(traced(fails='UNIMPLEMENTED: this'))


def test_a_program_that_cannot_be_read_still_has_its_memory():
  found = ahead.compile_(traced(unread=True))
  assert found.collectives is None and found.peak == 7
  fact = tell.Fact('train', cost.Share(1, 1), 3, compiled=found)
  assert 'cannot be read' in tell._sent(fact)
