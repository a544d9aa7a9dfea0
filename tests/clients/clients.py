#!/usr/bin/env python3
"""Clients that nobody changed for mixt, against its server: openai, ollama, LangChain.

    python tests/clients/clients.py --mixt ./mixt --model MODEL

The model may be any; what is asked for is what any text must satisfy. Needs the Python packages
openai, ollama and langchain-openai.
"""
import argparse
import asyncio
import json
import sys

from serving import served

SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12},
                                           "age": {"type": "integer", "minimum": 0, "maximum": 120},
                                           "kind": {"enum": ["cat", "dog"]}},
          "required": ["name", "age", "kind"], "additionalProperties": False}
TOOL = {"type": "function", "function": {"name": "weather", "description": "The weather of a place",
                                         "parameters": {"type": "object", "properties": {
                                             "place": {"type": "string", "maxLength": 12}}, "required": ["place"],
                                             "additionalProperties": False}}}
TALK = [{"role": "user", "content": "Say something."}]
NAME = [""]  # what the server calls its model
checks = []


def check(function):
    checks.append(function)
    return function


def openai_client(url):
    import openai
    return openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120)


@check
def openai_models(url):
    models = openai_client(url).models.list().data
    assert len(models) == 1 and models[0].object == "model", models


@check
def openai_chat(url):
    answer = openai_client(url).chat.completions.create(model=NAME[0], messages=TALK, max_tokens=8, seed=1)
    assert answer.object == "chat.completion" and answer.choices[0].message.role == "assistant"
    assert answer.usage.completion_tokens <= 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.choices[0].finish_reason in ("stop", "length")


@check
def openai_chat_streams_the_same(url):
    client = openai_client(url)
    request = dict(model=NAME[0], messages=TALK, max_tokens=24, seed=5)
    whole = client.chat.completions.create(**request).choices[0]
    parts, usage, reason = [], None, None
    for chunk in client.chat.completions.create(**request, stream=True, stream_options={"include_usage": True}):
        assert chunk.object == "chat.completion.chunk"
        usage = chunk.usage or usage
        for choice in chunk.choices:
            parts.append(choice.delta.content or "")
            reason = choice.finish_reason or reason
    assert "".join(parts) == (whole.message.content or ""), (parts, whole)
    assert reason == whole.finish_reason and usage.completion_tokens <= 24


@check
def openai_many_answers(url):
    answer = openai_client(url).chat.completions.create(model=NAME[0], messages=TALK, max_tokens=6, n=3, seed=2)
    assert sorted(choice.index for choice in answer.choices) == [0, 1, 2]


@check
def openai_log_probabilities(url):
    answer = openai_client(url).chat.completions.create(model=NAME[0], messages=TALK, max_tokens=6, temperature=0,
                                                        logprobs=True, top_logprobs=3)
    content = answer.choices[0].logprobs.content
    assert len(content) == answer.usage.completion_tokens or answer.choices[0].finish_reason == "stop"
    for token in content:
        assert token.logprob <= 0 and len(token.top_logprobs) == 3
        assert token.top_logprobs[0].logprob == token.logprob  # greedy


@check
def openai_completions_echo(url):
    answer = openai_client(url).completions.create(model=NAME[0], prompt="the cat sat", max_tokens=1, echo=True,
                                                   logprobs=2, temperature=0)
    scores = answer.choices[0].logprobs
    assert answer.choices[0].text.startswith("the cat sat"), answer.choices[0].text
    assert scores.token_logprobs[0] is None and all(value <= 0 for value in scores.token_logprobs[1:])
    assert len(scores.tokens) == len(scores.token_logprobs) == len(scores.top_logprobs) == len(scores.text_offset)
    assert "".join(scores.tokens).endswith(answer.choices[0].text)  # before it stands what begins a text


@check
def openai_many_prompts(url):
    answer = openai_client(url).completions.create(model=NAME[0], prompt=["a", "b c", "d"], max_tokens=3)
    assert [choice.index for choice in answer.choices] == [0, 1, 2]


@check
def openai_structured_output(url):
    answer = openai_client(url).chat.completions.create(
        model=NAME[0], messages=TALK, max_tokens=200, seed=3,
        response_format={"type": "json_schema", "json_schema": {"name": "pet", "schema": SCHEMA, "strict": True}})
    if answer.choices[0].finish_reason == "stop":
        value = json.loads(answer.choices[0].message.content)
        assert set(value) == {"name", "age", "kind"} and 0 <= value["age"] <= 120, value
        assert value["kind"] in ("cat", "dog")
    else:
        raise AssertionError("200 tokens were not enough for a bounded schema")


