"""`python -m ptjax.main --config=FILE[:key=value,…]`: flags -> one call.

Owns the command line and the exit codes: 0 done, 1 a run that failed or was
stopped, 2 a mistake of the user, told in one sentence.
"""

import contextlib
import os
import pathlib
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any

from absl import app, flags, logging
from ml_collections import config_flags

from ptjax import bucket, compiled, files, heap
from ptjax import config as config_lib
from ptjax.config import UserError, nearest, one_of

MODES = (
  'train',
  'evaluate',
  'predict',
  'score',
  'inspect',
  'export',
  'pretrain',
  'plan',
)

# Those of export.formats, which is not imported before the environment is set.
_FORMATS = 'bank, npy, t5x, peft, tensorrt_llm, vllm or hf'

_CONFIG = config_flags.DEFINE_config_file(
  'config', None, 'A file with get_config(arg), then :key=value,…'
)
_WORKDIR = flags.DEFINE_string(
  'workdir', '', 'Folder of the run, also gs://; default: one under runs/.'
)
_MODE = flags.DEFINE_string('mode', '', ' | '.join(MODES))
_PROMPT = flags.DEFINE_string(
  'prompt',
  '',
  'Prompt files, banks, adapters or runs, joined by commas; default: none.',
)
_INPUT = flags.DEFINE_string(
  'input', '', 'JSON lines of predict and score, and of requests for vllm.'
)
_OUTPUT = flags.DEFINE_string(
  'output', '', 'Where their answers, or what is exported, goes.'
)
_FORMAT = flags.DEFINE_string('format', '', f'Of export: {_FORMATS}.')
_TARGET = flags.DEFINE_string(
  'target', '', 'Of plan: accelerators such as v5e:2x4 or h100:8, by commas.'
)
# Beside the configuration.
_OWN = (_WORKDIR, _MODE, _PROMPT, _INPUT, _OUTPUT, _FORMAT, _TARGET)


def main() -> None:
  """Runs and exits with the code."""
  app.run(_main, flags_parser=_parse)


def _main(_: Sequence[str]) -> None:
  try:
    code = _run(_CONFIG.value)
  except UserError as error:
    code = _say(error, 2)
  except KeyboardInterrupt:
    code = _say('interrupted', 1)
  except Exception as error:
    code = _lost(error)
  sys.exit(code)


def _run(config: Any) -> int:
  _set_environment(config)
  if (_MODE.value or config.mode) == 'plan':
    os.environ['JAX_PLATFORMS'] = 'cpu'  # what it is for need not be there
  # After the environment: jax reads it when it is imported.
  from ptjax import loop, processes

  mode = one_of('--mode', _MODE.value or config.mode, MODES)
  _check_flags(mode, config)
  processes.start(config.distributed)
  if mode != 'plan':
    heap.keep_on_cpu()
  if processes.several():
    _agree(mode, config)
  try:
    _call(mode, config)
  except (loop.RunFailed, loop.Stopped) as error:
    return _say(error, 1)
  except OSError as error:
    return _say(_os_error(error), 1)
  return 0


def _call(mode: str, config: Any) -> None:
  """What the mode is for."""
  from ptjax import convert, serve
  from ptjax.export import names

  if mode == 'plan':
    from ptjax.plan import run as plan

    plan.run(config, _needed(_TARGET, mode))
  elif mode in ('predict', 'score'):
    serve.run(
      config,
      mode=mode,
      source=_needed(_INPUT, mode),
      target=_needed(_OUTPUT, mode),
      prompt=_PROMPT.value,
    )
  elif mode == 'export':
    convert.run(
      *(config, names.find(_needed(_PROMPT, mode)), _needed(_OUTPUT, mode)),
      form=_needed(_FORMAT, mode),
      source=_INPUT.value,
    )
  elif mode == 'inspect':
    prompts = names.find(_needed(_PROMPT, mode))
    with _folder(mode) as folder:
      serve.inspect(config, prompts=prompts, folder=folder)
  elif mode == 'pretrain':
    from ptjax import pretrain

    with _folder(mode) as folder:
      pretrain.run(config, folder)
  else:
    _train(mode, config)


