"""`python -m ptjax.bench population [--members=1,2,5 …]`: what it costs, as
ratios of what is timed side by side in one run; `causal`, `t5` against PEFT;
`size`, a step by what grows; `load`, what several processes take to load;
`cold`, a start up to its first update.

Owns the command line. Exit codes as in `ptjax.main`.
"""

import argparse
import dataclasses
import os
import pathlib
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ptjax.config import UserError


def main(argv: Sequence[str]) -> int:
  """Runs one benchmark; returns the exit code."""
  try:
    _run(_parse(argv))
  except UserError as error:
    print(f'ptjax: {error}', file=sys.stderr)
    return 2
  except KeyboardInterrupt:
    print('ptjax: interrupted', file=sys.stderr)
    return 1
  return 0


def _run(asked: argparse.Namespace) -> None:
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  # The sides are in processes of their own, which share what a GPU holds.
  os.environ.setdefault('XLA_PYTHON_CLIENT_PREALLOCATE', 'false')
  # After the environment: jax reads it when it is imported.
  from ptjax import heap, workdir
  from ptjax.bench import (
    cold,
    compiling,
    load_tables,
    real,
    size,
    tables,
    versus_tables,
  )

  if asked.benchmark not in ('cold', 'compile', 'load'):  # of processes
    heap.keep_on_cpu()
  about = {'benchmark': asked.benchmark, 'machine': tables.machine()}
  about['repeats'] = getattr(asked, 'repeats', 0)
  folder = pathlib.Path(asked.out).expanduser() if asked.out else None
  folder = folder or workdir.fresh('bench', root=pathlib.Path('runs'))
  if asked.benchmark in ('causal', 't5'):
    found, said, draw = _versus(asked), versus_tables, versus_tables.draw
  elif asked.benchmark == 'cold':
    found, said, draw = _cold(asked), cold, cold.draw
  elif asked.benchmark == 'compile':
    found, said, draw = _compile(asked), compiling, compiling.draw
  elif asked.benchmark == 'real':
    found, said, draw = _real(asked), real, versus_tables.draw
  elif asked.benchmark == 'size':
    found, said, draw = _size(asked), size, size.draw
  elif asked.benchmark == 'load':
    found, said, draw = _load(asked), load_tables, load_tables.draw
  else:
    found, said, draw = _population(asked), tables, tables.draw
  found = {**about, **found}
  for text in (*said.tell(found), *tables.write(found, folder, draw=draw)):
    print(text)


def _population(asked: argparse.Namespace) -> dict[str, Any]:
  import jax

  from ptjax.bench import population

  plan = population.plan(
    jax.default_backend(),
    models=asked.shapes,
    batches=asked.batch,
    inputs=asked.input,
    prompts=asked.prompt,
    members=asked.members,
    steps=asked.steps,
    repeats=asked.repeats,
  )
  return population.run(plan)


def _versus(asked: argparse.Namespace) -> dict[str, Any]:
  import jax

  from ptjax.bench import causal, t5, versus

  kinds = {'causal': (causal, causal.Causal), 't5': (t5, t5.T5)}
  module, comparison = kinds[asked.benchmark]
  said = {
    'models': asked.shapes,
    'dtypes': asked.dtype,
    'batches': asked.batch,
    'inputs': asked.input,
    'prompts': asked.prompt,
    'works': asked.works,
  }
  plan = module.plan(
    jax.default_backend(),
    said,
    repeats=asked.repeats,
    memory=not asked.no_memory,
    times=not asked.no_times,
  )
  return versus.run(comparison(), plan)


def _real(asked: argparse.Namespace) -> dict[str, Any]:
  from ptjax.bench import real

  said = {
    'models': asked.shapes,
    'dtypes': asked.dtype,
    'batches': asked.batch,
    'tasks': asked.tasks,
    'works': asked.works,
  }
  plan = real.Plan(
    asked.data,
    asked.tokenizer,
    examples=asked.examples,
    fixed=not asked.no_fixed,
    repeats=asked.repeats,
    **{name: values for name, values in said.items() if values},
  )
  return real.run(plan)


