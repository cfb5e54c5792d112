"""What no run can have, known from its configuration alone.

Owns the refusals before anything is read or compiled; what files say is refused
by who reads them.
"""

from ml_collections import ConfigDict

from ptjax import config as config_lib
from ptjax import cpu, mesh, optim, parts, population
from ptjax.config import UserError, one_of
from ptjax.data import hard_prompt
from ptjax.methods import base

DTYPES = ('auto', 'float32', 'bfloat16')
WEIGHTS = ('dtype', 'int8')

# The least that a number may be, and the keys for which it is that.
_LEAST = {
  1: (
    'input_length',
    'train.steps',
    'train.batch_size',
    'train.accumulate',
    'train.eval_every',
    'train.save_every',
    'train.log_every',
    'train.in_flight',
    'eval.batch_size',
    'max_length',
  ),
  0: (
    'eval.untuned',
    'shots',
    'target_length',
    'train.patience',
    'train.costs',
    'profile',
  ),
}
# Keys of a way to answer, and the key that takes it.
_OF_A_WAY = {
  'top_k': 'temperature',
  'top_p': 'temperature',
  'length_penalty': 'beams',
}


def check(config: ConfigDict, layout: mesh.Layout | None = None) -> None:
  """Refuses values that no run can have, on this mesh or on all devices.

  Raises:
    UserError: with the key, its value and what it can be.
  """
  config = config_lib.resolved(config)
  one_of('dtype', config.dtype, DTYPES)
  one_of('weights', config.weights, WEIGHTS)
  one_of('remat', config.remat, (config_lib.AUTO, *config_lib.REMAT))
  one_of('cpu', config.cpu, cpu.WAYS)
  one_of('eval.by', config.eval.by, ('generate', 'rank'))
  one_of('eval.split', config.eval.split, ('dev', 'test'))
  _check_weights(config)
  _check_population(config)
  _check_least(config)
  _check_train(config)
  if any(not isinstance(b, int) or b < 1 for b in config.buckets):
    raise UserError(
      f'buckets={tuple(config.buckets)} must be lengths in pieces, such as '
      '(64, 128)'
    )
  one_of('optimizer.name', config.optimizer.name, optim.NAMES)
  optim.schedule(config.optimizer, steps=config.train.steps)
  parts.sampler(config)
  _check_answers(config)
  if layout is None:
    mesh.make(config)


def _check_weights(config: ConfigDict) -> None:
  """What trains whole cannot be in eight bits; parts of it `init` refuses."""
  trains = tuple(config.tune) or base.make(config.method).tune
  if config.weights == 'int8' and 'model/.*' in trains:
    raise UserError(
      'weights=int8 holds the weights in eight bits, which cannot train: set '
      f'weights=dtype, or another method than {config.method.name}'
    )


def _check_least(config: ConfigDict) -> None:
  values = config_lib.flatten(config)
  for least, keys in _LEAST.items():
    for key in keys:
      if values[key] < least:
        raise UserError(f'{key}={values[key]} must be at least {least}')


def _check_train(config: ConfigDict) -> None:
  train = config.train
  if train.batch_size % train.accumulate:
    raise UserError(
      f'train.batch_size={train.batch_size} is not a multiple of '
      f'train.accumulate={train.accumulate} micro-batches'
    )
  one_of('train.loss', train.loss, ('targets', 'text'))
  if train.loss == 'text' and base.make(config.method).places.behind:
    raise UserError(
      'train.loss=text says the input too, behind which '
      f'method.template={config.method.template!r} has virtual tokens; leave '
      'them out, or use train.loss=targets'
    )
  if not 0 <= train.dropout < 1:
    raise UserError(f'train.dropout={train.dropout} must be in [0, 1)')


def _check_answers(config: ConfigDict) -> None:
  """Refuses what is set of a way to answer that is not taken."""
  usual, samples = config_lib.default(), config.samples
  taken = {
    'temperature': config.temperature or samples.query and samples.temperature,
    'beams': config.beams > 1,
  }
  for key, way in _OF_A_WAY.items():
    if config[key] != usual[key] and not taken[way]:
      raise UserError(
        f'{key}={config[key]} does nothing with {way}={config[way]}; set {way} '
        f'higher, or leave {key} out'
      )


def _check_population(config: ConfigDict) -> None:
  if config.population.init and not hasattr(base.make(config.method), 'init'):
    raise UserError(
      f'population.init: {config.method.name} has no start to choose'
    )
  members = population.members(config)
  hard_prompt.check(config, members=len(members))
  for member in members:
    parts.member_method(config.method, member)  # an unknown start raises
    _check_start(config.method, member.init)


def _check_start(method: ConfigDict, init: str) -> None:
  """A start from something must say from what."""
  if init in ('text', 'file') and not method[init].strip():
    raise UserError(f'method.init={init} needs method.{init}, which is empty')
  if method.like and init != 'file':
    raise UserError(
      'method.like chooses among the prompts of method.file for '
      f'method.init=file, but method.init={init}; set that, or leave it out'
    )
