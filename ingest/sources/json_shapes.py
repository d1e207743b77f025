"""Turn the rows of annotation tools and datasets into rows with a picture and captions."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

#: What Label Studio puts before the name of an uploaded file.
_UPLOADED = re.compile(r"[0-9a-f]{8}-")
#: Who describes the picture in LLaVA's conversations.
_ANSWERS = {"gpt", "assistant", "model"}


def plain_row(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """The row of a known tool as columns; any other row is returned unchanged.

    Karpathy's splits, LLaVA, Label Studio and VIA are known.
    """
    for shape in (_karpathy, _llava, _label_studio, _via):
        found = shape(row)
        if found is not None:
            return found
    return row


def is_named(value: object) -> bool:
    """Whether a value describes the picture that its key names: VIA, kohya's ``meta_cap.json``."""
    if not isinstance(value, dict):
        return False
    is_kohya = any(isinstance(value.get(key), str) for key in ("caption", "tags"))
    return is_kohya or _is_via(value)


def named_row(name: str, value: object) -> Mapping[str, Any]:
    """The row of a picture with this name, and its captions or its columns."""
    if not isinstance(value, dict):
        return {"image": name, "captions": value}
    if _is_via(value):
        return plain_row(value)
    row = {**value, "image": name}
    if "caption" not in row and isinstance(row.get("tags"), str):
        row["caption"] = row.pop("tags")
    return row


def _karpathy(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """Join the folder and file name of an image, which Karpathy's splits keep apart."""
    if not (isinstance(row.get("sentences"), list) and isinstance(row.get("filename"), str)):
        return None
    folder = row.get("filepath")
    name = f"{folder}/{row['filename']}" if isinstance(folder, str) and folder else row["filename"]
    left = {key: row[key] for key in row if key not in ("filepath", "filename")}
    return {**left, "image": name}


def _llava(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """The answers of a conversation about a picture are its captions."""
    talk = row.get("conversations")
    if not (isinstance(talk, list) and talk and all(isinstance(turn, dict) for turn in talk)):
        return None
    said = [
        turn.get("value") or turn.get("content")
        for turn in talk
        if (turn.get("from") or turn.get("role")) in _ANSWERS
    ]
    left = {key: row[key] for key in row if key != "conversations"}
    return {**left, "captions": [text for text in said if isinstance(text, str)]}


def _label_studio(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A task: its data, and the texts of its annotations."""
    data = row.get("data")
    done = row.get("annotations", row.get("completions"))
    if not (isinstance(data, dict) and isinstance(done, list)):
        return None
    columns = {key: _local_name(value) for key, value in data.items()}
    texts = list(_annotated(done))
    return {**columns, "captions": texts} if texts else columns


def _annotated(annotations: list[Any]) -> Iterator[str]:
    for annotation in annotations:
        results = annotation.get("result") if isinstance(annotation, dict) else None
        for result in results if isinstance(results, list) else ():
            value = result.get("value") if isinstance(result, dict) else None
            text = value.get("text") if isinstance(value, dict) else None
            for one in text if isinstance(text, list) else [text]:
                if isinstance(one, str):
                    yield one


def _local_name(value: Any) -> Any:
    """The name of a file from Label Studio's address of it."""
    if not isinstance(value, str):
        return value
    parts = urlsplit(value) if value.startswith("/data/") else None
    if parts is None:
        return value
    if parts.path.startswith("/data/local-files"):
        return parse_qs(parts.query).get("d", [value])[0]
    return _UPLOADED.sub("", parts.path.rpartition("/")[2], count=1)


def _is_via(value: Mapping[str, Any]) -> bool:
    return isinstance(value.get("filename"), str) and isinstance(value.get("file_attributes"), dict)


def _via(row: Mapping[str, Any]) -> dict[str, Any] | None:
    """A file of the VGG Image Annotator, with what is said of the whole picture."""
    if not _is_via(row):
        return None
    return {"image": row["filename"], **row["file_attributes"]}
