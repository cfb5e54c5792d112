"""`--mode=export`: what was tuned, into the files of others.

Owns which formats need the model, and what is written of it: an adapter names
its model's sizes, vLLM's requests hold its embedding, and merged weights are
its own. Layouts stand in `export` and `weights.save`, what merges in
`export.merge`.
"""

import dataclasses
import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

from ptjax import bucket, files, progress, prompted, serve, tree
from ptjax.config import UserError
from ptjax.export import (
  formats,
  maps_from_peft,
  maps_to_peft,
  merge,
  multitask,
  names,
  peft,
  prefix,
  serving,
)
from ptjax.export.prompt import Prompt
from ptjax.methods import base as methods
from ptjax.tuned import base as tuned_base
from ptjax.weights import families, load, save

# What may lie beside the weights, in Hugging Face's layout, and stays true.
_BESIDE = (
  'added_tokens.json',
  'generation_config.json',
  'merges.txt',
  'special_tokens_map.json',
  'spiece.model',
  'tokenizer.json',
  'tokenizer.model',
  'tokenizer_config.json',
  'vocab.json',
)


def run(
  config: Any,
  prompts: Sequence[Prompt],
  target: str,
  *,
  form: str,
  source: str = '',
  say: Callable[[str], None] = progress.say,
) -> None:
  """Writes prompts to `target`.

  Args:
    form: one of `export.formats.FORMATS`.
    source: JSON lines with `inputs`, which vllm makes requests of; '' = none.

  Raises:
    UserError: the format cannot hold them, or they are of another model.
  """
  if source and form != 'vllm':
    raise UserError(
      f'--input does nothing in --format={form}; it is for vllm, whose '
      'requests hold the prompt and an input'
    )
  if form == 'vllm' and source:
    _requests(config, prompts, target, source=source)
    return
  if form == 'peft' and len(prompts) > 1 and multitask.whole(prompts):
    base = _base(config, prompts[0], say=say)
    found = names.undivided(multitask.whole(prompts))
    peft.write_multitask(pathlib.Path(target).expanduser(), found, base)
    return
  formats.check(prompts, form=form)
  if form == 'hf':
    _merged(config, prompts[0], target, say=say)
    return
  if form == 'peft' and prefix.holds(prompts[0]):
    _prefix(config, prompts[0], target, say=say)
    return
  if form == 'peft' and maps_to_peft.holds(prompts[0]):
    _adapter(config, prompts[0], target, say=say)
    return
  base = _base(config, prompts[0], say=say) if form == 'peft' else None
  formats.write(prompts, target, form=form, base=base)
  if form == 'tensorrt_llm':
    say(f'{target}: tasks {serving.tasks(prompts)}')


def _adapter(
  config: Any, found: Prompt, target: str, *, say: Callable[[str], None]
) -> None:
  """A LoRA or IA3 of linear maps, by the names that the model's files have."""
  loaded = load.load(config.model, parameters=False)
  rows = families.of_config(loaded.config).tensors(loaded.config)
  found = maps_from_peft.placed(found, rows, model=loaded.name)
  prompted.check_model(found, loaded, strict=not config.any_model, say=say)
  tensors, said = maps_to_peft.adapter(found, rows)
  folder = pathlib.Path(target).expanduser()
  peft.save(folder, tensors, said, base=prompted.base(loaded))


def _prefix(
  config: Any, found: Prompt, target: str, *, say: Callable[[str], None]
) -> None:
  """A prefix, for the model of its sizes."""
  tensors, said = prefix.adapter(found)
  loaded = load.load(config.model, parameters=False)
  prompted.check_model(found, loaded, strict=not config.any_model, say=say)
  known = tuned_base.make(loaded.model, methods.make(config.method)).attentions
  here = [dataclasses.astuple(sizes) for sizes in known.values()]
  heads = said['num_attention_heads']
  theirs = said['num_layers'], heads, said['token_dim'] // heads
  if here != [theirs]:
    raise UserError(
      f'{found.path} is a prefix of {theirs} layers, heads and features, but '
      f'the attentions of {loaded.name} have {", ".join(map(str, here))}; name '
      'its model'
    )
  folder = pathlib.Path(target).expanduser()
  peft.save(folder, tensors, said, base=prompted.base(loaded))


def _base(config: Any, found: Prompt, *, say: Callable[[str], None]) -> Any:
  """The model by its files' description; nothing of it is kept."""
  loaded = load.load(config.model, parameters=False)
  prompted.check_model(found, loaded, strict=not config.any_model, say=say)
  width, needed = found.rows.shape[1], loaded.config.d_model
  if width != needed:
    raise UserError(
      f'{found.path} has {width} features, but {loaded.name} has {needed}; '
      'name its model'
    )
  return prompted.base(loaded)


def _requests(
  config: Any, prompts: Sequence[Prompt], target: str, *, source: str
) -> None:
  """Rows with `prompt_embeds`, as vLLM's completions take them."""
  for found in prompts:
    found.check_soft()
    formats.check_front(found)
  rows = list(serve.read_rows(source, 'predict'))
  server = serve.Server(_exact(config), prompts)
  if not server.parts.causal:
    raise UserError(
      f'--format=vllm: {config.model} is an encoder-decoder model, and vLLM '
      'takes prompt_embeds for decoder-only models; use predict'
    )
  with serve.written(target) as file:
    for row, embeds_LxD in zip(rows, server.embeds(rows)):
      row = {**row, 'prompt_embeds': serving.base64_of(embeds_LxD)}
      file.write(json.dumps(row, ensure_ascii=False) + '\n')


def _merged(
  config: Any, found: Prompt, target: str, *, say: Callable[[str], None]
) -> None:
  """The frozen model with what was tuned of it, as a folder of its own."""
  merge.check(found)
  if config.weights == 'int8':
    raise UserError(
      f'--format=hf: weights=int8 rounds the weights of {config.model}, and '
      'what is written are all of them, as its files have them; leave it out'
    )
  _, sizes = load.describe(load.resolve(config.model))
  wider = merge.config_for(sizes, found, model=config.model)
  made, tuned, frozen = prompted.with_prompts(_exact(config), [found], say=say)
  whole = tree.join(tree.at(tuned, 0), frozen)
  params = whole.pop('model')
  ports = made.tuned_model.method.expand(whole)
  rows = families.of_config(wider).tensors(wider)
  folder = pathlib.Path(target).expanduser()
  save.save(folder, merge.folded(params, ports, rows), wider)
  pieces = bucket.path(config.tokenizer or made.loaded.folder)
  for name in _BESIDE:
    if (pieces / name).is_file():
      content = (pieces / name).read_bytes()
      with files.replaced(folder / name) as aside:
        aside.write_bytes(content)


def _exact(config: Any) -> Any:
  """Weights as they are in their files, whatever computes with them."""
  config = config.copy_and_resolve_references()
  config.dtype = 'float32'
  return config
