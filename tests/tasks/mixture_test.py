"""A mixture: each example scored as its own task's, and one number of all."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base, mixture
from ptjax.tasks.base import Example

TASKS = [base.load(name, prefix=True) for name in ('cb', 'rte', 'boolq')]


def example(task: base.Task, label: int, n: int = 0) -> Example:
  word = task.labels[label]
  return Example(
    f'{task.name} {n}', word, choices=task.labels, meta={'label': label}
  )


def examples(labels: dict[str, list[int]]):
  """(mixture, its examples), of so many labels a task."""
  mixed = mixture.of(TASKS)

  def of_part(part):
    given = labels[base.short(part)]
    return [example(part, label, n) for n, label in enumerate(given)]

  return mixed, mixed.gather(of_part)


LABELS = {'cb': [0, 1, 2, 0], 'rte': [0, 1], 'boolq': [1, 1, 0]}


def test_examples_are_those_of_the_parts_in_order():
  mixed, found = examples(LABELS)
  assert mixed.name == 'mixture/cb+rte+boolq'
  assert mixed.numbers(found) == [0] * 4 + [1] * 2 + [2] * 3
  assert [e.inputs.split()[0] for e in found] == (
    ['superglue/cb'] * 4 + ['superglue/rte'] * 2 + ['superglue/boolq'] * 3
  )
  assert set(mixed.init_words) == {w for t in TASKS for w in t.init_words}


def test_scores_are_those_of_each_task_and_their_mean():
  mixed, found = examples(LABELS)
  answers = [e.targets for e in found]
  answers[4] = answers[5]  # one of RTE's two
  metrics = mixed.metrics(answers, found)
  own = {}
  for task in TASKS:
    chosen = [i for i, e in enumerate(found) if e.inputs.startswith(task.name)]
    scored = task.metrics(
      [answers[i] for i in chosen], [found[i] for i in chosen]
    )
    own |= {f'{base.short(task)}/{k}': v for k, v in scored.items()}
  assert metrics == own
  assert metrics['rte/accuracy'] == 50.0 and metrics['cb/accuracy'] == 100.0
  # CB has two metrics and one vote.
  assert mixed.score(metrics) == pytest.approx((100 + 50 + 100) / 3)


def test_order_among_the_examples_does_not_matter():
  mixed, found = examples(LABELS)
  answers = [e.targets for e in found]
  answers[1] = 'neither'
  turned = mixed.metrics(answers[::-1], found[::-1])
  assert turned == mixed.metrics(answers, found)
  assert mixed.invalid(answers, found) == pytest.approx(100 / 9)
  assert mixed.counted(found) == 9


def test_a_label_of_another_task_is_none():
  """'True' is BoolQ's, and no answer to RTE."""
  mixed, found = examples(LABELS)
  answers = ['True'] * len(found)
  assert mixed.invalid(answers, found) == pytest.approx(100 * 6 / 9)
  assert mixed.metrics(answers, found)['rte/accuracy'] == 0.0


def test_majorities_are_those_of_each_task():
  mixed, train = examples({'cb': [2, 2, 0], 'rte': [1], 'boolq': [0]})
  _, dev = examples(LABELS)
  cb, rte, boolq = TASKS
  assert mixed.majority_answers(train, dev) == (
    [cb.labels[2]] * 4 + [rte.labels[1]] * 2 + [boolq.labels[0]] * 3
  )


def test_a_part_without_examples_has_no_score():
  mixed, found = examples({'cb': [], 'rte': [0], 'boolq': [1]})
  metrics = mixed.metrics([e.targets for e in found], found)
  assert set(metrics) == {'rte/accuracy', 'boolq/accuracy'}
  assert mixed.score(metrics) == 100.0


@pytest.mark.parametrize(
  'parts', [TASKS[:1], [TASKS[0], TASKS[0]], [*TASKS, TASKS[0]]]
)
def test_one_task_is_no_mixture(parts):
  with pytest.raises(UserError, match='is no mixture, which has several tasks'):
    mixture.of(parts)
