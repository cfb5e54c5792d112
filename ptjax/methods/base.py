"""What every method offers, and what it may start from.

Knows names and shapes of ports, not networks.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Sequence
from typing import Any, Protocol

import jax

from ptjax.config import one_of

NAMES = ('soft_prompt', 'model_tuning', 'hard_prompt', 'none')


@dataclasses.dataclass(frozen=True)
class Start:
  """What a method may start from.

  Attributes:
    embedding_VxD: the frozen model's token embedding.
    label_ids: the pieces of each label word of the task.
    text_ids: the pieces of `method.text`.
    prompt_PxD: the array of `method.file`.
  """

  embedding_VxD: jax.Array
  label_ids: Sequence[Sequence[int]] = ()
  text_ids: Sequence[int] = ()
  prompt_PxD: Any = None


class Method(Protocol):
  """A frozen dataclass whose fields are keys of `config.method`.

  Attributes:
    tune: regular expressions over the joined tree, whose names begin with
      `prompt/` (the method's own) or `model/` (the frozen model's).
    front: virtual tokens put in front of every encoder input.
  """

  tune: Sequence[str]
  front: int

  def create(self, rng: jax.Array, start: Start) -> dict[str, Any]:
    """The method's own parameters, float32; {} if it has none."""

  def expand(self, own: dict[str, Any]) -> dict[str, Any]:
    """Own parameters -> the ports that the model reads."""


def make(settings: Any) -> Method:
  """`config.method` -> the method it names, from the file of that name.

  Raises:
    UserError: no such method, or a value it cannot take.
  """
  name = one_of('method.name', settings.name, NAMES)
  module = importlib.import_module(f'ptjax.methods.{name}')
  keys = inspect.signature(module.Method).parameters
  return module.Method(**{key: settings[key] for key in keys})
