"""A run's folder in a bucket, against a small store here."""

import json
import os
import pathlib
import time
from unittest import mock

import fake_store
import pytest

from ptjax import bucket, mirror, progress
from ptjax.config import UserError

ADDRESS = 'gs://runs/of/mine'


@pytest.fixture
def store(tmp_path):
  (tmp_path / 'store/runs').mkdir(parents=True)
  told = {'XDG_CACHE_HOME': str(tmp_path / 'machine')}
  with fake_store.serving(tmp_path / 'store') as found:
    with mock.patch.dict(os.environ, told):
      yield found
  progress._called.clear()


def followed():
  return mirror.at('--workdir', ADDRESS)


def there(store) -> dict[str, str]:
  """What the bucket has, but for the list."""
  root = store.root / 'runs/of/mine'
  return {
    path.relative_to(root).as_posix(): path.read_text()
    for path in root.rglob('*')
    if path.is_file() and path.name != 'files.json'
  }


def listed(store) -> list[str]:
  return read_list(store)['files']


def read_list(store) -> dict:
  return json.loads((store.root / 'runs/of/mine/files.json').read_text())


def put(folder: pathlib.Path, name: str, text: str = 'x') -> None:
  (folder / name).parent.mkdir(parents=True, exist_ok=True)
  (folder / name).write_text(text)


def another_machine(tmp_path):
  told = {'XDG_CACHE_HOME': str(tmp_path / 'another')}
  return mock.patch.dict(os.environ, told)


def test_what_a_run_leaves_is_there_and_comes_again(store, tmp_path):
  with followed() as here:
    assert here.name == 'mine' and not list(here.glob('[!.]*'))
    put(here, 'config.json', '{}')
    put(here, 'checkpoints/cb/10/state/a b#c', 'numbers')
    put(here, 'prompts/cb.safetensors', 'rows')
    put(here, '.lock')
    put(here, 'checkpoints/cb/20.orbax-checkpoint-tmp/state/d')
  left = {
    'config.json': '{}',
    'checkpoints/cb/10/state/a b#c': 'numbers',
    'prompts/cb.safetensors': 'rows',
  }
  assert there(store) == left and listed(store) == sorted(left)
  assert not here.parent.exists()

  with another_machine(tmp_path), followed() as elsewhere:
    assert elsewhere != here
    for name, text in left.items():
      assert (elsewhere / name).read_text() == text
    before = len(store.written)
    put(elsewhere, 'config.json', '{"a": 1}')
    (elsewhere / 'checkpoints/cb/10/state/a b#c').unlink()
  del left['checkpoints/cb/10/state/a b#c']
  assert there(store) == left | {'config.json': '{"a": 1}'}
  # What was as before is not sent again.
  assert store.written[before:] == [
    f'runs/of/mine/{name}'
    for name in ('config.json', 'files.json', 'checkpoints/cb/10/state/a b#c')
  ]


def test_it_is_followed_while_it_runs(store, monkeypatch):
  monkeypatch.setattr(mirror, 'EVERY', 0.01)
  with followed() as here:
    put(here, 'metrics.jsonl', 'one')
    wait_for(lambda: there(store).get('metrics.jsonl') == 'one')
    put(here, 'metrics.jsonl', 'one and two')
    wait_for(lambda: there(store)['metrics.jsonl'] == 'one and two')


def wait_for(done) -> None:
  ends = time.monotonic() + 60
  while not done():
    assert time.monotonic() < ends
    time.sleep(0.01)


def test_what_speaks_of_others_comes_behind_their_list(store):
  with followed() as here:
    before = len(store.written)
    put(here, 'results.json')
    put(here, 'predictions/cb.jsonl')
  names = [name.rpartition('/')[2] for name in store.written[before:]]
  assert names == ['cb.jsonl', 'files.json', 'results.json', 'files.json']


