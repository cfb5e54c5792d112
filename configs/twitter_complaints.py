r"""Twitter complaints (RAFT) by causal models: prompts of 8 and 100 tokens.

Without words: the embedded GPT and a generated miniature of the task, minutes
on a laptop. With a model's name, RAFT's own 50 labelled tweets, of which a
third is dev, drawn by `seed`; its test tweets are scored where the data set
that they were cut from lies beside them, and can be submitted anyhow
(eval.submission=true with eval.split=dev).

  python -m ptjax.main --config=configs/twitter_complaints.py
  python -m ptjax.main \
    --config=configs/twitter_complaints.py:model=EleutherAI/pythia-410m,data=DIR
  python -m ptjax.main \
    --config=configs/twitter_complaints.py:models=A+B+C,data=DIR,members=5

`models=` compares sizes, such as EleutherAI/pythia-70m to pythia-12b, each
with both prompts. `query=` is a tweet that each prompt answers three times
(samples/ in each run's folder). Perplexity of the answers by step is in
metrics.jsonl. An instruction in words instead of a prompt is
`method.name=hard_prompt,method.instruction=TEXT,ablation.key=`.
"""

from ptjax import config as config_lib

QUERY = '@market I asked for a red lamp, you sent a blue lamp.'


def get_config(arg: str | None = None):
  """The runs that the words after the colon name."""
  words = config_lib.words(arg)
  c = config_lib.default()
  models = words.pop('models', '').split('+')
  c.model = words.pop('model', models[0] or 'miniature/gpt')
  c.task = 'twitter_complaints'
  if c.model == 'miniature/gpt':
    config_lib.miniature(c)
    c.input_length, c.buckets = 64, ()
    c.train.steps = 100
  else:
    c.data = 'hub'
    # Ten epochs and more of so few tweets; dev says which step was best.
    c.train.steps, c.train.eval_every, c.train.save_every = 500, 25, 100
    c.train.log_every, c.train.batch_size = 5, 8
    c.eval.split = 'test'
  c.ablation.key, c.ablation.over = 'method.length', (8, 100)
  if len(models) > 1:
    c.ablation.inner_key, c.ablation.inner_over = 'method.length', (8, 100)
    c.ablation.key, c.ablation.over = 'model', tuple(models)
  tweet = words.pop('query', QUERY)
  c.samples.query = f'Tweet text : {tweet} Label :' if tweet else ''
  c.max_length = 10
  if 'members' in words:
    words['population.seeds'] = words.pop('members')
  for key, text in words.items():
    config_lib.assign(c, key, text)
  return c
