"""Seconds of a first and of a second start."""

import json

import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import apart, compiling
from ptjax.models.t5 import T5Config
from ptjax.weights import published


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  tiny = T5Config(97, 16, 8, 24, 2, 2, 2)
  monkeypatch.setitem(published.T5_1_1, 'tiny', tiny)


def test_each_start_is_a_process_and_the_second_finds_the_cache(
  tmp_path, monkeypatch
):
  kept = []

  def in_a_process(function, folder, *args):
    kept.append(len(list((folder / 'cache').glob('*'))))
    assert json.loads((folder / 'config.json').read_text())['num_layers'] == 3
    return real(function, folder, *args)

  real = apart.in_a_process
  monkeypatch.setattr(apart, 'in_a_process', in_a_process)
  plan = compiling.Plan(
    *(('tiny',), (3,), ()), batch=2, input=8, prompt=3, repeats=1
  )
  one, two = compiling.run(plan)['rows']
  assert (one['scan'], two['scan']) == (True, False)
  # Nothing is there before a first start, its programs before the second.
  assert kept[0] == kept[2] == 0 and kept[1] > 0 and kept[3] > 0
  assert one['first']['median'] > 0 and two['second']['median'] > 0


def test_the_table_judges_the_largest_alone():
  def row(name, seconds):
    times = dict.fromkeys(('min', 'median', 'max'), seconds)
    return {
      **{'model': name, 'layers': 24, 'scan': True, 'load': None},
      **{'first': times, 'second': times},
    }

  machine = {'platform': 'cpu', 'device': 'cpu', 'cores': 2, 'load': None}
  found = {'machine': {**machine, 'jax': '0'}, 'repeats': 1}
  rows = [row('base', 70.0), row('xxl', 20.0)]
  _, table = compiling.tell({**found, 'rows': rows})
  first, second = table.splitlines()[2:]
  assert 'missed' not in first and 'met' not in first
  assert '60 met' in ' '.join(second.split())
  assert '10 missed' in ' '.join(second.split())


def test_a_wrong_flag_is_one_sentence(capsys):
  assert command.main(['compile', '--shapes=bas']) == 2
  assert "did you mean 'base'?" in capsys.readouterr().err
