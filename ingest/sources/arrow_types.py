"""Tell what the columns of Arrow tables hold, and turn batches into rows of Python values."""

from __future__ import annotations

from typing import Any

from twinlens.ingest.sources.columns import TEXT_KEYS


def is_plain(kind: Any) -> bool:
    """Whether a type is a text, number or time, or lists or objects of these; not a vector."""
    import pyarrow as pa

    types = pa.types
    if types.is_dictionary(kind):
        return is_plain(kind.value_type)
    if is_list(kind):
        return not types.is_floating(kind.value_type) and is_plain(kind.value_type)
    if types.is_struct(kind):
        inner = [kind.field(number) for number in range(kind.num_fields)]
        texts = any(field.name in TEXT_KEYS for field in inner) and not is_picture(kind)
        return texts or (bool(inner) and all(is_plain(field.type) for field in inner))
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    is_number = types.is_boolean(kind) or types.is_integer(kind) or types.is_floating(kind)
    is_exact = types.is_decimal(kind) or types.is_temporal(kind) or types.is_null(kind)
    return bool(is_text or is_number or is_exact)


def is_list(kind: Any) -> bool:
    """Whether a type is a list of any length."""
    import pyarrow as pa

    types = pa.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def element_of(kind: Any) -> Any:
    """The type of a list's elements; any other type itself."""
    return kind.value_type if is_list(kind) else kind


def is_bytes(kind: Any) -> bool:
    """Whether a type is a string of bytes."""
    import pyarrow as pa

    types = pa.types
    return bool(
        types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind)
    )


def is_picture(kind: Any) -> bool:
    """Whether a type is Hugging Face's ``{bytes, path}``."""
    import pyarrow as pa

    if not pa.types.is_struct(kind):
        return False
    number = kind.get_field_index("bytes")
    return bool(number >= 0 and is_bytes(kind.field(number).type))


def holds_pictures(kind: Any) -> bool:
    """Whether values of a type may be encoded images, or lists of them."""
    return is_bytes(element_of(kind)) or is_picture(element_of(kind))


def has_path(kind: Any) -> bool:
    """Whether images of a type have a path."""
    return is_picture(element_of(kind)) and element_of(kind).get_field_index("path") >= 0


def rows_of(batch: Any, pictures: str = "") -> list[dict[str, Any]]:
    """The rows of a batch; of its images only the paths, or as many objects as a list has."""
    names = batch.schema.names
    columns = [
        _paths(batch.column(name)) if name == pictures else _values(batch.column(name))
        for name in names
    ]
    return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


def _values(column: Any) -> list[Any]:
    import pyarrow as pa

    try:
        values: list[Any] = column.to_pylist()
    except (ValueError, OverflowError, pa.ArrowException):
        if not pa.types.is_temporal(column.type):
            raise
        # A time that Python has no value for: after the year 9999, or in nanoseconds.
        values = column.cast(pa.string()).to_pylist()
    return values


def _paths(column: Any) -> list[Any]:
    """``{"path": …}`` for every image, and a list of these where the images are in lists."""
    if not is_list(column.type):
        return _objects(column)
    inner = iter(_objects(column.flatten()))
    lengths = column.value_lengths().to_pylist()
    return [[next(inner) for _ in range(length or 0)] for length in lengths]


def _objects(column: Any) -> list[dict[str, Any]]:
    import pyarrow as pa

    if pa.types.is_struct(column.type) and column.type.get_field_index("path") >= 0:
        return [{"path": path} for path in column.field("path").to_pylist()]
    return [{} for _ in range(len(column))]
