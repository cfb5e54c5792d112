"""What the prompts of a run say to one input, beside their scores.

Owns samples/TASK.json and the lines that tell of it. The answers are drawn as
`predict` draws them, so that --mode=predict with the run's prompt and this
temperature says the same.
"""

import dataclasses
import pathlib
from collections.abc import Iterator
from typing import Any

from ptjax import parts, processes, relay, serve, workdir
from ptjax.config import UserError, check_text
from ptjax.data import batch
from ptjax.export import names
from ptjax.parts import Parts


def check(config: Any) -> None:
  """Refuses answers that would be one answer several times.

  Raises:
    UserError: before anything is trained.
  """
  c = config.samples
  if not c.query:
    return
  if c.count < 1:
    raise UserError(f'samples.count={c.count} must be at least 1')
  if c.count > 1 and not c.temperature:
    raise UserError(
      f'samples.count={c.count} greedy answers are one and the same; set '
      'samples.temperature above 0, or samples.count=1'
    )
  parts.sampler(_drawn(config))


def check_fit(made: Parts) -> None:
  """Refuses an input that the model cannot read or has no room to answer.

  Raises:
    UserError: before anything is trained.
  """
  config = made.config
  if not config.samples.query:
    return
  check_text([config.samples.query], 'samples.query=')
  (ids,) = batch.input_ids(
    [config.samples.query], made.tokenizer, causal=made.causal
  )
  made.tuned_model.check_context(inputs=len(ids), targets=config.max_length)


def _drawn(config: Any) -> Any:
  """The configuration of a predict that draws so."""
  config = config.copy_and_resolve_references()
  config.temperature = config.samples.temperature
  if config.temperature:
    config.beams = 1  # beams are for scores: they find one answer
  return config


def write(made: Parts, task: str, *, member: int, folder: pathlib.Path) -> None:
  """Samples answers to `samples.query` by a member's prompt of the folder.

  Args:
    task: its short name.
    member: the one that was best on dev.
  """
  config = _drawn(made.config)
  made = dataclasses.replace(made, config=config)
  relay.share(folder / 'prompts')
  prompt = names.find(str(folder), task=task)[member]
  server = serve.Server(config, [prompt], made=made)
  rows = [{'inputs': config.samples.query}] * config.samples.count
  answers = [found['prediction'] for found in server.predict(rows)]
  if not processes.first():
    return
  workdir.write_json(
    folder / 'samples' / f'{task}.json',
    {
      'query': config.samples.query,
      'answers': answers,
      'prompt': prompt.name,
      **{key: config[key] for key in ('temperature', 'top_k', 'top_p', 'seed')},
    },
  )


def tell(folder: pathlib.Path) -> Iterator[str]:
  """Lines on all samples that lie in the folder."""
  for path in sorted((folder / 'samples').glob('*.json')):
    found = workdir.read_json(path)
    yield f'{path.stem}: {found["query"]}'
    for answer in found['answers']:
      yield f'  {answer!r}'
