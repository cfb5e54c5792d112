"""Finding a tokenizer, its ids, and what is refused."""

import io
import json
import os
import pathlib
import subprocess
import sys

import pytest
import tiny
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from ptjax.config import UserError
from ptjax.data import tokenizer
from tests import fake_hub

ROOT = pathlib.Path(__file__).resolve().parents[2]
PIECES = ['<pad>', '</s>', '<unk>', '▁a', '▁cat', '▁sat', 's', '<extra_id_0>']


def write_tiny(folder: pathlib.Path, **settings) -> pathlib.Path:
  """A folder with a tokenizer.json of eight pieces."""
  scores = [(piece, -float(i)) for i, piece in enumerate(PIECES)]
  backend = tokenizers.Tokenizer(models.Unigram(scores, unk_id=2))
  backend.pre_tokenizer = pre_tokenizers.Metaspace()
  backend.decoder = decoders.Metaspace()
  backend.add_special_tokens(['<pad>', '</s>', '<unk>', '<extra_id_0>'])
  # What is saved with many files, and must not be obeyed.
  backend.enable_truncation(2)
  backend.enable_padding(length=9)
  folder.mkdir(parents=True, exist_ok=True)
  backend.save(str(folder / 'tokenizer.json'))
  for name, content in settings.items():
    (folder / f'{name}.json').write_text(json.dumps(content))
  return folder


@pytest.fixture(scope='module')
def t5(shared):
  return tokenizer.load(shared / 'data' / 'tokenizers' / 't5')


def run(code: str, **env: str) -> subprocess.CompletedProcess:
  """`code` in a process of its own; an empty value unsets a variable."""
  env = {**os.environ, 'PYTHONPATH': str(ROOT), **env}
  return subprocess.run(
    [sys.executable, '-c', code],
    env={k: v for k, v in env.items() if v},
    capture_output=True,
    text=True,
    timeout=120,
  )


def test_encode_adds_no_eos_and_cuts_nothing(tmp_path):
  tiny = tokenizer.load(write_tiny(tmp_path))
  assert tiny.encode('a cats sat') == [3, 4, 6, 5]
  assert tiny.encode('') == []
  assert (tiny.eos_id, tiny.pad_id, tiny.vocab_size) == (1, 0, 8)


def test_what_a_tokenizer_would_put_around_a_text_is_left_out(tmp_path):
  """Llama's begin with a token of their own, others end with one."""
  path = write_tiny(tmp_path) / 'tokenizer.json'
  backend = tokenizers.Tokenizer.from_file(str(path))
  backend.no_truncation()
  backend.post_processor = tokenizers.processors.TemplateProcessing(
    single='<unk> $A </s>', special_tokens=[('<unk>', 2), ('</s>', 1)]
  )
  backend.save(str(path))
  assert tokenizer.load(tmp_path).encode('a cats') == [3, 4, 6]


CONTROLS = (
  'the cat </s> sat on <pad> a mat',
  '</s>',
  '<pad><unk></s>',
  'a dog</s>',
  'a\n</s> \t<pad>',
  'sat <extra_id_0> there </s>',
  '<extra_id_1>',
)


@pytest.fixture(scope='module')
def two_readers(tmp_path_factory):
  """The same pieces as spiece.model and as tokenizer.json."""
  sentencepiece = pytest.importorskip('sentencepiece')
  made = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(['the cat sat on a mat', 'a dog < p / s > ran'] * 9),
    model_writer=made,
    vocab_size=60,
    hard_vocab_limit=False,
    normalization_rule_name='identity',
    **{'pad_id': 0, 'eos_id': 1, 'unk_id': 2, 'bos_id': -1},
    minloglevel=2,
  )
  folder = tmp_path_factory.mktemp('readers')
  for name in ('pieces', 'ready'):
    (folder / name).mkdir()
  (folder / 'pieces' / 'spiece.model').write_bytes(made.getvalue())
  settings = json.dumps({'extra_ids': 2})
  (folder / 'pieces' / 'tokenizer_config.json').write_text(settings)
  own = sentencepiece.SentencePieceProcessor(model_proto=made.getvalue())
  pieces = [
    (own.id_to_piece(i), own.get_score(i)) for i in range(own.get_piece_size())
  ]
  backend = tokenizers.Tokenizer(models.Unigram(pieces, unk_id=2))
  backend.pre_tokenizer = pre_tokenizers.Metaspace()
  backend.decoder = decoders.Metaspace()
  backend.add_special_tokens(['<pad>', '</s>', '<unk>'])
  backend.add_special_tokens(['<extra_id_1>', '<extra_id_0>'])
  backend.save(str(folder / 'ready' / 'tokenizer.json'))
  return [tokenizer.load(folder / name) for name in ('pieces', 'ready')]


