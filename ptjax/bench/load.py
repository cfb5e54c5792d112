"""A checkpoint loaded by several processes: seconds, memory, what each reads.

Owns a random checkpoint of a size, in files as a hub has them, and the
processes that load it together on this machine, one device each. What is loaded
how is a run's own way, `weights.load` onto `mesh.make`.
"""

import contextlib
import dataclasses
import json
import math
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ptjax.config import UserError, one_of
from ptjax.models.t5 import T5Config
from ptjax.weights import t5 as table

BOUND = 1.3  # of the largest array, that a peak may be above the share
CUTS = ('fsdp', 'tensor')
_GB = 10**9
_FILES = 4
_WAIT = 900  # seconds for a load
_TYPES = {
  'float32': ('F32', np.dtype(np.float32)),
  'bfloat16': ('BF16', np.dtype(ml_dtypes.bfloat16)),
}
_HEADS = 16
_SMALL = T5Config(64, 16, 2, 16, 1, 1, _HEADS)


@dataclasses.dataclass(frozen=True)
class Plan:
  """What is measured."""

  gigabytes: float  # of the files
  processes: tuple[int, ...]
  cuts: tuple[str, ...]  # which mesh axis has all devices
  dtypes: tuple[str, ...]  # kept in; int8 is of float32
  files: str = 'float32'  # type in the files


def plan(
  *,
  gigabytes: float = 1.0,
  processes: Sequence[int] = (),
  cuts: Sequence[str] = (),
  dtypes: Sequence[str] = (),
  files: str = 'float32',
) -> Plan:
  """What is asked for; where nothing is, 1 and 4 processes.

  Raises:
    UserError: what cannot be measured here.
  """
  for cut in cuts:
    one_of('--cut', cut, CUTS)
  for dtype in dtypes:
    one_of('--dtype', dtype, (*_TYPES, 'int8'))
  one_of('--files', files, tuple(_TYPES))
  if not pathlib.Path('/proc/self/clear_refs').exists():
    raise UserError('load reads the peak of memory in /proc, as Linux has it')
  if not gigabytes > 0:
    raise UserError(f'--gigabytes={gigabytes} must be above 0')
  place = tempfile.gettempdir()
  if gigabytes * _GB > (free := shutil.disk_usage(place).free):
    raise UserError(
      f'--gigabytes={gigabytes:g}: {place} has {free / _GB:.1f} GB left; '
      'make it smaller, or set TMPDIR'
    )
  if bad := [count for count in processes if _HEADS % count]:
    raise UserError(
      f'--processes={bad[0]} does not divide the {_HEADS} heads of the model'
    )
  return Plan(
    gigabytes,
    tuple(processes) or (1, 4),
    tuple(cuts) or CUTS,
    tuple(dtypes) or ('float32',),
    files,
  )


def sizes(gigabytes: float, itemsize: int) -> T5Config:
  """T5 1.1 large, as deep as fills so many bytes."""

  def deep(layers: int) -> T5Config:
    return T5Config(32128, 1024, 64, 2816, layers, layers, _HEADS)

  one, two = (itemsize * _values(deep(layers)) for layers in (1, 2))
  more = (gigabytes * _GB - one) / (two - one)
  return deep(max(1, 1 + round(more)))


def _values(config: T5Config) -> int:
  return sum(math.prod(shape) for shape in _shapes(config).values())


def _shapes(config: T5Config) -> dict[str, tuple[int, ...]]:
  """Of the tensors in files, in the order of their names."""
  rows = table.tensors(config)
  found = {name: row.shape for row in rows for name in row.names()}
  return dict(sorted(found.items()))


def write(folder: pathlib.Path, config: T5Config, *, dtype: str) -> int:
  """A random model in Hugging Face's layout, in _FILES files; its bytes."""
  shapes, (_, kind) = _shapes(config), _TYPES[dtype]
  total = kind.itemsize * _values(config)
  folder.mkdir()
  where, parts = {}, [[] for _ in range(_FILES)]
  for at, name in enumerate(shapes):
    number = at * _FILES // len(shapes)
    parts[number].append(name)
    where[name] = f'model-{number + 1:05}-of-{_FILES:05}.safetensors'
  for names in parts:
    if names:
      _write_file(folder / where[names[0]], names, shapes, dtype)
  index = {'metadata': {'total_size': total}, 'weight_map': where}
  (folder / 'model.safetensors.index.json').write_text(json.dumps(index))
  settings = table.to_json(config, dtype=dtype)
  (folder / 'config.json').write_text(json.dumps(settings))
  return total


