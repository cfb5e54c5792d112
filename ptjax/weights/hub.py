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
  return _Repository(name).fetch()


class _Repository:
  """One model on the hub; `trouble` is why files may seem absent."""

  def __init__(self, name: str):
    self.name = name
    self.trouble = ''

  def fetch(self) -> pathlib.Path:
    config = self._file('config.json')
    if config is None:
      raise self._error('config.json, which every model has')
    if not self._weights():
      raise self._error(f'{" nor ".join(hf.SINGLE)}, nor an index of such')
    for file in _TOKENIZER:
      self._file(file)
    return config.parent

  def _weights(self) -> bool:
    for single, index in zip(hf.SINGLE, hf.INDEX):
      if self._file(single):
        return True
      if path := self._file(index):
        for file in sorted(set(hf.shards(path).values())):
          if self._file(file) is None:
            raise self._error(f'{file}, which {index} names')
        return True
    return False

  def _file(self, file: str) -> pathlib.Path | None:
    """A file's path in the cache; None where there is no such file."""
    import httpx
    import huggingface_hub
    from huggingface_hub import constants, errors

    try:
      return pathlib.Path(huggingface_hub.hf_hub_download(self.name, file))
    except errors.LocalEntryNotFoundError:
      self.trouble = f'and {constants.ENDPOINT} cannot be reached'
      if constants.is_offline_mode():
        self.trouble = 'and HF_HUB_OFFLINE forbids to ask the hub'
      return None
    except errors.EntryNotFoundError:
      return None
    except errors.RepositoryNotFoundError:
      raise UserError(
        f'There is no folder {self.name!r}, and no public model of that name '
        f'at {constants.ENDPOINT}.{_near(self.name)}'
      ) from None
    except (httpx.HTTPError, ValueError, OSError) as error:
      first = str(error).strip().splitlines() or [type(error).__name__]
      raise UserError(
        f'Fetching {file} of {self.name!r} from {constants.ENDPOINT} failed: '
        f'{first[0]}'
      ) from None

  def _error(self, what: str) -> UserError:
    if self.trouble:
      return UserError(
        f'There is no folder {self.name!r}, the cache of the hub does not '
        f'hold {what}, {self.trouble}.'
      )
    return UserError(f'{self.name!r} on the hub does not hold {what}.')


def _near(name: str) -> str:
  near = difflib.get_close_matches(name, _PUBLISHED, n=3, cutoff=0.8)
  return f' Near it: {", ".join(near)}.' if near else ''
