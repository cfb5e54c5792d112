"""Host memory while a model loads; run by hand, for the figure in BUILD.md.

  python -m tests.weights.memory [bfloat16]

Writes a random T5 of base's size to a temporary folder (1 GB) and prints
(peak - resident) / largest stacked array, which must stay below 1.3.
"""

import pathlib
import sys
import tempfile
import threading
import time

import jax
import numpy as np

from ptjax.models import t5
from ptjax.weights import load, save
from ptjax.weights import t5 as t5_table

CONFIG = t5.T5Config(
  vocab_size=32128,
  d_model=768,
  d_kv=64,
  d_ff=2048,
  num_layers=12,
  num_decoder_layers=12,
  num_heads=12,
)


def random_params(config: t5.T5Config) -> dict:
  rng = np.random.default_rng(0)
  params: dict = {}
  for row in t5_table.tensors(config):
    *scopes, leaf = row.path.split('/')
    scope = params
    for key in scopes:
      scope = scope.setdefault(key, {})
    scope[leaf] = rng.standard_normal(row.own_shape(), dtype=np.float32)
  return params


def resident() -> int:
  pages = pathlib.Path('/proc/self/statm').read_text().split()[1]
  return int(pages) * 4096


def main() -> None:
  dtype = sys.argv[1] if len(sys.argv) > 1 else 'float32'
  with tempfile.TemporaryDirectory() as folder:
    small = pathlib.Path(folder) / 'small'
    tiny = t5.T5Config(61, 8, 2, 8, 1, 1, 2)
    save.save(small, random_params(tiny), tiny)
    save.save(pathlib.Path(folder) / 'base', random_params(CONFIG), CONFIG)
    load.load(str(small), dtype=dtype)  # everything is imported and started
    base, peak, done = resident(), [0], threading.Event()

    def watch() -> None:
      while not done.is_set():
        peak[0] = max(peak[0], resident() - base)
        time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    watcher.start()
    start = time.perf_counter()
    leaves = jax.tree.leaves(load.load(f'{folder}/base', dtype=dtype).params)
    seconds = time.perf_counter() - start
    done.set()
    watcher.join()
  kept, largest = sum(x.nbytes for x in leaves), max(x.nbytes for x in leaves)
  print(
    f'{dtype}: {seconds:.1f} s, resident {kept / 1e6:.0f} MB, largest array '
    f'{largest / 1e6:.0f} MB, peak {peak[0] / 1e6:.0f} MB: '
    f'{(peak[0] - kept) / largest:.2f} of the largest array (bound 1.3)'
  )


if __name__ == '__main__':
  main()
