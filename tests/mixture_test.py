"""One run on several tasks together, as a user starts it."""

import json

import numpy as np
import pytest
import tiny

from ptjax import api
from ptjax.export import names


@pytest.fixture(scope='module')
def room(tmp_path_factory):
  folder = tmp_path_factory.mktemp('room')
  tiny.model_folder(folder / 'model')
  tiny.data_folder(folder / 'data')
  return folder


def train(call, room, folder, **changes):
  words = tiny.words(room, **(tiny.SHORT | {'task': 'cb+rte'} | changes))
  return call(f'--config=configs/superglue.py:{words}', f'--workdir={folder}')


def test_it_leaves_one_prompt_and_scores_of_each_task(call, room, tmp_path):
  out = tmp_path / 'run'
  code, said, error = train(call, room, out, mixture=16)
  assert code == 0, error
  assert [p.name for p in names.find(str(out))] == ['cb+rte']
  found = json.loads((out / 'results.json').read_text())['tasks']['cb+rte']
  metrics = found['generate']['metrics'] if 'generate' in found else found
  text = json.dumps(metrics)
  for name in ('cb/mean_3class_f1', 'cb/accuracy', 'rte/accuracy'):
    assert name in text
  lines = (out / 'predictions/cb+rte-dev.jsonl').read_text().splitlines()
  inputs = [json.loads(line)['inputs'].split()[0] for line in lines]
  # In T5's way each says which task it is of.
  assert inputs == ['cb'] * 24 + ['rte'] * 24
  assert 'cb+rte: 48 training' in said


@pytest.mark.parametrize(
  'changes,sentence',
  [
    ({'mixture': -1}, 'mixture=-1 must be at least 0'),
    ({'mixture': 8, 'task': 'cb'}, 'cb is no mixture, which has several'),
    (
      {'mixture': 8, 'method.name': 'hard_prompt', 'method.init': 'labels'},
      'mixture=8 is trained on, and a hard prompt is not',
    ),
    ({'mixture': 8, 'eval.submission': True}, "no task of SuperGLUE's leader"),
  ],
)
def test_what_is_no_mixture_is_refused(call, room, tmp_path, changes, sentence):
  code, _, error = train(call, room, tmp_path / 'run', **changes)
  assert code == 2 and sentence in error
  assert not (tmp_path / 'run').exists()


LABELS = {
  'cb': ['entailment', 'contradiction', 'neutral'],
  'rte': ['entailment', 'not_entailment'],
}


def test_a_row_is_trained_scored_and_served_by_its_tasks_prompt(
  call, room, tmp_path
):
  """By the number of its task all the way, from the data to the file."""
  out = tmp_path / 'run'
  settings = {'name': 'multitask_prompt', 'low': -3.0, 'high': 3.0}
  changes = {f'method.{key}': value for key, value in settings.items()}
  changes |= {'train.steps': 4, 'train.eval_every': 4, 'optimizer.lr': 1.0}
  code, _, error = train(call, room, out, mixture=16, **changes)
  assert code == 0, error
  assert [p.name for p in names.find(str(out))] == ['cb', 'rte']
  lines = (out / 'predictions/cb+rte-dev.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  model = api.load(str(room / 'model'), prompt=str(out))
  tasks = [row['inputs'].split()[0] for row in rows]
  asked = [
    (row['inputs'], label, task)
    for row, task in zip(rows, tasks)
    for label in LABELS[task]
  ]
  inputs, labels, own = map(list, zip(*asked))

  def ranked(prompts: list[str]) -> list[str]:
    """The label that each row's prompt finds likeliest."""
    nats = iter(api.score(model, inputs, labels, prompts=prompts))
    each = [[next(nats) for _ in LABELS[task]] for task in tasks]
    return [LABELS[t][int(np.argmax(x))] for t, x in zip(tasks, each)]

  said = [row['rank'] for row in rows]
  assert ranked(own) == said
  turned = {'cb': 'rte', 'rte': 'cb'}
  assert ranked([turned[task] for task in own]) != said
