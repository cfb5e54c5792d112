"""What every method offers, and what it may start from.

Knows names and shapes of ports, not networks.
"""

import abc
import dataclasses
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax

from ptjax.config import UserError, nearest, one_of

# The ports of a prefix; see `models/ports.py`.
PREFIX = ('prefix_key', 'prefix_value')

NAMES = (
  'soft_prompt',
  'p_tuning',
  'prefix_tuning',
  'model_tuning',
  'lora',
  'ia3',
  'bitfit',
  'adapters',
  'input_tuning',
  'multitask_prompt',
  'hard_prompt',
  'none',
)


@dataclasses.dataclass(frozen=True)
class Places:
  """What stands around an input.

  A virtual token is None, of which the first is row 0 of the port `prompt`, and
  a piece that does not train is its id.
  """

  before: tuple[int | None, ...] = ()
  behind: tuple[int | None, ...] = ()

  def __len__(self) -> int:
    return len(self.before) + len(self.behind)

  @property
  def virtual(self) -> int:
    return (self.before + self.behind).count(None)


@dataclasses.dataclass(frozen=True)
class Linear:
  """The sizes of a linear map that has ports.

  Attributes:
    stack: (N,) in layers, whose maps lie in one array; else ().
    inputs: I.
    features: O, one axis or several.
  """

  stack: tuple[int, ...]
  inputs: int
  features: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Attention:
  """The sizes of keys and values, of which a prefix puts some in front.

  Attributes:
    layers: N, whose attentions lie in one array.
    heads: H that have keys of their own.
    size: K of one.
  """

  layers: int
  heads: int
  size: int


@dataclasses.dataclass(frozen=True)
class Start:
  """What a method may start from.

  Attributes:
    embedding_VxD: the frozen model's token embedding.
    label_ids: the pieces of each label word of the task.
    text_ids: the pieces of `method.text`.
    prompt_PxD: the array of `method.file`.
    linears: the model's linear maps by slash-name.
    biases: shapes of the biases it has, of norms too, by slash-name.
    tasks: M, how many a mixture has.
    attentions: the model's attentions by slash-name.
    key_values: rows of virtual tokens [P, D] -> the keys [N, H, K, P] and
      values [N, H, P, K] that each attention makes of them.
  """

  embedding_VxD: jax.Array
  label_ids: Sequence[Sequence[int]] = ()
  text_ids: Sequence[int] = ()
  prompt_PxD: Any = None
  linears: Mapping[str, Linear] = dataclasses.field(default_factory=dict)
  biases: Mapping[str, tuple[int, ...]] = dataclasses.field(
    default_factory=dict
  )
  tasks: int = 1
  attentions: Mapping[str, Attention] = dataclasses.field(default_factory=dict)
  key_values: Callable[[jax.Array], dict[str, tuple]] | None = None


class Method(abc.ABC):
  """A frozen dataclass whose fields are keys of `config.method`.

  Attributes:
    tune: regular expressions over the joined tree, whose names begin with
      `model/` (the frozen model's) or with what `create` calls its own.
    places: what stands around every input.
    prefix: keys and values in front of an attention's own, by the ports of a
      prefix.
  """

  tune: Sequence[str] = ()
  places: Places = Places()
  prefix: int = 0

  @property
  def front(self) -> int:
    """All places that are not the input's."""
    return len(self.places) + self.prefix

  @abc.abstractmethod
  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    """The method's own parameters, float32; {} if it has none."""

  @abc.abstractmethod
  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    """Own parameters -> the ports that the model reads."""

  def kept(self, tuned: dict[str, Any]) -> dict[str, Any]:
    """What a file holds of all that trained: not what is needed for training
    alone. `expand` reads it too."""
    return tuned


def make(settings: Any) -> Method:
  """`config.method` -> the method it names, from the file of that name.

  Raises:
    UserError: no such method, or a value it cannot take.
  """
  name = one_of('method.name', settings.name, NAMES)
  module = importlib.import_module(f'ptjax.methods.{name}')
  keys = inspect.signature(module.Method).parameters
  return module.Method(**{key: settings[key] for key in keys})


def chosen(
  scopes: Iterable[str],
  targets: Sequence[str],
  *,
  default: Sequence[str],
  kind: str = 'linear map',
) -> list[str]:
  """The slash-names that end in one of `targets`, whole parts of them.

  Args:
    targets: `method.targets`; () takes those of `default` that are there.

  Raises:
    UserError: one of them is the end of no name.
  """
  scopes = list(scopes)
  ends = {t: [s for s in scopes if _ends(s, t)] for t in targets or default}
  for target, found in ends.items():
    if targets and not found:
      last = sorted({scope.rpartition('/')[2] for scope in scopes})
      raise UserError(
        f'method.targets: {target!r} is no {kind} of this model'
        f'{nearest(target, last)}; it has {", ".join(last)}, which may be told '
        f'apart by what is in front, as in {max(scopes, key=len, default="")}'
      )
  return [s for s in scopes if any(s in found for found in ends.values())]


def _ends(scope: str, target: str) -> bool:
  return f'/{scope}'.endswith(f'/{target}')


def nested(ports: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
  """{'a/b': {port: array}} -> {'a': {'b': {port: array}}}."""
  out: dict[str, Any] = {}
  for scope, filled in ports.items():
    node = out
    for part in scope.split('/'):
      node = node.setdefault(part, {})
    node |= filled
  return out