def _write_file(
  path: pathlib.Path,
  names: Sequence[str],
  shapes: dict[str, tuple[int, ...]],
  dtype: str,
) -> None:
  name_of, kind = _TYPES[dtype]
  header, end = {}, 0
  for name in names:
    begin, end = end, end + kind.itemsize * math.prod(shapes[name])
    header[name] = {
      'dtype': name_of,
      'shape': shapes[name],
      'data_offsets': [begin, end],
    }
  text = json.dumps(header).encode()
  # As long as it takes to tell one value from another; then again.
  noise = np.random.default_rng(0).standard_normal(1 << 20) / 32
  noise = noise.astype(kind).tobytes()
  with path.open('wb') as file:
    file.write(len(text).to_bytes(8, 'little') + text)
    for begin in range(0, end, len(noise)):
      file.write(noise[: end - begin])


def run(plan: Plan, *, config: T5Config | None = None) -> dict[str, Any]:
  """Measures; returns {'rows': …}, a row a load, see `_row`.

  Args:
    config: sizes of the model, else by `plan.gigabytes`.
  """
  config = config or sizes(plan.gigabytes, _TYPES[plan.files][1].itemsize)
  rows = []
  with tempfile.TemporaryDirectory(prefix='ptjax-load-') as place:
    room = pathlib.Path(place)
    total = write(room / 'model', config, dtype=plan.files)
    write(room / 'small', _SMALL, dtype=plan.files)
    for dtype in plan.dtypes:
      for count in plan.processes:
        for cut in plan.cuts if count > 1 else ('',):
          print(f'{count} processes, {cut or "whole"}', file=sys.stderr)
          each = _loaded(room, count, cut=cut, dtype=dtype)
          rows.append(_row(total, count, cut, dtype, each))
  return {'rows': rows}


def _loaded(
  room: pathlib.Path, count: int, *, cut: str, dtype: str
) -> list[dict[str, Any]]:
  """What each of so many processes says of one load."""
  shape = {'mesh.data': 1, 'mesh.fsdp': 1, 'mesh.tensor': 1}
  given = {
    'model': str(room / 'model'),
    'small': str(room / 'small'),
    'dtype': 'float32' if dtype == 'int8' else dtype,
    'int8': dtype == 'int8',
    'mesh': {**shape, **({f'mesh.{cut}': count} if cut else {})},
  }
  # Of a batch nothing is made, but its parts are looked at.
  given['mesh'] |= {'train.batch_size': count, 'eval.batch_size': count}
  coordinator = f'127.0.0.1:{_free_port()}' if count > 1 else ''
  told = []
  for index in range(count):
    out = room / f'{index}.json'
    who = {'coordinator': coordinator, 'processes': count, 'process': index}
    told.append({**given, 'distributed': who, 'out': str(out)})
  with _started(told) as running:
    end = time.monotonic() + _WAIT
    for process in running:
      said = process.communicate(timeout=max(1, end - time.monotonic()))[1]
      if process.returncode:
        raise RuntimeError(f'a process of the load failed:\n{said[-2000:]}')
  return [json.loads(pathlib.Path(each['out']).read_text()) for each in told]


def _free_port() -> int:
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def _started(told: Sequence[dict[str, Any]]) -> Iterator[list[Any]]:
  """The processes; none is left behind."""
  # One device each, and of a machine's memory what a load itself takes.
  env = {**os.environ, 'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': ''}
  running = []
  try:
    for given in told:
      words = [sys.executable, '-m', 'ptjax.bench.load_side', json.dumps(given)]
      running.append(
        subprocess.Popen(
          words,
          env=env,
          stdout=subprocess.DEVNULL,
          stderr=subprocess.PIPE,
          text=True,
        )
      )
    yield running
  finally:
    for process in running:
      process.kill()
      process.wait()


def _row(
  total: int, count: int, cut: str, dtype: str, each: list[dict[str, Any]]
) -> dict[str, Any]:
  """'over' is the peak above the share, over the largest array: of the
  process in which it is most, and at most BOUND."""
  return {
    'gigabytes': total / _GB,
    'processes': count,
    'cut': cut,
    'dtype': dtype,
    'seconds': max(one['seconds'] for one in each),
    'over': max((p['peak'] - p['share']) / p['largest'] for p in each),
    'each': each,
  }
