"""The run as a story: parts once, then each task in turn, then the table.

Owns which tasks are done. How one is trained stands in `loop`.
"""

import pathlib
import time
from typing import Any

from ptjax import (
  assemble,
  checks,
  compiled,
  costs,
  evaluate,
  loop,
  parts,
  processes,
  prompted,
  relay,
  report,
  samples,
  stop,
  sweep,
  tree,
  workdir,
  writer,
  written,
)
from ptjax import config as config_lib
from ptjax.config import UserError
from ptjax.data import hard_prompt, split
from ptjax.export import bank, names
from ptjax.methods import base
from ptjax.tasks import submission
from ptjax.tasks.base import short


def run(config: Any, folder: pathlib.Path) -> dict[str, Any]:
  """Trains a prompt for each task of `config.task`; returns results.json.

  Tasks that stand in the folder's results are not trained again; one that was
  interrupted goes on where it was. A hard prompt is only scored.
  """
  config = config_lib.resolved(config)
  tasks = check(config)
  with (
    processes.first_enters(workdir.claim(folder, config_lib.flatten(config))),
    _writer(folder, config) as log,
  ):
    found = relay.of_first(lambda: workdir.results(folder))
    todo = [task for task in tasks if short(task) not in found]
    trains = config.method.name != hard_prompt.NAME
    if todo and not trains:
      log.say(
        f'{hard_prompt.NAME}: nothing trains; what is set under train and '
        'optimizer is not read'
      )
      _score(config, todo, {}, folder=folder, found=found, log=log)
    elif todo:
      _train(config, todo, folder=folder, found=found, log=log)
    else:
      log.say(f'{folder} is finished; here is what it left')
    out = relay.of_first(lambda: workdir.read_json(folder / 'results.json'))
    log.say(writer.table(report.rows(out)))
    if trains:
      log.say('each prompt is the one that was best on dev')
    if processes.first():
      for line in sweep.tell(config, out, folder):
        log.say(line)
    for line in samples.tell(folder):
      log.say(line)
    log.say(f'{folder}: results.json, predictions/, prompts/, metrics.jsonl')
  return out


def _begins(folder: pathlib.Path, config: Any) -> str:
  place = compiled.place()
  kept = f'\n  compiled programs are kept in {place}' if place else ''
  return f'{folder}: loading {config.model}{kept}'


def _writer(folder: pathlib.Path, config: Any, **options: Any) -> writer.Writer:
  """Of the first process; the others say and write nothing."""
  if not processes.first():
    return writer.Writer(None, quiet=True)
  return writer.Writer(
    folder,
    **{'tensorboard': config.tensorboard, 'wandb': config.wandb} | options,
  )


def check(config: Any) -> list[Any]:
  """The tasks of a run, if its configuration can be known to be one.

  Raises:
    UserError: before a folder is made or anything is loaded.
  """
  checks.check(config)
  base.make(config.method)
  samples.check(config)
  if config.ablation.inner_key and not config.ablation.key:
    raise UserError(
      f'ablation.inner_key={config.ablation.inner_key} is a second key; name '
      'the first, ablation.key'
    )
  tasks = split.tasks(config)
  if config.eval.submission:
    for task in tasks:
      submission.check(task)
  return tasks


def _train(
  config: Any,
  tasks: list[Any],
  *,
  folder: pathlib.Path,
  found: dict[str, Any],
  log: writer.Writer,
) -> None:
  log.say(_begins(folder, config))
  made = assemble.parts(config)
  samples.check_fit(made)
  _hold_model(folder, made)
  # All data first: a misnamed column of the last task shows at once.
  runs = [loop.TaskRun(made, task, folder, log) for task in tasks]
  with stop.StopSignal().listen() as wish:
    while runs:
      run_ = runs.pop(0)  # so that its state goes when it is done
      found[run_.name] = run_.run(wish)
      best, frozen = run_.state.best, run_.frozen
      if config.train.costs:
        found[run_.name]['costs'] = costs.measure(
          *(made, run_.state, frozen),
          batches=run_.batches(0),
          saved=folder / 'prompts' / run_.name,
        )
      if config.eval.submission:
        _submit(
          made,
          run_.task,
          tuned=best,
          frozen=frozen,
          data=run_.test,
          folder=folder,
          log=log,
        )
      if config.samples.query:
        member = found[run_.name].get('best_member', 0)
        samples.write(made, run_.name, member=member, folder=folder)
      _write(folder, made, found, tuned=best)


