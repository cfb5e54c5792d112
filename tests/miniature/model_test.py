"""The embedded model itself: what it knows, and that a prompt brings it out."""

import pytest

from ptjax import assemble, evaluate, population
from ptjax import config as config_lib
from ptjax.data import split


@pytest.fixture(scope='module')
def run():
  c = config_lib.miniature(config_lib.default())
  c.task, c.buckets = 'rte', (48,)
  (task,) = split.tasks(c)
  made = assemble.parts(c)
  splits = split.load(c, task, ['train', 'dev'], made.tokenizer)
  tuned, frozen = made.init(labels=task.init_words)
  return made, task, splits, tuned, frozen


def score(run, tuned, by, *, prompted) -> float:
  made, task, splits, _, frozen = run
  few = splits['dev'].head(128)
  answers = evaluate.answer(made, tuned, frozen, few, by=by, prompted=prompted)
  return evaluate.scores(task, answers.ensemble, few)['score']


def test_it_judges_claims_but_does_not_know_the_format(run):
  """The skill is in the frozen weights; a damaged file would lose it."""
  tuned = run[3]
  assert score(run, tuned, 'rank', prompted=False) > 85
  assert score(run, tuned, 'generate', prompted=False) < 20


def test_forty_steps_of_a_prompt_bring_it_out(run):
  """Twenty vectors, the weights frozen: from no label to nearly all right."""
  made, _, splits, tuned, frozen = run
  state = made.state(tuned)
  batches = splits['train'].train_batches(batch_size=32, seed=0, start_step=0)
  for _, stacked in zip(range(40), population.stack([batches])):
    state, _ = made.train_step(state, frozen, stacked)
  assert score(run, state.tuned, 'generate', prompted=True) > 85
