"""Encode on a device: copies beside computing, batches that fit its memory, copies of the model."""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.hub import make_tiny_model

from twinlens.search.errors import ModelError
from twinlens.search.models.base import Pixels
from twinlens.search.models.batch_size import BatchSize, is_out_of_memory
from twinlens.search.models.devices import CudaStreams, Device, HostMark, Mark, copy_module
from twinlens.search.models.encoding_queue import EncodingQueue
from twinlens.search.models.load import open_encoder, open_encoders
from twinlens.search.models.openclip import OpenClipEncoder
from twinlens.search.models.replicas import ReplicatedEncoder

TEXTS = ["a dog", "two cats asleep on a red sofa", "", "犬が走る 🐕", "x " * 500] * 8


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> OpenClipEncoder:
    return open_encoder(str(tiny_model), device="cpu", precision="fp32")


def pictures(count: int) -> Pixels:
    return np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


class NotingStreams:
    """A device that notes what it is told, and computes at once."""

    pinned = False

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.released = 0
        self.room = True

    def current(self) -> AbstractContextManager[object]:
        return nullcontext()

    def copying(self) -> AbstractContextManager[object]:
        self.notes.append("copy")
        return nullcontext()

    def use_copy(self, tensor: torch.Tensor) -> None:
        self.notes.append(f"use {tensor.dtype} {tuple(tensor.shape)}".replace("torch.", ""))

    def mark(self) -> Mark:
        self.notes.append("mark")
        return HostMark()

    def has_room(self) -> bool:
        return self.room

    def release(self) -> None:
        self.released += 1


def on(streams: NotingStreams, encoder: OpenClipEncoder, model: Any = None) -> OpenClipEncoder:
    """The encoder's model, or another one, on a device that notes."""
    device = Device(torch.device("cpu"), streams)
    model = model or encoder.model
    return OpenClipEncoder(model, encoder.tokenizer, encoder.fingerprint, device, torch.float32)


def test_pixels_are_copied_as_bytes_and_only_then_normalised(encoder: OpenClipEncoder) -> None:
    streams = NotingStreams()
    rows = on(streams, encoder).begin_images(pictures(3))
    assert streams.notes == ["copy", "use uint8 (3, 32, 32, 3)", "mark", "mark"]
    np.testing.assert_allclose(rows(), encoder.images(pictures(3)), rtol=0, atol=1e-6)


def test_rows_are_those_of_normalising_on_the_host(encoder: OpenClipEncoder) -> None:
    pixels = pictures(5)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255
    with torch.inference_mode():
        expected = encoder.model.encode_image((images - 0.5) / 0.25, normalize=True)
    np.testing.assert_allclose(encoder.images(pixels), expected.numpy(), rtol=0, atol=1e-5)


def test_an_array_and_a_list_of_images_are_the_same(encoder: OpenClipEncoder) -> None:
    pixels = pictures(70)
    rows = encoder.images(pixels)
    for given, expected in ((list(pixels), rows), (pixels[::-1], rows[::-1])):
        np.testing.assert_allclose(encoder.begin_images(given)(), expected, rtol=0, atol=1e-6)
    assert encoder.images(pixels[:0]).shape == (0, encoder.fingerprint.dim)


def test_the_caller_may_reuse_the_memory_of_pixels(encoder: OpenClipEncoder) -> None:
    pixels = pictures(4)
    expected = encoder.images(pixels)
    pending = encoder.begin_images(pixels)
    pixels[:] = 0
    np.testing.assert_array_equal(pending(), expected)


def test_rows_may_be_fetched_in_any_order(encoder: OpenClipEncoder) -> None:
    pending = {count: encoder.begin_images(pictures(count)) for count in (1, 2, 3)}
    for count in (3, 1, 2):
        np.testing.assert_array_equal(pending[count](), encoder.images(pictures(count)))


