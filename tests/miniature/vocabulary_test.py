"""The embedded tokenizers and the size of what is embedded."""

import itertools
import pathlib

import pytest

import ptjax.miniature
from ptjax.miniature import complaints, corpus, letters, vocabulary

FOLDERS = {
  family: pathlib.Path(ptjax.miniature.__file__).parent / family
  for family in vocabulary.SENTINELS
}
TEXTS = (
  'Anna is in the garden. She met *he* there, didn’t she?',
  'emoji 😀👩‍🚀, 漢字, naïve café',
  'two  spaces\tand a tab\nand a new line',
  'hypothesis: x<br>y premise: {"a": [1, 2.5]}',
  'unseenword Annabel catalogue',
)


def read(family: str):
  import tokenizers

  return tokenizers.Tokenizer.from_file(str(FOLDERS[family] / 'tokenizer.json'))


@pytest.fixture(scope='module', params=FOLDERS)
def family(request):
  return request.param


@pytest.fixture(scope='module')
def tokenizer(family):
  return read(family)


@pytest.mark.parametrize('text', TEXTS)
def test_any_text_comes_back(tokenizer, text):
  ids = tokenizer.encode(text).ids
  assert tokenizer.decode(ids) == text
  assert tokenizer.token_to_id('<unk>') not in ids


def test_transformers_reads_it(family):
  transformers = pytest.importorskip('transformers')
  tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDERS[family])
  special = (tokenizer.pad_token_id, tokenizer.eos_token_id)
  assert (*special, tokenizer.unk_token_id) == (0, 1, 2)
  for text in TEXTS:
    ids = tokenizer(text, add_special_tokens=False).input_ids
    assert tokenizer.decode(ids) == text


@pytest.mark.parametrize('label', vocabulary.LABELS)
def test_a_label_is_one_piece(label):
  assert len(read('t5').encode(label).ids) == 1


def test_labels_of_complaints_begin_differently():
  first, second = (read('gpt').encode(label) for label in complaints.LABELS)
  assert first.tokens == ['▁no', '▁complaint']
  assert second.tokens == ['▁complaint']


def test_complaints_need_no_bytes():
  for split in complaints.SIZES:
    for row in complaints.rows(split):
      text = f'Tweet text : {row["Tweet text"]} Label : {row["Label"]}'
      for piece in read('gpt').encode(text).tokens:
        assert not piece.startswith('<0x'), text


@pytest.mark.parametrize('phase', corpus.SHARES)
def test_prose_needs_no_bytes(phase, family, tokenizer):
  made = {'t5': corpus, 'gpt': letters}[family].documents(
    'not those it was made of', phase=phase
  )
  for _, text, end in itertools.islice(made, 500):
    for piece in tokenizer.encode(f'{text} {end}').tokens:
      assert not piece.startswith('<0x'), text


def test_it_is_built_again_the_same(family, tokenizer):
  assert vocabulary.build(family).to_str() == tokenizer.to_str()


def test_what_is_embedded_is_small(family):
  files = [path for path in FOLDERS[family].rglob('*') if path.is_file()]
  assert sum(path.stat().st_size for path in files) <= 8 * 2**20
  names = {path.name for path in files}
  assert {'config.json', 'model.safetensors', 'tokenizer.json'} <= names
