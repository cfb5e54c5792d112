"""A start up to its first update: what is started, and what is said of it."""

import subprocess
import sys

import pytest

from ptjax.bench import __main__ as command
from ptjax.bench import apart, cold, random_t5, t5_peft
from ptjax.models.t5 import T5Config

TINY = T5Config(97, 24, 8, 40, 2, 2, 3)
MACHINE = {'platform': 'cpu', 'device': 'cpu', 'cores': 2, 'load': None}
MACHINE['jax'] = '0'


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch):
  monkeypatch.setitem(random_t5.SIZES, 'tiny', TINY)


@pytest.fixture
def plan():
  return cold.Plan(('tiny',), ('float32',), 2, 12, 3, repeats=2)


def test_each_start_is_timed_in_turn(plan, monkeypatch):
  monkeypatch.setattr(cold.peft_side, 'missing', lambda: '')
  seen, now = [], [0.0]

  def start(function, folder, *what):
    peft = function is not cold.ours
    again = not peft and what[-1] in seen
    seen.append(what[-1] if not peft else 'PEFT')
    now[0] += 8.0 if peft else 2.0 if again else 4.0
    return 2**30 * (4 if peft else 1)

  found = cold.run(plan, clock=lambda: now[0], start=start)
  # A new cache for each pair, and the second start has the first one's.
  assert [s == 'PEFT' for s in seen] == [False, False, True] * 2
  assert seen[0] == seen[1] != seen[3] == seen[4]
  (row,) = found['rows']
  medians = {k: row[k]['median'] for k in ('first', 'second', 'theirs')}
  assert medians == {'first': 4.0, 'second': 2.0, 'theirs': 8.0}
  _, table = cold.tell({'machine': MACHINE, 'repeats': 2, **found})
  said = table.splitlines()[-1].split()
  assert said[3:12] == ['4.00'] * 3 + ['2.00'] * 3 + ['8.00'] * 3
  assert said[12:-1] == '2.00 4.00 1.00 1.00 4.00'.split()


def test_our_start_makes_an_update_in_a_process_of_its_own(plan, tmp_path):
  random_t5.write(tmp_path, TINY)
  case = cold.Case('tiny', 'float32', 3, 2, 12)
  cache = tmp_path / 'cache'
  peak = apart.in_a_process(cold.ours, tmp_path, case, cache)
  assert peak > 100 * 2**20
  assert list(cache.iterdir())  # what was compiled is there for the next


def test_the_peers_process_has_no_jax():
  """Its users have none: neither its memory nor the time to import it."""
  code = 'import sys, ptjax.bench.t5_peft; sys.exit("jax" in sys.modules)'
  assert subprocess.run([sys.executable, '-c', code]).returncode == 0


@pytest.mark.skipif(
  bool(t5_peft.peft_side.missing()),
  reason='peft, torch, transformers are needed',
)
def test_the_peers_start_makes_an_update(tmp_path):
  random_t5.write(tmp_path, TINY)
  rows = cold._rows(cold.Case('tiny', 'float32', 3, 2, 12))
  found = t5_peft.first_update(tmp_path, *rows, dtype='float32', prompt=3)
  assert found > 100 * 2**20


@pytest.mark.parametrize(
  'flags,sentence',
  [
    (['--shapes=tin'], "did you mean 'tiny'?"),
    (['--dtype=float16'], "'float16'"),
    (['--batch=2'], 'unrecognized arguments: --batch=2'),
  ],
)
def test_a_wrong_flag_is_one_sentence(flags, sentence, capsys):
  assert command.main(['cold', *flags]) == 2
  assert sentence in capsys.readouterr().err
