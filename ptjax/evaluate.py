"""One task, its members' states -> answers, scores and a predictions file.

Where arrays become text again and meet a task (`serve` does it for bare rows).
Each example meets every member in one pass; what they say together is the
ensemble's answer. Knows no model and no method.
"""

import collections
import dataclasses
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from ptjax import files, processes, report
from ptjax.config import UserError
from ptjax.data import batch as batch_lib
from ptjax.data.split import Split
from ptjax.parts import Parts
from ptjax.predict import guess, rank
from ptjax.tasks.base import Example, Task, short


@dataclasses.dataclass(frozen=True)
class Answers:
  """What was said to every example, in order.

  Attributes:
    members: [E][N] texts.
    ensemble: [N] texts; with one member, its own.
  """

  members: list[list[str]]
  ensemble: list[str]

  @property
  def agreement(self) -> float:
    """Share ×100 of pairs of members that say the same to an example."""
    pairs = list(itertools.combinations(self.members, 2))
    if not pairs or not self.ensemble:
      return 100.0
    same = [np.mean([x == y for x, y in zip(*pair)]) for pair in pairs]
    return 100 * float(np.mean(same))


def answer(
  parts: Parts,
  tuned: Any,
  frozen: Any,
  split: Split,
  *,
  by: str,
  prompted: bool = True,
) -> Answers:
  """The answers of all members to every example, and the ensemble's.

  Args:
    tuned: of the members, along the first axis.
    prompted: False leaves the prompts out.
    by: 'generate', greedy text as it comes; the ensemble's is the majority
      vote (Lester et al. 2021, §6), see `_vote`. Or 'rank', the most likely of
      the example's choices (log-probability with EOS; per piece if
      `eval.normalise`); the ensemble's is the one of the highest probability,
      normalised over the choices and averaged over the members.
  """
  answers = _ranked if by == 'rank' else _generated
  return answers(parts, tuned, frozen, split, prompted=prompted)


def _generated(parts, tuned, frozen, split, *, prompted) -> Answers:
  members: list[list[str]] = []
  greedy = parts.config.beams == 1
  offered = {'with_choices': greedy and guessable(split)}
  for batch in _batches(parts, split, prompted=prompted, **offered):
    ids_ExBxT = _each(
      *(parts.answers, tuned, frozen, split.as_read(batch)),
      max_length=split.target_length,
    )
    members = members or [[''] * len(split) for _ in ids_ExBxT]
    for texts, ids_BxT in zip(members, ids_ExBxT):
      for index, ids_T in zip(batch['index'], ids_BxT):
        if index >= 0:
          texts[index] = parts.tokenizer.decode(ids_T)
  return Answers(members, _vote(parts, tuned, frozen, split, members))


def _ranked(parts, tuned, frozen, split, *, prompted) -> Answers:
  members: list[list[str]] = []
  ensemble = [''] * len(split)
  for batch in _batches(parts, split, prompted=prompted, with_choices=True):
    sums, lengths = _each(parts.choices, tuned, frozen, split.as_read(batch))
    scored = {
      'choice_mask_BxC': batch['choice_lengths'] > 0,
      'normalise': parts.config.eval.normalise,
    }
    chosen_ExB = rank.choose(sums, lengths, **scored)
    together_B = rank.choose_together(sums, lengths, **scored)
    members = members or [[''] * len(split) for _ in chosen_ExB]
    for texts, chosen_B in zip([*members, ensemble], [*chosen_ExB, together_B]):
      for index, chosen in zip(batch['index'], np.asarray(chosen_B)):
        if index >= 0:
          texts[index] = split.examples[index].choices[int(chosen)]
  # Of one member not its probabilities, in which near scores may tie.
  return Answers(members, ensemble if len(members) > 1 else members[0])


def _each(function, tuned, frozen, batches, **options) -> Any:
  """What members say, along the first axis: to one batch, or to their own."""
  found = [function(tuned, frozen, batch, **options) for batch in batches]
  return jax.tree.map(lambda *each: np.concatenate(each), *found)


def _batches(parts, split, *, prompted, with_choices=False):
  front = parts.tuned_model.method.front if prompted else 0
  for batch in split.eval_batches(
    batch_size=parts.config.eval.batch_size, with_choices=with_choices
  ):
    batch['front'] = np.full(len(batch['index']), front, np.int32)
    yield batch


def _vote(parts, tuned, frozen, split, members) -> list[str]:
  """What most members say; of answers with as many votes, the one whose
  log-probability, summed over all members, is the highest."""
  out, tied = [], {}
  for number, said in enumerate(zip(*members)):
    votes = collections.Counter(said)
    most = max(votes.values())
    first = [text for text, count in votes.items() if count == most]
    out.append(first[0])
    if len(first) > 1:
      tied[number] = first
  if not tied:
    return out
  open_ = _choices(parts, split, tied)
  for batch in _batches(parts, open_, prompted=True, with_choices=True):
    sums_ExBxC, _ = _each(parts.choices, tuned, frozen, open_.as_read(batch))
    total_BxC = sums_ExBxC.sum(axis=0)
    total_BxC = np.where(batch['choice_lengths'] > 0, total_BxC, -np.inf)
    for index, best in zip(batch['index'], total_BxC.argmax(axis=1)):
      if index >= 0:
        number = list(tied)[index]
        out[number] = tied[number][best]
  return out


