#!/usr/bin/env python3
"""Reference renderings for tests/test_template.c, from jinja2 with transformers' settings.

  templates.py PROGRAM > ../fixtures/chat/renderings.json
        PROGRAM is the built tests/test_template, which prints the built-in templates

Every template here is our own. A case is a template, the name of its variables and what jinja2 makes
of them: a text, or null where it refuses. Made with jinja2 3.1.2 and transformers 4.45."""
import copy
import datetime
import json
import subprocess
import sys

from transformers.utils import chat_template_utils


class Clock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 2, 9, 17, 5, 8)


chat_template_utils.datetime = Clock


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def system(text):
    return {"role": "system", "content": text}


TOOLS = [{"type": "function", "function": {
    "name": "weather", "description": "Says \"how\" <warm> it's & where",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "a place, maybe Zürich"},
        "days": {"type": "array", "items": {"type": "integer"}},
        "unit": {"type": "string", "enum": ["c", "f"], "default": "c"}}}}}]

VARIABLES = {
    "one": {"messages": [user("Hello there")], "add_generation_prompt": True},
    "system": {"messages": [system("Be brief. "), user(" Größe? 你好\n"), assistant("Ja!\n"), user("<b> & 'c' \"d\"")],
               "add_generation_prompt": True},
    "systems": {"messages": [system("Be brief."), system(" And kind."), user("Hello"), assistant("Hi."), system("Longer now."), user("Why?")],
                "add_generation_prompt": True},
    "unheard": {"messages": [user("Hello"), system("Be brief.")], "add_generation_prompt": True},
    "closed": {"messages": [user("1+1?"), assistant("2"), user("2+2?"), assistant("4")], "add_generation_prompt": False},
    "thoughts": {"messages": [user("Why?"), assistant("<think>\nhm\n</think>\n\nSo.", reasoning="hm"), user("And?")],
                 "add_generation_prompt": True, "enable_thinking": False},
    "tools": {"messages": [system("s"), user("warm?"),
                           assistant("", tool_calls=[{"id": "call00001", "function": {
                               "name": "weather", "arguments": {"city": "Bern", "days": [1, 2], "x": None, "y": 0.5}}}]),
                           {"role": "tool", "tool_call_id": "call00001", "content": "{\"t\": 20}"}, assistant("20")],
              "tools": TOOLS, "add_generation_prompt": True},
    "steps": {"messages": [user("warm?"),
                           assistant("I look.", tool_calls=[{"type": "function", "function": {"name": "weather", "arguments": {"city": "Bern"}}},
                                                            {"type": "function", "function": {"name": "clock", "arguments": "{\"at\": 1}"}}]),
                           {"role": "tool", "content": "20"}, {"role": "tool", "content": "noon"},
                           assistant("", tool_calls=[{"function": {"name": "sea", "arguments": {}}}]), {"role": "tool", "content": "18"}],
              "add_generation_prompt": True},
    "values": {"n": 7, "m": -3, "x": 2.5, "t": True, "f": False, "z": None, "s": "Hello World", "e": "", "u": "Straße é 漢字 🙂",
               "pad": "  a b  ", "l": [3, 1, 2], "w": ["b", "A", "c", "a"], "d": {"b": 1, "a": {"k": "v"}, "C": [1, {"q": None}]},
               "p": [{"name": "Ann", "age": 31, "on": True, "in": {"x": 1}}, {"name": "bob", "age": 25, "on": False, "in": {"x": 3}},
                     {"name": "Cy", "age": 31, "in": {"x": 2}}],
               "numbers": [0, 1, -1, 1.0, 0.1, 1e16, 1e-5, 123456789.125, -0.0, 1e22, 5e-324, 9007199254740993]},
}

