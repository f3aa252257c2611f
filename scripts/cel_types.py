"""Compiles expressions of an admission policy as strictly as the API server does.

CEL itself lets the elements of a list or map literal have different types; the API server refuses that, and with it the
whole policy. Used by scripts/manifests.py. It does not know what an expression means.
"""

import re

from cel_expr_python import cel
from cel_expr_python.ext import ext_optional

# The key in a map for the name of the typed object that it replaces.
MADE_OF = "@type"
# Field numbers of the encoded cel.expr.CheckedExpr, and the fields of each cel.expr.Expr that are
# expressions.
CHECKED, TYPES, EXPRESSION = 2, 3, 4
ID, CONSTANT, LIST, MAP = 2, 3, 7, 8
CHILDREN = {5: {1}, 6: {1, 3}, LIST: {1}, 9: {2, 4, 5, 6, 7}}
ENTRIES, KEY, VALUE, TEXT = 2, 3, 4, 6


class TypeMismatch(Exception):
    """An expression that CEL accepts and the API server refuses."""


def untyped(expression):
    """Replaces typed objects, which only the API server's CEL knows, by maps."""
    expression = re.sub(r"\b(Object(?:\.\w+)*|JSONPatch)\s*\{", rf"{{'{MADE_OF}': '\1', ", expression)
    return re.sub(r"([{,]\s*)(\w+):(?=\s)", r"\1'\2':", expression)


def compiled(expression, variables, wanted=None):
    """Compiles the expression; fails if a literal mixes types or the result has another type."""
    # As in the API server, optional values make the type of anything['key'] unknown.
    found = cel.NewEnv(variables=variables, extensions=[ext_optional.ExtOptional()]).compile(untyped(expression))
    checked = first(found.serialize(), CHECKED)
    types = {first(entry, 1, 0): first(entry, 2) for number, entry in fields(checked) if number == TYPES}
    if mixed(first(checked, EXPRESSION), types):
        raise TypeMismatch(f"elements of different types in one literal: {expression}")
    if wanted is not None and found.return_type() != wanted:
        raise TypeMismatch(f"{found.return_type()} is not {wanted}: {expression}")
    return found


def without_names(value, place=None):
    """Removes the names of typed objects; fails if an object is in the place of another type."""
    if isinstance(value, list):
        return [without_names(element, place) for element in value]
    if not isinstance(value, dict):
        return value
    name = value.get(MADE_OF)
    if name is not None and place not in (None, name) and name != "JSONPatch":
        raise TypeMismatch(f"{name} at {place}")
    # An object in a patch starts a new path.
    inside = lambda key: None if name in (None, "JSONPatch") else f"{name}.{key}"
    return {key: without_names(inner, inside(key)) for key, inner in value.items() if key != MADE_OF}


def mixed(expression, types):
    """True if a literal in this encoded expression has elements of more than one type."""
    for kind, part in fields(expression):
        if kind == MAP:
            entries = [entry for number, entry in fields(part) if number == ENTRIES]
            keys = [first(entry, KEY) for entry in entries]
            values = [first(entry, VALUE) for entry in entries]
            is_object = any(first(first(key, CONSTANT), TEXT) == MADE_OF.encode() for key in keys)
            children, alike = keys + values, [] if is_object else [keys, values]
        elif kind in CHILDREN:
            children = [child for number, child in fields(part) if number in CHILDREN[kind]]
            alike = [children] if kind == LIST else []
        else:
            continue
        if any(len({types.get(first(element, ID, 0)) for element in group}) > 1 for group in alike):
            return True
        if any(mixed(child, types) for child in children):
            return True
    return False


def first(message, number, default=b""):
    return next((value for field, value in fields(message) if field == number), default)


def fields(message):
    """Yields number and value of each field of an encoded message: integers as int, others as bytes."""
    at = 0

    def whole_number():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at, value, shift = at + 1, value | (byte & 0x7F) << shift, shift + 7
            if byte < 0x80:
                return value

    while at < len(message):
        key = whole_number()
        if key & 7 == 0:
            yield key >> 3, whole_number()
            continue
        size = {1: 8, 5: 4}.get(key & 7)
        size = whole_number() if size is None else size
        at += size
        yield key >> 3, message[at - size : at]
