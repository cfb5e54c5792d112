"""A model's name becomes its network and the shapes of its parameters.

Owns where sizes come from without weights: the table of published models, a
folder's files or its config.json alone, or the hub's config.json. Reads no
tensor and fetches none.
"""

import pathlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from ptjax import bucket
from ptjax.weights import block, families, hf, hub, load, published, t5x

_WEIGHTS = (*hf.SINGLE, *hf.INDEX)


def outline(
  name: str,
  *,
  dtype: str = 'float32',
  int8: bool = False,
  place: Callable[[nn.Module], load.Shardings] | None = None,
) -> load.Loaded:
  """`load.load` without values: each parameter is a jax.ShapeDtypeStruct.

  Args:
    dtype, int8: as in `load.load`.
    place: gives the sharding of each parameter of the network; None = none.

  Raises:
    UserError: there is no such model, or its settings are not those of one.
  """
  config, folder = published.sizes(name), pathlib.Path(name)
  if config is None or folder.is_dir():
    # Of a hub's model, config.json alone.
    folder = load.resolve(name, fetch=hub.fetch_config)
    config = _config(folder)
  family = families.of_config(config)
  model = family.NETWORK(config, dtype=load.DTYPES[dtype])
  places = place(model) if place else {}
  params: dict[str, Any] = {}
  for row in family.tensors(config):
    for leaf in block.leaves(row, np.dtype(load.DTYPES[dtype]), eight=int8):
      cut = load.placed(places.get(row.path), leaf)
      array = jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=cut)
      load.put(params, leaf.path, array)
  return load.Loaded(
    model=model,
    params=params,
    config=config,
    fingerprint='',
    folder=folder,
    name=name,
  )


def _config(folder: bucket.Path) -> Any:
  if t5x.is_checkpoint(folder) or any((folder / f).is_file() for f in _WEIGHTS):
    return load.describe(folder)[1]
  values = load.settings(folder)
  family = families.of_type(values['model_type'])
  return family.config(values, tied=_tied(values), where=str(folder))


def _tied(values: dict[str, Any]) -> bool:
  """What the tensors would say of the head.

  No gated T5 was ever tied, though transformers 5 writes so.
  """
  usual = values['model_type'] in ('t5', 'mt5', 'gpt2')
  said = values.get('tie_word_embeddings')
  gated = str(values.get('feed_forward_proj', '')).startswith('gated')
  return bool(usual if said is None else said) and not gated
