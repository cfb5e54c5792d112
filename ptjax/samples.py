"""What the prompts of a run say to one input, beside their scores.

Owns samples/TASK.json and the lines that tell of it. The answers are drawn as
`predict` draws them, so that --mode=predict with the run's prompt says the
same.
"""

import pathlib
from collections.abc import Iterator
from typing import Any

from ptjax import serve, workdir
from ptjax.config import UserError
from ptjax.export import names
from ptjax.parts import Parts


def check(config: Any) -> None:
  """Refuses answers that would be one answer several times.

  Raises:
    UserError: before anything is trained.
  """
  c = config.samples
  if c.query and c.count < 1:
    raise UserError(f'samples.count={c.count} must be at least 1')
  if c.query and c.count > 1 and not config.temperature:
    raise UserError(
      f'samples.count={c.count} greedy answers are one and the same; set '
      'temperature above 0, such as 0.7, or samples.count=1'
    )


def write(made: Parts, task: str, *, member: int, folder: pathlib.Path) -> None:
  """Samples answers to `samples.query` by a member's prompt of the folder.

  Args:
    task: its short name.
    member: the one that was best on dev.
  """
  config = made.config
  prompt = names.find(str(folder), task=task)[member]
  server = serve.Server(config, [prompt], made=made)
  rows = [{'inputs': config.samples.query}] * config.samples.count
  workdir.write_json(
    folder / 'samples' / f'{task}.json',
    {
      'query': config.samples.query,
      'answers': [found['prediction'] for found in server.predict(rows)],
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
