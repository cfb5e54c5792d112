"""The run as a story: parts once, then each task in turn, then the table.

Owns which tasks are done. How one is trained stands in `loop`.
"""

import pathlib
from typing import Any

from ptjax import config as config_lib
from ptjax import (
  evaluate,
  loop,
  parts,
  report,
  serve,
  tree,
  workdir,
  writer,
)
from ptjax.data import split
from ptjax.tasks import submission


def run(config: Any, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a prompt for each task of `config.task`; returns results.json.

  Tasks that stand in the folder's results are not trained again; one that was
  interrupted goes on where it was.
  """
  tasks = split.tasks(config)
  with workdir.claim(folder, config_lib.flatten(config)):
    found = workdir.results(folder)
    log = writer.Writer(
      folder, tensorboard=config.tensorboard, wandb=config.wandb
    )
    todo = [task for task in tasks if split.short(task) not in found]
    if todo:
      _train(config, todo, folder=folder, found=found, log=log)
    else:
      log.say(f'{folder} is finished; here is what it left')
    out = workdir.read_json(folder / 'results.json')
    log.say(writer.table(report.rows(out)))
    log.say(f'{folder}: results.json, predictions/, prompts/, metrics.jsonl')
    log.close()
  return out


def _train(
  config: Any,
  tasks: list[Any],
  *,
  folder: pathlib.Path,
  found: dict[str, Any],
  log: writer.Writer,
) -> None:
  log.say(f'loading {config.model}')
  made = parts.build(config)
  # All data first: a misnamed column of the last task shows at once.
  runs = [loop.TaskRun(made, task, folder, log) for task in tasks]
  with loop.StopSignal().listen() as stop:
    for task, run_ in zip(tasks, runs):
      found[run_.name] = run_.run(stop)
      if config.eval.submission:
        _submit(made, task, run_.state.best, run_.frozen, folder=folder)
      _write(folder, made, found, tuned=run_.state.tuned)


def evaluate_only(
  config: Any, folder: pathlib.Path, *, prompt: str
) -> dict[str, Any]:
  """Scores a prompt, or the model alone, on `eval.split` of each task."""
  tasks = split.tasks(config)
  with workdir.claim(folder, {**config_lib.flatten(config), 'prompt': prompt}):
    log = writer.Writer(folder, tensorboard=False)
    log.say(f'loading {config.model}')
    found, made = {}, None
    for task in tasks:
      made, tuned, frozen = serve.with_prompt(
        config, prompt, task=split.short(task), made=made
      )
      name = config.eval.split
      data = split.load(made.config, task, [name], made.tokenizer)[name]
      evaluate.check(made.config, task, data)
      found[split.short(task)] = evaluate.final(
        made, task, tuned, frozen, data, folder=folder, step=None
      )
      if config.eval.submission:
        _submit(made, task, tuned, frozen, folder=folder)
      out = _write(folder, made, found, tuned=tuned)
    log.say(writer.table(report.rows(out)))
    log.say(f'{folder}: results.json, predictions/')
    log.close()
  return out


def _submit(
  made: parts.Parts,
  task: Any,
  tuned: Any,
  frozen: Any,
  *,
  folder: pathlib.Path,
) -> None:
  """The leaderboard's file of a task, from its test split."""
  data = split.load(made.config, task, ['test'], made.tokenizer)['test']
  by = made.config.eval.by
  answers = evaluate.answer(made, tuned, frozen, data, by=by)
  submission.write(folder / 'submission', task, answers, examples=data.examples)


def _write(
  folder: pathlib.Path,
  made: parts.Parts,
  found: dict[str, Any],
  *,
  tuned: Any,
) -> dict[str, Any]:
  """results.json after each task: what stands there is done."""
  loaded = made.loaded
  out = report.results(
    found,
    model={
      'name': loaded.name,
      'fingerprint': loaded.fingerprint,
      'parameters': tree.count(loaded.params),
    },
    method={
      'name': made.config.method.name,
      'parameters': tree.count(tuned),
    },
  )
  workdir.write_json(folder / 'results.json', out)
  return out
