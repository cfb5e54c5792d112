"""The files in configs/: what their words make of a run."""

import importlib.util
import pathlib

import pytest

from ptjax import ablate, train
from ptjax.config import UserError
from ptjax.data import split

FOLDER = pathlib.Path(__file__).resolve().parents[1] / 'configs'


def read(name, words=None):
  spec = importlib.util.spec_from_file_location(name, FOLDER / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(words)


def test_twitter_complaints_without_words_is_the_embedded_gpt():
  c = read('twitter_complaints')
  assert (c.model, c.data, c.eval.split) == (
    'miniature/gpt',
    'miniature',
    'test',
  )
  runs = ablate.settings(c)
  assert [run.method.length for run in runs.values()] == [8, 100]
  (task,) = split.tasks(c)
  assert task.name == 'raft/twitter_complaints'
  # What is asked is in the form of the task.
  form = task.convert({'Tweet text': '@@', 'ID': 0}, 0, split='test')
  before, after = next(form).inputs.split('@@')
  assert c.samples.query.startswith(before)
  assert c.samples.query.endswith(after)
  assert c.samples.temperature > 0 and c.samples.count == 3


def test_twitter_complaints_of_sizes_meets_both_lengths():
  c = read('twitter_complaints', 'models=a/70m+a/160m,data=D,members=5')
  runs = ablate.settings(c)
  assert list(runs) == [
    ('a/70m', '8'),
    ('a/70m', '100'),
    ('a/160m', '8'),
    ('a/160m', '100'),
  ]
  for (model, length), run in runs.items():
    assert (run.model, run.method.length) == (model, int(length))
    assert run.data == 'D' and run.population.seeds == 5
  one = read('twitter_complaints', 'model=a/70m,data=D,query=hi')
  assert list(ablate.settings(one)) == [('8',), ('100',)]
  assert one.model == 'a/70m'
  assert one.samples.query == 'Tweet text : hi Label :'
  # Of a real model nothing made up is reported unasked.
  assert read('twitter_complaints', 'model=a/70m').data == 'hub'


@pytest.mark.parametrize(
  'task, instruction',
  [
    ('summarization', 'Summarize the following content :'),
    ('qa', 'Answer the Following Question'),
    (
      'translation',
      'Translate the following sentence from english to german :',
    ),
  ],
)
def test_generation_in_words_is_an_instruction_a_task(task, instruction):
  words = f'task={task},model=m,data=D'
  soft = read('gpt2_generation', words)
  hard = read('gpt2_generation', f'{words},prompt=written')
  assert (soft.method.name, hard.method.name) == ('soft_prompt', 'hard_prompt')
  assert hard.method.instruction == instruction
  for c in (soft, hard):
    assert (c.model, c.data, c.eval.split) == ('m', 'D', 'test')
    assert [t.name for t in train.check(c)] == [f'generation/{task}']


def test_generation_without_words_is_all_three_tasks():
  c = read('gpt2_generation')
  assert c.data == 'hub' and c.method.name == 'soft_prompt'
  assert len(train.check(c)) == 3


@pytest.mark.parametrize(
  'words, sentence',
  [
    ('prompt=written', "task='generation' is not known.* it can be summariz"),
    ('prompt=written,task=translaton', "did you mean 'translation'"),
    ('prompt=hard', "prompt='hard' is not known.* it can be soft, written"),
  ],
)
def test_generation_has_an_instruction_for_its_tasks_alone(words, sentence):
  with pytest.raises(UserError, match=sentence):
    read('gpt2_generation', words)


def test_the_runs_of_twitter_complaints_are_ones_that_can_be():
  for c in ablate.settings(read('twitter_complaints')).values():
    assert [t.name for t in train.check(c)] == ['raft/twitter_complaints']


def test_methods_are_runs_with_their_own_optimizers_and_the_same_steps():
  runs = ablate.settings(read('methods', 'task=cb,train.steps=7'))
  assert len(runs) == 9
  for (name,), c in runs.items():
    assert [t.name for t in train.check(c)] == ['superglue/cb']
    assert c.method.name == name and c.train.costs and c.train.steps == 7
    assert c.optimizer.lr == -1  # the method's
  two = read('methods', 'methods=lora+ia3,model=M,data=D')
  assert list(ablate.settings(two)) == [('lora',), ('ia3',)]
  assert (two.model, two.data) == ('M', 'D')