def _choices(
  parts: Parts, split: Split, offered: dict[int, list[str]]
) -> Split:
  """The numbered examples, with these texts to choose from."""
  pieces, length = parts.tokenizer, split.target_length

  def ids(example: Example, text: str) -> np.ndarray:
    found = batch_lib.answer_ids(
      text, pieces, behind=example.inputs, causal=parts.causal
    )
    return np.asarray(found[:length], np.int32)

  return dataclasses.replace(
    split,
    examples=[split.examples[i] for i in offered],
    tasks=[split.tasks[i] for i in offered] if split.tasks else (),
    readings=[
      dataclasses.replace(r, encoded=[r.encoded[i] for i in offered])
      for r in split.readings
    ],
    encoded=[
      dataclasses.replace(
        split.encoded[i],
        choices=tuple(ids(split.examples[i], text) for text in texts),
      )
      for i, texts in offered.items()
    ],
  )


def scores(task: Task, answers: Sequence[str], split: Split) -> dict[str, Any]:
  """{'metrics': {name: ×100}, 'score': their mean, 'invalid': % no label}."""
  metrics = task.metrics(answers, split.examples)
  return {
    'metrics': metrics,
    'score': task.score(metrics),
    'invalid': task.invalid(answers, split.examples),
  }


def all_scores(task: Task, answers: Answers, split: Split) -> dict[str, Any]:
  """{'members': scores of each, 'ensemble': scores, 'agreement': ×100}."""
  return {
    'members': [scores(task, texts, split) for texts in answers.members],
    'ensemble': scores(task, answers.ensemble, split),
    'agreement': answers.agreement,
  }


def check(parts: Parts, task: Task, split: Split) -> None:
  """Refuses, before anything is trained, what could not be scored.

  Raises:
    UserError: the split has no labels, or no choices to rank, or is too long
      for the model.
  """
  parts.tuned_model.check_context(
    inputs=split.buckets[-1], targets=split.target_length
  )
  if not task.labelled(split.examples):
    raise UserError(
      f'eval.split={split.name}: the {split.name} examples of {task.name} have '
      'no labels; use eval.split=dev, and eval.submission=True for the files '
      'of the leaderboard'
    )
  if parts.config.eval.by == 'rank' and not rankable(split):
    raise UserError(
      f'eval.by=rank: {task.name} has no choices to rank, nor to average '
      'probabilities over; use eval.by=generate'
    )


def rankable(split: Split) -> bool:
  """Whether every example has choices to rank."""
  return all(example.choices for example in split.examples)


def guessable(split: Split) -> bool:
  """Whether greedy text is looked for among the choices first."""
  counts = {len(example.choices) for example in split.examples}
  return 0 not in counts and max(counts, default=0) <= guess.MOST


def write_predictions(
  path: pathlib.Path, split: Split, answers: dict[str, Answers]
) -> None:
  """One JSON line an example: input, target, and each kind of answer.

  With several members, `generate` is the ensemble's answer and
  `generate_members` are theirs; `rank` likewise. Of a hard prompt also how
  many demonstrations stood in front of the input, for each member.
  """
  counts = list(zip(*(reading.counts for reading in split.readings)))
  if len(split.readings) == 1:
    counts = split.readings[0].counts
  lines = [
    {
      'idx': example.meta.get('idx', i),
      'inputs': example.inputs,
      'target': example.targets,
      **{key: texts[i] for key, texts in _columns(answers).items()},
      **({'demonstrations': counts[i]} if counts else {}),
    }
    for i, example in enumerate(split.examples)
  ]
  # Half of a surrogate pair is written as JSON's escape of it.
  kind = {'encoding': 'utf-8', 'errors': 'backslashreplace'}
  with files.replaced(path) as aside, open(aside, 'w', **kind) as file:
    for line in lines:
      file.write(json.dumps(line, ensure_ascii=False) + '\n')


def _columns(answers: dict[str, Answers]) -> dict[str, Sequence[Any]]:
  out: dict[str, Sequence[Any]] = {}
  for kind, found in answers.items():
    out[kind] = found.ensemble
    if len(found.members) > 1:
      out[f'{kind}_members'] = list(zip(*found.members))
  return out


def final(
  parts: Parts,
  task: Task,
  tuned: Any,
  frozen: Any,
  split: Split,
  *,
  folder: pathlib.Path,
  members: Sequence[dict[str, Any]],
) -> dict[str, Any]:
  """A task's entry of results.json; writes its predictions under `folder`.

  Args:
    members: of each what is known of it, such as `step` and `dev_score`.
  """
  config, name = parts.config, short(task)
  kinds = [config.eval.by]
  if config.eval.rank and rankable(split):
    kinds += [by for by in ('generate', 'rank') if by not in kinds]
  answers = {by: answer(parts, tuned, frozen, split, by=by) for by in kinds}
  path = folder / 'predictions' / f'{name}-{split.name}.jsonl'
  if processes.first():
    write_predictions(path, split, answers)
  return report.entry(
    task,
    {by: all_scores(task, found, split) for by, found in answers.items()},
    by=config.eval.by,
    split=split,
    members=members,
  )
