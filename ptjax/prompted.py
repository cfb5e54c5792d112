"""A model with prompts: the parts of a run, and what files say was tuned.

Owns which method a file's record asks for, and that a prompt and a model belong
together. Knows no rows and no task.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any

from ptjax import assemble, progress
from ptjax.config import UserError
from ptjax.data import hard_prompt
from ptjax.export import maps_from_peft, peft
from ptjax.export import prompt as prompt_lib
from ptjax.export.prompt import Prompt
from ptjax.parts import Parts
from ptjax.tuned.base import causal
from ptjax.weights import families, load

# Keys of config.method that say what a file must hold, or how it is read.
SHAPES = ('length', 'rank', 'alpha', 'bottleneck', 'targets', 'template')


def with_prompts(
  config: Any,
  prompts: Sequence[Prompt],
  *,
  made: Parts | None = None,
  say: Callable[[str], None] = progress.say,
) -> tuple[Parts, Any, Any]:
  """(parts, tuned of all members, frozen) of a model with these prompts.

  Args:
    prompts: of one method and one length; none for the model alone.
    made: parts of the same model, to be used again.
    say: what a prompt of another model is told to, where any_model lets it.
  """
  hard_prompt.check_alone(config, prompts)
  prompts = [_placed(found, config.model) for found in prompts]
  config = config.copy_and_resolve_references()
  if config.method.name != hard_prompt.NAME:
    config.method.name, config.method.init = 'none', 'uniform'  # not started
    config.method.hidden = 0  # what an mlp made is held, not the mlp
  for found in prompts[:1]:
    _as_recorded(config.method, found)
    if 'prompt' in found.own:
      config.method.length = found.own['prompt']['encoder'].shape[0]
    if 'input' in found.own:
      config.method.hidden = found.own['input']['down'].shape[-1]
  made = made.of_method(config.method) if made else assemble.parts(config)
  for found in prompts:
    check_model(found, made.loaded, strict=not config.any_model, say=say)
  return made, *made.place([found.own for found in prompts])


def _placed(found: Prompt, model: str) -> Prompt:
  """A LoRA or IA3 of PEFT's, whose maps go by names of the model's files."""
  if maps_from_peft.MODULES not in found.own:
    return found
  _, sizes = load.describe(load.resolve(model))
  rows = families.of_config(sizes).tensors(sizes)
  return maps_from_peft.placed(found, rows, model=model)


def _as_recorded(settings: Any, found: Prompt) -> None:
  """Sets a prompt's method, and how its file is read, as the file says."""
  method = found.record.get('method', {})
  try:
    settings.name = method.get('name', 'soft_prompt')
    for key in SHAPES:
      if key in method:
        settings[key] = type(settings[key])(method[key])
    if settings.name == 'p_tuning':
      settings.name = 'soft_prompt'  # is what its network made, which is held
  except (AttributeError, TypeError, ValueError):
    raise UserError(
      f"{found.path}: its record's method is {json.dumps(method)[:80]}, which "
      'no run writes; take the file that the run wrote'
    ) from None


def check_model(
  found: Prompt,
  loaded: load.Loaded,
  *,
  strict: bool,
  say: Callable[[str], None] = progress.say,
) -> None:
  """Refuses a prompt of another model, or says it where that is allowed."""
  fingerprint, name = loaded.fingerprint, loaded.name
  for sentence in (
    prompt_lib.check_model(
      found, fingerprint=fingerprint, name=name, strict=strict
    ),
    peft.misfit(found, base(loaded), strict=strict),
  ):
    if sentence:
      say(f'WARNING: any_model=true: {sentence}')


def base(loaded: load.Loaded) -> peft.Base:
  """A model as an adapter of it would name it."""
  config, folder = loaded.config, str(loaded.folder)
  return peft.Base(
    # An embedded model's name is nobody else's.
    name=folder if load.embedded(loaded.name) else loaded.name,
    task_type='CAUSAL_LM' if causal(loaded.model) else 'SEQ_2_SEQ_LM',
    width=config.d_model,
    layers=config.num_layers,
    heads=config.num_heads,
    folder=folder,
  )