CHATS = [
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}",
    """{%- if messages[0].role == 'system' -%}
    {%- set head = messages[0]['content'] | trim -%}
    {%- set rest = messages[1:] -%}
{%- else -%}
    {%- set head = 'none' -%}
    {%- set rest = messages -%}
{%- endif -%}
{{ bos_token + head }}
{% for message in rest %}
    {% if (message['role'] == 'user') != (loop.index0 % 2 == 0) and not tools %}
        {{ raise_exception('roles must alternate') }}
    {% endif %}
    {% if loop.first %}first{% elif loop.last %}last{% else %}middle{% endif %}: {{ message.content }}
    {%- if not loop.last %}, {% endif %}
{% endfor %}
{{- eos_token }}
""",
    """{% set ns = namespace(last=-1, tools=0) %}
{% for m in messages[::-1] %}
{% set index = messages|length - 1 - loop.index0 %}
{% if ns.last < 0 and m.role == "user" and not(m.content is string and m.content.startswith('<b>')) %}{% set ns.last = index %}{% endif %}
{% endfor %}
last user: {{ ns.last }}
{% for m in messages if m.role != 'system' %}
{%- set body = m.content if m.content is string else '' %}
{%- if m.reasoning is defined %}{% set thought = m.reasoning %}{% elif '</think>' in body %}{% set thought = body.split('</think>')[0] %}{% else %}{% set thought = '' %}{% endif %}
[{{ m.role|upper }}|{{ thought }}|{{ body.split('</think>')[-1].lstrip('\\n') }}]
{%- if m.tool_calls %}
{%- for call in m.tool_calls %}

{{ '{"name": "' ~ call.function.name ~ '", "arguments": ' ~ call.function.arguments | tojson ~ '}' }}
{%- set ns.tools = ns.tools + 1 %}
{%- endfor %}
{%- endif %}
{% endfor %}
tools: {{ ns.tools }}{% if enable_thinking is defined and enable_thinking is false %} quiet{% endif %}
""",
    """{%- macro kind(schema) -%}
  {%- if schema.type == 'array' -%}{{ kind(schema['items']) }}[]
  {%- elif schema.enum is defined -%}{{ schema.enum | map('tojson') | join(' | ') }}
  {%- elif schema.type == 'object' -%}{
    {%- for name, value in schema.properties.items() %}
 {{ name }}{{ '' if name in schema.required else '?' }}: {{ kind(value) }}{{ ',' if not loop.last }}
    {%- endfor %}
 }
  {%- else -%}{{ schema.type }}{%- endif -%}
  {%- if schema.default is defined %} = {{ schema.default }}{% endif -%}
{%- endmacro -%}
{%- if tools %}
{%- for tool in tools %}
// {{ tool.function.description }}
type {{ tool.function.name }} = {{ kind(tool.function.parameters) }};
{% endfor %}
{{ tools | tojson(indent=2) }}
{% else %}no tools{% endif %}
today {{ strftime_now('%Y-%m-%d %d %b %Y %B %A %a %H:%M:%S %I %p %j %y %%') }}
""",
    """{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% if m.role == 'tool' %}{% continue %}{% endif %}|
{% if loop.index > 2 %}{% break %}{% endif %}{% endfor %}""",
]

