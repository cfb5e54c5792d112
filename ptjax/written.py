"""The run of a hard prompt: nothing trains, so there is little to know.

Owns what is said and left of words in front of inputs, and by what the best of
several draws of demonstrations is chosen. How the words come there is said in
`data/hard_prompt.py`.
"""

import pathlib
from collections.abc import Callable
from typing import Any

from ptjax import evaluate, files, processes
from ptjax.data import hard_prompt, split
from ptjax.data.split import Split
from ptjax.parts import Parts
from ptjax.tasks.base import Task, short


def splits(config: Any) -> set[str]:
  """The splits that it takes beside the reported one."""
  several = config.method.name == hard_prompt.NAME and (
    config.population.seeds > 1
  )
  return {'dev'} if several else set()


def members(
  parts: Parts, task: Task, found: dict[str, Split], *, frozen: Any
) -> list[dict[str, Any]]:
  """Of each member its seed and step 0; of several the score on dev too.

  Where dev itself is reported, that score is known later.
  """
  out = [{'seed': member.seed, 'step': 0} for member in parts.members]
  if len(out) == 1 or split.reported(parts.config) == 'dev':
    return out
  dev = found['dev']
  answers = evaluate.answer(parts, {}, frozen, dev, by=parts.config.eval.by)
  for known, texts in zip(out, answers.members):
    known['dev_score'] = evaluate.scores(task, texts, dev)['score']
  return out


def leave(
  parts: Parts,
  task: Task,
  found: Split,
  *,
  folder: pathlib.Path,
  say: Callable[[str], None],
) -> None:
  """Says how the words fit; writes them to prompts/TASK.txt.

  Of several members they are in prompts/TASK/0.txt and so on.
  """
  config, name = parts.config, short(task)
  words = f'{config.method.demonstrations} demonstrations'
  if config.method.instruction:
    words = f'an instruction and {words}'
  say(
    f'{name}: {len(found)} {found.name} examples, {words} in front of each; '
    f'inputs of {", ".join(map(str, found.buckets))} pieces'
  )
  sentence = hard_prompt.told(found.readings, config, name=name)
  if sentence:
    say(f'  {sentence}')
  if found.cut:
    say(f'  {found.cut} inputs were longer than input_length and were cut')
  several = len(found.readings) > 1
  for i, reading in enumerate(found.readings if processes.first() else ()):
    file = f'{name}/{i}.txt' if several else f'{name}.txt'
    with files.replaced(folder / 'prompts' / file) as aside:
      aside.write_text(reading.written.words, encoding='utf-8')
