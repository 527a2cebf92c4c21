#!/usr/bin/env python3
"""rewards.json: rewards of TRL on random completions: make_reward_vectors.py OUT"""
import json
import random
import sys

import trl
from trl.rewards import get_cosine_scaled_reward, get_repetition_penalty_reward, get_soft_overlong_punishment, think_format_reward

R = random.Random(5)
MARKS = ["<think>", "</think>", "<answer>", "</answer>", "\n", " ", "a", "ü", "<", "think>"]
texts = ["", "<think></think>", "<think>\nx\n</think>\n<answer>\ny\n</answer>", " <think>x</think>", "<think>x</think><think>y</think>", "<think>x"]
texts += ["".join(R.choice(MARKS) for _ in range(R.randrange(1, 9))) for _ in range(300)]
texts += ["<think>" + "".join(R.choice(MARKS) for _ in range(R.randrange(5))) + "</think>" for _ in range(60)]
out = dict(trl=trl.__version__, think=[dict(text=t, reward=think_format_reward([[{"content": t}]])[0]) for t in texts], overlong=[], repetition=[], cosine=[])
for _ in range(60):
    most, cache = R.randrange(1, 60), R.randrange(1, 30)
    cache, n = min(cache, most), R.randrange(0, 70)
    out["overlong"].append(dict(max=most, cache=cache, n=n, reward=get_soft_overlong_punishment(most, cache)([[1] * n])[0]))
    ids = [R.randrange(R.choice([2, 5, 100000])) for _ in range(R.randrange(0, 40))]
    n, penalty = R.randrange(1, 5), -R.random()
    out["repetition"].append(dict(ids=ids, n=n, penalty=penalty, reward=get_repetition_penalty_reward(n, penalty)([ids])[0]))
    most, n = R.randrange(1, 60), R.randrange(0, 70)
    f = get_cosine_scaled_reward(max_len=most)
    for right in (True, False):
        reward = f([[{"role": "assistant", "content": "\\boxed{1}" if right else "\\boxed{2}"}]], ["\\boxed{1}"], [[1] * n])[0]
        out["cosine"].append(dict(max=most, n=n, right=right, reward=reward, right_short=f.max_value_correct, right_long=f.min_value_correct,
                                  wrong_short=f.min_value_wrong, wrong_long=f.max_value_wrong))
json.dump(out, open(sys.argv[1], "w"))
print({k: len(v) for k, v in out.items() if isinstance(v, list)})
