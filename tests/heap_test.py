"""A heap that is kept: its addresses, its pages, and who is left alone."""

import importlib.metadata
import importlib.util
import json
import pathlib
import subprocess
import sys

import jax
import pytest

from ptjax import heap

PROGRAM = """
import ctypes, json, pathlib, re
from ptjax import heap
kept = heap.keep('cpu')
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size, seen = 300 << 20, []
for _ in range(3):
  seen.append(libc.malloc(size))
  ctypes.memset(seen[-1], 1, size)
  libc.free(seen[-1])
inside, large, there = False, 0, 0
for line in pathlib.Path('/proc/self/smaps').read_text().splitlines():
  if found := re.match('([0-9a-f]+)-([0-9a-f]+) ', line):
    start, end = (int(x, 16) for x in found.groups())
    inside = start < seen[-1] + size and seen[-1] < end
  elif inside and line.startswith(('AnonHugePages', 'Rss')):
    kib = int(line.split()[1])
    large, there = (large + kib, there) if line[0] == 'A' else (
      large, there + kib)
print(json.dumps({'kept': kept, 'seen': seen, 'large': large, 'there': there}))
"""
PAGES = pathlib.Path('/sys/kernel/mm/transparent_hugepage/enabled')


@pytest.fixture(scope='module')
def told():
  if sys.platform != 'linux':
    pytest.skip('glibc is not there')
  command = [sys.executable, '-c', PROGRAM]
  found = subprocess.run(command, capture_output=True, text=True, check=True)
  told = json.loads(found.stdout)
  if not told['kept']:
    pytest.skip('this C library cannot be told')
  return told


def test_what_was_freed_is_still_there_and_taken_again(told):
  assert len(set(told['seen'])) == 1
  assert told['there'] >= 300 << 10


def test_its_pages_are_large(told):
  if '[never]' in PAGES.read_text():
    pytest.skip('this system has no large pages')
  assert told['large'] >= 280 << 10


def test_an_accelerators_process_is_left_alone():
  program = "from ptjax import heap; print(heap.keep('gpu'))"
  command = [sys.executable, '-c', program]
  found = subprocess.run(command, capture_output=True, text=True, check=True)
  assert found.stdout.strip() == 'False'


@pytest.mark.parametrize(
  'asked,early',
  [('cpu', True), ('', True), ('cuda,cpu', False), ('tpu', False)],
)
def test_it_is_kept_before_jax_begins_where_only_a_cpu_can_be(
  asked, early, monkeypatch
):
  began = []
  monkeypatch.setenv('JAX_PLATFORMS', asked)
  monkeypatch.setattr(heap, '_accelerated', lambda: False)
  monkeypatch.setattr(heap, 'keep', lambda platform: began.append(platform))
  monkeypatch.setattr(jax, 'default_backend', lambda: 'found')
  heap.keep_on_cpu()
  assert began == ['cpu' if early else 'found']


def test_what_jax_may_find_beside_a_cpu(monkeypatch):
  monkeypatch.setenv('JAX_PLATFORMS', '')
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
  points = []
  monkeypatch.setattr(importlib.metadata, 'entry_points', lambda group: points)
  assert not heap._accelerated()
  points.append('a plugin')
  assert heap._accelerated()
  points.clear()
  monkeypatch.setattr(importlib.util, 'find_spec', lambda name: name)
  assert heap._accelerated()
