"""The run as a story: parts once, then each task in turn, then the table.

Owns which tasks are done. How one is trained stands in `loop`.
"""

import pathlib
from typing import Any

from ptjax import config as config_lib
from ptjax import loop, parts, report, tree, workdir, writer
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
  loaded = made.loaded
  model = {
    'name': loaded.name,
    'fingerprint': loaded.fingerprint,
    'parameters': tree.count(loaded.params),
  }
  # All data first: a misnamed column of the last task shows at once.
  runs = [loop.TaskRun(made, task, folder, log) for task in tasks]
  with loop.StopSignal().listen() as stop:
    for run_ in runs:
      found[run_.name] = run_.run(stop)
      if config.eval.submission:
        submission.write(folder / 'submission', run_)
      method = {
        'name': config.method.name,
        'parameters': tree.count(run_.state.tuned),
      }
      all_ = report.results(found, model=model, method=method)
      workdir.write_json(folder / 'results.json', all_)