class FakeCuda:
    """Stands for ``torch.cuda`` where there is none, and notes in which order it is used."""

    def __init__(self, notes: list[str]) -> None:
        self.notes = notes

    def Stream(self, where: torch.device) -> FakeCuda:  # noqa: N802 - torch's name
        return FakeCuda(self.notes)

    def Event(self, **options: bool) -> FakeCuda:  # noqa: N802 - torch's name
        assert options == {"enable_timing": True, "blocking": True}
        return FakeCuda(self.notes)

    def current_stream(self, where: torch.device) -> FakeCuda:
        return self

    def stream(self, stream: FakeCuda) -> AbstractContextManager[object]:
        self.notes.append("on the stream of copies")
        return nullcontext()

    def device(self, where: torch.device) -> AbstractContextManager[object]:
        return nullcontext()

    def wait_stream(self, other: FakeCuda) -> None:
        self.notes.append("computing waits for copies")

    def record(self, stream: FakeCuda) -> None:
        self.notes.append("record")

    def synchronize(self) -> None:
        self.notes.append("wait")

    def elapsed_time(self, later: FakeCuda) -> float:
        return 250.0

    def memory_allocated(self, where: torch.device) -> int:
        return 100

    def max_memory_allocated(self, where: torch.device) -> int:
        return 1_100

    def memory_reserved(self, where: torch.device) -> int:
        return 600

    def mem_get_info(self, where: torch.device) -> tuple[int, int]:
        return 2_100, 9_000

    def reset_peak_memory_stats(self, where: torch.device) -> None:
        self.notes.append("reset")

    def empty_cache(self) -> None:
        self.notes.append("empty")


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What ``CudaStreams`` asks of CUDA, on a machine without it."""
    notes: list[str] = []
    monkeypatch.setattr(torch, "cuda", FakeCuda(notes))
    monkeypatch.setattr(CudaStreams, "pinned", False)  # only CUDA can lock pages

    def keep(tensor: torch.Tensor, stream: FakeCuda) -> None:
        notes.append("keep the memory")

    monkeypatch.setattr(torch.Tensor, "record_stream", keep)
    return notes


def test_on_cuda_copies_have_a_stream_of_their_own(
    encoder: OpenClipEncoder, cuda: list[str]
) -> None:
    streams = CudaStreams(torch.device("cpu"))
    device = Device(torch.device("cpu"), streams)
    on_cuda = OpenClipEncoder(
        encoder.model, encoder.tokenizer, encoder.fingerprint, device, torch.float32
    )
    pending = on_cuda.begin_images(pictures(3))
    copied = ["on the stream of copies", "computing waits for copies", "keep the memory"]
    assert cuda == [*copied, "record", "record"]
    np.testing.assert_allclose(pending(), encoder.images(pictures(3)), rtol=0, atol=1e-5)
    assert cuda[-1] == "wait"
    assert on_cuda.device_seconds == 0.25
    on_cuda.release()
    assert cuda[-1] == "empty"


def test_on_cuda_a_batch_grows_if_twice_its_memory_is_free(cuda: list[str]) -> None:
    streams = CudaStreams(torch.device("cpu"))
    assert streams.has_room()  # twice 1,000 of 2,100 free and 500 kept, of which 80 % may be used
    assert cuda == ["reset"]


# ---- Memory


class SmallMemory(torch.nn.Module):
    """A model that runs out of memory with more than so many items at once."""

    def __init__(self, model: Any, most: int) -> None:
        super().__init__()
        self.inner = model
        self.visual = model.visual
        self.most = most
        self.counts: list[int] = []

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self._checked(images, self.inner.encode_image)

    def encode_text(self, tokens: torch.Tensor) -> torch.Tensor:
        return self._checked(tokens, self.inner.encode_text)

    def _checked(self, batch: torch.Tensor, encode: Any) -> torch.Tensor:
        self.counts.append(len(batch))
        if len(batch) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        rows: torch.Tensor = encode(batch)
        return rows


def test_a_batch_that_does_not_fit_is_encoded_in_halves_and_none_is_lost(
    encoder: OpenClipEncoder,
) -> None:
    streams, model = NotingStreams(), SmallMemory(encoder.model, most=10)
    small = on(streams, encoder, model)
    np.testing.assert_allclose(
        small.images(pictures(40)), encoder.images(pictures(40)), rtol=0, atol=1e-5
    )
    assert model.counts == [32, 16, 8, 8, 8, 8, 8]
    assert (streams.released, small.image_batch) == (2, 8)
    model.counts.clear()
    small.images(pictures(16))  # the size is remembered
    assert model.counts == [8, 8]


def test_texts_that_do_not_fit_are_encoded_in_halves(encoder: OpenClipEncoder) -> None:
    model = SmallMemory(encoder.model, most=5)
    rows = on(NotingStreams(), encoder, model).texts(TEXTS)
    np.testing.assert_allclose(rows, encoder.texts(TEXTS), rtol=0, atol=1e-5)
    assert max(model.counts) > 5 >= model.counts[-1]


def test_memory_for_not_even_one_image_is_one_line(encoder: OpenClipEncoder) -> None:
    small = on(NotingStreams(), encoder, SmallMemory(encoder.model, most=0))
    with pytest.raises(ModelError, match=r"too little memory for .*: use --device cpu") as refused:
        small.images(pictures(4))
    assert "\n" not in str(refused.value)


def test_other_errors_of_a_device_are_not_taken_for_a_lack_of_memory() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("MPS backend out of memory (allocated: 9 GB)"))
    assert is_out_of_memory(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"))
    assert not is_out_of_memory(RuntimeError("CUDA error: an illegal memory access"))
    assert not is_out_of_memory(MemoryError())


def grow(size: BatchSize, rate: dict[int, float], *, room: bool = True) -> list[int]:
    """The sizes that are tried if a batch of each size has so many images a second."""
    tried = []
    while not size.settled:
        tried.append(size.size)
        for _ in range(BatchSize.TRIALS):
            size.measured(size.size, size.size / rate[size.size], lambda: room)
    return tried


def test_a_batch_grows_while_that_is_quicker() -> None:
    size = BatchSize(256, 2048)
    assert grow(size, {256: 1_000, 512: 1_400, 1024: 1_420}) == [256, 512, 1024]
    assert size.size == 512


def test_a_batch_grows_no_further_than_the_most() -> None:
    size = BatchSize(256, 1024)
    assert grow(size, {256: 1_000, 512: 2_000}) == [256, 512]
    assert size.size == 1024


def test_a_batch_does_not_grow_without_room() -> None:
    size = BatchSize(256, 2048)
    assert grow(size, {256: 1_000}, room=False) == [256]
    assert size.size == 256


def test_batches_that_are_not_full_say_nothing_of_the_size() -> None:
    size = BatchSize(256, 2048)
    for _ in range(50):
        size.measured(100, 0.1, lambda: True)
    assert (size.size, size.settled) == (256, False)


def test_running_out_of_memory_ends_the_growth() -> None:
    size = BatchSize(256, 2048)
    size.ran_out(256)
    assert (size.size, size.settled) == (128, True)
    size.ran_out(1)
    assert size.size == 1


# ---- Several devices


def test_several_devices_share_one_load_and_one_queue(
    tiny_model: Path, encoder: OpenClipEncoder
) -> None:
    both = open_encoders(str(tiny_model), device="cpu,cpu", precision="fp32")
    assert isinstance(both, ReplicatedEncoder)
    first, second = both.copies
    assert isinstance(first, OpenClipEncoder)
    assert isinstance(second, OpenClipEncoder)
    assert first is not second
    assert first.model is second.model  # a CPU needs its weights once
    pixels = pictures(200)
    with EncodingQueue(both) as queue:
        rows = queue.submit_images(pixels)
        words = queue.submit_texts(TEXTS)
        np.testing.assert_allclose(rows.result(60), encoder.images(pixels), rtol=0, atol=1e-5)
        np.testing.assert_allclose(words.result(60), encoder.texts(TEXTS), rtol=0, atol=1e-5)


def test_a_model_is_loaded_once_in_a_process(tiny_model: Path, tmp_path: Path) -> None:
    first = open_encoders(str(tiny_model), device="cpu", precision="fp32")
    assert open_encoders(f"local-dir:{tiny_model}", device="cpu", precision="fp32") is first
    assert open_encoders(str(tiny_model), device="cpu", precision="bf16") is not first
    other = make_tiny_model(tmp_path / "other", seed=5)
    assert open_encoders(str(other), device="cpu", precision="fp32") is not first


def test_all_devices_are_the_best_one_where_there_is_no_gpu(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    assert isinstance(open_encoders(str(tiny_model), device="all"), OpenClipEncoder)


def test_a_module_is_copied_with_its_weights_and_buffers(encoder: OpenClipEncoder) -> None:
    copied = copy_module(encoder.model, torch.device("cpu", 0))
    meta = copy_module(encoder.model, torch.device("meta"))
    assert {one.device.type for one in (*meta.parameters(), *meta.buffers())} == {"meta"}
    tokens = encoder.tokenizer(["a dog"])
    with torch.inference_mode():
        torch.testing.assert_close(copied.encode_text(tokens), encoder.model.encode_text(tokens))
    for name, weight in encoder.model.state_dict().items():
        assert torch.equal(copied.state_dict()[name], weight)
    assert {one.requires_grad for one in copied.parameters()} == {
        one.requires_grad for one in encoder.model.parameters()
    }


def test_memory_that_ran_out_is_logged_in_one_line(
    encoder: OpenClipEncoder, caplog: pytest.LogCaptureFixture
) -> None:
    small = on(NotingStreams(), encoder, SmallMemory(encoder.model, most=20))
    with caplog.at_level(logging.INFO, "twinlens"):
        small.images(pictures(32))
    assert "out of memory with 32 at once on cpu: trying 16" in caplog.text