@pytest.mark.parametrize('text', CONTROLS)
def test_a_text_never_becomes_a_control_id(two_readers, text):
  """T5 reads '</s>' in a text letter by letter; only sentinels are special."""
  pieces, ready = two_readers
  found = ready.encode(text)
  assert not {ready.eos_id, ready.pad_id} & set(found)
  assert found.count(pieces.vocab_size - 1) == text.count('<extra_id_0>')
  if 'extra' not in text and '\n' not in text:
    assert found == pieces.encode(text)


def test_the_embedded_one_gives_such_a_text_back():
  own = tokenizer.load(ROOT / 'ptjax' / 'miniature' / 't5')
  text = 'Anna </s> likes <pad> bread <unk>'
  ids = own.encode(text)
  assert not {own.eos_id, own.pad_id} & set(ids) and own.decode(ids) == text
  assert own.decode(own.encode('<extra_id_0>')) == '<extra_id_0>'
  assert len(own.encode('<extra_id_0>')) == 1


def test_a_word_tokenizer_does_not_read_them_either(tmp_path):
  own = tokenizer.load(tiny.model_folder(tmp_path))
  assert own.encode('the </s> cat <pad>') == [3, 2, 4, 2]


def test_encode_batch_is_encode_of_each(tmp_path, monkeypatch):
  monkeypatch.setattr(tokenizer, '_CHUNK', 2)
  tiny = tokenizer.load(write_tiny(tmp_path))
  texts = ['a', 'cat sat', 'a', '', 'sat', 'a cat', 'cat sat']
  assert tiny.encode_batch(iter(texts)) == [tiny.encode(t) for t in texts]


def test_decode(tmp_path):
  tiny = tokenizer.load(write_tiny(tmp_path))
  assert tiny.decode([3, 4, 6, 1, 5, 5]) == 'a cats'
  assert tiny.decode([0, 4, 0, 5]) == 'cat sat'
  assert tiny.decode([4, 11, 5]) == 'cat sat'  # 11: a row without a piece
  assert tiny.decode([1, 4]) == tiny.decode([]) == ''
  assert tiny.decode([7, 4]) == '<extra_id_0> cat'


def test_the_folder_says_which_pieces_are_special(tmp_path):
  settings = {'eos_token': {'content': 's'}, 'pad_token': None}
  found = tokenizer.load(write_tiny(tmp_path, tokenizer_config=settings))
  assert (found.eos_id, found.pad_id) == (6, 0)
  with pytest.raises(UserError, match="no '<end>'.*eos_token"):
    tokenizer.load(
      write_tiny(tmp_path, special_tokens_map={'eos_token': '<end>'})
      and write_tiny(tmp_path, tokenizer_config={'eos_token': '<end>'})
    )


def test_pieces_are_in_the_order_of_their_ids(tmp_path):
  assert tokenizer.load(write_tiny(tmp_path)).pieces() == PIECES


def test_an_id_that_no_piece_has(tmp_path):
  ids = {piece: i for i, piece in enumerate(PIECES)} | {'late': 9}
  backend = tokenizers.Tokenizer(models.WordLevel(ids, unk_token='<unk>'))
  backend.save(str(tmp_path / 'tokenizer.json'))
  assert tokenizer.load(tmp_path).pieces() == [*PIECES, None, 'late']


def test_pieces_of_bytes_are_readable(tmp_path):
  vocab = {'</s>': 0, '<pad>': 1, 'Ġcat': 2, 'Ã©': 3, 'Ã': 4, 'Ċ': 5, 'a': 7}
  backend = tokenizers.Tokenizer(models.BPE(vocab, []))
  backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  backend.decoder = decoders.ByteLevel()
  backend.add_special_tokens(['</s>', '<pad>'])
  backend.save(str(tmp_path / 'tokenizer.json'))
  found = tokenizer.load(tmp_path).pieces()
  assert found == ['</s>', '<pad>', '▁cat', 'é', 'Ã', '\n', None, 'a']


