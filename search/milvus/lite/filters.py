"""Find the rows that satisfy a Milvus expression, with Milvus Lite's own parser and evaluator.

So an expression means exactly what it means to Milvus Lite. What twinlens asks most, a list of keys
or a comparison of a text column, is evaluated here without importing Milvus Lite.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from twinlens.search.milvus.lite.arrays import numpy_of, string_array
from twinlens.search.milvus.lite.blocks import Block, Mask
from twinlens.search.milvus.lite.folder import Schema, Stamp, stamp_of
from twinlens.search.milvus.lite.snapshot import META

#: Expressions whose rows each block remembers.
MAX_MASKS = 8
_LIST = re.compile(r"(\w+) (in|not in) (\[.*\])", re.DOTALL)
_COMPARISON = re.compile(r'(\w+) (==|!=|<|<=|>|>=) (".*")', re.DOTALL)
_COMPARE: Mapping[str, Callable[..., Any]] = {
    "==": pc.equal, "!=": pc.not_equal, "<": pc.less, "<=": pc.less_equal,
    ">": pc.greater, ">=": pc.greater_equal,
}  # fmt: skip


def mask_of(block: Block, expression: str) -> Mask | None:
    """Which rows of a block satisfy an expression; None for all of them.

    Raises:
        ValueError: the expression is not valid, or Milvus Lite cannot evaluate it.
    """
    if not expression:
        return None
    mask = block.masks.get(expression)
    if mask is None:
        simple = _simple(block, expression)
        mask = _evaluate(block, expression) if simple is None else simple
        while len(block.masks) >= MAX_MASKS:
            block.masks.pop(next(iter(block.masks), ""), None)
        block.masks[expression] = mask
    return mask


def _simple(block: Block, expression: str) -> Mask | None:
    """The rows of ``column in ["a", "b"]`` or ``column < "a"``; None for any other expression."""
    column, operator, value = _comparison(expression)
    if column not in block.schema.columns:
        return None
    texts = block.table.column(column)
    if not pa.types.is_string(texts.type):
        return None
    if isinstance(value, str):
        return _mask(_COMPARE[operator](texts, string_array([value])[0]))
    found = _mask(pc.is_in(texts, value_set=string_array(value)))
    return found if operator == "in" else ~found


def _comparison(expression: str) -> tuple[str, str, str | list[str]]:
    """Column, operator and text or texts of a simple expression; "" thrice for any other one."""
    other = ("", "", "")
    match = _LIST.fullmatch(expression) or _COMPARISON.fullmatch(expression)
    if match is None:
        return other
    try:
        value = json.loads(match[3], strict=False)
    except ValueError:  # something follows the literal
        return other
    if not isinstance(value, str) and not all(isinstance(one, str) for one in value):
        return other
    return match[1], match[2], value


def _evaluate(block: Block, expression: str) -> Mask:
    from milvus_lite.search.filter import FilterError, evaluate
    from milvus_lite.search.filter.eval import evaluate_arrow

    try:
        compiled, columns, fields = _compile(block.schema.path, stamp_of(block.schema.path),
                                             expression)  # fmt: skip
        if compiled.backend == "hybrid":
            # The values of dynamic fields are columns already: no JSON needs to be parsed.
            tree = _with_columns(compiled.ast)
            renamed = dataclasses.replace(compiled, ast=tree, backend="arrow")
            try:
                table = _with_fields(block.table.select(columns), block.table, fields)
                return _mask(evaluate_arrow(renamed, table))
            except (pa.ArrowException, KeyError, TypeError, NotImplementedError):
                pass  # values of several types: row by row
        if fields:
            columns = [*columns, "$meta"]
        return _mask(evaluate(compiled, block.table.select(columns)))
    except (FilterError, pa.ArrowException, ArithmeticError, TypeError) as error:
        raise ValueError(str(error)) from error


def check(schema: Schema, expression: str) -> None:
    """Raise ``ValueError`` if an expression is not valid."""
    if _comparison(expression)[0] == schema.key:
        return
    from milvus_lite.search.filter import FilterError

    try:
        _compile(schema.path, stamp_of(schema.path), expression)
    except FilterError as error:
        raise ValueError(str(error)) from error


@lru_cache(64)
def _compile(
    path: Path, stamp: Stamp | None, expression: str
) -> tuple[Any, list[str], tuple[str, ...]]:
    """A compiled expression, with the columns and the dynamic fields that it names."""
    from milvus_lite.schema.persistence import load_schema
    from milvus_lite.search.filter import compile_filter

    _, schema = load_schema(str(path))
    compiled = compile_filter(expression, schema)
    columns: set[str] = set()
    fields: set[str] = set()
    _collect(compiled.ast, columns, fields)
    known = {field.name for field in schema.fields}
    return compiled, sorted(columns & known), tuple(sorted(fields | (columns - known)))


def _collect(node: Any, columns: set[str], fields: set[str]) -> None:
    """Collect the columns and dynamic fields that a tree of nodes names."""
    from milvus_lite.search.filter.ast import FieldRef, MetaAccess

    if isinstance(node, FieldRef):
        columns.add(node.name)
    elif isinstance(node, MetaAccess):
        fields.add(node.key)
    else:
        for child in _children(node):
            _collect(child, columns, fields)


def _children(node: Any) -> list[Any]:
    if isinstance(node, tuple | list):
        return list(node)
    if dataclasses.is_dataclass(node):
        return [getattr(node, field.name) for field in dataclasses.fields(node)]
    return []


def _with_columns(node: Any) -> Any:
    """The same tree with columns in place of dynamic fields."""
    from milvus_lite.search.filter.ast import FieldRef, MetaAccess

    if isinstance(node, MetaAccess):
        return FieldRef(name=META + node.key, pos=node.pos)
    if isinstance(node, tuple):
        return tuple(map(_with_columns, node))
    if dataclasses.is_dataclass(node) and not isinstance(node, type):
        values = {field.name: getattr(node, field.name) for field in dataclasses.fields(node)}
        return type(node)(**{name: _with_columns(value) for name, value in values.items()})
    return node


def _with_fields(table: pa.Table, whole: pa.Table, fields: tuple[str, ...]) -> pa.Table:
    """A table with the columns of dynamic fields; a field that no row has is a column of nulls.

    Raises:
        KeyError: a field has values of several types, and so no column.
    """
    for name in fields:
        if META + name in whole.column_names:
            column = whole.column(META + name)
        elif _occurs(whole, name):
            raise KeyError(name)
        else:
            column = pa.nulls(len(whole))
        table = table.append_column(META + name, column)
    return table


def _occurs(table: pa.Table, name: str) -> bool:
    """Whether any row may have a dynamic field: its JSON contains the name."""
    written = json.dumps(name, ensure_ascii=False)
    found = pc.match_substring(table.column("$meta"), written)
    return bool(pc.any(found).as_py())


def _mask(found: Any) -> Mask:
    mask: Mask = numpy_of(found)
    return mask