def _train(mode: str, config: Any) -> None:
  """Runs on tasks: one, or one for each value of an ablation."""
  from ptjax import ablate, train

  if not config.ablation.key:
    train.check(config)  # before a folder is made
  with _folder(mode) as folder:
    if mode == 'evaluate':
      train.evaluate_only(config, folder, prompt=_PROMPT.value)
    elif config.ablation.key:
      ablate.run(config, folder)
    else:
      train.run(config, folder)


def _agree(mode: str, config: Any) -> None:
  """Refuses processes that were told different things."""
  from ptjax import processes

  told = config_lib.flatten(config)
  del told['distributed.process']
  told |= {f'--{flag.name}': flag.value for flag in _OWN} | {'--mode': mode}
  processes.agree(told)
  if mode in ('export', 'inspect', 'pretrain', 'plan'):
    raise UserError(
      f'--mode={mode} is for one process; leave distributed.coordinator empty'
    )
  if mode not in ('predict', 'score') and not _WORKDIR.value:
    raise UserError(
      'several processes need --workdir=FOLDER, one that all of them can '
      'reach, or gs://BUCKET/FOLDER'
    )
  if mode != 'train':
    # Only a run that trains saves before it stops.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _check_flags(mode: str, config: Any) -> None:
  """A flag that this mode does not read is a misunderstanding."""
  if mode == 'pretrain' and 'pretrain' not in config:
    raise UserError('--mode=pretrain needs --config=configs/pretrain.py')
  if mode == 'train' and _PROMPT.value:
    raise UserError(
      '--prompt is for the other modes; a run starts from a prompt by '
      'method.init=file and method.file=FILE'
    )
  rows = mode in ('predict', 'score')
  read = (
    (_INPUT, rows or mode == 'export'),
    (_OUTPUT, rows or mode == 'export'),
    (_WORKDIR, not rows and mode not in ('export', 'plan')),
    (_PROMPT, mode not in ('pretrain', 'plan')),
    (_FORMAT, mode == 'export'),
    (_TARGET, mode == 'plan'),
  )
  for flag, reads in read:
    if flag.value and not reads:
      raise UserError(
        f'--{flag.name} does nothing in --mode={mode}; leave it out'
      )
  if not _WORKDIR.value.startswith(bucket.SCHEME):
    files.local('--workdir', _WORKDIR.value)  # another address is refused
  files.local('--output', _OUTPUT.value)


def _os_error(error: OSError) -> str:
  """'No space left on device: FILE', without the number."""
  if not error.strerror:
    return str(error)
  return ': '.join(filter(None, [error.strerror, str(error.filename or '')]))


def _folder(mode: str) -> contextlib.AbstractContextManager[pathlib.Path]:
  from ptjax import mirror, workdir

  if _WORKDIR.value:
    return mirror.at('--workdir', _WORKDIR.value)
  name = pathlib.Path(
    config_flags.get_config_filename(flags.FLAGS['config']) or mode
  ).stem
  folder = workdir.fresh(name, root=pathlib.Path('runs'))
  return contextlib.nullcontext(folder)


def _needed(flag: Any, mode: str) -> str:
  if not flag.value:
    raise UserError(f'--mode={mode} needs --{flag.name}={_FORMS[flag.name]}')
  return flag.value


_FORMS = {
  'input': 'FILE.jsonl',
  'output': 'FILE',
  'prompt': 'FILE,FILE,… or the folder of a run',
  'format': _FORMATS,
  'target': 'v5e:2x4, h100:8 or others, joined by commas',
}


def _set_environment(config: Any) -> None:
  """What jax and its neighbours read when they are imported."""
  # Their notices about what is not installed are none of the user's business.
  os.environ.setdefault('TRANSFORMERS_NO_ADVISORY_WARNINGS', '1')
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  # A hub out of reach is told once, by us, not at each of its retries.
  os.environ.setdefault('HF_HUB_VERBOSITY', 'error')
  os.environ.setdefault('DATASETS_VERBOSITY', 'error')
  compiled.keep(config.compiled)
  if config.deterministic:
    flags_ = os.environ.get('XLA_FLAGS', '')
    os.environ['XLA_FLAGS'] = (
      f'{flags_} --xla_gpu_deterministic_ops=true --xla_gpu_autotune_level=0'
    ).strip()
  logging.set_verbosity(logging.WARNING)


