"""One process of a load that is measured: what it took, as JSON.

`python -m ptjax.bench.load_side JSON`, with {"model", "small", "dtype", "int8",
"mesh", "distributed", "out"}. Owns what the system says of this process's
memory and reads; the load is that of a run.
"""

import json
import pathlib
import sys
import time
from typing import Any

import jax

from ptjax import config as config_lib
from ptjax import mesh, processes
from ptjax.weights import load

_SELF = pathlib.Path('/proc/self')


def measured(given: dict[str, Any]) -> dict[str, Any]:
  """Seconds, and bytes of this process alone.

  Returns:
    seconds: of the load, from when all processes are ready.
    peak: of resident memory, above what was resident before.
    share: of the parameters that lie here.
    largest: of the largest array among them.
    read: from files.
  """
  config = config_lib.update(config_lib.default(), given['mesh'])
  options = {
    'dtype': given['dtype'],
    'int8': given['int8'],
    'placement': mesh.make(config).frozen,
  }
  # Everything is imported and started.
  load.load(given['small'], **options)
  processes.wait('ready')
  before, read = resident(), _read_so_far()
  (_SELF / 'clear_refs').write_text('5')  # the peak begins anew
  start = time.perf_counter()
  params = load.load(given['model'], **options).params
  seconds = time.perf_counter() - start
  peak = _status('VmHWM') - before
  here = [_held(leaf) for leaf in jax.tree.leaves(params)]
  return {
    'seconds': seconds,
    'peak': peak,
    'share': sum(here),
    'largest': max(here),
    'read': _read_so_far() - read,
  }


def resident() -> int:
  """Bytes of memory that this process has now."""
  return _status('VmRSS')


def _status(name: str) -> int:
  for line in (_SELF / 'status').read_text().splitlines():
    if line.startswith(f'{name}:'):
      return 1024 * int(line.split()[1])
  raise OSError(f'/proc/self/status says no {name}')


def _read_so_far() -> int:
  return int((_SELF / 'io').read_text().split()[1])


def _held(leaf: jax.Array) -> int:
  return sum(part.data.nbytes for part in leaf.addressable_shards)


def main(given: dict[str, Any]) -> None:
  told = {f'distributed.{k}': v for k, v in given['distributed'].items()}
  settings = config_lib.update(config_lib.default(), told)
  processes.start(settings.distributed)
  found = measured(given)
  pathlib.Path(given['out']).write_text(json.dumps(found))
  processes.wait('done')


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