def _cold(asked: argparse.Namespace) -> dict[str, Any]:
  from ptjax.bench import cold

  plan = cold.Plan(repeats=asked.repeats)
  if asked.shapes:
    plan = dataclasses.replace(plan, models=asked.shapes)
  if asked.dtype:
    plan = dataclasses.replace(plan, dtypes=asked.dtype)
  return cold.run(plan)


def _compile(asked: argparse.Namespace) -> dict[str, Any]:
  from ptjax.bench import compiling

  plan = compiling.Plan(repeats=asked.repeats)
  if asked.layers:
    plan = dataclasses.replace(plan, depths=asked.layers)
  if asked.shapes:
    plan = dataclasses.replace(plan, models=asked.shapes)
  return compiling.run(plan)


def _size(asked: argparse.Namespace) -> dict[str, Any]:
  from ptjax.bench import size

  said = {
    'models': asked.shapes,
    'prompts': asked.prompt,
    'inputs': asked.input,
    'members': asked.members,
  }
  said = {name: values for name, values in said.items() if values}
  return size.run(size.Plan(batch=asked.batch, repeats=asked.repeats, **said))


def _load(asked: argparse.Namespace) -> dict[str, Any]:
  from ptjax.bench import load

  plan = load.plan(
    gigabytes=asked.gigabytes,
    processes=asked.processes,
    cuts=asked.cut,
    dtypes=asked.dtype,
    files=asked.files,
  )
  return load.run(plan)


class _Parser(argparse.ArgumentParser):
  def error(self, message: str) -> NoReturn:
    raise UserError(f'{message}; see python -m ptjax.bench --help')


def _parse(argv: Sequence[str]) -> argparse.Namespace:
  parser = _Parser(
    prog='python -m ptjax.bench',
    description='Ratios of what is timed in turn, in one run.',
    allow_abbrev=False,
  )
  kinds = parser.add_subparsers(dest='benchmark', required=True)
  population = kinds.add_parser(
    'population',
    help='members of a population against one',
    allow_abbrev=False,
  )
  _sizes(population, 'miniature, small, base, large, xl; the last four are T5')
  population.add_argument(
    '--members',
    type=_counts,
    default=(),
    help='members of the populations, such as 1,2,5',
  )
  population.add_argument(
    '--steps', type=_count, default=10, help='of a whole job; 0 = none'
  )
  pythia = 'pythia-70m, pythia-160m, pythia-410m, pythia-1.4b'
  said = 'train-text, train-label, evaluate, generate'
  _peer(kinds, 'causal', 'decoder-only models', shapes=pythia, works=said)
  t5 = 'small, base, large, xl'
  _peer(kinds, 't5', 'T5', shapes=t5, works='train, rank, generate')
  _of_real(kinds)
  _of_cold(kinds)
  _of_compile(kinds)
  _of_size(kinds)
  _of_load(kinds)
  asked = parser.parse_args(list(argv))
  counts = ('members', 'batch', 'input', 'prompt', 'layers', 'repeats')
  for name in (*counts, 'processes'):
    _positive(name, getattr(asked, name, 1))
  return asked


def _peer(kinds: Any, name: str, what: str, *, shapes: str, works: str) -> None:
  """A comparison with PEFT."""
  parser = kinds.add_parser(
    name, help=f'{what} against PEFT', allow_abbrev=False
  )
  _sizes(parser, shapes)
  for flag, values in (('dtype', 'float32, bfloat16'), ('works', works)):
    parser.add_argument(f'--{flag}', type=_words, default=(), help=values)
  parser.add_argument(
    '--no-memory', action='store_true', help='leave out the peaks of memory'
  )
  parser.add_argument(
    '--no-times',
    action='store_true',
    help='leave out all else, so that only one side at a time needs memory',
  )


