#!/usr/bin/env python3
"""Makes tests/fixtures/schemas.json: JSON schemas, texts that they accept and texts that they refuse.

    python schemas.py [--out FILE]      # needs jsonschema and rfc3339-validator
    python schemas.py --check FILE      # lines "NUMBER TAB TEXT": is each accepted by its schema?

Each case: "schema", "accepted" (which a grammar must accept: values that are named here, written by
json.dumps with either kind of separators) and "refused" (values that are named here and values made
from the accepted ones by leaving out, adding and exchanging parts; jsonschema says which of them the
schema refuses). The second form judges texts that come from walks through the grammars
(MIXT_SCHEMA_WALKS=FILE of tests/test_schema.c).
"""

import argparse
import copy
import json
import pathlib
import random

import jsonschema

DEFS = {"point": {"type": "object", "properties": {"x": {"type": "number"}, "y": {"type": "number"}},
                  "required": ["x", "y"], "additionalProperties": False},
        "tree": {"type": "object", "properties": {
            "value": {"type": "integer"},
            "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["value"], "additionalProperties": False}}

# schema, accepted values, refused values
CASES = [
    ({}, [None, True, 1, -2.5, "x", [], {}, {"a": [1, {"b": None}]}], []),
    (True, [None, [1], "é€😀"], []),
    ({"type": "string"}, ["", "a", "quote \" and \\ and \n\t", "é€😀"], [1, None, ["a"]]),
    ({"type": "integer"}, [0, 1, -1, 1234567890123456], [1.5, "1", None]),
    ({"type": "number"}, [0, -1, 1.5, -0.001, 1e10], ["1", True]),
    ({"type": "boolean"}, [True, False], [0, 1, "true", None]),
    ({"type": "null"}, [None], [0, False, "null"]),
    ({"type": ["string", "null"]}, ["a", None], [1, [], True]),
    ({"type": "object"}, [{}, {"a": 1}, {"a": {"b": [1, 2]}, "c": None}], [[], 1]),
    ({"type": "array"}, [[], [1, "a", None, [[]]]], [{}, "[]"]),
    ({"type": "object", "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
      "required": ["name", "age"], "additionalProperties": False},
     [{"name": "a", "age": 3}], [{"name": "a"}, {"age": 3}, {}, {"name": 1, "age": 3}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"},
                                       "c": {"type": "boolean"}},
      "required": ["b"], "additionalProperties": False},
     [{"b": "x"}, {"a": 1, "b": "x"}, {"b": "x", "c": True}, {"a": 1, "b": "", "c": False}],
     [{}, {"a": 1}, {"c": True}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}},
      "additionalProperties": False}, [{}, {"a": 1}, {"b": "x"}, {"a": 1, "b": "x"}], [{"c": 1}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}},
      "additionalProperties": {"type": "string"}},
     [{}, {"a": 1}, {"b": "x"}, {"a": 1, "b": "x", "aa": "y"}, {"": "x"}], [{"a": "x"}, {"b": 1}]),
    ({"type": "object", "properties": {"key": {"const": 1}, "keys": {"const": 2}, "kit": {"const": 3},
                                       "é\"\\\n": {"const": 4}},
      "additionalProperties": True},
     [{}, {"key": 1, "ke": 0, "keyz": 0, "k": 0, "x": 0}, {"keys": 2, "ki": 1, "kits": 5},
      {"é\"\\\n": 4, "é": 0, "é\"": 0, "é\"\\": 0, "é\"\\\nx": 0, "\\": 1}],
     [{"key": 2}, {"keys": 1}, {"é\"\\\n": 5}, {"kit": 0, "a": 1}]),
    ({"type": "object", "additionalProperties": {"type": "integer"}, "maxProperties": 2},
     [{}, {"a": 1}, {"a": 1, "b": 2}], [{"a": 1, "b": 2, "c": 3}, {"a": "x"}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a", "other"],
      "additionalProperties": True}, [{"a": 1, "other": None}, {"a": 1, "other": 2, "z": 3}],
     [{"a": 1}, {"other": 1}]),
    ({"type": "object", "properties": {"a": False, "b": {"type": "integer"}},
      "additionalProperties": True}, [{"b": 1}, {"b": 1, "c": 2}], [{"a": 1}, {"b": 2, "a": 1}]),
    ({"type": "array", "items": {"type": "integer"}}, [[], [1], [1, 2, 3]], [["a"], [1, None]]),
    ({"type": "array", "items": {"type": "integer"}, "minItems": 2, "maxItems": 4},
     [[1, 2], [1, 2, 3], [1, 2, 3, 4]], [[], [1], [1, 2, 3, 4, 5]]),
    ({"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1}, [["a"], ["a", "b", "a"]],
     [[], ["c"]]),
    ({"type": "array", "maxItems": 1}, [[], [1]], [[1, 2]]),
    ({"type": "array", "maxItems": 0}, [[]], [[1]]),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": False,
      "minItems": 2}, [[1, "a"]], [[1], ["a", 1], [1, "a", 2], []]),
    ({"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}],
      "items": {"type": "boolean"}, "maxItems": 4},
     [[], [1], [1, "a"], [1, "a", True], [1, "a", True, False]], [["a"], [1, "a", 1],
                                                              [1, "a", True, True, True]]),
    ({"$schema": "http://json-schema.org/draft-07/schema#", "type": "array",
      "items": [{"type": "integer"}, {"type": "string"}], "additionalItems": {"type": "boolean"}},
     [[], [1], [1, "a"], [1, "a", True]], [["a"], [1, 2], [1, "a", 3]]),
    ({"type": "array", "items": {"type": "integer"}, "additionalItems": False, "title": "t",
      "maxItems": 2}, [[1], [1, 2]], [["a"], [1, 2, 3]]),
    ({"type": "array", "prefixItems": [{"type": "integer"}], "minItems": 3}, [[1, "a", None]],
     [[1, 2], ["a", 1, 1]]),
    ({"enum": ["red", "green", 1, None, 2.5, {"a": [1, "x"]}]},
     ["red", "green", 1, None, 2.5], ["blue", 2, False]),
    ({"const": "exactly"}, ["exactly"], ["exact", None]),
    ({"type": "string", "enum": ["a", 1, "b"]}, ["a", "b"], [1, "c"]),
    ({"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 2}]}, [1, "ab", ""],
     ["abc", None, 1.5]),
    ({"oneOf": [{"type": "integer"}, {"type": "string"}]}, [1, "a"], [1.5, None]),
    ({"oneOf": [{"type": "object", "properties": {"kind": {"const": "a"}, "n": {"type": "integer"}},
                 "required": ["kind", "n"], "additionalProperties": False},
                {"type": "object", "properties": {"kind": {"const": "b"}, "s": {"type": "string"}},
                 "required": ["kind", "s"], "additionalProperties": False}]},
     [{"kind": "a", "n": 1}, {"kind": "b", "s": "x"}], [{"kind": "a", "s": "x"}, {"kind": "c"}]),
    ({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"],
      "anyOf": [{"properties": {"b": {"const": 1}}, "required": ["b"]},
                {"properties": {"c": {"const": 2}}, "required": ["c"]}]},
     [{"a": 1, "b": 1}, {"a": 1, "c": 2}], [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}]),
    ({"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
                {"type": "object", "properties": {"b": {"type": "string"}}, "required": ["b"]},
                {"properties": {"a": {"minimum": 5}}}]},
     [{"a": 5, "b": "x"}], [{"a": 4, "b": "x"}, {"a": 5}, {"b": "x"}]),
    ({"allOf": [{"type": ["integer", "string"]}, {"type": ["number", "null"]}]}, [1, -5],
     ["a", None, 1.5]),
    ({"$defs": DEFS, "$ref": "#/$defs/point"}, [{"x": 1, "y": 2.5}], [{"x": 1}, {"x": "a", "y": 1}]),
    ({"$defs": DEFS, "type": "array", "items": {"$ref": "#/$defs/point"}},
     [[], [{"x": 1, "y": 2}, {"x": 0.5, "y": -1}]], [[{}], [1]]),
    ({"$defs": DEFS, "$ref": "#/$defs/tree"},
     [{"value": 1}, {"value": 1, "children": []},
      {"value": 1, "children": [{"value": 2, "children": [{"value": 3}]}, {"value": 4}]}],
     [{}, {"value": 1, "children": [{}]}, {"value": 1, "children": [1]}]),
    ({"type": "object", "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
      "required": ["next"], "additionalProperties": False},
     [{"next": None}, {"next": {"next": {"next": None}}}], [{}, {"next": {}}, {"next": 1}]),
    ({"definitions": {"a/b~c d": {"const": 7}}, "$ref": "#/definitions/a~1b~0c%20d"}, [7], [8]),
    ({"$defs": DEFS, "$ref": "#/$defs/point", "properties": {"x": {"maximum": 10}}},
     [{"x": 10, "y": 11}], [{"x": 11, "y": 0}]),
    ({"type": "string", "minLength": 2, "maxLength": 4}, ["ab", "abcd", "é€😀", "\"\\"],
     ["", "a", "abcde", "😀"]),
    ({"type": "string", "minLength": 1}, ["a", "a long one"], [""]),
    ({"type": "string", "pattern": "^[a-z]+[0-9]{2,3}$"}, ["a12", "abc123"], ["12", "a1", "a1234", "A12"]),
    ({"type": "string", "pattern": "^(\\([0-9]{3}\\))?[0-9]{3}-[0-9]{4}$"},
     ["555-1212", "(888)555-1212"], ["(888)555-1212 ext. 532", "(800)FLOWERS"]),
    ({"type": "string", "pattern": "b+"}, ["b", "abc", "abbbc", "\"b\\"], ["", "ac", "\"\\"]),
    ({"type": "string", "pattern": "^a|z$"}, ["a", "abc", "xyz", "z"], ["b", "za"]),
    ({"type": "string", "pattern": "^(?:\\w+\\s?)*[.!?\"\\\\]$"}, ["a b.", "Hello World!", "x\"", "\\"],
     ["a b", ""]),
    ({"type": "string", "pattern": "^[^\"a-z\\n]{1,3}$"}, ["A", "É€😀", "\\\t"], ["a", "\"", "\n", "ABCD"]),
    ({"type": "string", "pattern": "^\\S+\\u00e9\\x41.$"}, ["xéAb", "→éA "], ["éA", "x éAb", "xéA\n"]),
    ({"type": "string", "pattern": "^\\d{3}(-?\\d)*$"}, ["123", "123-4-567"], ["12", "123-", "a123"]),
    ({"type": "string", "format": "date"}, ["2024-02-29", "2023-12-31", "2000-02-29", "1999-04-30"],
     ["2023-02-29", "1900-02-29", "2024-13-01", "2024-04-31", "2024-1-1", "x"]),
    ({"type": "string", "format": "time"}, ["12:34:56Z", "23:59:59.123+05:30"],
     ["24:00:00Z", "12:60:00Z", "12:34:56"]),
    ({"type": "string", "format": "date-time"}, ["2024-02-29T12:34:56Z", "2024-12-01T00:00:00.5-08:00"],
     ["2023-02-29T12:34:56Z", "2024-02-29 12:34", "2024-02-29T25:00:00Z"]),
    ({"type": "string", "format": "uuid"}, ["123e4567-e89b-12d3-a456-426614174000"],
     ["123e4567-e89b-12d3-a456-42661417400", "g23e4567-e89b-12d3-a456-426614174000"]),
    ({"type": "string", "format": "ipv4"}, ["0.0.0.0", "255.255.255.255", "192.168.1.10"],
     ["256.0.0.1", "1.2.3", "1.2.3.4.5", "01.2.3.4"]),
    ({"type": "integer", "minimum": 0, "maximum": 150}, [0, 9, 10, 99, 100, 149, 150],
     [-1, 151, 1000, 1500]),
    ({"type": "integer", "minimum": -15, "maximum": 7}, [-15, -10, -9, -1, 0, 7], [-16, 8, -20, -100]),
    ({"type": "integer", "minimum": 1}, [1, 5, 10, 123456], [0, -1]),
    ({"type": "integer", "minimum": 3456}, [3456, 3459, 3999, 4000, 9999, 10000], [3455, 999, 0, -3456]),
    ({"type": "integer", "maximum": 123}, [123, 99, 0, -1, -1000], [124, 200, 1000]),
    ({"type": "integer", "maximum": -10}, [-10, -11, -99, -100], [-9, 0, 10]),
    ({"type": "integer", "exclusiveMinimum": 5, "exclusiveMaximum": 8}, [6, 7], [5, 8]),
    ({"type": "integer", "minimum": 1.5, "maximum": 3.5}, [2, 3], [1, 4]),
    ({"type": "integer", "minimum": -1000000, "maximum": 999999}, [-1000000, -999999, 0, 999999],
     [-1000001, 1000000]),
    ({"type": "number", "minimum": 0, "maximum": 1}, [0, 1, 0.5, 0.25, 1.0], [-0.1, 1.1, 2, -1]),
    ({"type": "number", "exclusiveMinimum": 0}, [0.1, 1, 25.5], [0, -1, -0.5]),
    ({"type": "number", "minimum": -2, "exclusiveMaximum": 3}, [-2, -1.5, 0, 2.999, -0.5], [3, -2.1, -3]),
    ({"type": "number", "maximum": -5}, [-5, -5.5, -100], [-4.9, 0, 5]),
    ({"type": "number", "multipleOf": 1, "minimum": 0}, [0, 3], [0.5, -1]),
    ({"title": "t", "description": "d", "default": 1, "examples": [2], "$comment": "c",
      "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "integer"}, [1], ["a"]),
    ({"properties": {"a": {"type": "integer"}}, "required": ["a"]}, [{"a": 1}], [{}, {"a": "x"}]),
    ({"minimum": 3, "maxLength": 1}, [3, "a"], [2, "ab"]),
]

# What a grammar cannot hold, and what the refusal names.
UNSUPPORTED = [
    ({"type": "array", "uniqueItems": True}, "#: uniqueItems"),
    ({"type": "object", "properties": {"a": {"not": {"type": "string"}}}}, "#/properties/a: not"),
    ({"if": {"type": "string"}}, "#: if"),
    ({"type": "object", "patternProperties": {"^a": {}}}, "patternProperties"),
    ({"type": "object", "propertyNames": {"maxLength": 3}}, "propertyNames"),
    ({"type": "object", "minProperties": 1}, "minProperties"),
    ({"type": "object", "properties": {"a": {}, "b": {}}, "maxProperties": 1}, "maxProperties"),
    ({"type": "object", "dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    ({"type": "object", "unevaluatedProperties": False}, "unevaluatedProperties"),
    ({"type": "array", "contains": {"type": "integer"}}, "contains"),
    ({"type": "array", "items": {"type": "array", "contains": {}}}, "#/items: contains"),
    ({"type": "array", "prefixItems": [{}], "items": [{}]}, "prefixItems beside an array"),
    ({"type": "number", "multipleOf": 0.5}, "multipleOf"),
    ({"type": "number", "minimum": 0.5}, "bounds"),
    ({"type": "integer", "minimum": 5, "maximum": 4}, "no number"),
    ({"type": "integer", "minimum": 1e300}, "minimum"),
    ({"type": "string", "format": "email"}, "format \"email\""),
    ({"type": "string", "pattern": "^a", "maxLength": 3}, "pattern, format and lengths"),
    ({"type": "string", "pattern": "a(?=b)"}, "look around"),
    ({"type": "string", "pattern": "(a)\\1"}, "an escape"),
    ({"type": "string", "pattern": "a$b"}, "anchor"),
    ({"type": "string", "pattern": "(a"}, "group that does not end"),
    ({"type": "string", "pattern": "a)"}, "a ) without its ("),
    ({"type": "string", "pattern": "[a"}, "class that does not end"),
    ({"type": "string", "pattern": "[z-a]"}, "range that is none"),
    ({"type": "string", "pattern": "+a"}, "behind \\"),
    ({"type": "string", "minLength": 3, "maxLength": 2}, "no string"),
    ({"type": "string", "minLength": -1}, "minLength"),
    ({"type": "array", "minItems": 3, "maxItems": 2}, "no array"),
    ({"type": "array", "prefixItems": [{}], "items": False, "minItems": 2}, "no array"),
    ({"oneOf": [{"type": "integer"}, {"type": "number"}]}, "oneOf: a value may be accepted by both 0 and 1"),
    ({"oneOf": [{"type": "object", "properties": {"a": {"type": "integer"}}},
                {"type": "object", "properties": {"b": {"type": "integer"}}}]}, "oneOf"),
    ({"anyOf": []}, "anyOf is no array"),
    ({"enum": ["abc"], "minLength": 2}, "minLength beside enum"),
    ({"type": "integer", "enum": ["a"]}, "it accepts no value"),
    ({"enum": []}, "it accepts no value"),
    ({"type": "thing"}, "type \"thing\""),
    ({"type": []}, "type names none"),
    ({"$ref": "#/$defs/none"}, "leads nowhere"),
    ({"$ref": "https://example.com/schema"}, "does not begin with #/"),
    ({"$ref": "#"}, "circles"),
    ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "no type"),
    ({"allOf": [{"pattern": "a"}, {"pattern": "b"}]}, "two different values of pattern"),
    ({"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]}, "no text"),
    (False, "false accepts no value"),
    ({"type": "object", "properties": {"a": False}, "required": ["a"]}, "a is required"),
    ({"type": "object", "required": ["a"], "additionalProperties": False}, "a is required"),
    ({"unknown-keyword": 1}, "unknown-keyword"),
    ({"properties": {"a": 5}}, "#/properties/a: a schema is an object or true"),
    ([], "a schema is an object or true"),
]


def validator(schema):
    kind = jsonschema.Draft202012Validator
    if isinstance(schema, dict) and "draft-07" in schema.get("$schema", ""):
        kind = jsonschema.Draft7Validator
    return kind(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)


def texts_of(value):
    return {json.dumps(value, ensure_ascii=False, separators=s) for s in ((",", ":"), (", ", ": "))}


def mutants(value):
    """Values near to this one."""
    others = [None, True, 7, -1.5, "s", [], {}]
    yield from others
    if isinstance(value, dict):
        for key in value:
            less = {k: v for k, v in value.items() if k != key}
            yield less
            for changed in list(mutants(value[key]))[:12]:
                yield {**value, key: changed}
        yield {**value, "zz": 1}
    if isinstance(value, list):
        for i in range(len(value)):
            yield value[:i] + value[i + 1:]
            for changed in list(mutants(value[i]))[:12]:
                yield value[:i] + [changed] + value[i + 1:]
        yield value + [value[0] if value else 1]
    if isinstance(value, str):
        yield from (value + "x", value[1:], value.upper(), value + value)
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield from (value + 1, value - 1, -value, value * 10, value + 0.5)


def make(path):
    random.seed(1)
    lines = []
    for schema, accepted, refused in CASES:
        v = validator(schema)
        for value in accepted:
            assert v.is_valid(value), (schema, value)
        for value in refused:
            assert not v.is_valid(value), (schema, value)
        near = [copy.deepcopy(m) for value in accepted for m in mutants(value)]
        random.shuffle(near)
        bad = [m for m in near if not v.is_valid(m)][:25]
        lines.append(json.dumps(dict(
            schema=schema, accepted=sorted(set().union(*map(texts_of, accepted))),
            refused=sorted(set().union(*map(texts_of, refused + bad)) if refused + bad else [])),
            ensure_ascii=False))
    cases = ",\n".join(lines)
    unsupported = ",\n".join(json.dumps(dict(schema=s, names=n)) for s, n in UNSUPPORTED)
    path.write_text(f'{{"cases": [\n{cases}\n],\n"unsupported": [\n{unsupported}\n]}}\n')
    print(f"{len(CASES)} schemas, {len(UNSUPPORTED)} that are refused")


def check(path):
    validators = [validator(schema) for schema, _, _ in CASES]
    count = 0
    for line in path.read_text().split("\n"):
        if line:
            number, text = line.split("\t", 1)
            value = json.loads(text)
            if not validators[int(number)].is_valid(value):
                raise SystemExit(f"{CASES[int(number)][0]} refuses {text}")
            count += 1
    print(f"{count} texts, all accepted")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    here = pathlib.Path(__file__).resolve().parent
    parser.add_argument("--out", type=pathlib.Path, default=here.parent / "fixtures/schemas.json")
    parser.add_argument("--check", type=pathlib.Path)
    arguments = parser.parse_args()
    check(arguments.check) if arguments.check else make(arguments.out)


if __name__ == "__main__":
    main()
