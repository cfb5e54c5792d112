"""What the first process has, where there is one; several: processes_test."""

import pathlib

import pytest

from ptjax import processes, relay
from ptjax.config import UserError


def test_one_process_asks_itself():
  assert relay.of_first(lambda: {1: (2,)}) == {1: (2,)}
  assert relay.bytes_of_first(lambda: b'a') == b'a'
  assert not relay.apart(pathlib.Path('anywhere'))


class Client:
  """As much of the coordinator as passes bytes on."""

  def __init__(self):
    self.told = {}

  def key_value_set_bytes(self, key, value):
    assert key not in self.told
    self.told[key] = value

  def blocking_key_value_get_bytes(self, key, _):
    return self.told[key]


@pytest.fixture
def become(monkeypatch):
  """A function: from now on this is the first of several, or another."""
  client = Client()
  monkeypatch.setattr(processes, 'several', lambda: True)
  monkeypatch.setattr(processes, 'client', lambda: client)

  def become(first: bool) -> None:
    monkeypatch.setattr(relay, '_numbers', iter(range(9)))
    monkeypatch.setattr(processes, 'first', lambda: first)

  return become


def refuse():
  raise AssertionError('another process reads nothing')


def test_others_hear_what_the_first_finds(become):
  found = [{'found': [1]}, {'found': [2]}]
  become(first=True)
  assert [relay.of_first(iter(found).__next__)] == found[:1]
  assert [relay.of_first(iter(found[1:]).__next__)] == found[1:]
  become(first=False)
  assert [relay.of_first(refuse) for _ in found] == found


@pytest.mark.parametrize(
  'error,kind',
  [
    (UserError('of the user'), UserError),
    (FileNotFoundError('of a disk'), OSError),
    (KeyError('of ours'), RuntimeError),
  ],
)
def test_others_raise_what_the_first_does(become, error, kind):
  def fail():
    raise error

  become(first=True)
  with pytest.raises(type(error)):
    relay.of_first(fail)
  become(first=False)
  with pytest.raises(kind, match=str(error)) as found:
    relay.of_first(refuse)
  assert found.type is kind


def test_files_of_the_first_come_to_a_folder_of_one_s_own(become, tmp_path):
  mine, theirs = tmp_path / 'mine', tmp_path / 'theirs'
  (mine / 'cb').mkdir(parents=True)
  (mine / 'cb/0.safetensors').write_bytes(b'\0rows')
  (mine / 'rte.safetensors').write_bytes(b'others')
  relay._apart += [mine, theirs]
  try:
    become(first=True)
    relay.share(mine)
    become(first=False)
    relay.share(theirs)
  finally:
    relay._apart.clear()
  assert (theirs / 'cb/0.safetensors').read_bytes() == b'\0rows'
  assert (theirs / 'rte.safetensors').read_bytes() == b'others'
