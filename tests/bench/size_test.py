"""A step by what grows: what is measured, told and drawn."""

import itertools
import json

import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import shapes, size
from ptjax.models.t5 import T5Config


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  tiny = T5Config(797, 16, 8, 24, 2, 2, 2)
  monkeypatch.setitem(shapes.T5_1_1, 'tiny', tiny)
  monkeypatch.setattr(shapes, 'NAMES', (*shapes.NAMES, 'tiny'))


def test_each_axis_grows_while_the_others_stay():
  plan = size.Plan(('a',), (1, 9), (8, 64), (1, 5), batch=4, middle=(20, 32))
  found = [
    (axis, case.prompt, case.input, case.batch, members)
    for axis, case, members in size.cases(plan)
  ]
  assert found == [
    *(('prompt', 1, 32, 4, 1), ('prompt', 9, 32, 4, 1)),
    *(('input', 20, 8, 4, 1), ('input', 20, 64, 4, 1)),
    *(('members', 20, 32, 4, 1), ('members', 20, 32, 4, 5)),
  ]


def test_steps_are_timed_alone_and_larger_ones_hold_more():
  plan = size.Plan(
    *(('tiny',), (4, 300), (8, 512), (1, 3)), batch=2, middle=(4, 8), repeats=2
  )
  clock = itertools.count(step=2.0)
  found = size.run(plan, clock=lambda: next(clock))
  rows = found['rows']
  assert [row['seconds'] for row in rows] == [
    {'min': 2.0, 'median': 2.0, 'max': 2.0}
  ] * 6
  bytes_ = [row['bytes'] for row in rows]
  for less, more in zip(bytes_[::2], bytes_[1::2]):
    assert 0 < less < more
  machine = {'platform': 'cpu', 'device': 'cpu', 'cores': 2, 'load': None}
  head = {'machine': {**machine, 'jax': '0'}, 'repeats': 2}
  _, table = size.tell({**head, **found})
  assert '2000 2000 2000' in table.splitlines()[2]


def test_the_command_leaves_a_table_and_a_picture(tmp_path, capsys):
  pytest.importorskip('matplotlib')
  asked = ['--shapes=tiny', '--prompt=100', '--input=128', '--members=1']
  where = ['--batch=2', '--repeats=1', f'--out={tmp_path}']
  assert command.main(['size', *asked, *where]) == 0
  assert len(json.loads((tmp_path / 'size.json').read_text())['rows']) == 3
  assert (tmp_path / 'size.png').stat().st_size > 10_000
  assert 'members' in capsys.readouterr().out


def test_a_wrong_shape_is_one_sentence(capsys):
  assert command.main(['size', '--shapes=tin']) == 2
  assert "'tiny'" in capsys.readouterr().err
