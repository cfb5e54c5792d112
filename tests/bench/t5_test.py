"""The comparison of T5 with PEFT: what is asked, counted and said."""

import dataclasses

import jax
import numpy as np
import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import (
  our_side,
  peft_side,
  random_t5,
  t5,
  t5_peft,
  t5_sides,
  versus,
  versus_tables,
)
from ptjax.models.t5 import T5Config
from tests.bench.causal_test import products

TINY = T5Config(97, 24, 8, 40, 2, 2, 3)
CASE = versus.Case('tiny', 'float32', prompt=3, batch=2, input=12)
COMPARED = t5.T5()


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  monkeypatch.setitem(random_t5.SIZES, 'tiny', TINY)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp('tiny')
  random_t5.write(path, TINY)
  return path


@pytest.fixture
def ours(folder):
  return t5_sides.Ours(our_side.build(folder, dtype='float32', prompt=3))


def test_our_side_trains_ranks_and_generates(ours):
  loss, norm = ours.wait(COMPARED.call(ours, CASE, 'train')())
  assert loss > 0 and norm > 0 and ours._state.step.tolist() == [1]
  scores_BxC = ours.wait(COMPARED.call(ours, CASE, 'rank')())
  assert scores_BxC.shape == (2, t5.CHOICES) and (scores_BxC < 0).all()
  ids_BxT = ours.wait(COMPARED.call(ours, CASE, 'generate')())
  assert ids_BxT.shape == (2, t5.ANSWER) and (ids_BxT != TINY.eos_id).all()
  ours.begin()
  (rows,) = jax.tree.leaves(ours._state.tuned)
  np.testing.assert_array_equal(rows[0], ours.prompt_PxD)


@pytest.mark.skipif(
  bool(peft_side.missing()), reason='peft, torch, transformers are needed'
)
def test_both_sides_say_the_same(folder, ours):
  theirs = t5_peft.Peft(folder, dtype='float32', prompt_PxD=ours.prompt_PxD)
  for work in t5.WORKS:
    ours.begin()
    theirs.begin()
    answers = [
      side.wait(COMPARED.call(side, CASE, work)()) for side in (ours, theirs)
    ]
    assert COMPARED.compare(CASE, work, *answers) <= 1e-4
    if work != 'generate':
      off = jax.tree.map(lambda x: 1.001 * x, answers[0])
      with pytest.raises(RuntimeError, match='the sides differ by'):
        COMPARED.compare(CASE, work, off, answers[1])


def test_the_forward_operations_are_those_of_the_program(ours):
  ids = np.ones((CASE.batch, CASE.input), np.int32)
  one = ours._batch(ids, np.ones((CASE.batch, t5.TARGET), np.int32))
  tuned = jax.tree.map(lambda x: x[0], ours._state.tuned)
  model = ours._made.tuned_model

  def forward(tuned):
    return model.logits(tuned, ours._frozen, one)

  found = products(jax.make_jaxpr(forward)(tuned).jaxpr)
  front = CASE.prompt + CASE.input
  counted = sum(t5.encoder(TINY, CASE.batch, front))
  said = TINY, CASE.batch, front, t5.TARGET
  assert counted + sum(t5.decoder(*said, absorbed=True)) == found
  assert found < counted + sum(t5.decoder(*said))


def test_an_input_is_read_once_and_not_as_keys_and_values():
  front = CASE.prompt + CASE.input
  read = sum(t5.encoder(TINY, CASE.batch, front))
  sides = [
    sum(t5.decoder(TINY, CASE.batch, front, t5.TARGET, absorbed=absorbed))
    for absorbed in (True, False)
  ]
  ours, theirs = COMPARED.count(CASE, 'rank')
  assert theirs - ours == (t5.CHOICES - 1) * read + t5.CHOICES * (
    sides[1] - sides[0]
  )
  ours, theirs = COMPARED.count(CASE, 'train')
  assert ours < theirs
  assert len(set(COMPARED.count(CASE, 'generate'))) == 1


@pytest.mark.parametrize(
  'platform,work,least',
  [('cpu', 'train', 1.2), ('gpu', 'train', 1.5), ('cpu', 'rank', 2.0)],
)
def test_what_is_aimed_at(platform, work, least):
  assert COMPARED.at_least(platform, CASE, work) == least


def test_a_plan_suits_its_platform():
  assert {case.model for case in t5.plan('cpu', {}).cases} == {'small'}
  assert {case.dtype for case in t5.plan('cpu', {}).cases} == set(versus.DTYPES)
  assert len(t5.plan('gpu', {'dtypes': ['bfloat16']}).cases) == 2 * len(
    random_t5.SIZES
  )


def test_each_side_is_told_in_its_best_dtype():
  def row(dtype, ours, theirs):
    ranges = {
      name: dict.fromkeys(('min', 'median', 'max'), value)
      for name, value in (('ours', ours), ('theirs', theirs), ('times', 1.0))
    }
    case = dataclasses.asdict(dataclasses.replace(CASE, dtype=dtype))
    return {**case, 'work': 'train', **ranges}

  rows = [row('float32', 4.0, 3.0), row('bfloat16', 2.0, 5.0)]
  (said,) = versus_tables.best(rows)
  assert "1.50 times PEFT's speed (bfloat16 against float32)" in said
  assert not list(versus_tables.best(rows[:1] * 2))


def test_a_wrong_flag_is_one_sentence(capsys):
  assert command.main(['t5', '--shapes=smal']) == 2
  assert "did you mean 'small'?" in capsys.readouterr().err
  assert command.main(['t5', '--works=evaluate']) == 2
  assert "'evaluate'" in capsys.readouterr().err