@check
def openai_invalid_schema_is_refused(url):
    import openai
    for schema in ({"type": "no such type"}, {"$ref": "#/nowhere"}, {"type": "string", "pattern": "("}):
        try:
            openai_client(url).chat.completions.create(
                model=NAME[0], messages=TALK, max_tokens=4,
                response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})
        except openai.BadRequestError as error:
            assert error.body["message"], error.body
        else:
            raise AssertionError(f"{schema} was taken")


@check
def openai_tools(url):
    answer = openai_client(url).chat.completions.create(
        model=NAME[0], messages=TALK, max_tokens=120, seed=4, tools=[TOOL],
        tool_choice={"type": "function", "function": {"name": "weather"}})
    call = answer.choices[0].message.tool_calls[0]
    assert call.function.name == "weather" and set(json.loads(call.function.arguments)) == {"place"}, call
    assert answer.choices[0].finish_reason == "tool_calls"


@check
def openai_stop(url):
    client = openai_client(url)
    whole = client.completions.create(model=NAME[0], prompt="the", max_tokens=40, seed=6).choices[0].text
    if len(whole) > 8:
        stop = whole[4:7]
        cut = client.completions.create(model=NAME[0], prompt="the", max_tokens=40, seed=6, stop=[stop]).choices[0]
        assert cut.text == whole[:whole.index(stop)] and cut.finish_reason == "stop", (whole, stop, cut)


@check
def openai_logit_bias(url):
    client = openai_client(url)
    answer = client.completions.create(model=NAME[0], prompt="the", max_tokens=4, logit_bias={"300": 100}, logprobs=0)
    assert len(set(answer.choices[0].logprobs.tokens)) == 1, answer


@check
def openai_async(url):
    import openai

    async def all_of_them():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=120) as client:
            async def one(seed):
                answer = await client.completions.create(model=NAME[0], prompt="the", max_tokens=16, seed=seed)
                return answer.choices[0].text
            return await asyncio.gather(*(one(seed % 4) for seed in range(16)))

    texts = asyncio.run(all_of_them())
    assert all(texts[i] == texts[i % 4] for i in range(16)), "the same seed gave another text beside others"


@check
def openai_embeddings(url):
    data = openai_client(url).embeddings.create(model=NAME[0], input=["one", "two three"]).data
    assert len(data) == 2 and len(data[0].embedding) == len(data[1].embedding) > 0
    assert data[0].embedding != data[1].embedding


@check
def ollama_client(url):
    import ollama
    client = ollama.Client(host=url)
    models = client.list().models
    assert len(models) == 1, models
    name = models[0].model
    assert client.show(name).modelinfo is not None
    answer = client.chat(model=name, messages=TALK, options={"num_predict": 8, "seed": 1})
    assert answer.message.role == "assistant" and answer.done
    parts = list(client.chat(model=name, messages=TALK, options={"num_predict": 8, "seed": 1}, stream=True))
    assert "".join(part.message.content for part in parts) == answer.message.content and parts[-1].done
    text = client.generate(model=name, prompt="the", options={"num_predict": 8, "seed": 1})
    assert text.done and text.eval_count <= 8
    value = client.generate(model=name, prompt="the", format=SCHEMA, options={"num_predict": 200, "seed": 1})
    assert set(json.loads(value.response)) == {"name", "age", "kind"}, value.response


@check
def langchain(url):
    from langchain_openai import ChatOpenAI
    model = ChatOpenAI(base_url=f"{url}/v1", api_key="none", model=NAME[0], max_tokens=500, temperature=0, max_retries=0)
    assert isinstance(model.invoke("Say something.").content, str)
    assert "".join(chunk.content for chunk in model.stream("Say something.")) == model.invoke("Say something.").content
    value = model.with_structured_output(SCHEMA | {"title": "pet"}, method="json_schema").invoke("A pet.")
    assert set(value) == {"name", "age", "kind"}, value


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--model", required=True)
    parser.add_argument("--template", default="qwen3", help="a chat template that knows tools")
    parser.add_argument("names", nargs="*", help="checks to run; none: all of them")
    options = parser.parse_args()
    failed = 0
    chosen = [function for function in checks if not options.names or function.__name__ in options.names]
    with served(options.mixt, options.model, ["--template", options.template]) as url:
        NAME[0] = openai_client(url).models.list().data[0].id
        for function in chosen:
            try:
                function(url)
                print(f"passed  {function.__name__}")
            except Exception as error:  # whatever it is, the check has failed
                failed += 1
                print(f"FAILED  {function.__name__}: {type(error).__name__}: {str(error)[:400]}")
    print(f"{len(chosen) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
