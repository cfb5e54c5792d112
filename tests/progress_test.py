"""What a user sees of a run's way, with and without a terminal."""

import re
import sys

import pytest

from ptjax import progress
from ptjax.progress import Progress


@pytest.fixture
def clock(monkeypatch):
  """A clock that stands still until it is told."""
  now = [100.0]
  monkeypatch.setattr(progress.time, 'monotonic', lambda: now[0])
  return now


def lines(capsys) -> list[str]:
  out = capsys.readouterr()
  assert not out.out
  return out.err.splitlines()


def test_a_line_says_loss_speed_and_time_left(clock, capsys):
  with Progress('boolq', total=100, batch=32) as bar:
    bar.update(1, loss=2.34567)
    for at in range(2, 12):
      clock[0] += 0.5
      bar.update(at, loss=0.5)
  first, second = lines(capsys)
  assert first == 'boolq 1/100, loss 2.346'
  # 2 steps a second; 90 steps are left after step 10.
  assert second == 'boolq 10/100, loss 0.5, 64 examples/s, 0:45 left'


def test_slow_steps_give_a_line_now_and_then(clock, capsys):
  with Progress('t', total=10_000) as bar:
    for at in range(1, 601):
      clock[0] += 1
      bar.update(at)
  shown = [int(re.match(r't (\d+)/', line)[1]) for line in lines(capsys)]
  gaps = [b - a for a, b in zip(shown, shown[1:])]
  assert shown[0] == 1 and min(gaps) == 10
  assert 10 <= len(shown) <= 45  # every 10 s would be 60
  assert max(gaps) <= 60


def test_speed_leaves_evaluations_out_and_time_left_counts_them(clock, capsys):
  with Progress('t', total=40, batch=10) as bar:
    for at in range(1, 21):
      clock[0] += 1
      bar.update(at, loss=1)
      if at == 10:
        clock[0] += 3
        bar.note(dev=80)
  shown = lines(capsys)
  assert all('10 examples/s' in line for line in shown[1:])
  noted, *_, last = [s for s in shown if 'dev' in s]
  assert noted.startswith('t 10/40, loss 1, dev 80, 10 examples/s')
  # 19 steps took 19 s and an evaluation of 3 s; 20 steps are left.
  assert last == 't 20/40, loss 1, dev 80, 10 examples/s, 0:23 left'


def test_a_resumed_run_counts_from_where_it_was(clock, capsys):
  with Progress('t', total=100, start=90) as bar:
    for at in (91, 92, 93):
      clock[0] += 1
      bar.update(at)
    clock[0] += 60
    bar.update(94)
  shown = lines(capsys)
  assert shown[0] == 't 91/100' and shown[1].startswith('t 94/100')


def test_the_last_step_has_its_line_once(clock, capsys):
  with Progress('t', total=3) as bar:
    for at in (1, 2, 3):
      bar.update(at)
  assert [s.split()[1].strip(',') for s in lines(capsys)][-1] == '3/3'
  with Progress('t', total=1) as bar:
    bar.update(1)
  assert len(lines(capsys)) == 1


def test_on_a_terminal_it_is_a_bar(clock, capsys, monkeypatch):
  monkeypatch.setattr(sys.stderr, 'isatty', lambda: True, raising=False)
  with Progress('boolq', total=4, start=1, batch=8) as bar:
    for at in (2, 4):
      clock[0] += 1
      bar.update(at, loss=0.25)
    progress.say('a table')
  out, err = capsys.readouterr()
  last = err.replace('\n', '\r').rstrip('\r ').split('\r')[-1]
  assert 'boolq 100%' in last and '4/4, loss 0.25, 16 examples/s' in last
  assert out == 'a table\n'


def test_quiet_says_nothing(clock, capsys):
  with Progress('t', total=2, quiet=True) as bar:
    bar.update(1, loss=1)
    bar.note(dev=1)
  assert not lines(capsys)


@pytest.mark.parametrize(
  'seconds, text',
  [(0.4, '0:00'), (59.6, '1:00'), (754, '12:34'), (3725, '1:02:05')],
)
def test_duration(seconds, text):
  assert progress.duration(seconds) == text
