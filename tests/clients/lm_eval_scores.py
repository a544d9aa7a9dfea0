#!/usr/bin/env python3
"""Are the scores of lm-evaluation-harness through mixt's server those of its own `hf` backend?

    python tests/clients/lm_eval_scores.py --mixt ./mixt --model FOLDER --texts FILE.jsonl [--items 200]

FOLDER is a Hugging Face folder with its tokenizer (such as `mixt train` leaves), so that both open
the same weights. The task is multiple choice as in HellaSwag: a text is cut in two, and three
endings of other texts stand beside its own. Compared are the log-likelihood and the greedy flag of
every choice, and what the harness makes of them (acc, acc_norm), with prompts sent as token ids and
as strings. Then `local-chat-completions` writes answers as for GSM8K: each must be what the chat
endpoint says of the same question. Needs lm-eval, torch and transformers.

Two things have to be said to the harness. `add_bos_token`: its `hf` backend follows the tokenizer,
`local-completions` leaves the token that begins a text away unless told, and both must score the
same tokens. The model's name has to be one that the server has (--alias): for another it answers
404, which the harness repeats and then shows as "Session is closed" of its other requests.
"""
import argparse
import json
import os
import sys
import tempfile
import urllib.request

from serving import pieces_of, served

TASK = """task: mixt_choice
dataset_path: json
dataset_kwargs:
  data_files:
    validation: {data}
validation_split: validation
output_type: multiple_choice
doc_to_text: "{{{{context}}}}"
doc_to_target: "{{{{label}}}}"
doc_to_choice: "{{{{endings}}}}"
metric_list:
  - metric: acc
  - metric: acc_norm
"""

CHAT_TASK = """task: mixt_answer
dataset_path: json
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_text: "Question: {{{{context}}}}\\nAnswer:"
doc_to_target: "{{{{label}}}}"
generation_kwargs:
  until:
    - "Question:"
    - "</s>"
  do_sample: false
  temperature: 0.0
  max_gen_toks: 24
filter_list:
  - name: flexible-extract
    filter:
      - function: regex
        group_select: -1
        regex_pattern: "(-?[0-9]+)"
      - function: take_first
metric_list:
  - metric: exact_match
"""


def write_task(folder, texts, items):
    pieces = pieces_of(texts, 3 * items)
    data = os.path.join(folder, "items.jsonl")
    with open(data, "w", encoding="utf-8") as file:
        for i, (context, ending) in enumerate(pieces[:items]):
            endings = [pieces[(i + 7 * j + 1) % len(pieces)][1] for j in range(3)]
            endings.insert(i % 4, ending)
            file.write(json.dumps({"context": context, "endings": endings, "label": i % 4}) + "\n")
    with open(os.path.join(folder, "mixt_choice.yaml"), "w", encoding="utf-8") as file:
        file.write(TASK.format(data=data))
    with open(os.path.join(folder, "mixt_answer.yaml"), "w", encoding="utf-8") as file:
        file.write(CHAT_TASK.format(data=data))


def evaluate(folder, model, arguments):
    import lm_eval
    from lm_eval.tasks import TaskManager
    result = lm_eval.simple_evaluate(
        model=model, model_args=arguments, tasks=["mixt_choice"], batch_size=1, log_samples=True,
        task_manager=TaskManager(include_path=folder, include_defaults=False), bootstrap_iters=0)
    scores = {key: value for key, value in result["results"]["mixt_choice"].items()
              if key.startswith("acc") and "stderr" not in key}
    choices = [tuple(choice[0] if isinstance(choice[0], (list, tuple)) else choice)
               for sample in sorted(result["samples"]["mixt_choice"], key=lambda s: s["doc_id"])
               for choice in sample["resps"]]
    return scores, [(float(value), str(greedy) == "True") for value, greedy in choices]


def chat_answers(folder, url, items):
    """Answers that the harness got, and how many of them the chat endpoint gives otherwise."""
    import lm_eval
    from lm_eval.tasks import TaskManager
    result = lm_eval.simple_evaluate(
        model="local-chat-completions", tasks=["mixt_answer"], batch_size=1, limit=items, log_samples=True,
        apply_chat_template=True, bootstrap_iters=0,
        model_args={"model": "mixt", "base_url": f"{url}/v1/chat/completions", "num_concurrent": 4},
        task_manager=TaskManager(include_path=folder, include_defaults=False))
    samples = result["samples"]["mixt_answer"]
    other = 0
    for sample in samples:
        body = {"messages": [{"role": "user", "content": f"Question: {sample['doc']['context']}\nAnswer:"}],
                "temperature": 0, "max_tokens": 24, "stop": ["Question:", "</s>"]}
        request = urllib.request.Request(f"{url}/v1/chat/completions", json.dumps(body).encode(),
                                         {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as answer:
            other += json.load(answer)["choices"][0]["message"]["content"] != sample["resps"][0][0]
    return len(samples), other


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--items", type=int, default=200)
    options = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_OFFLINE"] = "1"
    failed = 0
    with tempfile.TemporaryDirectory() as folder:
        write_task(folder, options.texts, options.items)
        wanted, wanted_choices = evaluate(folder, "hf", {"pretrained": options.model, "dtype": "float32",
                                                        "device": "cpu", "add_bos_token": True})
        print(f"hf: {wanted}")
        # The exact comparison is of the server's numbers, so the cache is not rounded.
        arguments = ["--cache-type", "f32", "--alias", "mixt", "--template", "qwen3"]
        with served(options.mixt, options.model, arguments) as url:
            for ids in (True, False):
                scores, choices = evaluate(folder, "local-completions", {
                    "model": "mixt", "base_url": f"{url}/v1/completions", "tokenizer": options.model,
                    "tokenizer_backend": "huggingface", "tokenized_requests": ids,
                    "add_bos_token": True, "num_concurrent": 4})
                worst = max(abs(a[0] - b[0]) for a, b in zip(wanted_choices, choices))
                flags = sum(a[1] != b[1] for a, b in zip(wanted_choices, choices))
                good = (scores == wanted and worst < 1e-3 and flags == 0
                        and len(choices) == len(wanted_choices) > 0)
                failed += not good
                print(f"local-completions, {'ids' if ids else 'strings'}: {scores}, {len(choices)} "
                      f"log-likelihoods differ by {worst:.2e} at most, {flags} greedy flags: "
                      f"{'equal' if good else 'NOT EQUAL'}")
            answers, other = chat_answers(folder, url, min(options.items, 20))
            failed += answers == 0 or other > 0
            print(f"local-chat-completions: {answers} answers, {other} of them not the endpoint's")
    return failed


if __name__ == "__main__":
    sys.exit(main())
