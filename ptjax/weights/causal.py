"""What the tables of decoder-only models have in common.

Owns names with and without the body's prefix, buffers that files carry, and
the settings every such config.json has. Knows no family's tensors.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ptjax.config import UserError
from ptjax.weights import settings, table

IGNORED = settings.IGNORED | {
  'attention_dropout',
  'bos_token_id',
  'initializer_range',
  'n_ctx',
  'tie_word_embeddings',  # the tensors say it
}

DEFAULTS = settings.DEFAULTS | {'is_encoder_decoder': (False,)}

# transformers' name -> ours.
_ACTIVATIONS = {
  'gelu': 'gelu',
  'gelu_new': 'gelu_new',
  'gelu_fast': 'gelu_new',  # the tanh form, written in another order
  'gelu_pytorch_tanh': 'gelu_new',
  'relu': 'relu',
  'silu': 'silu',
  'swish': 'silu',
}


def canonical(
  source: table.Source,
  *,
  body: str,
  embedding: str,
  head: str,
  superfluous: str,
) -> tuple[table.Source, bool]:
  """The tensors that count, by their canonical names; and if the head is tied.

  A head is tied if it is absent from the file or equal to the embedding.

  Args:
    body: prefix of all tensors but the head; or of none, in some files.
    superfluous: pattern of names, behind the prefix, that nobody needs.
  """
  bare = not any(name.startswith(body) for name in source.shapes)
  names = {
    body + name if bare and name != head else name: name
    for name in source.shapes
    if not re.fullmatch(superfluous, name.removeprefix(body))
  }
  embedding = body + embedding
  tied = head not in names
  if not tied and embedding in names:
    tied = table.same(source, names[head], names[embedding])
    if tied:
      del names[head]
  return table.View(source, names), tied


def activation(said: settings.Said, key: str, usual: str) -> str:
  """Takes the mlp's activation out of the settings, by our name."""
  name = said.values.pop(key, usual)
  known = isinstance(name, str) and name in _ACTIVATIONS
  said.check(known, key, name, f'one of {", ".join(_ACTIVATIONS)}')
  return _ACTIVATIONS[name]


def ids(said: settings.Said, *, eos_id: int, last: int) -> dict[str, Any]:
  """The ends and the padding; a model without padding pads with its end.

  Models that chat have several ends; which of them a text has, the tokenizer
  says.
  """
  key = 'eos_token_id'
  several = said.values.get(key)
  if not isinstance(several, list) or not several:
    several = [several]
  ends = []
  for said.values[key] in several:
    ends.append(said.id(key, eos_id, last=last))
  if said.values.get('pad_token_id') == -1:  # Llama's way to say none
    del said.values['pad_token_id']
  pad_id = said.id('pad_token_id', ends[0], last=last)
  return {'eos_id': ends[0], 'ends': tuple(ends), 'pad_id': pad_id}


def head_size(width: int, heads: int, *, where: str) -> int:
  if width % heads:
    raise UserError(
      f'{where}: a width of {width} is not a multiple of {heads} heads.'
    )
  return width // heads


def rope(
  said: settings.Said, *, base: str, kinds: Mapping[str, Sequence[str]]
) -> settings.Said:
  """Takes what is said of rotary positions out of the settings.

  transformers 5 says it in `rope_parameters`, before that `base` and
  `rope_scaling` did.

  Args:
    kinds: each known rope_type, and what belongs to it.

  Returns:
    rope_theta, rope_type, and what belongs to that type, as far as said.
  """
  found = {'rope_theta': said.values.pop(base, None)}
  for key in ('rope_scaling', 'rope_parameters'):
    inner = said.values.pop(key, None)
    fits = inner is None or isinstance(inner, dict)
    said.check(fits, key, inner, 'an object of settings')
    found |= {k: v for k, v in (inner or {}).items() if v is not None}
  older = found.pop('type', 'default')
  kind = found.setdefault('rope_type', older)
  if not isinstance(kind, str) or kind not in kinds:
    raise UserError(
      f'{said.where}: rope_type is {kind!r}; known are {", ".join(kinds)}.'
    )
  settings.refuse_unknown(
    found,
    ignored={'rope_theta', 'rope_type', *kinds[kind]},
    defaults={},
    kind=f'rope_type {kind}',
    where=said.where,
  )
  return settings.Said(found, said.where)


def refuse_unknown(
  values: Mapping[str, Any],
  *,
  ignored: Sequence[str] = (),
  defaults: Mapping[str, tuple[Any, ...]],
  kind: str,
  where: str,
) -> None:
  settings.refuse_unknown(
    values,
    ignored=IGNORED | set(ignored),
    defaults=DEFAULTS | defaults,
    kind=kind,
    where=where,
  )


def norm(
  path: str, name: str, width: int, layers: int = 0, *, bias: bool = True
) -> list[table.Tensor]:
  """Scale, and bias if there is one, of a norm."""
  rows = [table.Tensor(f'{path}/scale', f'{name}.weight', (width,), layers)]
  if bias:
    rows += [table.Tensor(f'{path}/bias', f'{name}.bias', (width,), layers)]
  return rows


def linear(
  path: str,
  name: str,
  sizes: tuple[int, int],
  layers: int = 0,
  *,
  bias: bool = True,
  features: tuple[int, ...] = (),
  transpose: bool = True,
) -> list[table.Tensor]:
  """Kernel, and bias if there is one, of a linear map.

  Args:
    sizes: inputs and outputs.
    features: what we cut the outputs into.
    transpose: the file has [outputs, inputs], as torch's own does.
  """
  n_in, n_out = sizes
  if transpose:
    shape, view = (n_out, n_in), (*features, n_in)
  else:
    shape, view = (n_in, n_out), (n_in, *features)
  view = view if features else ()
  weight = f'{name}.weight'
  rows = [
    table.Tensor(f'{path}/kernel', weight, shape, layers, transpose, view)
  ]
  if bias:
    path, name = f'{path}/bias', f'{name}.bias'
    rows += [table.Tensor(path, name, (n_out,), layers, view=features)]
  return rows