@pytest.mark.parametrize(
  'text, ids',
  {
    'True': [10998],
    'False': [10747, 7, 15],
    'entailment': [3, 35, 5756, 297],
    'not_entailment': [59, 834, 35, 5756, 297],
    'contradiction': [27252],
    'neutral': [7163],
    'choice1': [1160, 536],
    'choice2': [1160, 357],
    'not_equivalent': [59, 834, 15, 1169, 15592],
    'passage: The sky is blue. question: is the sky blue': [
      *(5454, 10, 37, 5796, 19, 1692, 5, 822, 10, 19, 8, 5796, 1692)
    ],
    'sentence1: a cat sat sentence2: the cat sat': [
      *(7142, 536, 10, 3, 9, 1712, 3, 7, 144, 7142, 357, 10, 8, 1712, 3, 7, 144)
    ],
  }.items(),
)
def test_ids_of_the_real_t5_vocabulary(t5, text, ids):
  assert t5.encode(text) == ids
  assert t5.decode([*ids, 1, 5]) == text


@pytest.fixture(scope='module')
def gpt2(shared):
  return tokenizer.load(shared / 'data' / 'tokenizers' / 'gpt2')


@pytest.fixture(scope='module')
def neox(shared, tmp_path_factory):
  folder = tmp_path_factory.mktemp('neox')
  source = shared / 'data' / 'tokenizers' / 'gpt_neox' / '20B_tokenizer.json'
  (folder / 'tokenizer.json').symlink_to(source)
  return tokenizer.load(folder)


TWEET = 'Tweet text : @AirBus my flight is late… again! Label : '


@pytest.mark.parametrize(
  'name, text, ids',
  [
    ('gpt2', ' complaint', [8224]),
    ('gpt2', 'Label : no complaint', [33986, 1058, 645, 8224]),
    ('neox', ' complaint', [5833]),
    ('neox', 'Label : no complaint', [11495, 1163, 642, 5833]),
  ],
)
def test_ids_of_the_real_gpt_vocabularies(request, name, text, ids):
  """Nothing is appended; a space belongs to the word behind it."""
  found = request.getfixturevalue(name)
  assert found.encode(text) == ids
  assert found.decode([*ids, found.eos_id, *ids]) == text.strip()


@pytest.mark.parametrize(
  'name, eos_id, vocab_size', [('gpt2', 50256, 50257), ('neox', 0, 50277)]
)
def test_a_gpt_pads_with_its_end_and_says_so(request, name, eos_id, vocab_size):
  found = request.getfixturevalue(name)
  assert (found.eos_id, found.pad_id) == (eos_id, eos_id)
  assert found.vocab_size == vocab_size
  assert f'no padding token: id {eos_id}' in found.note
  ids = found.encode(TWEET)
  assert eos_id not in ids and found.decode([*ids, eos_id]) == TWEET.strip()
  # No text ends itself: what looks like the end is read letter by letter.
  assert eos_id not in found.encode('a<|endoftext|>')


def test_an_answer_goes_on_behind_a_space_where_pieces_are_of_bytes(gpt2, t5):
  assert (gpt2.begin, gpt2.joint) == ((), ' ')
  assert (t5.begin, t5.joint) == ((), '')


def test_what_a_file_puts_in_front_of_every_text_is_known(tmp_path):
  """As Llama's BOS; T5's end, which such a file puts behind, is none."""
  tokenizers = pytest.importorskip('tokenizers')
  vocab = {'<s>': 0, '</s>': 1, 'a': 2, '<pad>': 3, '<unk>': 4}
  for name, form, want in (
    ('llama', '<s> $A', (0,)),
    ('t5', '$A </s>', ()),
    ('both', '<s> $A </s>', (0,)),
  ):
    backend = tokenizers.Tokenizer(
      tokenizers.models.WordLevel(vocab, unk_token='<unk>')
    )
    backend.post_processor = tokenizers.processors.TemplateProcessing(
      single=form, special_tokens=[('<s>', 0), ('</s>', 1)]
    )
    (tmp_path / name).mkdir()
    backend.save(str(tmp_path / name / 'tokenizer.json'))
    found = tokenizer.load(tmp_path / name)
    assert found.begin == want and found.encode('a') == [2]