def _hold_model(folder: pathlib.Path, made: parts.Parts) -> None:
  fingerprint = made.loaded.fingerprint
  relay.of_first(lambda: workdir.hold_model(folder, fingerprint))


def evaluate_only(
  config: Any, folder: pathlib.Path, *, prompt: str
) -> dict[str, Any]:
  """Scores prompts, or the model alone, on `eval.split` of each task.

  Each example meets all prompts of its task in one pass.
  """
  config = config_lib.resolved(config)
  tasks = check(config)
  hard_prompt.check_alone(config, prompt)
  prompts = {}
  for task in tasks:  # before the first is scored
    name = short(task)
    prompts[name] = names.find(prompt, task=name) if prompt else []
    bank.same_model(prompts[name])
    bank.same_length(prompts[name])
  flat = {**config_lib.flatten(config), 'prompt': prompt}
  with (
    processes.first_enters(workdir.claim(folder, flat)),
    _writer(folder, config, tensorboard=False, wandb='') as log,
  ):
    out = _score(config, tasks, prompts, folder=folder, found={}, log=log)
    log.say(writer.table(report.rows(out)))
    log.say(f'{folder}: results.json, predictions/')
  return out


def _score(
  config: Any,
  tasks: list[Any],
  prompts: dict[str, list[Any]],
  *,
  folder: pathlib.Path,
  found: dict[str, Any],
  log: writer.Writer,
) -> dict[str, Any]:
  """results.json, with these tasks scored as they are."""
  if config.samples.query:
    log.say('samples.query is not read: samples are drawn where prompts train')
  log.say(_begins(folder, config))
  made, *_ = prompted.with_prompts(config, [])
  if found:
    _hold_model(folder, made)
  data = [(task, _evaluated(made, task)) for task in tasks]
  for task, splits in data:
    name, scored = short(task), splits[split.reported(config)]
    for remark in (*scored.remarks, *task.remarks(scored.examples)):
      log.say(f'{name}: {remark}')
    mine = prompts.get(name, [])
    made, tuned, frozen = prompted.with_prompts(
      config, mine, made=made, say=log.say
    )
    began = time.monotonic()
    members = [_known(p) for p in mine]
    if scored.readings:
      written.leave(made, task, scored, folder=folder, say=log.say)
      members = written.members(made, task, splits, frozen=frozen)
    found[name] = evaluate.final(
      *(made, task, tuned, frozen, scored), folder=folder, members=members
    )
    if scored.readings:
      found[name]['demonstrations'] = hard_prompt.counted(scored.readings)
    found[name]['seconds'] = round(time.monotonic() - began, 1)
    if config.eval.submission:
      _submit(
        made,
        task,
        tuned=tuned,
        frozen=frozen,
        data=splits['test'],
        folder=folder,
        log=log,
      )
    out = _write(folder, made, found, tuned=tuned)
  return out


def _known(found: Any) -> dict[str, Any]:
  """What a prompt's file says of it."""
  keys = ('seed', 'lr', 'init', 'step', 'dev_score')
  known = {k: found.record[k] for k in keys if k in found.record}
  return {'prompt': found.path, **known}


def _evaluated(made: parts.Parts, task: Any) -> dict[str, split.Split]:
  """The splits that are scored or submitted."""
  reported = split.reported(made.config)
  names = {reported, *written.splits(made.config)}
  names |= {'test'} if made.config.eval.submission else set()
  data = split.load(
    made.config, task, sorted(names), made.tokenizer, causal=made.causal
  )
  evaluate.check(made, task, data[reported])
  return data


def _submit(
  made: parts.Parts,
  task: Any,
  *,
  tuned: Any,
  frozen: Any,
  data: split.Split,
  folder: pathlib.Path,
  log: writer.Writer,
) -> None:
  """The leaderboard's file of a task, from its test split."""
  by = made.config.eval.by
  answers = evaluate.answer(made, tuned, frozen, data, by=by).ensemble
  if not processes.first():
    return
  path, replaced = submission.write(
    folder / 'submission', task, answers, examples=data.examples
  )
  if replaced:
    log.say(
      f'{path}: {replaced} of {len(answers)} answers were no label; the first '
      'label stands for them'
    )


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
      # Of one member, however many there are.
      'parameters': tree.count(tree.at(tuned, 0)),
    },
  )
  if processes.first():
    workdir.write_json(folder / 'results.json', out)
  return out