# One feature each, over "values".
FEATURES = r"""
{{ n + m }} {{ n - m }} {{ n * m }} {{ n / 2 }} {{ n // 2 }} {{ m // 2 }} {{ n % 4 }} {{ m % 5 }} {{ 5 % m }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ -2 ** 2 }}
{{ x * 2 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 7.5 % -2 }} {{ 1 / 3 }} {{ t + t }} {{ 10 / 5 }} {{ 1_000 + 2 }} {{ 1e3 }} {{ 1.5e-3 }}
{{ n|string + s }} {{ s ~ n ~ none ~ t ~ x }} {{ s + ' ' + s }} {{ 'ab' * 3 }} {{ 2 * [1, 2] }} {{ (1,) * 2 }} {{ [1] + [2] }} {{ (1,) + (2, 3) }}
{{ 1 ~ 3 * 4 }} {{ not n == 7 }} {{ 1 < 2 < 3 }} {{ 1 < 3 < 2 }} {{ 1 == 1.0 }} {{ t == 1 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ (1, 'a') <= (1, 'a') }}
{{ e or s }} {{ s and n }} {{ z or e or 'x' }} {{ z and n }} {{ n and e }} {{ not e }} {{ not s }} {{ f or t and f }} {{ 1 if z else 2 }} {{ 1 if s else 2 if n else 3 }}[{{ 1 if f }}]
{{ 'World' in s }} {{ 'q' not in s }} {{ 1 in l }} {{ 'b' in d }} {{ 4 in range(5) }} {{ none in [1, z] }} {{ missing in l }} {{ 'é' in u }} {{ [1] in [[1]] }}
{{ s[0] }}{{ s[-1] }} {{ s[1:4] }} {{ s[:-3] }} {{ s[::2] }} {{ s[::-1] }} {{ s[8:2:-2] }} {{ s[20:] }}| {{ u[5] }} {{ u[6:9] }} {{ u[::-1] }} {{ u[-3:-1] }}
{{ l[0] }} {{ l[-1] }} {{ l[1:] }} {{ l[::-1] }} {{ l[:0] }} {{ l[-2:] }} {{ (1, 2, 3)[1:] }} {{ l[9] is defined }} {{ d['b'] }} {{ d.a.k }} {{ d['a']['k'] }} {{ d.missing }} {{ d['missing'] is undefined }}
{{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }} {{ d|length }} {{ d }} {{ [s, z, t, x, (1, 2), {'k': 'it\'s'}] }}
{{ [e, "a'b", 'a"b', "a'b\"c", 'x\ny\t\\', 'é\x01\u200b\U0001f642'] }} {{ () }} {{ (1,) }} {{ [] }} {{ {} }} {{ {1: 2, t: 3, none: 4, 'a': 5} }}
{{ 'a' 'b' "c" }} {{ '\x41\u00e9\U0001f642\101\n\q'|length }} {{ "tab\there" }} {{ 'a\\n' }} {{ '\'' }}
{{ numbers }} {{ numbers|join(' ') }} {{ numbers|tojson }} {{ 3.0 }} {{ 100000000000000000.0 }} {{ 0.1 + 0.2 }} {{ 1e15 + 0.5 }} {{ -0.0 }} {{ 1.0e10 }} {{ 123456.789e3 }}
{{ d|tojson }} {{ d|tojson(indent=1) }} {{ [[], {}, [[]]]|tojson(indent=2) }} {{ u|tojson }} {{ u|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=True) }} {{ l|tojson(separators=(',', ':')) }} {{ 'a"\\/\n\t\x01<>&\x7f'|tojson }} {{ {1: none, t: x}|tojson }}
{{ pad|trim }}|{{ pad.strip() }}|{{ pad.lstrip() }}|{{ pad.rstrip() }}|{{ 'xxaxx'.strip('x') }}|{{ 'xyaxy'|trim('yx') }}|{{ '\u3000a\xa0'|trim }}|{{ 'éaé'.strip('é') }}|{{ 12|trim }}
{{ s|upper }} {{ s|lower }} {{ u|upper }} {{ u|lower }} {{ 'hello WORLD-foo (bar)'|title }} {{ 'hELLO wORLD'|capitalize }} {{ "they're x3y".title() }} {{ s.upper() }} {{ s.lower() }} {{ 'éa'.capitalize() }} {{ 'ÀÉ'|lower }}
{{ s|length }} {{ u|length }} {{ l|length }} {{ l|count }} {{ e|length }} {{ missing|length }} {{ range(4)|length }} {{ d.items()|length }}
{{ l|first }} {{ l|last }} {{ s|first }} {{ s|last }} {{ []|first }}|{{ d|first }} {{ d|last }} {{ l|sum }} {{ p|sum('age') }} {{ l|min }} {{ l|max }} {{ w|min }} {{ w|max }} {{ p|map(attribute='age')|max }} {{ p|max(attribute='in.x') }}
{{ missing|default('d') }} {{ e|default('d') }}|{{ e|default('d', true) }} {{ z|default('d') }} {{ z|default('d', boolean=true) }} {{ d.q|d(1) }} {{ missing|default }}|{{ d.a.nope|default(d.b) }}
{{ l|join }} {{ l|join(', ') }} {{ p|join('-', attribute='name') }} {{ s|join('.') }} {{ d|join('+') }} {{ [1, z, t]|join(' ') }} {{ ', '.join(w) }} {{ p|map(attribute='name')|join(d='|') }}
{{ l|sort }} {{ l|sort(reverse=true) }} {{ w|sort }} {{ w|sort(case_sensitive=true) }} {{ p|sort(attribute='age')|map(attribute='name')|list }} {{ p|sort(attribute='age', reverse=True)|map(attribute='name')|list }} {{ l|reverse|list }} {{ s|reverse }} {{ (3, 1)|sort }}
{{ d|dictsort }} {{ {'x': 2, 'y': 1}|dictsort(by='value') }} {{ {'B': 1, 'a': 2}|dictsort(true) }} {{ {'B': 1, 'a': 2}|dictsort(reverse=true) }} {% for k, v in d|items %}{{ k }}={{ v }};{% endfor %}
{{ [1, 1.0, 'a', 'A', 'b']|unique|list }} {{ ['a', 'A']|unique(case_sensitive=true)|list }} {{ p|unique(attribute='age')|map(attribute='name')|list }} {{ u|list }} {{ d|list }} {{ range(3)|list }} {{ range(5, 0, -2)|list }} {{ range(2, 4)|list }} {{ range(3)[1] }} {{ range(3)[-1] }}
{{ p|selectattr('on')|map(attribute='name')|list }} {{ p|rejectattr('on')|map(attribute='name')|list }} {{ p|selectattr('age', 'equalto', 31)|list|length }} {{ p|selectattr('age', '>', 30)|map(attribute='name')|join }} {{ p|selectattr('on', 'defined')|list|length }} {{ p|rejectattr('in.x', 'in', [1, 2])|map(attribute='name')|list }} {{ l|select('odd')|list }} {{ l|reject('even')|list }} {{ [0, 1, '', 'a']|select|list }} {{ l|select('ge', 2)|list }}
{{ w|map('upper')|list }} {{ l|map('string')|join('') }} {{ p|map(attribute='zip', default='?')|list }} {{ ['a=1', 'b=2']|map('replace', '=', ':')|list }} {{ [[1, 2], [3]]|map('length')|list }} {{ [[1, 2], [3, 4]]|map(attribute=1)|list }} {{ [' a ', 'b ']|map('trim')|join(',') }}
{{ s|replace('o', '0') }} {{ s|replace('o', '0', 1) }} {{ s.replace('l', '') }} {{ s.replace('l', 'LL', 2) }} {{ 'abc'.replace('', '-') }} {{ 'aaa'.replace('aa', 'b') }} {{ n|replace('7', 'x') }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb'|indent(2, true) }}|{{ 'a\n\nb'|indent(width=1, blank=true) }}|{{ 'a\nb\n'|indent('> ') }}|
{{ 'a,b,,c'.split(',') }} {{ ' a  b '.split() }} {{ 'a,b,c'.split(',', 1) }} {{ 'a b c'.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ''.split(',') }} {{ ''.split() }} {{ 'a--b'.split('--')[1] }} {{ 'a\nb\r\nc'.splitlines() }} {{ 'x</think>y</think>z'.split('</think>')[-1] }} {{ 'a b'.split(maxsplit=1) }}
{{ s.startswith('He') }} {{ s.endswith('ld') }} {{ s.startswith(('x', 'H')) }} {{ s.find('o') }} {{ s.find('q') }} {{ s.index('W') }} {{ s.count('l') }} {{ u.find('漢') }} {{ 'x.py'.removesuffix('.py') }} {{ 'x.py'.removeprefix('x.') }} {{ '12'.isdigit() }} {{ 'a1'.isalnum() }} {{ 'a1'.isalpha() }} {{ ' '.isspace() }} {{ 'aB'.islower() }} {{ 'AB'.isupper() }} {{ ''.isdigit() }}
{{ '{} and {}'.format(1, 'b') }} {{ '{1}{0}{{}}'.format('x', u) }} {{ '{a}'.format(a=none) }} {{ l.index(1) }} {{ l.count(3) }} {{ (1, 2).index(2) }}
{{ '42'|int }} {{ ' -7 '|int }} {{ '4.9'|int }} {{ 'x'|int }} {{ 'x'|int(5) }} {{ 3.99|int }} {{ t|int }} {{ z|int }} {{ '1.5'|float }} {{ 'x'|float }} {{ 2|float }} {{ '1e3'|float }} {{ -3|abs }} {{ m|abs }} {{ -2.5|abs }} {{ 2.5|round }} {{ 3.14159|round(2) }} {{ 2.4|round(method='ceil') }} {{ 2.675|round(2) }} {{ 7|round }} {{ -2.5|round }} {{ 2.19|round(1, 'floor') }}
{{ '<a href="x">&\'</a>'|e }} {{ '<'|safe + '<' }} {{ '<' + '<'|escape }} {{ '<'|e|e }} {{ ('<'|safe) ~ '<' }} {{ [1]|string + 'x' }} {{ s|safe|upper }}
{{ n is defined }} {{ q is defined }} {{ q is undefined }} {{ z is none }} {{ z is not none }} {{ s is string }} {{ n is string }} {{ d is mapping }} {{ l is mapping }} {{ l is iterable }} {{ s is iterable }} {{ n is iterable }} {{ l is sequence }} {{ d is sequence }} {{ n is number }} {{ x is number }} {{ t is number }} {{ s is number }}
{{ n is integer }} {{ x is integer }} {{ t is integer }} {{ x is float }} {{ t is boolean }} {{ n is boolean }} {{ t is true }} {{ n is true }} {{ f is false }} {{ z is false }} {{ n is odd }} {{ n is even }} {{ n is divisibleby 7 }} {{ n is divisibleby(2) }} {{ 1 is in l }} {{ 9 is in l }} {{ 9 is not in l }} {{ n is eq 7 }} {{ n is gt 3 }} {{ n is lessthan 3 }} {{ 'a' is lower }} {{ 'A' is upper }} {{ range is callable }} {{ l is sameas l }} {{ z is sameas none }}
{{ 'abc' is string and n is number or q is defined }} {{ not q is defined }} {{ n is not string }} {{ l|length is gt 2 }} {{ q is defined and q.x.y }} {{ s is string|string }}
{% for i in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('x', 'y') }}{{ loop.changed(i > 1) }};{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %}{% for i in l if i > 5 %}x{% else %}none{% endfor %}{% for i in l if i > 1 %}{{ i }}{{ loop.index }}{{ loop.last }}{% endfor %}{% for i in missing %}x{% else %}nothing{% endfor %}
{% for k, v in d.items() %}{{ k }}:{{ v }} {% endfor %}{% for a, b in [[1, 2], (3, 4)] %}{{ a + b }} {% endfor %}{% for (a, b) in [[1, 2]] %}{{ a }}{% endfor %}{% for c in 'héy' %}{{ c }}.{% endfor %}{% for k in d %}{{ k }}{% endfor %}{% for i in 1, 2 %}{{ i }}{% endfor %}
{% for i in l %}{% for j in l %}{{ loop.depth }}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}{% for i in range(3) %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% set a = 1 %}{% for i in l %}{% set a = a + i %}{{ a }} {% endfor %}{{ a }}{% if t %}{% set a = 9 %}{% set b = 2 %}{% endif %}{{ a }}{{ b }}{% set a, b = b, a %}{{ a }}{{ b }}{% set c = 1, 2 %}{{ c }}
{% set ns = namespace(a=1, b=[]) %}{% for i in l %}{% set ns.a = ns.a + i %}{% set ns.b = ns.b + [i] %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns.c is defined }}{% set ns.c = 'x' %}{{ ns.c }}{{ ns['c'] is defined }} {% set o = namespace({'k': 1}, j=2) %}{{ o.k + o.j }} {{ dict(a=1, b='c') }} {{ dict([('x', 1), ['y', 2]]) }} {{ dict({'q': 1}, r=2)|tojson }}
{% set x %}a {{ n }}{% if t %} yes{% endif %}{% endset %}[{{ x }}] {% set y | upper | trim %}  abc {% endset %}[{{ y }}] {% filter upper %}abc {{ s }}{% set inside = 1 %}{% endfilter %}{{ inside is defined }}{% filter replace('a', 'b') | trim %} a{% endfilter %}
{% with a = 1, b = n %}{{ a }}{{ b }}{% set c = 3 %}{{ c }}{% endwith %}{{ a is defined }}{{ c is defined }}{% with %}{% set q = 1 %}{{ q }}{% endwith %}{{ q }}{% set v = 1 %}{% with v = 2, w = v %}{{ v }}{{ w }}{% endwith %}{{ v }}
{% macro f(a, b=2, c=a) %}({{ a }},{{ b }},{{ c }}){% endmacro %}{{ f(1) }}{{ f(1, 3) }}{{ f(b=5, a=4) }}{{ f(1, c='z') }}{{ f() }}{{ f(1)|length }}{{ f is callable }}
{% macro g(n) %}{% if n > 0 %}{{ n }}{{ g(n - 1) }}{% endif %}{% endmacro %}{{ g(5) }}{% set top = 'T' %}{% macro h() %}{{ top }}{% endmacro %}{{ h() }}{% set top = 'U' %}{{ h() }}{% for i in l %}{% set top = i %}{{ h() }}{% endfor %}{% macro k(x) %}{% set x = x ~ '!' %}{{ x }}{% endmacro %}{{ k('a') }}
{% if z %}a{% elif n > 5 %}b{% elif t %}c{% else %}d{% endif %}{% if missing %}x{% endif %}{% if missing is defined and missing.x %}x{% else %}y{% endif %}{% if not (t and f) %}z{% endif %}{% if l and d and s and not e and not [] and not {} and not 0 and not 0.0 %}all{% endif %}
{# a comment {{ n }} #}a{#- b -#} c {#- d #}e
f {{- n -}} g {%- if t -%} h {%- endif -%} i {{ "-}}" }} {{ '%}' }} {{ {'a': {'b': 1}} }} {{ [[1]] }}{{ {'a': [{'b': (1,)}]}.a[0].b }}
{% raw %}{{ not }} {% this %} {# kept #}{% endraw %} x {%- raw %} a {% endraw -%} b {%- raw -%} c {%- endraw %} d
{{ true }} {{ True }} {{ false }} {{ none }} {{ None }} {{ [true, none]|tojson }} {{ true and none }} {{ n if n is defined else 'x' }} {{ -n }} {{ +n }} {{ - -n }} {{ -x|abs }} {{ (n - 10)|abs }} {{ -n + 1 }} {{ not not n }}
{{ l[l|length - 1] }} {{ d[w[0]] }} {{ {'a': l}.a[0] }} {{ [d][0].b }} {{ (s ~ '!').upper() }} {{ s.split(' ')[0].lower()[1:3] }} {{ p[0].in.x + p[-1]['in']['x'] }} {{ p.0.name }} {{ (l|sort)[0] }} {{ l|sort|first }} {{ d.a|attr('items') is callable }} {{ s|attr('upper') is defined }}
{{ missing }}|{{ missing ~ 'x' }}|{{ missing|upper }}|{{ missing|string }}|{{ missing|join(',') }}|{{ missing|list }}|{{ [missing] }}|{{ missing == other }}|{{ missing is defined }}|{{ missing|trim }}|{{ missing|first }}|{{ d.x|default(missing)|default('y') }}
"""