def test_a_padding_token_that_is_said_is_kept(shared, tmp_path):
  source = shared / 'data' / 'tokenizers' / 'gpt_neox' / '20B_tokenizer.json'
  (tmp_path / 'tokenizer.json').symlink_to(source)
  settings = {'pad_token': '<|padding|>', 'eos_token': '<|endoftext|>'}
  (tmp_path / 'tokenizer_config.json').write_text(json.dumps(settings))
  found = tokenizer.load(tmp_path)
  assert (found.eos_id, found.pad_id, found.note) == (0, 1, '')
  assert found.decode([1, 1, *found.encode('late'), 0, 9]) == 'late'


@pytest.mark.parametrize('name', ('gpt2', 'neox'))
def test_ids_of_gpts_are_those_of_transformers(request, shared, name):
  transformers = pytest.importorskip('transformers')
  file = {'gpt2': 'gpt2/tokenizer', 'neox': 'gpt_neox/20B_tokenizer'}[name]
  path = shared / 'data' / 'tokenizers' / f'{file}.json'
  theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=str(path))
  ours = request.getfixturevalue(name)
  for text in (
    TWEET,
    ' a  b\nc\t',
    '½ é “q” 😀',
    'def f(x):\n    return x',
    '',
  ):
    ids = theirs.encode(text)
    assert ours.encode(text) == ids
    assert ours.decode(ids) == theirs.decode(ids).strip()


def test_t5_sentinels_lie_on_top(t5):
  assert t5.encode('<extra_id_0>') == [32099]
  assert t5.encode('<extra_id_99>') == [32000]
  assert (t5.vocab_size, t5.eos_id, t5.pad_id) == (32100, 1, 0)
  assert t5.decode([32099, 10998, 32127]) == '<extra_id_0> True'


def test_pieces_of_the_real_t5_vocabulary(t5):
  pieces = t5.pieces()
  assert len(pieces) == 32100
  assert pieces[:4] == ['<pad>', '</s>', '<unk>', '▁']
  assert (pieces[10998], pieces[7]) == ('▁True', 's')
  assert pieces[32099].lstrip('▁') == '<extra_id_0>'


def test_ids_are_those_of_sentencepiece(t5, shared):
  sentencepiece = pytest.importorskip('sentencepiece')
  file = shared / 'data' / 'tokenizers' / 't5' / 'spiece.model'
  oracle = sentencepiece.SentencePieceProcessor(model_file=str(file))
  path = shared / 'data' / 'superglue' / 'RTE' / 'val.jsonl'
  rows = [json.loads(line) for line in open(path, encoding='utf-8')]
  texts = [row['premise'] for row in rows]
  texts += ['  lead', 'a  b\n\nc\t', 'ﬁne ½ Ａ', '“q”—d', 'é e\u0301', '😀', '']
  assert t5.encode_batch(texts) == oracle.encode(texts)


def test_ids_are_those_of_transformers(t5, shared, tmp_path):
  """Of spiece.model, and of the tokenizer.json that it saves."""
  transformers = pytest.importorskip('transformers')
  source = shared / 'data' / 'tokenizers' / 't5'
  theirs = transformers.T5Tokenizer.from_pretrained(source)
  theirs.save_pretrained(tmp_path)
  assert (tmp_path / 'tokenizer.json').is_file()
  for ours in (t5, tokenizer.load(tmp_path)):
    for text in ('not_equivalent', ' a  b\nc ', 'x <extra_id_3> y', '½ é'):
      ids = theirs.encode(text, add_special_tokens=False)
      assert ours.encode(text) == ids
    ids = theirs.encode('a  “label” that’s (not), it .')
    assert ours.decode([*ids, 5]) == theirs.decode(ids[:-1])
    assert ours.eos_id == theirs.eos_token_id
    assert ours.pad_id == theirs.pad_token_id
    assert ours.vocab_size == len(theirs)


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
  (tmp_path / 'checkpoint').write_bytes(b'as T5X has it')
  with pytest.raises(UserError, match='holds no tokenizer.*config.tokenizer='):
    tokenizer.load(tmp_path)


