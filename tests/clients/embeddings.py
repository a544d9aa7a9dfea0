#!/usr/bin/env python3
"""Are /v1/embeddings the hidden states of transformers behind the last norm, pooled?

    python tests/clients/embeddings.py --mixt ./mixt --model FOLDER --texts FILE [--items 50]

FOLDER is a Hugging Face folder with its tokenizer. Texts go as strings and as token ids, one by one
and all at once, through the Python client of OpenAI, which asks for base64. Needs openai, torch and
transformers.
"""
import argparse
import sys

from serving import pieces_of, served


def wanted(model, ids, pooling):
    import torch
    with torch.no_grad():
        states = model.model(torch.tensor([ids])).last_hidden_state[0].double()
    pooled = states[-1] if pooling == "last" else states.mean(0)
    return (pooled / pooled.norm()).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--model", required=True)
    parser.add_argument("--texts", required=True)
    parser.add_argument("--items", type=int, default=50)
    options = parser.parse_args()
    import openai
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32)
    texts = [text for text, _ in pieces_of(options.texts, options.items)][:options.items]
    ids = [tokenizer(text).input_ids for text in texts]
    failed = 0
    for pooling in ("mean", "last"):
        vectors = [wanted(model, row, pooling) for row in ids]
        with served(options.mixt, options.model, ["--cache-type", "f32", "--pooling", pooling, "--alias", "m"]) as url:
            client = openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0)
            at_once = client.embeddings.create(model="m", input=texts)
            by_ids = client.embeddings.create(model="m", input=ids)
            alone = [client.embeddings.create(model="m", input=text).data[0].embedding for text in texts]
        got = [row.embedding for row in at_once.data]
        worst = max(abs(a - b) for x, y in zip(vectors, got) for a, b in zip(x, y))
        same = got == alone == [row.embedding for row in by_ids.data]
        tokens = at_once.usage.prompt_tokens == sum(len(row) for row in ids)
        good = len(got) == len(vectors) > 0 and worst < 1e-5 and same and tokens
        failed += not good
        print(f"{pooling}: {len(got)} texts of {min(map(len, ids))} to {max(map(len, ids))} tokens, {len(got[0])} "
              f"numbers each, {worst:.1e} apart at most; alone and by ids "
              f"{'the same bits' if same else 'OTHER NUMBERS'}; usage {'right' if tokens else 'WRONG'}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
