"""Models by their names on a hub, into huggingface_hub's cache.

Owns which files of a repository are fetched and the sentence a user gets where
that fails. HF_ENDPOINT, HF_HUB_OFFLINE and HF_HOME are huggingface_hub's own.
"""

import difflib
import pathlib

from ptjax.config import UserError
from ptjax.weights import hf

_TOKENIZER = (
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'spiece.model',
)

# Published models, to guess what a misspelled name meant.
_SIZES = ('small', 'base', 'large', 'xl', 'xxl')
_PUBLISHED = (
  *(f'google/t5-{size}-lm-adapt' for size in _SIZES),
  *(f'google/t5-v1_1-{size}' for size in _SIZES),
  *(f'google/flan-t5-{size}' for size in _SIZES),
  *(f'google/mt5-{size}' for size in _SIZES),
  *(f'google-t5/t5-{size}' for size in ('small', 'base', 'large', '3b', '11b')),
)


def fetch_model(name: str) -> pathlib.Path:
  """The folder with a repository's config, tokenizer and best weights."""
  repository = _Repository(name)
  config = _config(repository)
  _fetch_weights(repository)
  for file in _TOKENIZER:
    repository.file(file)
  return config.parent


def fetch_config(name: str) -> pathlib.Path:
  """The folder with a repository's config.json, and maybe nothing else."""
  return _config(_Repository(name)).parent


def _config(repository: '_Repository') -> pathlib.Path:
  config = repository.file('config.json')
  if config is None:
    raise repository.error('config.json, which every model has')
  return config


def _fetch_weights(repository: '_Repository') -> None:
  for single, index in zip(hf.SINGLE, hf.INDEX):
    if repository.file(single):
      return
    if path := repository.file(index):
      for file in sorted(set(hf.shards(path).values())):
        if repository.file(file) is None:
          raise repository.error(f'{file}, which {index} names')
      return
  raise repository.error(f'{" nor ".join(hf.SINGLE)}, nor an index of such')


class _Repository:
  """One model on the hub, or what the cache holds of it."""

  def __init__(self, name: str):
    self.name = name
    self._trouble = ''  # why the hub cannot be asked
    self._files = self._listed()

  def file(self, file: str) -> pathlib.Path | None:
    """A file's path in the cache; None where there is no such file."""
    import huggingface_hub

    if self._trouble:
      found = huggingface_hub.try_to_load_from_cache(self.name, file)
      return pathlib.Path(found) if isinstance(found, str) else None
    if file not in self._files:
      return None
    try:
      return pathlib.Path(huggingface_hub.hf_hub_download(self.name, file))
    except Exception as error:  # each transport of the client has its own
      raise self._failed(f'fetching {file}', error) from error

  def error(self, what: str) -> UserError:
    if self._trouble:
      return UserError(
        f'There is no folder {self.name!r}, the cache of the hub does not '
        f'hold {what}, {self._trouble}.'
      )
    return UserError(f'{self.name!r} on the hub does not hold {what}.')

  def _listed(self) -> set[str]:
    """The names of its files; asked once, so that no hub costs one wait."""
    import huggingface_hub
    from huggingface_hub import constants, errors

    try:
      info = huggingface_hub.HfApi().model_info(self.name, timeout=10)
      return {sibling.rfilename for sibling in info.siblings or ()}
    except errors.RepositoryNotFoundError:
      raise UserError(
        f'There is no folder {self.name!r}, and no public model of that name '
        f'at {constants.ENDPOINT}.{_near(self.name)}'
      ) from None
    except (errors.HfHubHTTPError, errors.HFValidationError) as error:
      raise self._failed('asking for it', error) from error
    except errors.OfflineModeIsEnabled:
      self._trouble = 'and HF_HUB_OFFLINE forbids to ask the hub'
    except Exception:  # each transport of the client has its own
      self._trouble = f'and {constants.ENDPOINT} cannot be reached'
    return set()

  def _failed(self, doing: str, error: Exception) -> UserError:
    first = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f'{self.name!r} on the hub: {doing} failed: {first[0]}')


def _near(name: str) -> str:
  near = difflib.get_close_matches(name, _PUBLISHED, n=3, cutoff=0.8)
  return f' Near it: {", ".join(near)}.' if near else ''