MULTILINE = [
    "a{# multi\nline #}\nb {# c #}\nd{#\n-#}\n e",
    "{{ \"line \\\njoined\" }}\n\n",
    r"""{% if t %}
  one
{% endif %}
  {% if t %}
two
  {%+ if t %}three{% endif %}
	{% endif %}
x {% if t +%}
 four
{% endif -%}

  five
{%- if t %} six {% endif %}

seven  {{- n }}
   {# c #}
eight
  {#- c #} nine
""",
    "\n\n{% if t %}\n\n{% endif %}\n\n",
    "\t{% if t %}\n\t\tx\n\t{% endif %}\n\t{{ n }}\n",
    "a\r\nb\r{% if t -%}\r\n  c\n{%- endif %}\r\n",
    "{%\nif t\n%}x{% endif\n %}{{\nn\n}}",
    "x\n   {%- set a = 1 %}\n   {%- set b = 2 -%}\n\n   y\n\n\n",
    "{% for i in l %}\n  - {{ i }}\n{% endfor %}\nend",
    "  {% raw %}\n  {{ x }}\n  {% endraw %}\n  y",
    "x{% raw -%}  \n {{ x }} \n {%- endraw %}\ny",
]

# jinja2 refuses these when it renders or reads them, and so must we.
REFUSED = [
    "{{ missing.x }}", "{{ d.q.r }}", "{{ 1 + 'a' }}", "{{ 'a' + 1 }}", "{{ [] + () }}", "{{ missing + 1 }}", "{{ 1 < 'a' }}",
    "{{ n() }}", "{{ missing() }}", "{{ 1 / 0 }}", "{{ 1 // 0 }}", "{{ 1 % 0 }}", "{{ 1 in 5 }}", "{{ 1 in 'a' }}", "{{ n|length }}",
    "{{ {[1]: 2} }}", "{% for i in n %}{% endfor %}", "{% for a, b in l %}{% endfor %}", "{% set a, b = [1] %}", "{% set n.x = 1 %}",
    "{{ s|nosuch }}", "{{ s is nosuch }}", "{{ 'x'.nosuch() }}", "{{ raise_exception('no') }}", "{{ missing|tojson }}",
    "{{ l|map('upper')|tojson }}", "{{ l|map('string')|length }}", "{{ range(100001)|list }}", "{{ n|items }}{{ n|items|list }}",
    "{% if %}{% endif %}", "{% if n %}", "{% endif %}", "{% for in l %}{% endfor %}", "{% for i in %}{% endfor %}", "{{ n", "{{ }}",
    "{% nosuch %}", "{{ 'a }}", "{# a", "{% raw %} a", "{{ (n }}", "{{ n) }}", "{{ [1, 2 }}", "{{ a b }}", "{{ | upper }}", "{{ n | }}",
    "{{ n is }}", "{{ n. }}", "{% set %}", "{% set 1 = 2 %}", "{% macro %}{% endmacro %}", "{% macro f(a=1, b) %}{% endmacro %}",
    "{% macro f(a) %}{% endmacro %}{{ f(1, 2) }}", "{% macro f(a) %}{% endmacro %}{{ f(b=1) }}", "{% break %}", "{{ n ! }}", "{{ a ? b }}",
    "{{ f(a=1, 2) }}", "{{ loop.index }}", "{% set true = 1 %}", "{{ 'abc'.split('') }}", "{{ l.index(9) }}", "{{ -s }}", "{{ l|join(1, 2, 3) }}",
    "{{ [1, 'a']|sort }}", "{{ l[::0] }}", "{{ l['a':] }}", "{{ d[1:] }}", "{{ '\\xg' }}", "{{ 1 is divisibleby }}", "{% else %}", "{{ n is not }}",
    "{% set ns = namespace() %}{{ ns.q.r }}", "{{ strftime_now() }}", "{{ range() }}", "{{ dict([1]) }}", "{{ '{}'.format() }}", "{{ ''.join([1]) }}",
]


def render(template, variables):
    try:
        return chat_template_utils._compile_jinja_template(template).render(**copy.deepcopy(variables))
    except Exception:
        return None


def main():
    shared = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None}
    variables = {name: {**shared, **given} for name, given in VARIABLES.items()}
    built_in = json.loads(subprocess.run([sys.argv[1], "builtin"], check=True, stdout=subprocess.PIPE).stdout)
    cases = []
    for template in CHATS + [built_in[name] for name in sorted(built_in)]:
        for name in ("one", "system", "systems", "unheard", "closed", "thoughts", "tools", "steps"):
            cases.append([template, name, render(template, variables[name])])
    for template in FEATURES.strip("\n").split("\n") + MULTILINE:
        expected = render(template, variables["values"])
        assert expected is not None, template
        cases.append([template, "values", expected])
    # the same templates with other newlines
    cases.append([CHATS[1].replace("\n", "\r\n"), "system", render(CHATS[1].replace("\n", "\r\n"), variables["system"])])
    for template in REFUSED:
        assert render(template, variables["values"]) is None, template
        cases.append([template, "values", None])
    print(json.dumps({"variables": variables}, ensure_ascii=False)[:-1] + ', "cases": [')
    print(",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]}")


main()