@pytest.mark.parametrize('file', ['tokenizer.model', 'vocab.json'])
def test_a_tokenizer_of_another_form_is_told_how_to_become_one(tmp_path, file):
  (tmp_path / file).write_text('{}')
  with pytest.raises(UserError, match=f'from its {file} .AutoTok.*or name a'):
    tokenizer.load(tmp_path)


def test_of_a_tokenizer_that_is_missing_nothing_is_noted():
  ids = {'eos_id': 5, 'pad_id': 5, 'vocab_size': 9}
  assert not tokenizer.missing(UserError('none'), **ids).note


@pytest.mark.parametrize('file', ['tokenizer.json', 'spiece.model'])
def test_a_broken_file_is_refused(tmp_path, file):
  (tmp_path / file).write_text('{"version": "1.0"')
  with pytest.raises(UserError, match='cannot be read.*config.tokenizer'):
    tokenizer.load(tmp_path)


@pytest.mark.parametrize('name', ['/no/such/folder', 'nobody/nothing'])
def test_an_unknown_name_is_refused(name, monkeypatch, tmp_path):
  monkeypatch.setenv('HF_HOME', str(tmp_path))
  with pytest.raises(UserError, match=f'config.tokenizer={name} is no folder'):
    tokenizer.load(name)


def test_no_code_of_the_folder_is_run(tmp_path):
  settings = {'auto_map': {'AutoTokenizer': [None, 'own.Own']}}
  write_tiny(tmp_path, tokenizer_config=settings, config=settings)
  (tmp_path / 'own.py').write_text("open('ran', 'w')\nclass Own: pass\n")
  assert tokenizer.load(tmp_path).encode('a') == [3]
  assert not pathlib.Path('ran').exists() and not (tmp_path / 'ran').exists()


def test_it_is_quick_and_quiet(shared):
  """transformers would take seconds, and tell of a missing PyTorch."""
  folder = shared / 'data' / 'tokenizers' / 't5'
  code = f"""if True:
    import sys
    from ptjax.data import tokenizer
    print(tokenizer.load({str(folder)!r}).encode('True'))
    print({{'transformers', 'torch', 'jax'}} & set(sys.modules))"""
  done = run(code)
  assert (done.stdout, done.stderr) == ('[10998]\nset()\n', '')


def test_sentinels_of_a_sentencepiece_model(shared, tmp_path):
  source = shared / 'data' / 'tokenizers' / 't5' / 'spiece.model'
  (tmp_path / 'spiece.model').symlink_to(source)
  settings = tmp_path / 'tokenizer_config.json'
  settings.write_text(json.dumps({'extra_ids': 2, 'eos_token': 'X'}))
  two = tokenizer.load(tmp_path)
  assert (two.vocab_size, two.eos_id) == (32002, 4)
  assert two.encode('<extra_id_0>') == [32001]
  # A model with sentinels of its own, as mT5's, gets no others.
  (tmp_path / 'spiece.model').unlink()
  own = source.read_bytes() + tokenizer._sentinel(0)
  (tmp_path / 'spiece.model').write_bytes(own)
  assert tokenizer.load(tmp_path).vocab_size == 32001


def test_from_a_hub(tmp_path):
  folder = tmp_path / 'hub' / 'models' / 'some' / 'model'
  write_tiny(folder)
  (folder / 'model.safetensors').write_bytes(b'not wanted')
  code = """if True:
    from ptjax.data import tokenizer
    print(tokenizer.load('some/model').encode('a cat'))
    tokenizer.load('some/other')"""
  with fake_hub.serve(tmp_path / 'hub') as hub:
    done = run(
      code, HF_ENDPOINT=hub.url, HF_HOME=str(tmp_path), HF_HUB_OFFLINE=''
    )
  assert done.stdout == '[3, 4]\n', done.stderr
  assert hub.downloads() == ['tokenizer.json']
  assert 'config.tokenizer=some/other' in done.stderr
  assert 'no such repository' in done.stderr
