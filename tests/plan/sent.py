"""What devices send one another in each step of a plan, and what may be sent.

`python -m tests.plan.sent '{"model": …, "meshes": [[…], …]}'` compiles them for
the devices of this process, as many as XLA_FLAGS says; for others, call `of`.
"""

import json
import math
import re
import sys
from unittest import mock

from ptjax import assemble, mesh
from ptjax import config as config_lib
from ptjax.plan import ahead, cost, hlo, steps, tell

# Whatever XLA lets devices send with, by the names of its instructions.
_ANY = re.compile(
  r' (all-gather|all-reduce|all-to-all|collective-permute|reduce-scatter|'
  r'collective-broadcast|ragged-all-to-all|send|recv)(?:-start)?\('
)
# What these meshes need: kernels, sums, and on a TPU a ring of both.
_KINDS = {'all-gather', 'all-reduce', 'collective-permute'}
# Besides, of rows that are decoded: the likeliest ids of each part of the
# vocabulary, arrays of at most so many numbers.
_DECODED, _IDS = {'all-to-all'}, 64


def config(model: str, shape=(2, 4, 1), **changes):
  values = {
    'model': model,
    'task': 'cb',
    'method.length': 5,
    'train.batch_size': 8,
    'eval.batch_size': 8,
    'eval.rank': False,
    'input_length': 24,
    'plan.targets': 4,
    **{f'mesh.{axis}': n for axis, n in zip(mesh.AXES, shape)},
    **changes,
  }
  return config_lib.update(config_lib.default(), values)


def of(c, layout: mesh.Layout, **options) -> dict[str, dict]:
  """By step: what its text has, what is read of it, what a person reads.

  Args:
    options: of `ahead.compile_`.
  """
  made, out = assemble.outlined(c, layout), {}
  for name in steps.NAMES:
    with mock.patch.object(hlo, 'collectives', wraps=hlo.collectives) as read:
      traced = steps.trace(made, name).traced
      compiled = ahead.compile_(traced, loops=c.plan.targets, **options)
    fact = tell.Fact(name, cost.Share(1, 1), 0, compiled=compiled)
    found = [[x.kind, x.shape] for x in compiled.collectives]
    out[name] = {
      'text': sorted(set(_ANY.findall(read.call_args.args[0]))),
      'found': found,
      'said': tell._sent(fact),
    }
  return out


def check(found: dict[str, dict], shape, sizes) -> None:
  """All that is sent is named; of weights, kernels of layers and no more.

  Args:
    shape: of the mesh.
    sizes: the model's; nothing else is as wide as its vocabulary.
  """
  assert list(found) == list(steps.NAMES)
  for name, step in found.items():
    kinds = sorted({kind for kind, _ in step['found']})
    assert step['text'] == kinds, name
    known = _KINDS | (_DECODED if name == 'decode' else set())
    assert {'all-gather', 'all-reduce'} <= set(kinds) <= known, (name, kinds)
    for kind in kinds:
      assert f'{kind} ' in step['said'], (name, kind)
    kernels = 0
    for kind, array in step['found']:
      arrays = [
        [int(n) for n in axes.split(',') if n]
        for axes in re.findall(r'\[([\d,]*)\]', array)
      ]
      # Neither its table nor the logits of a position.
      assert not any(sizes.vocab_size in axes for axes in arrays), (name, array)
      if kind in _DECODED:
        assert arrays and max(map(math.prod, arrays)) <= _IDS, (name, array)
      kernel = {sizes.d_model, sizes.d_ff // shape[2]}
      kernels += kind == 'all-gather' and any(kernel <= {*a} for a in arrays)
    assert kernels > 10, name


def main(given: dict) -> None:
  out = []
  for shape in given['meshes']:
    c = config(given['model'], shape)
    out.append(of(c, mesh.make(c), thorough=True))
  print(json.dumps(out))


if __name__ == '__main__':
  main(json.loads(sys.argv[1]))
