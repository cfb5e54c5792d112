"""What every kind of task has: names, and labels that begin one another."""

import pytest

from ptjax.config import UserError
from ptjax.tasks import base


def custom(*labels):
  return base.load('custom/mine', template='{a}', target='b', labels=labels)


def test_a_label_that_begins_another_is_told_once_for_each_pair():
  (said,) = custom('neg', 'positive', 'pos').remarks([])
  assert "'pos' is how 'positive' begins" in said and 'eval.by=rank' in said
  assert len(custom('a', 'ab', 'abc').remarks([])) == 3


@pytest.mark.parametrize('name', ['twitter_complaints', 'rte', 'cb', 'copa'])
def test_labels_that_do_not_are_not_told_of(name):
  assert base.load(name).remarks([]) == []
  assert custom('complaint', 'no complaint').remarks([]) == []


def test_tasks_of_all_families_are_known_by_their_short_names():
  assert base.names('raft') == ['raft/twitter_complaints']
  assert base.names('generation/qa') == base.names('qa') == ['generation/qa']
  with pytest.raises(UserError, match="did you mean 'translation'"):
    base.names('translaton')
  with pytest.raises(UserError, match="'generation' is 3 tasks"):
    base.load('generation')