def test_of_two_runs_the_later_one_has_the_folder(store, tmp_path):
  with pytest.raises(mirror.Lost, match='another run has gone on'):
    with followed() as here:
      put(here, 'config.json', 'first')
      with another_machine(tmp_path), followed() as elsewhere:
        put(elsewhere, 'config.json', 'second')
  assert there(store) == {'config.json': 'second'}

  # What it left on this machine is not what is gone on with.
  assert (here / 'config.json').read_text() == 'first'
  with followed() as here:
    assert (here / 'config.json').read_text() == 'second'


def test_two_that_begin_at_once_do_not_both_have_it(store, tmp_path):
  one, other = (
    mirror.Mirror(bucket.parse(ADDRESS), tmp_path / name) for name in 'ab'
  )
  one.fetch()
  other.fetch()
  one.send()
  with pytest.raises(mirror.Lost):
    other.send()
  # Not even if nobody looked before.
  with mock.patch.object(other, '_check'):
    other._list(set())
  assert read_list(store)['run'] == one._run


def test_a_lost_run_is_asked_to_stop(store, tmp_path, monkeypatch):
  monkeypatch.setattr(mirror, 'EVERY', 0.01)
  asked = []
  # At first nobody listens: a model is loaded.
  answers = iter([False, True])
  monkeypatch.setattr(
    mirror.stop, 'ask', lambda: asked.append(answer := next(answers)) or answer
  )
  with pytest.raises(mirror.Lost):
    with followed():
      with another_machine(tmp_path), followed():
        pass
      wait_for(lambda: len(asked) > 1)
  assert asked == [False, True]


def test_a_lost_answer_is_no_other_run(store):
  with followed() as here:
    put(here, 'config.json')
    store.lose = True
  assert not store.lose and listed(store) == ['config.json']


def test_a_killed_run_goes_on_where_it_was_on_its_machine(store, tmp_path):
  folder = tmp_path / 'killed'
  killed = mirror.Mirror(bucket.parse(ADDRESS), folder)
  killed.fetch()
  put(folder, 'config.json')
  killed.send()
  put(folder, 'checkpoints/cb/10/a', 'not sent')
  again = mirror.Mirror(bucket.parse(ADDRESS), folder)
  again.fetch()
  again.send()
  assert listed(store) == ['checkpoints/cb/10/a', 'config.json']


def test_a_store_out_of_reach_at_the_end_leaves_all_here(store):
  with pytest.raises(UserError, match='kept on this machine, under .*machine'):
    with followed() as here:
      put(here, 'config.json')
      store.status = 403
  assert (here / 'config.json').is_file()
  store.status = 0
  with followed() as here:
    assert (here / 'config.json').is_file()
  assert 'config.json' in there(store)


def test_a_store_that_refuses_is_told_before_anything_runs(store):
  store.status = 403
  with pytest.raises(UserError, match='cannot be read .PERMISSION_DENIED'):
    with followed():
      raise AssertionError


def test_other_things_are_left_alone(store):
  put(store.root, 'runs/of/mine/config.json', 'of a model')
  with pytest.raises(UserError, match="holds 'config.json' but no files.json"):
    with followed():
      raise AssertionError
  assert there(store) == {'config.json': 'of a model'}


@pytest.mark.parametrize(
  'text,said',
  [
    ('[]', 'is no list of files'),
    ('{"files": [1]}', 'is no list of files'),
    ('{"files": ["../a"]}', "names '../a'"),
    ('{"files": ["/a"]}', "names '/a'"),
    ('{"files": [".files.json"]}', "names '.files.json'"),
  ],
)
def test_a_list_of_others_is_refused(store, text, said):
  put(store.root, 'runs/of/mine/files.json', text)
  with pytest.raises(UserError, match=said):
    with followed():
      raise AssertionError


def test_it_is_told_by_its_address(store, capsys):
  with followed() as here:
    progress.say(f'{here}: results.json')
  assert capsys.readouterr().out == f'{ADDRESS}: results.json\n'


def test_one_process_of_a_machine_has_it(store):
  with followed():
    with pytest.raises(UserError, match='in use by another process of this'):
      with followed():
        raise AssertionError


def test_another_folder_is_as_it_is(tmp_path):
  with mirror.at('--workdir', str(tmp_path / 'run')) as here:
    assert here == tmp_path / 'run'
