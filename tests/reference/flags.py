"""Holds docs/flags.md beside a copy of llama.cpp: every flag of its programs has a row.

    python3 tests/reference/flags.py PATH/TO/llama.cpp

Prints what is missing on either side; the page's date is that of the copy.
"""

import re
import sys

root = sys.argv[1]
# Which of its examples are which command of ours.
COMMANDS = {"COMPLETION": "run", "CLI": "chat", "PERPLEXITY": "eval", "COMMON": "run chat eval"}

with open(f"{root}/common/arg.cpp", encoding="utf-8") as file:
    source = file.read()
theirs = {}
for match in re.finditer(r"add_opt\(common_arg\((.*?)\n    \)(.*?);\n", source, re.S):
    if not re.match(r"\s*\{", match[1]):
        continue
    lists = re.match(r"\s*\{([^{}]*)\}(?:,\s*\{(\s*\"-[^{}]*)\})?", match[1])
    names = re.findall(r'"(-[^"]*)"', lists[1] + (lists[2] or ""))
    examples = re.search(r"set_examples\(\{([^}]*)\}", match[2])
    examples = re.findall(r"LLAMA_EXAMPLE_(\w+)", examples[1]) if examples else ["COMMON"]
    for name in names:
        for example in examples:
            theirs.setdefault(name, set()).update(COMMANDS.get(example, "").split())
for tool, command in (("llama-bench/llama-bench", "bench"), ("quantize/quantize", "convert"), ("tokenize/tokenize", "tokenize")):
    with open(f"{root}/tools/{tool}.cpp", encoding="utf-8") as file:
        for name in re.findall(r'(?:== |, )"(--?[a-z][a-z-]*)"', file.read()):
            theirs.setdefault(name, set()).add(command)

ours = {}
with open("docs/flags.md", encoding="utf-8") as file:
    for line in file:
        if line.startswith("| `-"):
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
            for name in re.findall(r"`([^`]*)`", cells[1]):
                ours.setdefault(name, set()).update(cells[3].split())

missing = 0
for name, commands in sorted(theirs.items()):
    for command in sorted(commands - ours.get(name, set())):
        if name not in ("-h", "--help"):
            print(f"no row: mixt {command} {name}")
            missing += 1
for name in sorted(set(ours) - set(theirs)):
    print(f"not found there: {name}")
sys.exit(missing > 0)
