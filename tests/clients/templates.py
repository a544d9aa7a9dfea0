#!/usr/bin/env python3
"""Does /apply-template render a folder of chat templates as transformers does, tools included?

    python tests/clients/templates.py --mixt ./mixt --model MODEL --templates FOLDER

FOLDER holds *.jinja files, such as llama.cpp's models/templates, which are those of published
checkpoints. Calls go to the server as clients send them (arguments as a string). What transformers
refuses is only counted: its sandbox knows less, and it does not try both forms of arguments. The built-in qwen3 is compared with
Qwen-Qwen3-0.6B.jinja where that is there. Needs transformers and jinja2.
"""
import argparse
import copy
import glob
import json
import os
import sys
import urllib.error
import urllib.request

from serving import served

TOOLS = [
    {"type": "function", "function": {
        "name": "weather", "description": "Says \"how\" warm & where", "parameters": {
            "type": "object", "required": ["city"], "properties": {
                "city": {"type": "string", "description": "a place, Zürich"},
                "days": {"type": "array", "items": {"type": "integer"}}}}}},
    {"type": "function", "function": {
        "name": "add", "description": "Adds", "parameters": {
            "type": "object", "properties": {"a": {"type": "number"}, "b": {"type": "number"}}}}}]


def call(number, name, **arguments):  # nine characters, as Mistral's templates want them
    return {"id": f"call{number:05}", "type": "function", "function": {"name": name, "arguments": arguments}}


def result(number, name, text):
    return {"role": "tool", "tool_call_id": f"call{number:05}", "name": name, "content": text}


ASK = {"role": "user", "content": "warm?"}
TALKS = {
    "plain": ([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi <b>"},
               {"role": "assistant", "content": "Yes."}, {"role": "user", "content": "Go"}], None),
    "asked": ([ASK], TOOLS),
    "called": ([{"role": "system", "content": "Be brief."}, ASK,
                {"role": "assistant", "content": "", "tool_calls": [call(1, "weather", city="Bern", days=[1, 2])]},
                result(1, "weather", "{\"t\": 20}")], TOOLS),
    "twice": ([ASK, {"role": "assistant", "content": "I look.", "tool_calls": [
        call(1, "weather", city="Bern"), call(2, "add", a=1, b=2.5)]}, result(1, "weather", "20"),
        result(2, "add", "3.5"), {"role": "assistant", "content": "20"}, {"role": "user", "content": "And?"}], TOOLS),
    "thought": ([ASK, {"role": "assistant", "content": "<think>\nhm\n</think>\n\nI look.",
                       "tool_calls": [call(1, "weather", city="Bern")]}, result(1, "weather", "20")], TOOLS),
}


def ask(url, path, body=None):
    request = urllib.request.Request(url + path, json.dumps(body).encode() if body else None,
                                     {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def rendered(url, messages, tools):
    sent = copy.deepcopy(messages)
    for message in sent:
        for one in message.get("tool_calls", []):
            one["function"]["arguments"] = json.dumps(one["function"]["arguments"])
    try:
        return ask(url, "/apply-template", {"messages": sent, **({"tools": tools} if tools else {})})["prompt"]
    except urllib.error.HTTPError as error:
        return "refused: " + json.load(error)["error"]["message"]


def compare(options, argument, file):
    from transformers.utils.chat_template_utils import _compile_jinja_template
    with open(file, encoding="utf-8") as opened:
        template = _compile_jinja_template(opened.read())
    counts = {"equal": 0, "differ": 0, "refused by both": 0, "refused by transformers alone": 0}
    with served(options.mixt, options.model, ["--template", argument]) as url:
        props = ask(url, "/props")
        for name, (messages, tools) in TALKS.items():
            try:
                wanted = template.render(messages=copy.deepcopy(messages), tools=tools, add_generation_prompt=True,
                                         bos_token=props["bos_token"], eos_token=props["eos_token"])
            except Exception:  # templates raise, and the sandbox has its own rules
                wanted = None
            got = rendered(url, messages, tools)
            if wanted is None:
                both = got.startswith("refused: ")
                counts["refused by both" if both else "refused by transformers alone"] += 1
                continue
            counts["equal" if got == wanted else "differ"] += 1
            if got != wanted:
                print(f"{os.path.basename(file)} {name} differs:\n  wanted {wanted!r}\n  got    {got!r}")
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mixt", default="./mixt")
    parser.add_argument("--model", required=True)
    parser.add_argument("--templates", required=True)
    options = parser.parse_args()
    files = [(file, file) for file in sorted(glob.glob(os.path.join(options.templates, "*.jinja")))]
    own = os.path.join(options.templates, "Qwen-Qwen3-0.6B.jinja")
    files += [("qwen3", own)] if os.path.exists(own) else []
    total = {}
    for argument, file in files:
        for key, count in compare(options, argument, file).items():
            total[key] = total.get(key, 0) + count
    print(f"{len(files)} templates, {len(TALKS)} talks each: " + ", ".join(f"{n} {key}" for key, n in total.items()))
    return 0 if total.get("equal", 0) > 0 and total["differ"] == 0 else 1


if __name__ == "__main__":
    sys.exit(main())