def _of_real(kinds: Any) -> None:
  parser = kinds.add_parser(
    'real', help='T5 on rows of real lengths', allow_abbrev=False
  )
  for flag, what in (
    ('shapes', 'small, base, large, xl; of random weights'),
    ('dtype', 'float32, bfloat16'),
    ('tasks', 'cb, rte, wic, boolq, multirc'),
    ('works', 'train, rank, generate, free'),
  ):
    parser.add_argument(f'--{flag}', type=_words, default=(), help=what)
  parser.add_argument('--batch', type=_counts, default=(), help='rows')
  parser.add_argument(
    '--examples', type=_count, default=256, help='of each task; 0 = all'
  )
  for flag, what in (
    ('data', "folder of SuperGLUE's files"),
    ('tokenizer', "folder of T5's tokenizer"),
  ):
    parser.add_argument(f'--{flag}', required=True, help=what)
  parser.add_argument(
    '--no-fixed', action='store_true', help='leave out the fixed length'
  )
  parser.add_argument('--repeats', type=_count, default=3, help='pairs')
  _out(parser)


def _of_cold(kinds: Any) -> None:
  parser = kinds.add_parser(
    'cold', help='a start up to its first update', allow_abbrev=False
  )
  parser.add_argument('--shapes', type=_words, default=(), help='T5 widths')
  parser.add_argument(
    '--dtype', type=_words, default=(), help='float32, bfloat16'
  )
  parser.add_argument('--repeats', type=_count, default=3, help='of each start')
  _out(parser)


def _of_compile(kinds: Any) -> None:
  parser = kinds.add_parser(
    'compile', help='seconds until the first step', allow_abbrev=False
  )
  parser.add_argument(
    '--layers', type=_counts, default=(), help='of encoder and of decoder'
  )
  parser.add_argument('--shapes', type=_words, default=(), help='T5 widths')
  parser.add_argument('--repeats', type=_count, default=3, help='starts')
  _out(parser)


def _of_size(kinds: Any) -> None:
  parser = kinds.add_parser(
    'size', help='a step by prompt, input and members', allow_abbrev=False
  )
  for flag, what in (
    ('prompt', 'virtual tokens'),
    ('input', 'pieces'),
    ('members', 'prompts side by side'),
  ):
    parser.add_argument(f'--{flag}', type=_counts, default=(), help=what)
  parser.add_argument('--shapes', type=_words, default=(), help='T5 widths')
  parser.add_argument('--batch', type=_count, default=8, help='rows a member')
  parser.add_argument('--repeats', type=_count, default=5, help='steps')
  _out(parser)


def _of_load(kinds: Any) -> None:
  parser = kinds.add_parser(
    'load', help='a sharded checkpoint by processes', allow_abbrev=False
  )
  parser.add_argument(
    '--gigabytes', type=float, default=1.0, help='of the random checkpoint'
  )
  parser.add_argument(
    '--processes', type=_counts, default=(), help='such as 1,2,4'
  )
  for flag, what in (
    ('cut', 'mesh axes: fsdp, tensor'),
    ('dtype', 'kept in: float32, bfloat16, int8'),
  ):
    parser.add_argument(f'--{flag}', type=_words, default=(), help=what)
  parser.add_argument(
    '--files', default='float32', help='type in the files, or bfloat16'
  )
  _out(parser)


def _sizes(parser: argparse.ArgumentParser, shapes: str) -> None:
  """What every benchmark may be asked for."""
  for name, what in (
    ('batch', 'rows a member'),
    ('input', 'padded input lengths, in pieces'),
    ('prompt', 'virtual tokens'),
  ):
    parser.add_argument(f'--{name}', type=_counts, default=(), help=what)
  parser.add_argument(
    '--shapes',
    type=_words,
    default=(),
    help=f'{shapes}; of random weights',
  )
  parser.add_argument('--repeats', type=_count, default=5, help='pairs')
  _out(parser)


def _out(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--out', default='', help='folder of JSON and picture')


def _count(text: str) -> int:
  if not text.isdecimal():
    raise argparse.ArgumentTypeError(f'{text!r} is not a whole number')
  return int(text)


def _counts(text: str) -> tuple[int, ...]:
  return tuple(_count(word) for word in _words(text))


def _words(text: str) -> tuple[str, ...]:
  words = tuple(dict.fromkeys(filter(None, text.split(','))))
  if not words:
    raise argparse.ArgumentTypeError('it names nothing')
  return words


def _positive(name: str, value: Any) -> None:
  if 0 in (value if isinstance(value, tuple) else (value,)):
    raise UserError(f'--{name} must be 1 or more')


if __name__ == '__main__':
  sys.exit(main(sys.argv[1:]))