def _parse(argv: Sequence[str]) -> list[str]:
  """absl's parser, with its complaints as one sentence and exit code 2."""
  try:
    _check_config_file(argv)
    rest = flags.FLAGS(list(argv))
    if len(rest) > 1:
      raise UserError(f'{rest[1]!r} is no flag; flags begin with --')
    if _CONFIG.value is None:
      raise UserError(
        '--config=FILE is needed, such as --config=configs/superglue.py'
      )
    for key, value in config_flags.get_override_values(
      flags.FLAGS['config']
    ).items():
      if key == 'model':
        file = config_flags.get_config_filename(flags.FLAGS['config'])
        raise UserError(
          f'--config.model={value}: name the model behind the colon, '
          f'--config={file}:model={value}, since other settings hang on it'
        )
    return rest
  except _MISTAKES as error:
    sys.exit(_say(_sentence(error, argv), 2))


# What absl and ml_collections raise for a word that is wrong.
_MISTAKES = (UserError, flags.Error, AttributeError, KeyError, TypeError)


def _check_config_file(argv: Sequence[str]) -> None:
  """A missing file would be found only later, and told at length."""
  for word, value in zip(argv, [*argv[1:], '']):
    name, equals, text = word.partition('=')
    if name.lstrip('-') != 'config' or not name.startswith('-'):
      continue
    path = pathlib.Path((text if equals else value).partition(':')[0])
    if not path.is_file():
      there = [str(p) for p in path.parent.glob('*.py')]
      raise UserError(
        f'--config={path}: no such file{nearest(path, there)}'
        + (f'; there are {", ".join(sorted(there))}' if there else '')
      )


def _sentence(error: Exception, argv: Sequence[str]) -> str:
  """What was wrong and the way out, without the libraries' own tracebacks."""
  if isinstance(error, UserError):
    return str(error)
  said = ' '.join(str(error).split())
  inner = 'UserError: '
  if inner in said:  # raised in a config file, whose traceback is in `said`
    return said.rpartition(inner)[2]
  keys = config_lib.flatten(config_lib.default())
  for word in argv:
    name, _, value = word.lstrip('-').partition('=')
    key = name.removeprefix('config.')
    if name == key:
      continue
    if key not in keys:
      return str(config_lib.unknown_key(config_lib.default(), key))
    if repr(value) in said:
      return (
        f'{key}={value!r} must be of the type of its default, {keys[key]!r}'
      )
  if isinstance(error, flags.UnrecognizedFlagError):
    hint = nearest(error.flagname, ['config', *(flag.name for flag in _OWN)])
    return f'--{error.flagname} is no flag{hint or "; see --help"}'
  return said


def _say(error: Any, code: int) -> int:
  """The first of several processes speaks for all, if all failed alike."""
  processes = sys.modules.get('ptjax.processes')  # None: there is one so far
  speaks = processes is None or processes.first()
  if speaks:
    print(f'ptjax: {_told(error)}', file=sys.stderr)
  if processes is not None and not processes.failed_alike():
    if not speaks:
      print(f'ptjax, in another process: {error}', file=sys.stderr)
    processes.leave(code)
  return code


def _told(error: Any) -> str:
  progress = sys.modules.get('ptjax.progress')  # None: no folder has a name yet
  return progress.told(str(error)) if progress else str(error)


def _lost(error: Exception) -> int:
  """What ends one process comes out in the others as a broken connection."""
  processes = sys.modules.get('ptjax.processes')
  if processes is None or not processes.several():
    raise error
  if processes.lost(error):
    print('ptjax: another process is gone, so this one ends', file=sys.stderr)
  else:
    traceback.print_exception(error)
  processes.leave(1)


if __name__ == '__main__':
  main()
