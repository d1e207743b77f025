"""Loading a collection's model: what takes long is logged."""

from __future__ import annotations

import logging
import threading

import pytest
from support.colours import ColourEncoder

from twinlens.search.models import collection_model
from twinlens.search.models.base import Encoder
from twinlens.search.models.collection_model import CollectionModel


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> threading.Event:
    """Set when something is logged; a model counts as slow at once."""
    monkeypatch.setattr(collection_model, "SLOW_SECONDS", 0.01)
    caplog.set_level(logging.INFO, "twinlens")
    said = threading.Event()
    emit = caplog.handler.emit
    monkeypatch.setattr(caplog.handler, "emit", lambda record: (emit(record), said.set()))
    return said


def test_a_model_that_loads_slowly_is_logged(
    logged: threading.Event, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def load(*_: object, **options: object) -> Encoder:
        assert logged.wait(10)
        return ColourEncoder()

    monkeypatch.setattr(collection_model, "open_encoders", load)
    CollectionModel("photos", "ViT-B-32:openai").load()
    assert caplog.messages == ["loading the model ViT-B-32:openai ..."]


def test_a_model_that_loads_quickly_or_not_at_all_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "twinlens")

    def fail(*_: object, **options: object) -> Encoder:
        raise OSError("no such file")

    monkeypatch.setattr(collection_model, "open_encoders", lambda *_, **options: ColourEncoder())
    CollectionModel("photos", "ViT-B-32:openai").load()
    monkeypatch.setattr(collection_model, "open_encoders", fail)
    with pytest.raises(OSError, match="no such file"):
        CollectionModel("photos", "ViT-B-32:openai").load()
    assert caplog.messages == []
    timers = [one for one in threading.enumerate() if isinstance(one, threading.Timer)]
    assert all(one.finished.is_set() for one in timers)
